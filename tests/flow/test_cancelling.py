"""Cancelling runs: from this process and from others, running and waiting, in four colours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow import Agent, Context, RetryPolicy, cached_step, configure, list_runs, workflow
from agentflow.exceptions import RunCancelled, RunNotFound
from agentflow.testing import FunctionModel

PATIENCE = 20
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("store")

begun = threading.Event()
executed: list[int] = []


@pytest.fixture(autouse=True)
def _afresh() -> None:
    begun.clear()
    executed.clear()


@cached_step
def step(n: int) -> int:
    executed.append(n)
    return n


@cached_step(retry=5)
def slow(n: int) -> int:
    begun.set()
    time.sleep(0.02)
    return n


def go_on(ctx: Context) -> Iterator[int]:
    step(-1)
    begun.set()
    if ctx.attempt == 1:
        yield from range(100_000)


@workflow
def plain(ctx: Context) -> str:
    try:
        for n in go_on(ctx):
            slow(n)
    finally:
        ctx.state["left"] = ctx.attempt
    return "done"


@workflow
async def tasked(ctx: Context) -> str:
    try:
        step(-1)
        begun.set()
        await asyncio.sleep(600 if ctx.attempt == 1 else 0)
    finally:
        ctx.state["left"] = ctx.attempt
        await asyncio.sleep(0)
    return "done"


@workflow
def streamed(ctx: Context) -> Iterator[int]:
    try:
        for n in go_on(ctx):
            time.sleep(0.005)
            yield n
    finally:
        ctx.state["left"] = ctx.attempt


@workflow
async def astreamed(ctx: Context) -> AsyncIterator[int]:
    try:
        step(-1)
        begun.set()
        yield 1
        await asyncio.sleep(600 if ctx.attempt == 1 else 0)
    finally:
        ctx.state["left"] = ctx.attempt
        await asyncio.sleep(0)


@workflow
def checking(ctx: Context) -> None:
    begun.set()
    try:
        while True:
            time.sleep(0.005)
            try:
                ctx.check()
            except Exception as error:
                executed.append(1)
                raise error from None
    finally:
        ctx.state["left"] = ctx.attempt


FLOWS = [plain, tasked, streamed, astreamed, checking]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.fn.__name__)
def test_a_running_run_is_cancelled(flow):
    """It ends soon, `finally` blocks may set state, finished steps are kept, and it says that it was cancelled."""
    run = flow.start()
    assert begun.wait(PATIENCE)

    assert run.cancel()
    with pytest.raises(RunCancelled) as raised:
        run.result(timeout=PATIENCE)

    assert raised.value.run_id == run.id
    assert (run.status, run.cancel()) == ("cancelled", False)
    assert list(run.events())[-1].type == "run_cancelled"
    assert flow.session("default").state["left"] == 1
    assert flow is checking or step.with_options(workflow=flow.name).is_cached(-1)
    again = flow.start()
    assert again.id != run.id  # a call does not continue what was cancelled
    again.cancel()
    with pytest.raises(RunCancelled):  # and is not left behind, where it would say to the next test that it has begun
        again.result(timeout=PATIENCE)


def test_a_call_that_waits_for_its_result_is_cancelled_too():
    """A direct call, executed by the caller's own thread, raises `RunCancelled` there."""
    seen: list[BaseException] = []

    def call() -> None:
        try:
            plain()
        except RunCancelled as error:
            seen.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(PATIENCE)
    (run,) = list_runs(workflow=plain.name)
    run.cancel()
    thread.join(PATIENCE)

    assert [error.run_id for error in seen] == [run.id]
    assert run.status == "cancelled"


async def test_the_task_around_a_cancelled_call_goes_on():
    """What is cancelled is the run: the task that awaits it gets `RunCancelled`, and can await other things."""
    calling = asyncio.create_task(tasked())
    while not begun.is_set():
        await asyncio.sleep(0.005)

    await list_runs(workflow=tasked.name)[0].acancel()
    with pytest.raises(RunCancelled):
        await calling
    await asyncio.sleep(0)

    assert not calling.cancelled()
    assert calling.cancelling() == 0
    assert list_runs(workflow=tasked.name)[0].status == "cancelled"


async def test_a_task_cancelled_by_others_at_the_same_time_stays_cancelled():
    """A cancellation that is not ours is not taken back."""
    calling = asyncio.create_task(tasked())
    while not begun.is_set():
        await asyncio.sleep(0.005)

    list_runs(workflow=tasked.name)[0].cancel()
    await asyncio.sleep(0)
    calling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
    assert list_runs(workflow=tasked.name)[0].status == "cancelled"


def test_a_stream_that_nobody_advances_is_cancelled_when_it_goes_on():
    """A `yield` is a boundary: the body is told there, and so is its consumer. Closed before, the run is cancelled as well."""
    stream, other = streamed(), streamed()
    next(stream)
    next(other)
    for run in list_runs(workflow=streamed.name):
        run.cancel()

    with pytest.raises(RunCancelled):
        next(stream)
    other.close()

    assert [run.status for run in list_runs(workflow=streamed.name)] == ["cancelled", "cancelled"]


