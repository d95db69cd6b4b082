"""The same step called by several processes at once: executed once, and taken over from whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/programs/single_flight.py"


class Meeting:
    """Processes that begin together, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAM), str(self.directory), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def go(self) -> None:
        self.until(lambda: len(list(self.directory.glob("ready.*"))) == len(self.processes))
        (self.directory / "go").touch()

    def until_held(self) -> None:
        self.until((self.directory / "held").exists)

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.005)

    @staticmethod
    def answer(process: subprocess.Popen[str]) -> Any:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert err == ""
        return json.loads(out)

    @property
    def executed(self) -> list[str]:
        return (self.directory / "executed").read_text().splitlines()

    def end(self) -> None:
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate()


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Meeting]:
    meeting = Meeting(tmp_path)
    yield meeting
    meeting.end()


@pytest.mark.parametrize(
    ("command", "expected"),
    [("value", [1]), ("avalue", [1]), ("stream", [0, 1, 2, 3, 4]), ("astream", [0, 1, 2, 3, 4])],
)
def test_eight_processes_execute_once(meeting, command, expected):
    """One of them executes, in a store that none has opened before; all have the value, or replay the stream."""
    processes = [meeting.start(command) for _ in range(8)]
    meeting.go()

    assert [meeting.answer(process) for process in processes] == [expected] * 8
    assert meeting.executed == [command]


@pytest.mark.parametrize("how", [("hold",), ("hold", "forking"), ("hold_stream",)], ids=" ".join)
def test_a_waiter_takes_over_from_a_killed_owner(meeting, how):
    """kill -9 frees the key at once, also if the owner has left a forked child alive."""
    owner = meeting.start(*how)
    meeting.go()
    meeting.until_held()
    waiter = meeting.start(how[0])
    time.sleep(0.5)
    assert len(meeting.executed) == 1

    owner.kill()
    meeting.until(lambda: len(meeting.executed) == 2)

    assert meeting.answer(waiter) == (1 if how[0] == "hold" else [1, 2])


def test_an_exception_is_not_sent_between_processes(meeting):
    """The owner raises; of the others one executes anew, and all the others have its value."""
    processes = [meeting.start("failing") for _ in range(4)]
    meeting.go()
    answers = [meeting.answer(process) for process in processes]

    assert sorted(map(str, answers)) == ["1", "1", "1", "ValueError: the first one fails"]
    assert meeting.executed == ["failing"] * 2


@pytest.mark.parametrize("kind", ["step", "timeout", "async", "stream", "flow"])
def test_ctrl_c_records_nothing_and_frees_the_key(meeting, kind):
    """KeyboardInterrupt passes through; nothing is remembered, and the same process calls again and succeeds."""
    process = meeting.start("interrupt", kind)
    meeting.go()
    meeting.until_held()
    process.send_signal(signal.SIGINT)

    assert meeting.answer(process) == {"interrupted": True, "remembered": False, "again": True, "hit": True}
    assert meeting.executed == ["interrupted"] * 2


def test_another_process_gets_the_key_of_one_that_was_interrupted(meeting):
    """It waits while the first executes, and executes when that was interrupted."""
    owner = meeting.start("hold")
    meeting.go()
    meeting.until_held()
    waiter = meeting.start("hold")
    time.sleep(0.2)
    owner.send_signal(signal.SIGINT)

    assert meeting.answer(waiter) == 1
    assert owner.wait(10) != 0


@pytest.mark.parametrize("child", ["finished", "other"])
def test_a_fork_in_the_middle_of_a_stream(meeting, child):
    """The child has none of its parent's flights or locks: it waits for the parent's stream as any process does."""
    process = meeting.start("fork", child)
    meeting.go()

    assert meeting.answer(process) == {"parent": [0, 1, 2, 3], "child": 0}
    assert meeting.executed.count("stream") == 1


def test_a_program_may_end_with_streams_half_read(meeting):
    """Nothing is printed about them, nothing of them is remembered, and the next process executes them."""
    process = meeting.start("leave")
    meeting.go()
    assert meeting.answer(process) == "left"

    following = [meeting.start("stream"), meeting.start("astream")]
    assert [meeting.answer(process) for process in following] == [[0, 1, 2, 3, 4]] * 2
