"""`ctx.map`: the results of a list comprehension, at once; over both stores, with functions and steps of both colours."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow import Agent, Context, cached_step, current_context, workflow
from agentflow.exceptions import NoActiveRun, UsageError
from agentflow.testing import FunctionModel

from ._flying import Crowd

pytestmark = pytest.mark.usefixtures("store")

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Every thread of a map has ended when the map has."""
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "agentflow-map"] == []


def test_results_are_in_order_and_iterables_go_in_step():
    """As map() and zip(): several iterables, the shortest ends it; generators are read once; nothing gives nothing."""

    @workflow
    def flow(ctx: Context) -> list[Any]:
        return [
            ctx.map(lambda a, b: a + b, [1, 2, 3], (n for n in (10, 20))),
            ctx.map(str, range(5), max_concurrency=1),
            ctx.map(str, []),
        ]

    assert flow() == [[11, 22], ["0", "1", "2", "3", "4"], []]


async def test_async_results_are_in_order():
    """An async function gives an awaitable list."""

    @workflow
    async def flow(ctx: Context) -> list[Any]:
        async def slow(n: int) -> int:
            await asyncio.sleep(0.01 * (3 - n))
            return n

        return [await ctx.map(slow, range(3)), await ctx.map(slow, []), await ctx.map(slow, [2, 1], max_concurrency=1)]

    assert await flow() == [[0, 1, 2], [], [2, 1]]


def test_thirty_two_at_once_and_no_more():
    """A map has 32 threads unless told otherwise."""
    now, most = [0], [0]
    mutex = threading.Lock()
    full = threading.Event()

    def item(n: int) -> None:
        with mutex:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if now[0] == 32:
            full.set()
        assert full.wait(10)
        with mutex:
            now[0] -= 1

    @workflow
    def flow(ctx: Context) -> None:
        ctx.map(item, range(70))

    flow()

    assert most == [32]


def test_max_concurrency_bounds_threads_and_tasks():
    """No more than asked for, in both colours."""
    crowd, acrowd = Crowd(), Crowd()

    def item(n: int) -> int:
        with crowd:
            time.sleep(0.005)
        return n

    async def aitem(n: int) -> int:
        with acrowd:
            await asyncio.sleep(0.001)
        return n

    @workflow
    def flow(ctx: Context) -> list[int]:
        return ctx.map(item, range(10), max_concurrency=3)

    @workflow
    async def aflow(ctx: Context) -> list[int]:
        return await ctx.map(aitem, range(10), max_concurrency=3)

    assert flow() == list(range(10))
    assert crowd.most == 3
    assert asyncio.run(aflow()) == list(range(10))
    assert acrowd.most == 3


def test_nesting_cannot_starve():
    """A map in a map in a map: parents wait for children, which have threads of their own."""

    @workflow
    def flow(ctx: Context) -> int:
        def leaf(a: int, b: int, c: int) -> int:
            return a * 100 + b * 10 + c

        def inner(a: int, b: int) -> int:
            return sum(ctx.map(functools.partial(leaf, a, b), range(32)))

        def middle(a: int) -> int:
            return sum(ctx.map(functools.partial(inner, a), range(32)))

        return sum(ctx.map(middle, range(32)))

    assert flow() == sum(a * 100 + b * 10 + c for a in range(32) for b in range(32) for c in range(32))


def test_async_nesting_cannot_starve():
    """The same in tasks, thirty-two items on every floor."""

    @cached_step
    async def leaf(a: int, b: int) -> int:
        return a * 100 + b

    @workflow
    async def flow(ctx: Context) -> int:
        async def inner(a: int, b: int) -> int:
            return sum(await ctx.map(functools.partial(leaf, a), [b] * 32, max_concurrency=1))

        async def middle(a: int) -> int:
            return sum(await ctx.map(functools.partial(inner, a), range(4), max_concurrency=2))

        return sum(await ctx.map(middle, range(32), max_concurrency=2))

    assert asyncio.run(flow()) == sum(32 * (a * 100 + b) for a in range(32) for b in range(4))


def test_a_system_without_threads_is_no_error(monkeypatch):
    """Where no thread can be started the caller does the work; where some can, those do it all."""
    left = [0]
    start = threading.Thread.start

    def bounded(self: threading.Thread) -> None:
        if self.name == "agentflow-map":
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", bounded)
    seen = set()

    @workflow
    def flow(ctx: Context, n: int) -> list[int]:
        def item(n: int) -> int:
            seen.add(threading.current_thread().name)
            current_context().check()
            time.sleep(0.001)
            return n

        return ctx.map(item, range(8))

    assert flow(0) == list(range(8))
    assert seen == {threading.current_thread().name}
    seen.clear()
    left[0] = 2
    assert flow(2) == list(range(8))
    assert seen == {"agentflow-map"}


# Errors


