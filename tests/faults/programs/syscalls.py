"""Lets every system call that changes a store fail, or kills there, and counts what is lost.

syscalls.py DIRECTORY COLOUR SHARE FAULT...

One process imports the SDK. For each call of a run of five steps in a new store, and each fault, a forked child runs them under strace, which
injects the fault at that call. A fault is `KILL`, an errno (`ENOSPC`: that call fails once) or an errno with a plus (`ENOSPC+`: it and all later ones
of its kind fail, until strace is told to let go). The child then calls the same workflow again, in the same process, and another process looks at
what is there. SHARE is a number: every so many-th call only. Prints the counts as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import agentflow
from agentflow.exceptions import StoreError
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
STEPS = 5
PATIENCE = 40  # seconds until a child is said to hang
FILES = ["", "/locks", "/AGENTFLOW", "/.gitignore"] + [
    f"/cache.db{middle}{rest}" for middle in ("", ".new") for rest in ("", "-wal", "-shm", "-journal")
]
CHANGING = (
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "rename",
    "unlink",
    "linkat",
    "mkdir",
    "openat",
    "fchown",
    "fchmod",
)
READING = ("pread64",)


def strace(directory: Path, child: int, calls: str, *options: str) -> subprocess.Popen[bytes]:
    """Follow a child that has stopped itself, where it touches the store and nowhere else, and let it go on."""
    paths = [part for file in FILES for part in ("-P", f"{directory}/store{file}")]
    command = [
        "strace",
        "-f",
        "-qq",
        "-o",
        f"{directory}/calls",
        *paths,
        "-e",
        f"trace={calls}",
        *options,
        "-p",
        str(child),
    ]
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        time.sleep(0.0005)
    os.kill(child, signal.SIGCONT)
    return tracer


def child_of(directory: Path, colour: str, go_on: int | None) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), signal.SIGSTOP)
        live(directory, colour, go_on)
        status = 0
    os._exit(status)


def live(directory: Path, colour: str, go_on: int | None) -> None:
    """Call the workflow until it succeeds, and say what it raised."""
    store = DiskStore(directory / "store", busy_timeout=5)
    agentflow.configure(store=store)
    _flow.LOG.open(directory / "log")
    for _ in range(12):
        try:
            _flow.RUN[colour]("run", STEPS)
            break
        except BaseException as error:
            tell(directory, colour, error)
        if go_on is not None:  # the fault lasts: once more while it does, then until it is over
            with contextlib.suppress(StoreError):
                _flow.RUN[colour]("run", STEPS)
            (directory / "failed").touch()
            os.read(go_on, 1)
            go_on = None
    else:
        raise SystemExit("it never works again")
    store.close()


def tell(directory: Path, colour: str, error: BaseException) -> None:
    """Write down what a user gets to see."""
    story = _flow.Story.read(directory / "log")
    unseen = [key for key in story.finished if key not in story.acknowledged]
    result = getattr(error, "result", None)
    n = int(unseen[0].rsplit("/", 1)[1]) if unseen else -1
    expected = [_flow.answer("run", n)] if colour in ("sync", "async") else [[{"first": n}, _flow.answer("run", n)]]
    line = {
        "type": type(error).__name__,
        "typed": isinstance(error, StoreError),
        "path": str(getattr(error, "path", "")).startswith(str(directory / "store")),
        "hint": bool(getattr(error, "hint", "")),
        "errno": getattr(error, "errno", None),
        "kept": not unseen or result in expected,
        "message": str(error),
    }
    with (directory / "told").open("a") as file:
        file.write(json.dumps(line) + "\n")


def points(directory: Path, colour: str, calls: tuple[str, ...]) -> list[tuple[str, int]]:
    """Run once without a fault, and return every call by its name and its number in its thread."""
    directory.mkdir()
    child = child_of(directory, colour, None)
    tracer = strace(directory, child, ",".join(calls))
    assert os.waitpid(child, 0)[1] == 0, "it does not even work without a fault"
    tracer.wait()
    counted: Counter[tuple[str, str]] = Counter()
    for line in (directory / "calls").read_text().splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            counted[found[1], found[2]] += 1
    most = {name: max(number for (_, other), number in counted.items() if other == name) for _, name in counted}
    return [(name, number) for name in calls for number in range(1, most.get(name, 0) + 1)]


def inject(directory: Path, colour: str, call: str, number: int, fault: str) -> dict[str, object]:
    """Live through one fault, and return what came of it."""
    directory.mkdir()
    lasting = fault.endswith("+")
    reading, writing = os.pipe()
    child = child_of(directory, colour, reading if lasting else None)
    what = "signal=KILL" if fault == "KILL" else f"error={fault.rstrip('+')}"
    tracer = strace(directory, child, call, "-e", f"inject={call}:{what}:when={number}{'+' if lasting else ''}")
    started = time.monotonic()
    status = None
    while status is None and time.monotonic() < started + PATIENCE:
        if lasting and (directory / "failed").exists() and tracer.poll() is None:
            tracer.terminate()  # which lets the child go
            tracer.wait()
            os.write(writing, b"!")
        ended, how = os.waitpid(child, os.WNOHANG)
        status = how if ended else None
        time.sleep(0.001)
    hung = status is None
    if hung:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    tracer.wait()
    os.close(reading)
    os.close(writing)
    told = (
        [json.loads(line) for line in (directory / "told").read_text().splitlines()]
        if (directory / "told").exists()
        else []
    )
    return {"hung": hung, "status": status, "told": told, **looked(directory, colour)}


def looked(directory: Path, colour: str) -> dict[str, object]:
    """Look at a store from a process of its own, and use it without any repair."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(look(directory, colour)).encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], PATIENCE)
    answer = os.read(reading, 65536) if ready else b""
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(answer or '{"broken": true}')