def test_a_run_that_waits_never_begins():
    """Cancelled before a thread was free for it, it is cancelled at once, and nothing of it runs."""
    release = threading.Event()

    @workflow
    def waits(n: int) -> None:
        executed.append(n)
        begun.set()
        release.wait(PATIENCE)

    configure(max_runs=1)
    try:
        first = waits.start(1)
        assert begun.wait(PATIENCE)
        second = waits.start(2)
        assert second.status == "pending"
        assert second.cancel()
        status = second.status
        with pytest.raises(RunCancelled):
            second.result(timeout=0)
        release.set()
        first.result(timeout=PATIENCE)
    finally:
        configure(max_runs=None)
        release.set()

    assert status == second.status == "cancelled"
    assert executed == [1]


def test_children_are_cancelled_with_their_parent():
    """What a run has called ends with it, each with a true status, whatever the colours."""

    @workflow
    async def child(ctx: Context) -> None:
        begun.set()
        await asyncio.sleep(600)

    @workflow
    def sync_child(ctx: Context) -> None:
        begun.set()
        while True:
            slow(1)
            ctx.check()
            time.sleep(0.001)

    @workflow
    async def parent() -> None:
        await child()

    @workflow
    def sync_parent() -> None:
        sync_child()

    for flow in (parent, sync_parent):
        begun.clear()
        run = flow.start()
        assert begun.wait(PATIENCE)
        run.cancel()
        with pytest.raises(RunCancelled):
            run.result(timeout=PATIENCE)

        assert [each.status for each in (run, *run.children())] == ["cancelled", "cancelled"]


def test_a_cancelled_child_fails_its_parent():
    """Cancelling only the child tells its parent, which was not cancelled itself."""

    @workflow
    def child(ctx: Context) -> None:
        begun.set()
        while True:
            ctx.check()
            time.sleep(0.001)

    @workflow
    def parent() -> None:
        child()

    run = parent.start()
    assert begun.wait(PATIENCE)
    wait_until(lambda: run.children() and run.children()[0].status == "running")
    run.children()[0].cancel()
    wait_until(lambda: run.status == "failed")

    assert run.children()[0].status == "cancelled"
    assert run.error
    assert run.error.startswith("agentflow.exceptions.RunCancelled: ")


def test_cancelling_does_not_reach_another_run_that_waits_for_the_same_step():
    """The step goes to whoever else wants it: a cancellation is never passed on."""
    release = threading.Event()

    @cached_step(scope="global", retry=3)
    def shared() -> str:
        executed.append(1)
        begun.set()
        while not release.wait(0.01):
            pass
        return "shared"

    @workflow
    def flow(n: int) -> str:
        return shared()

    first = flow.start(1)
    assert begun.wait(PATIENCE)
    second = flow.start(2)
    wait_until(lambda: second.status == "running")
    first.cancel()
    release.set()

    with pytest.raises(RunCancelled):
        first.result(timeout=PATIENCE)
    assert second.result(timeout=PATIENCE) == "shared"


def test_a_long_rest_between_attempts_is_cut_short():
    """A cancelled run does not wait for the next attempt of a step, and makes none."""

    @cached_step(retry=RetryPolicy(attempts=3, wait=600, max_wait=600))
    def failing() -> None:
        executed.append(1)
        begun.set()
        raise ValueError

    @workflow
    def flow() -> None:
        failing()

    run = flow.start()
    assert begun.wait(PATIENCE)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout=PATIENCE)

    assert executed == [1]


def test_model_answers_are_kept_through_a_cancellation():
    """A step that was cancelled says nothing against what its models answered: resumed, it does not pay again."""
    release = threading.Event()

    def answer(messages, info):
        executed.append(1)
        return "an answer"

    agent = Agent(FunctionModel(answer))

    @cached_step
    def asking(ctx: Context) -> str:
        said = agent.run("a question").output
        begun.set()
        while not release.is_set():
            time.sleep(0.001)
            ctx.check()
        return said

    @workflow
    def flow() -> str:
        return asking()

    run = flow.start()
    assert begun.wait(PATIENCE)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout=PATIENCE)
    release.set()

    assert run.resume().result(timeout=PATIENCE) == "an answer"
    assert executed == [1]


def test_what_ended_or_is_not_there_cannot_be_cancelled():
    """A finished run stays what it is, and an unknown one is told."""

    @workflow
    def flow() -> int:
        return 1

    run = flow.start()
    run.result(timeout=PATIENCE)

    assert not run.cancel()
    assert run.status == "completed"
    flow.session("default").delete()
    with pytest.raises(RunNotFound):
        run.cancel()


def test_a_run_that_another_process_cancels_and_that_fails_before_it_hears_of_it_is_cancelled(disk):
    """Else the next call would go on with it."""

    @workflow
    def flow() -> None:
        (run,) = list_runs(workflow=flow.name)
        cancel = "import sys; from agentflow import get_run; assert get_run(sys.argv[1], store=sys.argv[2]).cancel()"
        subprocess.run([sys.executable, "-c", cancel, run.id, str(disk.path)], cwd=ROOT, timeout=30, check=True)
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        flow()

    assert [run.status for run in list_runs(workflow=flow.name)] == ["cancelled"]


def test_an_interrupted_run_can_be_cancelled():
    """Then no call continues it; what is left of its children is cancelled with it."""

    @workflow
    def child() -> None:
        raise SystemExit

    @workflow
    def flow() -> None:
        child()

    with pytest.raises(SystemExit):
        flow()
    (run,) = list_runs(workflow=flow.name)

    assert run.cancel()
    assert [each.status for each in (run, *run.children())] == ["cancelled", "cancelled"]
    with pytest.raises(SystemExit):
        flow()
    assert len(list_runs(workflow=flow.name)) == 2


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
