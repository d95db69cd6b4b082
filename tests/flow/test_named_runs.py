"""`with_options(run_id=)`: one id stands for one call, whoever makes it and how often."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentflow import Context, get_run, list_runs, workflow
from agentflow.exceptions import (
    RunCancelled,
    RunConflict,
    RunFailed,
    TooManyAttempts,
    UnserializableValue,
    UsageError,
)

PATIENCE = 20

pytestmark = pytest.mark.usefixtures("store")

executed: list[int] = []


@pytest.fixture(autouse=True)
def _afresh() -> None:
    executed.clear()


@workflow
def plain(n: int) -> int:
    executed.append(n)
    return 2 * n


@workflow
async def tasked(n: int) -> int:
    executed.append(n)
    await asyncio.sleep(0)
    return 2 * n


@workflow
def streamed(n: int) -> Generator[int, None, str]:
    executed.append(n)
    yield n
    yield 2 * n
    return "end"


@workflow
async def astreamed(n: int) -> AsyncIterator[int]:
    executed.append(n)
    yield n
    await asyncio.sleep(0)
    yield 2 * n


def consume(flow: Any, n: int) -> object:
    if inspect.iscoroutinefunction(flow):
        return asyncio.run(flow(n))
    if inspect.isasyncgenfunction(flow):

        async def items() -> list[object]:
            return [item async for item in flow(n)]

        return asyncio.run(items())
    return list(flow(n)) if inspect.isgeneratorfunction(flow) else flow(n)


EACH = pytest.mark.parametrize(
    ("flow", "expected"),
    [(plain, 6), (tasked, 6), (streamed, [3, 6]), (astreamed, [3, 6])],
    ids=["plain", "async", "stream", "async-stream"],
)


@EACH
def test_a_call_of_a_finished_id_gives_what_was_recorded(flow, expected):
    """Nothing runs again: the result comes back, or the items one after the other, called or started."""
    named = flow.with_options(run_id="order-1")

    assert [consume(named, 3) for _ in range(3)] == [expected] * 3
    assert executed == [3]
    assert [run.id for run in list_runs()] == ["order-1"]
    assert named.start(3) == get_run("order-1")
    assert executed == [3]


@EACH
def test_calls_of_one_id_at_once_are_one_run(flow, expected):
    """One executes it and the others wait, and all get its result."""
    named = flow.with_options(run_id="order-2")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: consume(named, 3), range(8)))

    assert results == [expected] * 8
    assert executed == [3]


def test_a_started_id_is_one_run_however_often_it_is_started():
    """Starting it again, or calling it, finds the run that is under way, and waits for it."""
    release = threading.Event()

    @workflow
    def flow(n: int) -> int:
        executed.append(n)
        release.wait(PATIENCE)
        return n

    named = flow.with_options(run_id="order-3")
    runs = [named.start(1) for _ in range(3)]
    threading.Timer(0.1, release.set).start()

    assert named(1) == 1
    assert {run.id for run in runs} == {"order-3"}
    assert executed == [1]


def test_an_id_stands_for_one_call():
    """Other arguments, another session or workflow under the same id are a `RunConflict`, which says what differs."""
    plain.with_options(run_id="order-4")(1)

    with pytest.raises(RunConflict, match="other arguments"):
        plain.with_options(run_id="order-4")(2)
    with pytest.raises(RunConflict, match="other arguments"):
        plain.with_options(run_id="order-4", refresh=True).start(1)
    with pytest.raises(RunConflict, match="another session"):
        plain.with_options(run_id="order-4", session_id="s")(1)
    with pytest.raises(RunConflict, match="another workflow") as raised:
        list(streamed.with_options(run_id="order-4")(1))

    assert raised.value.run_id == "order-4"
    assert executed == [1]


def test_a_stopped_id_goes_on_and_who_waited_gets_the_failure():
    """A call finds it failed: it tries again, as the same run. A call that waited for it gets `RunFailed`."""
    begun, release = threading.Event(), threading.Event()

    @workflow(max_attempts=3)
    def flow(ctx: Context) -> int:
        begun.set()
        release.wait(PATIENCE)
        if ctx.attempt < 3:
            raise ValueError(ctx.attempt)
        return ctx.attempt

    named = flow.with_options(run_id="order-5")
    run = named.start()
    assert begun.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(named)
        threading.Timer(0.1, release.set).start()
        with pytest.raises(RunFailed, match="ValueError: 1"):
            waiting.result(PATIENCE)
    with pytest.raises(ValueError, match="2"):
        named()

    assert named() == 3
    assert run.attempt == 3


def test_an_id_is_tried_so_often_and_no_more():
    """There is no other run for it to begin, so its last failure is what a call gets."""

    @workflow(max_attempts=1)
    def flow(*, raises: bool) -> int:
        raise ValueError if raises else SystemExit

    for raises, error in ((True, RunFailed), (False, TooManyAttempts)):
        named = flow.with_options(run_id=f"order-{error.__name__}")
        with pytest.raises((ValueError, SystemExit)):
            named(raises=raises)
        with pytest.raises(error):
            named(raises=raises)
        assert named.start(raises=raises).attempt == 1


def test_a_cancelled_id_stays_cancelled():
    """Only `resume()` goes on with it."""

    @workflow
    def flow(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise KeyboardInterrupt
        return 1

    named = flow.with_options(run_id="order-6")
    with pytest.raises(KeyboardInterrupt):
        named()
    with pytest.raises(RunCancelled):
        named()

    assert named.start().status == "cancelled"
    assert get_run("order-6").resume().result(timeout=PATIENCE) == 1
    assert named() == 1


def test_a_result_that_cannot_be_had_again_is_told():
    """It is not made anew behind the caller's back."""

    @workflow
    def flow() -> object:
        return object()

    named = flow.with_options(run_id="order-7")
    named()

    with pytest.raises(UnserializableValue, match="choose another run_id"):
        named()


def test_a_named_run_inside_another_is_its_child():
    """It is the parent's child, once, whatever the attempt; its own id inside itself is refused."""

    @workflow
    def parent(ctx: Context, n: int) -> int:
        value = plain.with_options(run_id="order-8")(n)
        if ctx.attempt == 1:
            raise ValueError
        return value

    @workflow
    def itself() -> Iterator[int]:
        yield from itself.with_options(run_id="order-9")()

    with pytest.raises(ValueError):
        parent(4)

    assert parent(4) == 8
    assert executed == [4]
    assert [run.id for run in list_runs(workflow=parent.name)[0].children()] == ["order-8"]
    with pytest.raises(UsageError, match="wait for itself"):
        next(itself.with_options(run_id="order-9")())


@pytest.mark.parametrize("run_id", ["", 1, b"x"])
def test_what_is_no_id_is_refused(run_id):
    """An id is text with something in it."""
    with pytest.raises(UsageError, match="run_id="):
        plain.with_options(run_id=run_id)