def look(directory: Path, colour: str) -> dict[str, object]:
    started = time.monotonic()
    store = DiskStore(directory / "store")
    agentflow.configure(store=store)
    (directory / "log").touch()
    story = _flow.Story.read(directory / "log")
    lost = _flow.missing(colour, story.acknowledged)
    seconds = time.monotonic() - started
    _flow.LOG.open(directory / "log")
    _flow.RUN[colour]("run", STEPS)
    again = _flow.Story.read(directory / "log")
    store.close()
    con = sqlite3.connect(directory / "store/cache.db")
    check = con.execute("PRAGMA integrity_check").fetchone()[0]
    con.close()
    return {
        "broken": check != "ok" or len(again.acknowledged) != STEPS,
        "lost": lost,
        "executed_again": again.executed_again,
        "wrong": again.wrong,
        "extra": story.extra,
        "slow": seconds > 1,
    }


def faults(all_points: list[tuple[str, int]], share: int, names: list[str]) -> Iterator[tuple[str, int, str]]:
    """Which fault at which call; with a share, a different part of the calls for each fault."""
    for turn, fault in enumerate(names):
        for position, (call, number) in enumerate(all_points):
            if position % share == turn % share:
                yield call, number, fault


def main(directory: Path, colour: str, share: int, names: list[str]) -> dict[str, object]:
    calls = READING if names == ["READ"] else CHANGING
    names = ["EIO", "EIO+"] if names == ["READ"] else names
    found = points(directory / "census", colour, calls)
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    bad: list[object] = []
    for call, number, fault in faults(found, share, names):
        place = directory / "one"
        outcome = inject(place, colour, call, number, fault)
        counts["runs"] += 1
        if outcome["status"] == signal.SIGKILL:
            counts["killed"] += 1
        for name in ("lost", "executed_again", "wrong", "hung", "broken", "slow"):
            counts[name] += int(outcome.get(name, 0))
        stuck = fault != "KILL" and outcome["status"] != 0
        untyped = [
            told for told in outcome["told"] if not (told["typed"] and told["path"] and told["hint"] and told["kept"])
        ]
        counts["not_working_again"] += stuck
        counts["untyped"] += len(untyped)
        for told in outcome["told"]:
            kinds[f"{fault.rstrip('+')}: {told['type']} {told['errno']}"] += 1
        if (
            stuck
            or untyped
            or any(outcome.get(name) for name in ("lost", "executed_again", "wrong", "hung", "broken", "slow"))
        ):
            bad.append({"call": f"{call} {number} {fault}", **outcome})
        shutil.rmtree(place)
    by_call = Counter(call for call, _ in found)
    return {"points": len(found), "calls": by_call, **counts, "errors": dict(sorted(kinds.items())), "bad": bad[:20]}


if __name__ == "__main__":
    place, colour, share, *names = sys.argv[1:]
    print(json.dumps(main(Path(place), colour, int(share), names)))
