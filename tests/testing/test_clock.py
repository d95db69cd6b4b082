"""`VirtualClock`: ttl, retries, timeouts, budgets and the age of runs, in no time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow import Agent, Budget, Context, RetryPolicy, Run, Step, cached_step, list_runs, tool, workflow
from agentflow.events import RunStarted, StepRetried
from agentflow.exceptions import BudgetExceeded, StepTimeout, UsageError
from agentflow.messages import ToolCall
from agentflow.testing import (
    ScriptedModel,
    VirtualClock,
    assert_ran,
    capture_events,
    fail_step,
    fresh_store,
    replace_step,
)

HOUR = 3600


@pytest.fixture(autouse=True)
def _afresh():
    with fresh_store():
        yield


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


OPTIONS: dict[str, Any] = {
    "ttl": HOUR,
    "timeout": 60,
    "retry": RetryPolicy(attempts=3, wait=10, max_wait=100, on=OSError),
}


@cached_step(**OPTIONS)
def plain(n: int) -> list[int]:
    return [n]


@cached_step(**OPTIONS)
async def awaited(n: int) -> list[int]:
    await asyncio.sleep(0)
    return [n]


@cached_step(**OPTIONS)
def stream(n: int) -> Iterator[int]:
    yield n


@cached_step(**OPTIONS)
async def astream(n: int) -> AsyncIterator[int]:
    await asyncio.sleep(0)
    yield n


each_colour = pytest.mark.parametrize("step", [plain, awaited, stream, astream], ids=lambda step: step.fn.__name__)


def called(step: Step[Any, Any], n: int) -> Any:
    """In the colour of the step, and not in a thread."""
    made: Any = step(n)
    if hasattr(made, "__await__"):
        return asyncio.run(_awaited(made))
    if hasattr(made, "__aiter__"):
        return asyncio.run(_listed(made))
    return list(made)


async def _awaited(made: Any) -> Any:
    return await made


async def _listed(made: Any) -> Any:
    return [item async for item in made]


@each_colour
def test_a_result_expires_when_the_clock_comes_to_its_ttl(clock: VirtualClock, step: Step[Any, Any]):
    """To the second: before it is a hit, from then on the step runs again."""
    called(step, 1)
    clock.advance(HOUR - 1)
    called(step, 1)
    assert_ran(step, times=1)

    clock.advance(timedelta(seconds=1))

    assert step.explain(1).why == "expired"
    called(step, 1)
    assert_ran(step, times=2)


@each_colour
def test_pauses_between_attempts_take_no_time(clock: VirtualClock, step: Step[Any, Any]):
    """They move the clock instead, and are noted."""
    begun = clock.monotonic()

    with fail_step(step, ConnectionError("reset"), times=2):
        assert called(step, 1) == [1]

    assert [int(pause) // 10 for pause in clock.pauses] == [1, 2]
    assert clock.monotonic() - begun == pytest.approx(sum(clock.pauses))


@each_colour
def test_pauses_count_for_the_timeout_of_the_call(clock: VirtualClock, step: Step[Any, Any]):
    """A policy that would wait longer than the call may take ends it."""
    slow = step.with_options(retry=RetryPolicy(attempts=9, wait=25, max_wait=25))

    with fail_step(step, ConnectionError("reset"), times=9), pytest.raises(StepTimeout, match="60 s"):
        called(slow, 1)

    assert sum(clock.pauses) == pytest.approx(60)


def moved(clock: VirtualClock, seconds: float, n: int) -> Any:
    clock.advance(seconds)
    return [n]


@each_colour
@pytest.mark.parametrize("seconds", [59, 60], ids=["in time", "too late"])
def test_a_step_is_timed_out_when_the_clock_is_moved_in_it(clock: VirtualClock, step: Step[Any, Any], seconds: float):
    """Whatever it returns after that is not kept."""
    with replace_step(step, lambda n: moved(clock, seconds, n)):
        if seconds < 60:
            assert called(step, 1) == [1]
            return
        with pytest.raises(StepTimeout, match="longer than 60 s"):
            called(step, 1)
        assert not step.is_cached(1)


def test_a_step_that_waits_is_timed_out_from_another_thread(clock: VirtualClock):
    """At the moment when the clock is moved."""
    begun, go_on, raised = threading.Event(), threading.Event(), []

    def wait(n: int) -> list[int]:
        begun.set()
        go_on.wait(10)
        return [n]

    def call() -> None:
        try:
            plain(1)
        except StepTimeout as error:
            raised.append(error)

    with replace_step(plain, wait):
        thread = threading.Thread(target=call)
        thread.start()
        assert begun.wait(10)
        clock.advance(60)
        thread.join(10)
    go_on.set()

    assert len(raised) == 1


def test_a_task_that_waits_is_timed_out_from_another_task(clock: VirtualClock):
    """It is cancelled where it waits, and can clean up."""
    cleaned_up = []

    async def wait(n: int) -> list[int]:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(n)
        return [n]

    async def main() -> None:
        with replace_step(awaited, wait):
            task = asyncio.create_task(awaited.acall(1))
            await asyncio.sleep(0.01)
            clock.advance(59)
            await asyncio.sleep(0.01)
            assert not task.done()
            clock.advance(1)
            with pytest.raises(StepTimeout):
                await asyncio.wait_for(task, 10)

    asyncio.run(main())

    assert cleaned_up == [1]


def test_one_attempt_has_a_time_of_its_own(clock: VirtualClock):
    """`RetryPolicy.timeout` is passed by the clock, and the next attempt begins."""
    attempts = iter([30, 0])
    patient = plain.with_options(retry=RetryPolicy(attempts=2, wait=0, timeout=30))

    with replace_step(plain, lambda n: moved(clock, next(attempts), n)):
        assert patient(1) == [1]


def test_a_tool_is_timed_out(clock: VirtualClock):
    """Sync and async."""

    @tool(timeout=30)
    def look() -> str:
        """Look."""
        clock.advance(31)
        return "seen"

    @tool(timeout=30)
    async def alook() -> str:
        """Look."""
        clock.advance(31)
        await asyncio.sleep(0)
        return "seen"

    for looking in (look, alook):
        model = ScriptedModel([ToolCall(name=looking.name), "gave up"])
        asyncio.run(Agent(model, tools=[looking]).arun("Look"))
        assert "30 s" in model.requests[1].messages[-1].model_dump_json()


def test_a_budget_of_seconds_is_spent(clock: VirtualClock):
    """By what the clock is moved while the run is executed."""

    @workflow(name="bounded", budget=Budget(seconds=60))
    def bounded(ctx: Context) -> None:
        clock.advance(59)
        ctx.check()
        clock.advance(2)
        ctx.check()

    with pytest.raises(BudgetExceeded):
        bounded()


def test_the_seconds_of_a_budget_go_on_after_a_clock():
    """What the clock was moved by is spent once it is left; what it was moved by before the run is not."""

    @workflow(name="bounded after", budget=Budget(seconds=60))
    def bounded(ctx: Context, seconds: float) -> None:
        with VirtualClock() as inner:
            inner.advance(HOUR)
        ctx.check()
        outer.advance(seconds)
        outer.__exit__(None, None, None)
        ctx.check()

    for seconds, is_spent in ((59, False), (61, True)):
        with fresh_store(), contextlib.ExitStack() as left:
            outer = VirtualClock().__enter__()
            outer.advance(HOUR)
            if is_spent:
                left.enter_context(pytest.raises(BudgetExceeded))
            bounded(seconds)


def test_a_run_becomes_too_old_to_be_continued(clock: VirtualClock):
    """After `resume_within`; until then the call goes on with it."""

    @workflow(name="ageing", resume_within=HOUR)
    def ageing(n: int) -> int:
        plain(n)
        return 1 // n

    for pause in (0, HOUR - 1, HOUR + 1):
        clock.advance(pause)
        with pytest.raises(ZeroDivisionError):
            ageing(0)

    assert [run.attempt for run in list_runs()] == [1, 2]


def test_what_is_told_is_told_by_the_clock():
    """The times of runs and events; it stands still unless it is moved."""
    start = datetime(2030, 1, 1, tzinfo=UTC)

    @workflow(name="dated")
    def dated(n: int) -> None:
        plain(n)

    with VirtualClock(start) as clock, capture_events() as events:
        dated(1)
        clock.advance(timedelta(days=1))
        dated(2)

    assert [run.started_at for run in list_runs()] == [start + timedelta(days=1), start]
    assert {event.at for event in events} == {start.timestamp(), start.timestamp() + 86400}
    assert len([event for event in events if isinstance(event, RunStarted)]) == 2


def test_what_becomes_due_happens_in_order_and_each_at_its_time(clock: VirtualClock):
    """Steps that were begun before time out before; a clock inside a clock has its own time."""
    seen: list[tuple[int, float]] = []
    begun = clock.monotonic()
    for number, when in enumerate([30, 10, 20, 10]):
        clock.call_at(begun + when, lambda number=number: seen.append((number, clock.monotonic() - begun)))
    clock.call_at(begun + 15, lambda: seen.append((9, 0)))()
    clock.call_at(begun - 1, lambda: seen.append((8, 0)))

    clock.advance(20)
    with VirtualClock() as inner:
        inner.advance(100)

    assert seen == [(8, 0), (1, pytest.approx(10)), (3, pytest.approx(10)), (2, pytest.approx(20))]


@pytest.mark.parametrize("step", [plain, awaited], ids=lambda step: step.fn.__name__)
def test_who_still_waits_when_the_block_ends_goes_on_by_the_real_clock(step: Step[Any, Any]):
    """A background run that the test has left is not stuck for ever."""
    begun = threading.Event()
    short = step.with_options(timeout=0.2, retry=RetryPolicy(attempts=1))

    @workflow(name="left over")
    async def left_over(n: int) -> None:
        await short.acall(n)

    def wait(n: int) -> Any:
        begun.set()
        return asyncio.sleep(30) if step is awaited else time.sleep(1)

    with replace_step(step, wait):
        with VirtualClock():
            run = left_over.start(1)
            assert begun.wait(10)
        with pytest.raises(Exception, match="longer than 0.2 s"):
            run.result(timeout=10)


class Held:
    """A step that waits in its body until it is let go, and a run of it in the background.

    Args:
        step: The step, which has these options.
    """

    def __init__(self, step: Step[Any, Any]) -> None:
        self._step = step
        self._begun, self._go_on = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        with replace_step(self._step, self._wait if self._step.name == plain.name else self._await_it):
            try:
                yield
            finally:
                self.let_go()

    def _wait(self, n: int) -> list[int]:
        self._begun.set()
        assert self._go_on.wait(10)
        return [n]

    async def _await_it(self, n: int) -> list[int]:
        return await asyncio.to_thread(self._wait, n)

    def started(self) -> Run:
        """Return a run that has come to the step."""

        @workflow(name="held")
        async def held(n: int) -> list[int]:
            return await self._step.acall(n)

        run = held.start(1)
        assert self._begun.wait(10)
        return run

    def let_go(self) -> None:
        self._go_on.set()


@pytest.mark.parametrize("step", [plain, awaited], ids=lambda step: step.fn.__name__)
def test_the_end_of_the_block_is_no_timeout(step: Step[Any, Any]):
    """What has not taken too long by then goes on and succeeds."""
    held = Held(step)

    with held.in_force():
        with VirtualClock() as clock:
            run = held.started()
            clock.advance(59)
        held.let_go()

        assert run.result(timeout=10) == [1]


@pytest.mark.parametrize("step", [plain, awaited], ids=lambda step: step.fn.__name__)
def test_what_was_left_by_a_clock_is_left_after_it(step: Step[Any, Any]):
    """However far ahead it was: what it was moved by before is not waited for."""
    held = Held(step.with_options(timeout=0.3, retry=RetryPolicy(attempts=1)))

    with held.in_force():
        with VirtualClock() as clock:
            clock.advance(HOUR)
            run = held.started()

        with pytest.raises(Exception, match="longer than 0.3 s"):
            run.result(timeout=5)


@pytest.mark.parametrize("step", [plain, awaited], ids=lambda step: step.fn.__name__)
def test_a_clock_behind_a_clock_times_nothing_out(step: Step[Any, Any]):
    """That the outer one is further on is no time that passed."""
    held = Held(step)

    with held.in_force(), VirtualClock() as outer:
        outer.advance(HOUR)
        with VirtualClock() as inner:
            run = held.started()
            inner.advance(3)
        held.let_go()

        assert run.result(timeout=10) == [1]


def test_pauses_of_many_at_once_are_heard(clock: VirtualClock):
    """In threads: each gets over its failures, and none sleeps."""

    @workflow(name="mapped")
    def mapped(ctx: Context, numbers: list[int]) -> list[list[int]]:
        return ctx.map(plain, numbers)

    patient = RetryPolicy(attempts=9, wait=1, max_wait=1)
    with capture_events() as events, fail_step(plain, ConnectionError("reset"), times=8):
        flaky = plain.with_options(retry=patient, timeout=None)
        assert [flaky(1)] == [[1]]

    assert len([event for event in events if isinstance(event, StepRetried)]) == 0
    assert len(clock.pauses) == 8
    assert mapped([1, 2]) == [[1], [2]]


def test_mistakes_are_told(clock: VirtualClock):
    """Time does not go back, and has a zone."""
    with pytest.raises(UsageError, match=r"advance\(\) is -1"):
        clock.advance(-1)
    with pytest.raises(UsageError, match="give a time with its zone"):
        VirtualClock(datetime(2030, 1, 1))
    for start in ("2020", 5):
        with pytest.raises(UsageError, match="give a time with its zone"):
            VirtualClock(start)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - that is the claim
    with pytest.raises(UsageError, match=r"advance\(inf\)"):
        clock.advance(float("inf"))
