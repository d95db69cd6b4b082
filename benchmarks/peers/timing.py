"""What a remembered function costs in one library: `timing.py DIRECTORY PEER TIMES`, one repeat; prints samples as JSON.

Floors are taken in the same process. Import comes first, since it can be measured once only.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from remembering import REMEMBER, prepare_prefect

DIRECTORY, PEER, TIMES = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
VALUE = {f"key {n}": "x" * 50 for n in range(16)}
PAYLOAD = json.dumps(VALUE).encode()
LARGE = {"text": "x" * 2**20}
IMPORTS = {"langgraph": ("langgraph.func", "langgraph.checkpoint.sqlite")}
ENGINES = ("agentflow", "langgraph", "dbos")

Sample = dict[str, Any]


def sample(figure: str, value: float, floor: float | None = None) -> Sample:
    return {"figure": figure, "value": value, "floor": floor}


def small(number: int) -> dict[str, str]:
    return VALUE


def large(number: int) -> dict[str, str]:
    return LARGE


def timed(work: Callable[[int], object], numbers: range) -> float:
    """Return what a call takes in the quickest of ten slices, as `measuring.py` does."""
    each = max(1, len(numbers) // 10)
    return min(slice_of(work, numbers[first : first + each]) for first in range(0, len(numbers), each))


def slice_of(work: Callable[[int], object], numbers: range) -> float:
    began = time.perf_counter()
    for number in numbers:
        work(number)
    return (time.perf_counter() - began) / len(numbers)


def importing() -> Iterator[Sample]:
    prepare_prefect(DIRECTORY)
    before = time.perf_counter()
    for module in IMPORTS.get(PEER, (PEER,)):
        __import__(module)
    if PEER == "agentflow":  # its names are loaded at their first use
        from agentflow import Context, cached_step, workflow  # noqa: F401
    yield sample("import", time.perf_counter() - before)
    yield sample("modules", len(sys.modules))
    text = Path("/proc/self/status").read_text(encoding="ascii")
    yield sample("memory", next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) / 1024)


def inserting(synchronous: str) -> Callable[[int], object]:
    con = sqlite3.connect(DIRECTORY / f"{synchronous}.db", isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute(f"PRAGMA synchronous = {synchronous}")
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value BLOB)")
    return lambda number: con.execute("INSERT INTO t (key, value) VALUES (?, ?)", (f"{number:064d}", PAYLOAD))


def selecting() -> Callable[[int], object]:
    con = sqlite3.connect(DIRECTORY / "NORMAL.db", isolation_level=None)
    return lambda number: con.execute("SELECT value FROM t WHERE key = ?", (f"{number:064d}",)).fetchone()


def rounds(call: Callable[[int], object], call_large: Callable[[int], object]) -> Iterator[Sample]:
    """Misses, then hits, between floors."""
    full, normal = inserting("FULL"), inserting("NORMAL")
    numbers = range(1, TIMES + 1)
    synced, inserted = timed(full, numbers), timed(normal, numbers)
    missed = timed(call, numbers)
    selected = timed(selecting(), numbers)
    hit = timed(call, numbers)
    call_large(1)
    yield sample("miss", missed)
    yield sample("miss / fsync", missed, synced)
    yield sample("miss / insert", missed, inserted)
    yield sample("hit", hit)
    yield sample("hit / select", hit, selected)
    yield sample("hit 1 MiB", timed(lambda _: call_large(1), range(20)))


def memoizer() -> Iterator[Sample]:
    remember = REMEMBER[PEER](DIRECTORY)
    call = remember(small)
    call(0)
    yield from rounds(call, remember(large))


def agentflow() -> Iterator[Sample]:
    from agentflow import Context, cached_step, configure, workflow
    from agentflow.stores import DiskStore

    configure(store=DiskStore(DIRECTORY / "store"))
    call, call_large = cached_step(small), cached_step(large)
    found: list[Sample] = []

    @cached_step
    async def slept(number: int) -> int:
        await asyncio.sleep(0.05)
        return number

    @workflow
    def flow() -> None:
        call(0)
        found.extend(rounds(call, call_large))

    @workflow
    def nothing(number: int) -> None: ...

    @workflow
    async def many(ctx: Context) -> None:
        await ctx.map(slept, range(1000))

    flow()
    nothing(0)
    yield from found
    yield sample("run", timed(nothing, range(1, 31)))
    yield sample("fan-out", timed(lambda _: asyncio.run(many()), range(1)))


def langgraph() -> Iterator[Sample]:
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.func import entrypoint, task
    from langgraph.types import Command, interrupt

    kept = {"small": task(small), "large": task(large), "slept": task(sleeping)}
    with SqliteSaver.from_conn_string(str(DIRECTORY / "store.db")) as saver:
        config = {"configurable": {"thread_id": "steps"}}
        times: list[float] = []

        # A finished task is replayed when the entrypoint goes on after an interrupt: that is its hit.
        @entrypoint(checkpointer=saver)
        def flow(what: str) -> None:
            times.append(timed(lambda number: kept["small"](number).result(), range(TIMES)))
            times.append(timed(lambda number: kept["large"](number).result(), range(5)))
            interrupt("shall I go on?")

        @entrypoint(checkpointer=saver)
        def nothing(number: int) -> None: ...

        @entrypoint(checkpointer=saver)
        def many(what: str) -> None:
            for waiting in [kept["slept"](number) for number in range(1000)]:
                waiting.result()

        full, normal = inserting("FULL"), inserting("NORMAL")
        synced, inserted = timed(full, range(1, TIMES)), timed(normal, range(1, TIMES))
        flow.invoke("begin", config)
        selected = timed(selecting(), range(1, TIMES))
        flow.invoke(Command(resume=True), config)
        yield sample("miss", times[0])
        yield sample("miss / fsync", times[0], synced)
        yield sample("miss / insert", times[0], inserted)
        yield sample("hit", times[2])
        yield sample("hit / select", times[2], selected)
        yield sample("hit 1 MiB", times[3])
        threads = ({"configurable": {"thread_id": f"run {number}"}} for number in range(31))
        nothing.invoke(0, next(threads))
        yield sample("run", timed(lambda number: nothing.invoke(number, next(threads)), range(30)))
        yield sample("fan-out", timed(lambda _: many.invoke("go", {"configurable": {"thread_id": "many"}}), range(1)))


def sleeping(number: int) -> int:
    time.sleep(0.05)
    return number


def dbos() -> Iterator[Sample]:
    from dbos import DBOS

    DBOS(
        config={
            "name": "timing",
            "system_database_url": f"sqlite:///{DIRECTORY / 'store.sqlite'}",
            "log_level": "CRITICAL",
            "run_admin_server": False,
        }
    )
    step, slept = DBOS.step(name="small")(small), DBOS.step(name="slept")(asleep)
    times: list[float] = []

    @DBOS.workflow(name="flow")
    def flow(what: str) -> None:
        times.append(timed(step, range(TIMES)))

    @DBOS.workflow(name="nothing")
    def nothing(number: int) -> None: ...

    @DBOS.workflow(name="many")
    async def many(what: str) -> None:
        await asyncio.gather(*(slept(number) for number in range(1000)))

    DBOS.launch()
    full, normal = inserting("FULL"), inserting("NORMAL")
    synced, inserted = timed(full, range(1, TIMES)), timed(normal, range(1, TIMES))
    flow("go")
    yield sample("miss", times[0])
    yield sample("miss / fsync", times[0], synced)
    yield sample("miss / insert", times[0], inserted)
    nothing(0)
    yield sample("run", timed(nothing, range(30)))
    yield sample("fan-out", timed(lambda _: asyncio.run(many("go")), range(1)))
    DBOS.destroy()


async def asleep(number: int) -> int:
    await asyncio.sleep(0.05)
    return number


if __name__ == "__main__":
    samples = list(importing())
    samples += {"agentflow": agentflow, "langgraph": langgraph, "dbos": dbos}.get(PEER, memoizer)()
    print("samples:", json.dumps(samples), flush=True)
