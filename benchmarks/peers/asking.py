"""Asks a library the questions of `questions.py` and `replay.py`, in processes of their own, and judges what it answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Row:
    """A question, and what the right answer is.

    Attributes:
        question: The function of `questions.py`, or the program of `replay.py`.
        text: The question in words.
        answer: What the calls must give, each process.
        executions: How often the remembered function must be executed.
        how: In one process, in four at once, or in two one after another with different hash seeds.
    """

    question: str
    text: str
    answer: Any
    executions: int = 1
    how: str = "once"


ROWS = (
    Row("threads", "8 threads make one call at once", [1] * 8),
    Row("processes", "4 processes make one call at once", 1, how="together"),
    Row("tasks", "8 tasks make one call at once", [1] * 8),
    Row("spellings", "`f(1)`, `f(1, 2)`, `f(1, b=2)` and `f(a=1, b=2)` are one call", [3] * 4),
    Row("dict_order", "the order of a dict argument does not count", [2, 2]),
    Row("aliasing", "equal arguments built of shared or of separate objects are equal", [2, 2]),
    Row("a_set", "a set is the same argument in another process", 5, how="in turn"),
    Row("a_model", "a pydantic model is the same argument in another process", 1, how="in turn"),
    Row("a_default", "`Model(a=1)` and `Model(a=1, b=<its default>)` are equal arguments", [1, 1]),
    Row("closures", "two closures of one function, with `k=2` and `k=3`", [20, 30], 2),
    Row("methods", "the methods of two objects, with `k=2` and `k=3`", [20, 30], 2),
    Row("coroutine", "an `async def`", [1, 1]),
    Row("generator", "a generator", ["ab", "ab"]),
    Row("async_generator", "an async generator", ["ab", "ab"]),
    Row("mutation", "a returned list is changed by its receiver, and the call made again", [1]),
    Row("exception", "an exception is not remembered", None, 2),
    Row("none", "None is remembered", [None, None]),
)

PAGES = {url: f"page:{url}" for url in ("apple", "fig", "kiwi", "pear")}
REPLAYS = (
    Row(
        "set",
        "stopped after reading a set of addresses, continued by a process that iterates it in another order",
        PAGES,
        4,
    ),
    Row("edit", 'stopped after `load("A")`, continued by code that says `load("B")`', "page:B", 2),
    Row("id", 'called again under the same id, with "B" in place of "A"', "page:B", 2),
    Row("state", "eight runs at once add one each to a number that their session keeps", 8, 8),
)


@dataclass
class Answer:
    """What came back: the answers of the processes, or the last line of an error, and how often the function was executed."""

    values: list[Any] = field(default_factory=list)
    error: str = ""
    executions: int = 0

    def verdict(self, row: Row) -> str:
        """Say it in a few words: `right`, or what was not."""
        if self.error:
            return self.error
        wrong = [value for value in self.values if value != row.answer]
        if wrong:
            return f"**wrong**: {told(wrong[-1])}"
        return "right" if self.executions == row.executions else f"executed {self.executions} times"


def told(value: Any) -> str:
    """Return a value as the page shows it."""
    if isinstance(value, dict):
        value = {key: text.removeprefix("page:") for key, text in value.items()}
        return f"{sum(key != text for key, text in value.items())} of {len(value)} values are another address's"
    return f"`{json.dumps(value)}`"


def ask(python: str, peer: str, row: Row, *, patience: float = 300) -> Answer:
    """Ask one question of one library."""
    starts = {"once": [0], "together": [0] * 4, "in turn": [1, 2]}[row.how]
    with directory() as place:
        command = [python, str(HERE / "questions.py"), peer, row.question, str(place)]
        if row.how == "together":
            processes = [start(command, seed) for seed in starts]
            meet(place, len(starts), patience)
            return judged(place, [finished(process, patience) for process in processes])
        return judged(place, [finished(start(command, seed), patience) for seed in starts])


def replay(python: str, peer: str, row: Row, *, patience: float = 300) -> Answer:
    """Run a program half way, and go on with it in another process."""
    with directory() as place:
        command = [python, str(HERE / "replay.py"), peer, row.question, str(place)]
        finished(start([*command, "stop"], 1), patience)
        return judged(place, [finished(start([*command, "go"], 2), patience)])


def meet(place: Path, processes: int, patience: float) -> None:
    """Let processes begin together, once all are ready."""
    deadline = time.monotonic() + patience
    while len(list(place.glob("ready.*"))) < processes and time.monotonic() < deadline:
        time.sleep(0.005)
    (place / "go").touch()


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def start(command: list[str], seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that servers which it starts end with it
    )


def finished(process: subprocess.Popen[str], patience: float) -> str:
    """Return what a process printed; end it if it takes too long."""
    try:
        return process.communicate(timeout=patience)[0]
    except subprocess.TimeoutExpired:
        return f"no answer in {patience:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def judged(place: Path, outputs: list[str]) -> Answer:
    answer = Answer(executions=len(lines(place / "executed")))
    for output in outputs:
        found = re.search(r"^answer: (.*)$", output, re.MULTILINE)
        if found:
            answer.values.append(json.loads(found[1]))
        else:
            answer.error = error_of(output)
    return answer


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def error_of(output: str) -> str:
    """Return the class of the exception that ended a program."""
    names = re.findall(r"^([\w.]*(?:Error|Exception|Usage\w*|Refused))\b.*$", output, re.MULTILINE)
    return f"`{names[-1].rpartition('.')[2]}`" if names else (output.strip().splitlines() or ["no answer"])[-1][:60]
