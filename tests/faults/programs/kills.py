"""Kills workflows with `kill -9` at random moments and counts what is lost: kills.py DIRECTORY ROUNDS fork|fresh COLOUR SEED

`fork`: one process imports the SDK, its forked children are killed. `fresh`: each child is an interpreter of its own.
Whoever comes next calls the same workflow again. Prints the counts as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
import warnings
from pathlib import Path

import agentflow
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
STEPS = 12


def live(directory: Path, colour: str) -> None:
    """Finish what was begun, then begin more, until killed."""
    agentflow.configure(store=DiskStore(directory / "store"))
    _flow.LOG.open(directory / "log")
    done = len(list(directory.glob("done.*")))
    while True:
        _flow.RUN[colour](f"run-{done}", STEPS)
        (directory / f"done.{done}").touch()
        done += 1


def forked(directory: Path, colour: str) -> int:
    child = os.fork()
    if child == 0:
        live(directory, colour)
    return child


def fresh(directory: Path, colour: str) -> int:
    # Not subprocess, whose objects complain of a child that somebody else waits for.
    return os.posix_spawn(sys.executable, [sys.executable, __file__, str(directory), "live", colour], os.environ)


def kill_at_random(directory: Path, rounds: int, how: str, colour: str) -> None:
    log = directory / "log"
    log.touch()
    for number in range(rounds):
        size = log.stat().st_size
        child = forked(directory, colour) if how == "fork" else fresh(directory, colour)
        # Counted in what it has done, since how long that takes is the machine's business; a quarter may be opening the store still.
        enough = size + random.randrange(300) if how == "fresh" or number % 4 else -1
        deadline = time.monotonic() + 60
        while log.stat().st_size <= enough and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def count(directory: Path, rounds: int, colour: str) -> dict[str, object]:
    store = DiskStore(directory / "store")
    agentflow.configure(store=store)
    story = _flow.Story.read(directory / "log")
    lost = _flow.missing(colour, story.acknowledged)
    _flow.LOG.open(directory / "log")
    _flow.RUN[colour]("after", 1)  # without any repair
    store.close()
    con = sqlite3.connect(directory / "store/cache.db")
    check = con.execute("PRAGMA integrity_check").fetchone()[0]
    con.close()
    return {
        "kills": rounds,
        "acknowledged": len(story.acknowledged),
        "lost": lost,
        "executed_again": story.executed_again,
        "wrong": story.wrong,
        "in_flight_again": story.extra,
        "integrity": check,
        "files": sorted(path.name for path in (directory / "store").iterdir()),
    }


if __name__ == "__main__":
    if sys.argv[2] == "live":
        live(Path(sys.argv[1]), sys.argv[3])
    place, rounds, how, colour = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    kill_at_random(place, rounds, how, colour)
    print(json.dumps(count(place, rounds, colour)))
