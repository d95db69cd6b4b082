"""`stream_events`: a workflow runs here, and every event of its run comes as it happens."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agentflow import Context, Run, cached_step, list_runs, workflow
from agentflow.events import Event, RunYielded, StepYielded
from agentflow.exceptions import RunCancelled, RunInterrupted, UsageError

pytestmark = pytest.mark.usefixtures("store")

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def newest(flow: Any) -> Run:
    return list_runs(workflow=flow.name)[0]


@cached_step
def chunks(count: int) -> Iterator[int]:
    yield from range(count)


@cached_step
async def achunks(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@cached_step
def double(number: int) -> int:
    return 2 * number


@workflow
def plain(ctx: Context, count: int) -> list[Any]:
    ctx.emit(NAME.get())
    return [*chunks(count), double(count)]


@workflow
async def tasked(ctx: Context, count: int) -> list[Any]:
    ctx.emit(NAME.get())
    return [*[item async for item in achunks(count)], double(count)]


@workflow
def streamed(ctx: Context, count: int) -> Iterator[Any]:
    ctx.emit(NAME.get())
    yield from chunks(count)
    yield double(count)


@workflow
async def astreamed(ctx: Context, count: int) -> AsyncIterator[Any]:
    ctx.emit(NAME.get())
    async for item in achunks(count):
        yield item
    yield double(count)


COLOURS = pytest.mark.parametrize(
    "flow", [plain, tasked, streamed, astreamed], ids=["plain", "async", "stream", "async-stream"]
)


async def gathered(stream: Any) -> tuple[list[Event], Any]:
    return [event async for event in stream], stream.result


def told(stream: Iterator[Event]) -> tuple[list[Event], Any]:
    events = []
    while True:
        try:
            events.append(next(stream))
        except StopIteration as stop:
            return events, stop.value


def run_with_events(flow: Any, *args: Any) -> tuple[list[Event], Any]:
    """Run a workflow of any colour in its own way."""
    if flow in (plain, streamed):
        return told(flow.stream_events(*args))

    async def main() -> tuple[list[Event], Any]:
        return await gathered(flow.astream_events(*args))

    return asyncio.run(main())


@COLOURS
def test_every_event_comes_in_order_and_then_the_result(flow):
    """Chunks come one by one, and the events are those that are recorded, less their numbers."""
    NAME.set("Ada")

    events, result = run_with_events(flow, 3)

    assert result == [0, 1, 2, 6]
    assert [event.items for event in events if isinstance(event, StepYielded)] == [(0,), (1,), (2,)]
    if flow in (streamed, astreamed):
        assert [event.items for event in events if isinstance(event, RunYielded)] == [(0,), (1,), (2,), (6,)]
    assert [event.value for event in events if event.type == "emitted"] == ["Ada"]
    assert {event.seq for event in events} == {0}
    recorded = [event for event in newest(flow).events() if not isinstance(event, RunYielded | StepYielded)]
    mine = [event for event in events if not isinstance(event, RunYielded | StepYielded)]
    assert [event.model_copy(update={"seq": 0}) for event in recorded] == mine


@pytest.mark.parametrize("flow", [plain, streamed], ids=["plain", "stream"])
def test_a_task_gets_the_events_of_a_sync_workflow(flow):
    """`astream_events` runs it in a thread."""

    async def main() -> tuple[list[Event], Any]:
        return await gathered(flow.astream_events(2))

    events, result = asyncio.run(main())

    assert result == [0, 1, 4]
    assert (events[0].type, events[-1].type) == ("run_started", "run_completed")


@pytest.mark.parametrize("flow", [tasked, astreamed], ids=["async", "async-stream"])
def test_an_async_workflow_names_the_other(flow):
    """Its events cannot come to a thread without a loop of ours."""
    with pytest.raises(UsageError, match="astream_events"):
        flow.stream_events(1)


@COLOURS
def test_wrong_arguments_are_refused_at_once(flow):
    """As by the call, before anything is iterated."""
    stream = flow.stream_events if flow in (plain, streamed) else flow.astream_events

    with pytest.raises(TypeError):
        stream(1, 2, 3)


def test_what_it_raised_is_raised_after_the_last_event():
    """The user's own exception, and before it the event that says so."""

    @workflow
    def flow() -> None:
        raise ConnectionError("gone")

    stream = flow.stream_events()
    seen = [next(stream).type, next(stream).type]
    with pytest.raises(ConnectionError, match="gone"):
        next(stream)

    assert seen == ["run_started", "run_failed"]


def test_a_task_gets_what_it_raised():
    """Its stream has no result then."""

    @workflow
    async def flow() -> None:
        raise ConnectionError("gone")

    async def main() -> None:
        stream = flow.astream_events()
        with pytest.raises(ConnectionError, match="gone"):
            async for _ in stream:
                pass
        with pytest.raises(UsageError, match="exhausted"):
            _ = stream.result

    asyncio.run(main())


def test_events_come_while_it_goes_on():
    """A step that has begun is told before it has ended."""
    go = threading.Event()

    @cached_step
    def wait() -> None:
        assert go.wait(10)

    @workflow
    def flow() -> None:
        wait()

    stream = flow.stream_events()
    seen = [next(stream).type, next(stream).type]
    go.set()
    seen += [event.type for event in stream]

    assert seen == ["run_started", "step_started", "step_completed", "run_completed"]


