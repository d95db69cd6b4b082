"""`capture_events`: the events of every run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from agentflow import Context, cached_step, workflow
from agentflow.events import Emitted, RunStarted, StepHit, StepYielded
from agentflow.testing import capture_events, fresh_store


@cached_step
def double(n: int) -> int:
    return 2 * n


@cached_step
def count(n: int) -> Iterator[int]:
    yield from range(n)


@workflow
def flow(ctx: Context, n: int) -> int:
    ctx.emit(n)
    return double(n) + double(n) + len(list(count(2)))


@workflow
async def aflow(ctx: Context, n: int) -> int:
    ctx.emit(n)
    return flow(n)


@pytest.fixture(autouse=True)
def _afresh():
    with fresh_store():
        yield


def test_they_come_in_the_order_in_which_they_happen():
    """From the beginning of a run to its end, streamed items one by one, and equal to what is recorded but for the number."""
    with capture_events() as events:
        flow(1)

    assert [event.type for event in events] == [
        "run_started",
        "emitted",
        "step_started",
        "step_completed",
        "step_hit",
        "step_started",
        "step_yielded",
        "step_yielded",
        "step_completed",
        "run_completed",
    ]
    assert [event.items for event in events if isinstance(event, StepYielded)] == [(0,), (1,)]
    [recorded] = [each for each in flow.session("default").runs()[0].events() if each.type == "emitted"]
    assert [each for each in events if isinstance(each, Emitted)] == [recorded.model_copy(update={"seq": 0})]


def test_async_child_background_and_threaded_runs_are_heard():
    """Each event says of which run it is."""
    with capture_events() as events:
        asyncio.run(aflow(1))
        flow.start(2).result(timeout=10)
        thread = threading.Thread(target=flow, args=(3,))
        thread.start()
        thread.join()

    assert len({event.run_id for event in events if isinstance(event, RunStarted)}) == 4
    assert [event.value for event in events if isinstance(event, Emitted)] == [1, 1, 2, 3]


def test_a_block_hears_what_begins_in_it_and_nothing_after_it():
    """Blocks inside one another both hear it."""
    begun, go_on = threading.Event(), threading.Event()

    @workflow(name="waits")
    def waits(ctx: Context) -> None:
        ctx.emit("before")
        begun.set()
        go_on.wait(10)
        ctx.emit("after")

    with capture_events() as outer:
        with capture_events() as inner:
            run = waits.start()
            assert begun.wait(10)
        go_on.set()
        run.result(timeout=10)
    flow(1)

    assert [event.value for event in inner if isinstance(event, Emitted)] == ["before"]
    assert [event.value for event in outer if isinstance(event, Emitted)] == ["before", "after"]


def test_who_listens_to_a_run_still_does():
    """`stream_events` gives all of them."""
    with capture_events() as events:
        streamed = list(flow.stream_events(1))

    assert streamed == events
    assert any(isinstance(event, StepHit) for event in events)
