"""How a figure is measured: the candidate and its floor take turns, and only their ratio in one repeat counts.

The speed of a shared machine changes by the minute, and by half; a ratio of two things that took turns moves by a tenth.
What is short is measured in slices of which the quickest counts, since in the others this process may have had to wait for its neighbours.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agentflow._settings import using_store
from agentflow.stores import DiskStore

VALUE = {f"key {n}": "x" * 50 for n in range(16)}
"""About one KiB encoded."""
PAYLOAD = json.dumps(VALUE).encode()

Work = Callable[[], object]
SLICES = 10


@dataclass(frozen=True)
class Sample:
    """What one repeat gave for one figure: in seconds, or in the figure's own unit if it has no floor."""

    figure: str
    value: float
    floor: float | None = None


@dataclass(frozen=True)
class Amounts:
    """How much is measured in each repeat.

    Attributes:
        times: How often a cheap thing is done.
        many: The length of a fan-out, a replay, a stream and a history.
        long: The steps of a long run.
    """

    times: int = 300
    many: int = 1000
    long: int = 10_000


def seconds(work: Work, times: int) -> float:
    """Return how long so many calls take."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - began


def pair(figure: str, work: Work, floor: Work, times: int, *, slices: int = SLICES) -> Sample:
    """Measure a piece of work and its floor in turns; of each, its quickest slice counts."""
    each = max(1, times // slices)
    turns = [(seconds(floor, each), seconds(work, each)) for _ in range(slices)]
    return Sample(figure, min(mine for _, mine in turns) / each, min(theirs for theirs, _ in turns) / each)


def quickest(work: Work, times: int) -> float:
    """Return what a call takes in the quickest slice of so many calls."""
    each = max(1, times // SLICES)
    return min(seconds(work, each) for _ in range(SLICES)) / each


def raw(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open a bare SQLite file in WAL mode, with a table of keys and values."""
    con = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute(f"PRAGMA synchronous = {synchronous}")
    con.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value BLOB)")
    return con


def inserting(con: sqlite3.Connection) -> Work:
    """The floor of everything that is kept: an INSERT of 1 KiB and its commit."""
    numbers = itertools.count(con.execute("SELECT count(*) FROM t").fetchone()[0])
    return lambda: con.execute("INSERT INTO t (key, value) VALUES (?, ?)", (f"{next(numbers):064d}", PAYLOAD))


def selecting(con: sqlite3.Connection) -> Work:
    """The floor of everything that is found: a SELECT of 1 KiB by a unique key."""
    con.execute("INSERT OR IGNORE INTO t (key, value) VALUES (?, ?)", ("k" * 64, PAYLOAD))
    return lambda: con.execute("SELECT value FROM t WHERE key = ?", ("k" * 64,)).fetchone()


@dataclass(frozen=True)
class Bench:
    """A fresh directory with a store of one durability, the default of the process, and the floors of the same class."""

    store: DiskStore
    insert: Work
    select: Work


@contextmanager
def bench(place: Path, durability: str) -> Iterator[Bench]:
    """Make a store and its floors for a block."""
    place.mkdir(parents=True, exist_ok=True)
    con = raw(place / "floor.db", "FULL" if durability == "power" else "NORMAL")
    store = DiskStore(place / "store", durability=durability)
    try:
        with using_store(store):
            yield Bench(store, inserting(con), selecting(con))
    finally:
        store.close()
        con.close()


def status(field: str) -> float:
    """Return a memory figure of this process in MiB, such as `VmRSS` or `VmHWM`."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:")) / 1024


def bytes_written() -> int:
    """Return how many bytes this process has handed to write calls."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["wchar"])


def printed(samples: list[Sample]) -> None:
    """Hand samples to the process that asked for them."""
    print("samples:", json.dumps([asdict(sample) for sample in samples]), flush=True)
