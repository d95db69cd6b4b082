"""Runs workflows while the process has too little of something: limits.py DIRECTORY descriptors|memory|filesize

Each round a new store, and a little more of it; afterwards the limit is lifted and the same process goes on. Prints the counts as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import agentflow
from agentflow.exceptions import StoreError
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

STEPS = 3


def attempt(colour: str) -> Exception | None:
    """Call the workflow, and return what it raised."""
    try:
        _flow.RUN[colour]("run", STEPS)
    except Exception as error:
        return error
    return None


def judged(error: Exception | None, log: Path) -> str:
    """Say in short what a call raised, and what its error lacks."""
    story = _flow.Story.read(log)
    if error is None:
        return "works"
    if not isinstance(error, StoreError):
        return f"untyped {type(error).__name__}: {error}"
    kept = error.result is not None or not story.finished - story.acknowledged
    good = error.path is not None and error.hint and kept
    return f"{type(error).__name__} {error.errno}{'' if good else f' incomplete: {error}'}"


def rounds(
    directory: Path, colour: str, choose: Callable[[int], object], lift: Callable[[], object], amounts: range
) -> dict[str, object]:
    kinds: Counter[str] = Counter()
    again: Counter[str] = Counter()
    executed_again = 0
    agentflow.configure(store="memory:")
    _flow.LOG.open(directory / "imports")
    _flow.RUN[colour]("run", 1)  # what is imported late is not what is tried here
    for amount in amounts:
        store = DiskStore(directory / f"{colour}-{amount}")
        agentflow.configure(store=store)
        log = directory / f"log-{colour}-{amount}"
        _flow.LOG.open(log)
        choose(amount)
        error = attempt(colour)
        lift()
        kinds[judged(error, log)] += 1
        again[judged(attempt(colour), log)] += 1
        executed_again += _flow.Story.read(log).executed_again
        store.close()
        os.close(_flow.LOG.descriptor)
    return {"rounds": sum(kinds.values()), "seen": kinds, "afterwards": again, "executed_again": executed_again}


def descriptors(directory: Path, colour: str) -> dict[str, object]:
    """From none to spare to enough."""
    taken: list[int] = []
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))

    def choose(spare: int) -> None:
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(min(spare, len(taken))):
                os.close(taken.pop())

    def lift() -> None:
        while taken:
            os.close(taken.pop())

    return rounds(directory, colour, choose, lift, range(12))


def filesize(directory: Path, colour: str) -> dict[str, object]:
    """Files may not grow beyond some 8 kB pages."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return rounds(
        directory,
        colour,
        lambda pages: resource.setrlimit(resource.RLIMIT_FSIZE, (8192 * pages, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        range(1, 30, 2),
    )


if __name__ == "__main__":
    place, what = Path(sys.argv[1]), {"descriptors": descriptors, "filesize": filesize}[sys.argv[2]]
    print(json.dumps({colour: what(place, colour) for colour in sys.argv[3:]}))