def test_after_the_first_error_nothing_new_begins():
    """What is under way is awaited, what has not begun never begins, what is finished stays remembered."""
    begun, finished = [], []

    @cached_step
    def read(n: int) -> int:
        begun.append(n)
        if n == 0:
            raise ValueError(n)
        time.sleep(0.1)
        finished.append(n)
        return n

    @workflow
    def flow(ctx: Context) -> list[int]:
        return ctx.map(read, range(10), max_concurrency=3)

    with pytest.raises(ValueError):
        flow()

    assert len(begun) <= 4
    assert sorted(begun) == [0, *sorted(finished)]
    read_here = read.with_options(workflow=flow.name)
    assert [n for n in range(10) if read_here.is_cached(n)] == sorted(finished)


def test_the_error_of_the_lowest_index_is_raised():
    """Whichever failed first: the same error each time the program runs."""
    order = threading.Event()

    def item(n: int) -> None:
        if n == 1:
            order.wait(5)
            raise KeyError("low")
        if n == 5:
            order.set()
            raise ValueError("high")

    @workflow
    def flow(ctx: Context) -> None:
        ctx.map(item, range(6))

    with pytest.raises(KeyError, match="low"):
        flow()


async def test_async_items_are_cancelled_after_one_that_cancelled_itself():
    """What an item waits for may be cancelled by others; nobody then waits for the rest."""
    ended = []

    async def item(n: int) -> None:
        if n == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        await asyncio.sleep(3)
        ended.append(n)

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.map(item, range(3))

    with pytest.raises(asyncio.CancelledError):
        await flow()

    assert ended == []


async def test_async_items_are_cancelled_after_an_error():
    """What is under way is cancelled and awaited; what its cleaning up raises hides nothing."""
    cleaned, begun = [], []

    async def item(n: int) -> None:
        begun.append(n)
        if n == 2:
            await asyncio.sleep(0.01)
            raise ValueError("the first")
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            cleaned.append(n)
            if n == 0:
                raise KeyError("while cleaning up")

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.map(item, range(6), max_concurrency=3)

    with pytest.raises(ValueError, match="the first"):
        await flow()

    assert begun == [0, 1, 2]
    assert sorted(cleaned) == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_large_map_leaves_the_loop_to_others():
    """A thousand items begin a few at a time, so that other tasks of the loop get their turns in between."""
    turns = 0
    began: list[int] = []

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def item(number: int) -> int:
        began.append(turns)
        await asyncio.sleep(0)
        return number

    @workflow
    async def flow(ctx: Context) -> list[int]:
        return await ctx.map(item, range(1000))

    taking = asyncio.create_task(take_turns())
    results = await flow()
    taking.cancel()

    assert results == list(range(1000))
    assert max(collections.Counter(began).values()) <= 64