def endless(ctx: Context, closed: list[str]) -> Iterator[int]:
    try:
        for number in range(10**9):
            ctx.check()
            yield number
    finally:
        closed.append("closed")


def test_closing_leaves_the_run_interrupted():
    """Also one that yields for ever: it is stopped at its next boundary, its `finally` runs, and the same call goes on with it."""
    closed: list[str] = []

    @workflow
    def flow(ctx: Context) -> Iterator[int]:
        yield from endless(ctx, closed)

    stream = flow.stream_events()
    seen = [next(stream) for _ in range(3)]
    stream.close()

    assert len(seen) == 3
    assert closed == ["closed"]
    assert newest(flow).status == "interrupted"
    again = flow.stream_events()
    assert next(again).attempt == 2
    again.close()


def test_a_stream_that_its_own_run_collects_as_garbage_does_not_wait_for_itself():
    """The garbage collector runs in any thread, also in that of the run, whose end cannot be awaited there."""
    dropped, collected = threading.Event(), threading.Event()

    @workflow
    def flow(ctx: Context) -> None:
        ctx.emit("begun")
        dropped.wait(10)
        gc.collect()
        collected.set()
        ctx.check()

    def begin() -> None:
        cycle: list[Any] = [flow.stream_events()]
        next(cycle[0])
        cycle.append(cycle)

    gc.disable()
    try:
        begin()
        dropped.set()
        assert collected.wait(10)
    finally:
        gc.enable()

    with pytest.raises(RunInterrupted):
        newest(flow).result(timeout=10)


def test_a_run_whose_reader_stands_still_can_be_cancelled():
    """It waits for its reader no longer than until it is told to stop."""

    @workflow
    def flow(ctx: Context) -> None:
        for number in range(10_000):
            ctx.emit(number)

    stream = flow.stream_events()
    next(stream)
    run = newest(flow)
    run.cancel()

    with pytest.raises(RunCancelled):
        run.result(timeout=10)
    stream.close()


def test_closing_stops_a_sync_body_at_its_next_step():
    """It does not begin another one, whatever it catches."""
    done: list[int] = []

    @cached_step
    def work(number: int) -> int:
        done.append(number)
        return number

    @workflow
    def flow(ctx: Context) -> None:
        for number in range(1000):
            work(number)
            time.sleep(0.001)

    stream = flow.stream_events()
    next(stream)
    next(stream)
    stream.close()

    assert len(done) < 1000
    assert newest(flow).status == "interrupted"


def test_closing_the_stream_of_a_task_stops_async_code_at_once():
    """Wherever it awaits; the run is interrupted, and its `finally` runs."""
    closed: list[str] = []

    @workflow
    async def flow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.append("closed")

    async def main() -> None:
        async with flow.astream_events() as stream:
            assert (await anext(stream)).type == "run_started"

    asyncio.run(asyncio.wait_for(main(), 30))

    assert closed == ["closed"]
    assert newest(flow).status == "interrupted"


def test_cancelling_the_reader_cancels_the_run():
    """As cancelling the task of a direct call does."""

    @workflow
    async def flow() -> None:
        await asyncio.sleep(60)

    async def read(begun: asyncio.Event) -> None:
        async for _ in flow.astream_events():
            begun.set()

    async def main() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(read(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 30))

    assert newest(flow).status == "cancelled"


def _slow_sync(flow: Any, most: list[int], produced: Callable[[], int]) -> int:
    seen = 0
    for event in flow.stream_events(20_000):
        seen += isinstance(event, RunYielded)
        most[0] = max(most[0], produced() - seen)
    return seen


async def _slow_async(flow: Any, most: list[int], produced: Callable[[], int]) -> int:
    seen = 0
    async for event in flow.astream_events(20_000):
        seen += isinstance(event, RunYielded)
        most[0] = max(most[0], produced() - seen)
    return seen


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_slow_reader_slows_the_run(is_async):
    """What it has not taken is bounded: the run waits at its `yield`."""
    produced, most = [0], [0]

    @workflow
    def flow(count: int) -> Iterator[int]:
        for number in range(count):
            produced[0] = number + 1
            yield number

    @workflow
    async def aflow(count: int) -> AsyncIterator[int]:
        for number in range(count):
            produced[0] = number + 1
            yield number

    if is_async:
        seen = asyncio.run(_slow_async(aflow, most, lambda: produced[0]))
    else:
        seen = _slow_sync(flow, most, lambda: produced[0])

    assert seen == 20_000
    assert most[0] <= 2100


def test_a_run_inside_is_not_listened_to():
    """The events are those of the run that was asked for; a workflow that it calls has its own."""

    @workflow
    def inner() -> int:
        return double(4)

    @workflow
    def outer() -> int:
        return inner()

    events, result = told(outer.stream_events())

    assert result == 8
    assert [event.type for event in events] == ["run_started", "run_completed"]
    assert len(newest(outer).children()) == 1


def test_a_stream_inside_a_run_is_its_child():
    """Context travels into the worker thread, the run that calls included."""

    @workflow
    def inner() -> int:
        return double(5)

    @workflow
    def outer() -> int:
        return told(inner.stream_events())[1]

    assert outer() == 10
    assert [child.workflow for child in newest(outer).children()] == [inner.name]
