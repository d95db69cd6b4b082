"""What a step, a run and the state cost, as ratios to the floors of the same process; see docs/performance.md.

    python benchmarks/steps.py

Candidates and floors take turns in every repeat, and each ratio is that of one repeat: the machine's speed changes by the minute,
the ratio does not. Shown are medians of the ratios, and of the microseconds for orientation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agentflow import Context, cached_step, workflow
from agentflow._settings import using_store
from agentflow.stores import DiskStore, MemoryStore

VALUE = {f"key {n}": "x" * 50 for n in range(16)}
"""About one KiB encoded."""
PAYLOAD = json.dumps(VALUE).encode()

Work = Callable[[int], None]


@cached_step(version="1")
def step(number: int) -> dict[str, str]:
    return VALUE


@workflow
def nothing(number: int) -> None: ...


def raw(path: Path, synchronous: str) -> sqlite3.Connection:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute(f"PRAGMA synchronous = {synchronous}")
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value BLOB)")
    return con


def insert(con: sqlite3.Connection) -> Work:
    numbers = itertools.count()
    return lambda _: (
        con.execute("INSERT INTO t (key, value) VALUES (?, ?)", (f"{next(numbers):064d}", PAYLOAD)) and None
    )


def select(con: sqlite3.Connection) -> Work:
    con.execute("INSERT OR IGNORE INTO t (key, value) VALUES (?, ?)", ("k" * 64, PAYLOAD))
    return lambda _: con.execute("SELECT value FROM t WHERE key = ?", ("k" * 64,)).fetchone() and None


def miss() -> Work:
    numbers = itertools.count()
    return lambda _: step(next(numbers)) and None


def hit() -> Work:
    step(-1)
    return lambda _: step(-1) and None


def run() -> Work:
    numbers = itertools.count()
    return lambda _: nothing(next(numbers))


def microseconds(work: Work, times: int) -> float:
    began = time.perf_counter()
    for number in range(times):
        work(number)
    return (time.perf_counter() - began) / times * 1e6


def in_run(make: Callable[[Context], Work], times: int) -> float:
    """Time work inside one run."""
    found: list[float] = []

    @workflow(name="benchmark")
    def flow(ctx: Context, number: int) -> None:
        found.append(microseconds(make(ctx), times))

    flow(time.monotonic_ns())
    return found[0]


def assign(ctx: Context) -> Work:
    return lambda number: ctx.state.__setitem__("key", number)


def measure(directory: Path, times: int) -> dict[str, float]:
    """One repeat: everything once, in microseconds."""
    full, normal = raw(directory / "full.db", "FULL"), raw(directory / "normal.db", "NORMAL")
    power, process = DiskStore(directory / "power"), DiskStore(directory / "process", durability="process")
    found = {"floor: insert, fsync": microseconds(insert(full), times)}
    with using_store(power):
        nothing(0)
        found["step, missed (default: fsync)"] = in_run(lambda _: miss(), times)
        found["run of nothing (default: fsync)"] = microseconds(run(), times)
        found["state assignment (default: fsync)"] = in_run(assign, times)
    found["floor: insert"] = microseconds(insert(normal), times)
    with using_store(process):
        nothing(0)
        found["step, missed"] = in_run(lambda _: miss(), times)
        found["run of nothing"] = microseconds(run(), times)
        found["state assignment"] = in_run(assign, times)
    found["floor: select"] = microseconds(select(normal), times * 10)
    with using_store(process):
        found["step, hit"] = in_run(lambda _: hit(), times * 10)
    with using_store(MemoryStore()):
        found["step, missed, memory"] = in_run(lambda _: miss(), times)
        found["step, hit, memory"] = in_run(lambda _: hit(), times * 10)
    for closing in (full, normal, power, process):
        closing.close()
    return found


FLOORS = {
    "step, missed (default: fsync)": "floor: insert, fsync",
    "run of nothing (default: fsync)": "floor: insert, fsync",
    "state assignment (default: fsync)": "floor: insert, fsync",
    "step, missed": "floor: insert",
    "run of nothing": "floor: insert",
    "state assignment": "floor: insert",
    "step, hit": "floor: select",
    "step, missed, memory": "floor: insert",
    "step, hit, memory": "floor: select",
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure steps, runs and state against raw SQLite.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--times", type=int, default=300)
    asked = parser.parse_args()
    repeats = []
    for _ in range(asked.repeats):
        with tempfile.TemporaryDirectory() as directory:
            repeats.append(measure(Path(directory), asked.times))
    print("| what | median µs | x floor |\n|---|---:|---:|")
    for name in repeats[0]:
        median = statistics.median(repeat[name] for repeat in repeats)
        floor = FLOORS.get(name)
        ratio = f"{statistics.median(repeat[name] / repeat[floor] for repeat in repeats):.2f}" if floor else ""
        print(f"| {name} | {median:.0f} | {ratio} |")


if __name__ == "__main__":
    main()