async def test_a_cancelled_map_cancels_its_items():
    """The awaiting task is cancelled: so are all items, and none is left behind."""
    cleaned = []
    begun = asyncio.Semaphore(0)

    async def item(n: int) -> None:
        begun.release()
        try:
            await asyncio.sleep(10)
        finally:
            cleaned.append(n)

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.map(item, range(3))

    task = asyncio.create_task(flow())
    for _ in range(3):
        await begun.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sorted(cleaned) == [0, 1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_exceptions_are_collected_when_asked_and_no_other():
    """return_exceptions puts an Exception into its place; what is no Exception is raised."""

    class Crash(BaseException):
        pass

    def item(n: int) -> float:
        if n == 7:
            raise Crash
        return 1 / n

    async def aitem(n: int) -> float:
        return item(n)

    @workflow
    def flow(ctx: Context, items: list[int]) -> list[Any]:
        return ctx.map(item, items, return_exceptions=True)

    @workflow
    async def aflow(ctx: Context, items: list[int]) -> list[Any]:
        return await ctx.map(aitem, items, return_exceptions=True)

    for found in (flow([1, 0, 2]), asyncio.run(aflow([1, 0, 2]))):
        assert [found[0], found[2]] == [1, 0.5]
        assert isinstance(found[1], ZeroDivisionError)
    with pytest.raises(Crash):
        flow([1, 7])
    with pytest.raises(Crash):
        asyncio.run(aflow([1, 7]))


def test_stop_iteration_of_an_item_is_raised_as_it_is():
    """It neither ends the map silently nor hangs it."""

    @workflow
    def flow(ctx: Context) -> None:
        with pytest.raises(StopIteration):
            ctx.map(lambda n: next(iter(())), [1])

    flow()


def test_an_error_does_not_keep_what_was_mapped_alive():
    """The exception holds its traceback, and that not the map in turn: what items held is freed without a collection."""

    class Thing:
        pass

    refs = []

    def item(n: int) -> None:
        thing = Thing()
        refs.append(weakref.ref(thing))
        raise ValueError

    @workflow
    def flow(ctx: Context) -> None:
        try:
            ctx.map(item, range(2), max_concurrency=1)
        except ValueError:
            pass
        assert [ref() for ref in refs] == [None]

    gc.disable()
    try:
        flow()
    finally:
        gc.enable()


@pytest.mark.parametrize("wrong", ["generator", "async generator", "step", "nothing", "coroutines", "zero"])
def test_what_cannot_be_mapped_is_refused(wrong):
    """What yields is iterated; a plain function that gives coroutines would leave them unawaited."""

    async def read(n: int) -> int:
        return n

    @cached_step
    def stream(n: int) -> Iterator[int]:
        yield n

    async def agen(n: int) -> Any:
        yield n

    @workflow
    def flow(ctx: Context, wrong: str) -> None:
        match wrong:
            case "generator":
                ctx.map(stream.fn, [1])
            case "async generator":
                ctx.map(agen, [1])
            case "step":
                ctx.map(stream, [1])
            case "nothing":
                ctx.map(str)
            case "coroutines":
                ctx.map(lambda n: read(n), [1, 2])
            case "zero":
                ctx.map(str, [1], max_concurrency=0)

    with pytest.raises(UsageError):
        flow(wrong)


async def test_objects_with_an_async_call_are_awaited():
    """Partials of async functions and objects with an async __call__ are async too."""

    class Reader:
        async def __call__(self, n: int) -> int:
            return n

    async def add(a: int, b: int) -> int:
        return a + b

    @workflow
    async def flow(ctx: Context) -> list[Any]:
        return [await ctx.map(Reader(), [1]), await ctx.map(functools.partial(add, 1), [1])]

    assert await flow() == [[1], [2]]


# Context


def test_context_travels_in_and_not_out():
    """Each item sees the caller's context variables and the run; what it sets is seen by nobody else."""

    def item(n: int) -> tuple[str, str]:
        seen = WHO.get()
        WHO.set(f"item {n}")
        return seen, current_context().session_id

    async def aitem(n: int) -> tuple[str, str]:
        await asyncio.sleep(0)
        return item(n)

    @workflow
    def flow(ctx: Context) -> Any:
        WHO.set("body")
        return ctx.map(item, range(3), max_concurrency=1), WHO.get()

    @workflow
    async def aflow(ctx: Context) -> Any:
        WHO.set("body")
        return await ctx.map(aitem, range(3), max_concurrency=1), WHO.get()

    expected = ([("body", "s")] * 3, "body")
    assert contextvars.copy_context().run(flow.with_options(session_id="s")) == expected
    assert asyncio.run(aflow.with_options(session_id="s")()) == expected


def test_equal_requests_of_items_replay_each_in_its_place():
    """Items that ask the same are samples by their index: replayed as they were, in whichever order they come."""
    answers = iter(range(100))
    mutex = threading.Lock()

    def answer(messages: Any, info: Any) -> str:
        with mutex:
            return str(next(answers))

    agent = Agent(FunctionModel(answer))
    delays = {1: [0.0, 0.02, 0.04], 2: [0.04, 0.02, 0.0]}

    @workflow
    def flow(ctx: Context) -> list[list[str]]:
        def item(n: int) -> list[str]:
            time.sleep(delays[ctx.attempt][n])
            return [agent.run("same").output, *ctx.map(lambda _: agent.run("same").output, range(2), max_concurrency=1)]

        found = ctx.map(item, range(3))
        seen.append(found)
        if ctx.attempt == 1:
            raise ConnectionError
        return found

    seen: list[list[list[str]]] = []
    with pytest.raises(ConnectionError):
        flow()
    flow()

    assert seen[0] == seen[1]
    assert sorted(text for texts in seen[0] for text in texts) == sorted(map(str, range(9)))


def test_a_map_tells_how_far_it_is():
    """The run has an event at the end of a map at the latest, and none of a map outside a run."""

    @cached_step
    def read(n: int) -> int:
        return n

    @workflow
    def flow(ctx: Context) -> None:
        ctx.map(read, range(5))

    flow()
    read.map([1, 2])

    told = [event for event in flow.session("default").runs()[0].events() if event.type == "map_progressed"]
    assert (told[-1].name, told[-1].done, told[-1].total) == (read.__qualname__, 5, 5)


def test_a_map_after_the_run_is_refused():
    """A context is dead after its run."""
    kept = []

    @workflow
    def flow(ctx: Context) -> None:
        kept.append(ctx)

    flow()
    with pytest.raises(NoActiveRun):
        kept[0].map(str, [1])


PROGRAM = """
import os, signal, sys, threading, time
import agentflow
from agentflow import Context, workflow
from agentflow.stores import MemoryStore

agentflow.configure(store=MemoryStore())
begun, finished = [], []

def item(n):
    begun.append(n)
    if len(begun) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
    finished.append(n)

@workflow
def flow(ctx: Context) -> None:
    ctx.map(item, range(20), max_concurrency=2)

try:
    flow()
except KeyboardInterrupt:
    print(sorted(begun) == sorted(finished), len(begun) <= 4, sum(not thread.name.endswith("flusher") for thread in threading.enumerate()), flow.session("default").runs()[0].status.value)
"""


def test_ctrl_c_awaits_what_is_under_way_and_begins_nothing_new(tmp_path):
    """KeyboardInterrupt passes through after the items in flight have ended; the run is cancelled."""
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "program.py")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["True", "True", "1", "cancelled"]
    assert done.returncode != -signal.SIGINT
