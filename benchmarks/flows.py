"""What many things at once, streams, and going on after a death cost: `flows.py DIRECTORY TIMES MANY LONG`, one repeat; see `suite.py`."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from measuring import PAYLOAD, VALUE, Amounts, Sample, bench, printed, raw

from agentflow import Context, cached_step, workflow

PROGRAMS = Path(__file__).with_name("programs.py")
TRIES = 3  # of which the quickest counts
HELD = 0.4  # seconds for which another process holds the write lock


@cached_step(version="1")
async def slept(number: int) -> dict[str, str]:
    await asyncio.sleep(0.05)
    return VALUE


@cached_step(version="1")
def step(number: int) -> dict[str, str]:
    return VALUE


class Lag:
    """How late the loop came back to somebody who asked every millisecond: the longest, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - asked - 0.001)

    async def during(self, work: Awaitable[Any]) -> float:
        """Return how long the work took, while watching."""
        watching = asyncio.create_task(self.watch())
        began = time.perf_counter()
        await work
        took = time.perf_counter() - began
        watching.cancel()
        return took


def fan_out(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """Many steps of 50 ms at once against bare sleeps; the default durability, whose commits are shared."""
    with bench(place, "power"):
        for limit, figure in ((None, "fan-out"), (100, "fan-out, limit 100")):
            lag = Lag()
            floor = asyncio.run(timed(bare(amounts.many, limit)))
            took = asyncio.run(stepped(amounts.many, limit, lag))
            yield Sample(figure, took, floor)
            if limit is None:
                yield Sample("loop lag, fan-out", lag.longest * 1000)
                yield uncollected(amounts.many)


async def timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def bare(many: int, limit: int | None) -> None:
    places = asyncio.Semaphore(limit or many)

    async def one() -> None:
        async with places:
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(many)))


async def stepped(many: int, limit: int | None, lag: Lag, first: int = 0) -> float:
    @workflow(name="fan-out")
    async def flow(ctx: Context, limit: int | None, first: int) -> float:
        return await lag.during(ctx.map(slept, range(first, first + many), max_concurrency=limit))

    return await flow(limit, first or (limit or 0) * many)


def uncollected(many: int) -> Sample:
    """The loop's lag without Python's own collections of garbage, each of which stops everything."""
    lag = Lag()
    gc.collect()
    gc.disable()
    try:
        asyncio.run(stepped(many, None, lag, first=many))
    finally:
        gc.enable()
    return Sample("loop lag, no garbage collection", lag.longest * 1000)


def locked_out(place: Path) -> Sample:
    """The loop's lag while async steps finish and another process holds the write lock."""
    with bench(place, "power") as made:
        step(0)
        lag = Lag()

        @workflow(name="locked out")
        async def flow(ctx: Context) -> None:
            holder = await asyncio.to_thread(holding, made.store.path / "cache.db")
            await lag.during(ctx.map(slept, range(10)))
            await asyncio.to_thread(holder.wait)

        asyncio.run(flow())
    return Sample("loop lag, locked out", lag.longest * 1000)


HOLDER = """
import sqlite3, sys, time
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def holding(database: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database), str(HELD)], stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    holder.stdout.close()
    return holder


@attrs.frozen
class Event:
    """The floor's event: what a typed event costs at least."""

    number: int
    item: str


