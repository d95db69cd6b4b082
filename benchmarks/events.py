"""What events cost: per streamed item, and how soon another process sees one; see docs/performance.md.

    python benchmarks/events.py

The floor of a streamed item is a generator whose items are put into a list and made an attrs value each; candidate and floor take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs

from agentflow import list_runs, workflow
from agentflow._settings import using_store
from agentflow.stores import DiskStore, MemoryStore


@attrs.frozen
class Told:
    """As small as an event can be."""

    item: str
    at: float


def plain(count: int) -> Iterator[str]:
    for _ in range(count):
        yield "chunk "


@workflow
def sync(count: int) -> Iterator[str]:
    for _ in range(count):
        yield "chunk "


@workflow
async def tasked(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "chunk "


def floor(count: int) -> None:
    kept, told = [], []
    for item in plain(count):
        kept.append(item)
        told.append(Told(item, time.time()))


def consume(count: int) -> None:
    for _ in sync(count):
        pass


def aconsume(count: int) -> None:
    async def main() -> None:
        async for _ in tasked(count):
            pass

    asyncio.run(main())


def listen(count: int) -> None:
    for _ in sync.stream_events(count):
        pass


def alisten(count: int) -> None:
    async def main() -> None:
        async for _ in tasked.astream_events(count):
            pass

    asyncio.run(main())


CANDIDATES: dict[str, Callable[[int], None]] = {
    "streamed item, sync": consume,
    "streamed item, async": aconsume,
    "item and its event, sync": listen,
    "item and its event, async": alisten,
}


def per_item(work: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    work(count)
    return (time.perf_counter() - began) / count * 1e6


WRITER = """
import sys, time, agentflow
from agentflow import Context, workflow

@workflow
def talk(ctx: Context, count: int) -> None:
    for _ in range(count):
        ctx.emit(time.time())
        time.sleep(0.037)

agentflow.configure(store=sys.argv[1])
talk(int(sys.argv[2]))
"""


def delays(directory: Path, count: int) -> list[float]:
    """Return how many milliseconds after they were said another process has seen events."""
    store = DiskStore(directory / "store")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(store.path), str(count)]):
        while not (runs := list_runs(store=store)):
            time.sleep(0.01)
        found = [(time.time() - event.value) * 1000 for event in runs[0].events() if event.type == "emitted"]
    store.close()
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure what events cost, and how soon they are seen.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--items", type=int, default=50_000)
    asked = parser.parse_args()
    floors, found = [], {name: [] for name in CANDIDATES}
    for _ in range(asked.repeats):
        floors.append(per_item(floor, asked.items))
        for name, work in CANDIDATES.items():
            with using_store(MemoryStore()):
                found[name].append(per_item(work, asked.items))
    print("| what | median µs | x floor |\n|---|---:|---:|")
    print(f"| floor: a tee and an attrs value | {statistics.median(floors):.2f} | |")
    for name, values in found.items():
        ratio = statistics.median(value / least for value, least in zip(values, floors, strict=True))
        print(f"| {name} | {statistics.median(values):.2f} | {ratio:.1f} |")
    with tempfile.TemporaryDirectory() as directory:
        seen = sorted(delays(Path(directory), 100))
    print(f"\nSeen by another process after {statistics.median(seen):.0f} ms (median), {seen[-1]:.0f} ms at most.")


if __name__ == "__main__":
    main()