def streams(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """An item of a streamed workflow against a generator that keeps its items as typed events."""
    many = amounts.many * 5

    @workflow(name="stream")
    def flow(number: int) -> Iterator[str]:
        for _ in range(many):
            yield "word "

    @workflow(name="async stream")
    async def aflow(number: int) -> AsyncIterator[str]:
        for _ in range(many):
            yield "word "

    with bench(place, "process"):
        floor = min(consumed(teed(many)) for _ in range(TRIES))
        yield Sample("event", min(consumed(flow(n)) for n in range(TRIES)) / many, floor / many)
        floor = min(asyncio.run(aconsumed(ateed(many))) for _ in range(TRIES))
        yield Sample("event, async", min(asyncio.run(aconsumed(aflow(n))) for n in range(TRIES)) / many, floor / many)


def teed(many: int) -> Iterator[str]:
    kept: list[Event] = []
    for number in range(many):
        kept.append(Event(number, "word "))
        yield "word "


async def ateed(many: int) -> AsyncIterator[str]:
    for word in teed(many):
        yield word


def consumed(stream: Iterator[str]) -> float:
    began = time.perf_counter()
    for _ in stream:
        pass
    return time.perf_counter() - began


async def aconsumed(stream: AsyncIterator[str]) -> float:
    began = time.perf_counter()
    async for _ in stream:
        pass
    return time.perf_counter() - began


def ask(program: str, place: Path, *arguments: object) -> Any:
    """Run one of `programs.py` in a process of its own; return what it says."""
    command = [sys.executable, str(PROGRAMS), program, str(place), *map(str, arguments)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return json.loads(out) if out else None


def replay(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """A run killed after its last step and continued by a new process: for each step, and steps executed twice."""
    place.mkdir()
    ask("killed", place, amounts.many)
    found = ask("continued", place, amounts.many)
    yield Sample("replay, loop", found["loop"], found["select"])
    yield Sample("replay, open to result", found["whole"] / amounts.many, found["select"])
    yield Sample("replay, executed again", found["executed"])


def long_run(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """The last hundred steps of a long run against its first, and its memory against that of a short one."""
    place.mkdir()
    short, long = (ask("long", place / str(steps), steps) for steps in (100, amounts.long))
    yield Sample("long run, last steps", long["last"], long["first"])
    yield Sample("long run, memory", long["memory"], short["memory"])


def threads(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """Eight threads, one store: throughput against one raw connection and a lock, and the longest wait."""
    with bench(place, "process"):
        step(-1)
        con, mutex = raw(place / "shared.db", "NORMAL"), threading.Lock()

        def insert(number: int) -> None:
            with mutex:
                con.execute("INSERT INTO t (key, value) VALUES (?, ?)", (f"{number:064d}", PAYLOAD))

        floor, _ = at_once(insert, amounts.times)
        took, longest = at_once(step, amounts.times)
        con.close()
    yield Sample("8 threads", took, floor)
    yield Sample("8 threads, longest", longest * 1000)


def at_once(call: Callable[[int], object], times: int) -> tuple[float, float]:
    """Let eight threads make calls; return how long it takes, and the longest call."""
    longest: list[float] = []

    def work(first: int) -> None:
        worst = 0.0
        for number in range(first, first + times):
            began = time.perf_counter()
            call(number)
            worst = max(worst, time.perf_counter() - began)
        longest.append(worst)

    workers = [threading.Thread(target=work, args=(n * times,)) for n in range(8)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began, max(longest)


def processes(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """Four processes, one store: the longest step, and how many are missing afterwards."""
    place.mkdir()
    command = [sys.executable, str(PROGRAMS), "writing", str(place), str(amounts.times)]
    writers = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(4)]
    longest = [json.loads(writer.communicate()[0])["longest"] for writer in writers]
    con = sqlite3.connect(place / "store/cache.db")
    (kept,) = con.execute("SELECT count(*) FROM Cache").fetchone()
    con.close()
    yield Sample("4 processes, longest", max(longest) * 1000)
    yield Sample("4 processes, lost", 4 * amounts.times - kept)


def measure(place: Path, amounts: Amounts) -> list[Sample]:
    return [
        *fan_out(place / "fan-out", amounts),
        locked_out(place / "locked"),
        *streams(place / "streams", amounts),
        *replay(place / "replay", amounts),
        *long_run(place / "long", amounts),
        *threads(place / "threads", amounts),
        *processes(place / "processes", amounts),
    ]


if __name__ == "__main__":
    printed(measure(Path(sys.argv[1]), Amounts(*map(int, sys.argv[2:5]))))
