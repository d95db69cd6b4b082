"""The same call at once: executed once, whoever asks, however it ends; and nobody waits for what cannot come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from agentflow import Context, RetryPolicy, cached_step, current_context, workflow
from agentflow._flights import FLIGHTS, own_copy
from agentflow._waiting import Limiter
from agentflow.exceptions import (
    BudgetExceeded,
    PayloadTooLarge,
    RunCancelled,
    StepTimeout,
    UnserializableValue,
    UsageError,
)
from agentflow.stores import MemoryStore, Store

from ._flying import Crowd, auntil, in_threads, nothing_left, until, waiters_of

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def _nothing_stays_in_flight() -> Iterator[None]:
    """No test leaves a flight or a thread behind."""
    with nothing_left():
        yield


# Once


def test_sixty_four_threads_execute_once():
    """Everybody gets an equal value of his own."""
    calls = []

    @cached_step
    def slow(n: int) -> list[int]:
        calls.append(n)
        time.sleep(0.05)
        return [n]

    results = in_threads(*[lambda: slow(7)] * 64)

    assert results == [[7]] * 64
    assert len({id(result) for result in results}) == 64
    assert calls == [7]


async def test_two_hundred_tasks_execute_once():
    """Tasks of one loop share one execution."""
    calls = []

    @cached_step
    async def slow(n: int) -> list[int]:
        calls.append(n)
        await asyncio.sleep(0.02)
        return [n]

    results = await asyncio.gather(*(slow(7) for _ in range(200)))

    assert results == [[7]] * 200
    assert len({id(result) for result in results}) == 200
    assert calls == [7]


def test_loops_in_several_threads_execute_once():
    """Four loops, each in a thread, twenty tasks in each, and threads that await by acall."""
    calls = []

    @cached_step
    async def slow(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(0.05)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*(slow(7) for _ in range(20)))

    results = in_threads(*[lambda: asyncio.run(main(), debug=True)] * 4)

    assert results == [[7] * 20] * 4
    assert calls == [7]


def test_a_sync_step_asked_for_by_tasks_and_threads_executes_once():
    """acall runs a sync step in threads: they meet in one execution."""
    calls = []

    @cached_step
    def slow(n: int) -> int:
        calls.append(n)
        time.sleep(0.05)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*(slow.acall(7) for _ in range(4)))

    results = in_threads(lambda: asyncio.run(main()), lambda: slow(7))

    assert results == [[7] * 4, 7]
    assert calls == [7]


def test_two_runs_meet_in_one_execution():
    """Runs of one session that need the same step at once share it, and both say what happened."""
    calls = []
    both = threading.Barrier(2, timeout=10)

    @cached_step
    def slow() -> int:
        calls.append(1)
        until(lambda: waiters_of("slow"))
        return 7

    @workflow
    def flow(n: int) -> int:
        both.wait()
        return slow()

    assert in_threads(lambda: flow(1), lambda: flow(2)) == [7, 7]
    assert calls == [1]
    told = [
        {event.type for event in run.events() if event.type.startswith("step")}
        for run in flow.session("default").runs()
    ]
    assert sorted(told, key=len) == [{"step_hit"}, {"step_started", "step_completed"}]


def test_waiters_get_what_cache_if_refused():
    """It is not remembered, but who asked meanwhile has his answer."""
    calls = []

    @cached_step(cache_if=lambda found: False)
    def slow() -> list[int]:
        calls.append(1)
        until(lambda: waiters_of("slow") == 3)
        return [1]

    results = in_threads(*[slow] * 4)

    assert results == [[1]] * 4
    assert calls == [1]
    assert not slow.is_cached()


def test_waiters_get_a_value_that_is_out_of_date_at_once():
    """A ttl counts from completion and is checked at the call: who waited for the flight has its value."""
    calls = []

    @cached_step(ttl=0)
    def slow() -> int:
        calls.append(1)
        until(lambda: waiters_of("slow") == 3)
        return len(calls)

    assert in_threads(*[slow] * 4) == [1] * 4
    assert calls == [1]


def test_what_cannot_be_copied_is_executed_for_each():
    """A value that cache_if refused and that cannot be stored reaches its owner; who waited executes for himself."""
    calls = []

    @cached_step(cache_if=lambda found: False)
    def slow() -> Any:
        calls.append(1)
        if len(calls) == 1:
            until(lambda: waiters_of("slow") == 1)
        return threading.Lock()

    results = in_threads(slow, slow)

    assert [type(result) for result in results] == [type(threading.Lock())] * 2
    assert calls == [1, 1]


def test_refresh_waits_for_the_flight_and_then_runs():
    """A call that wants a new result lets the one under way finish; others take the old value meanwhile."""
    calls = []

    @cached_step
    def slow() -> int:
        calls.append(1)
        until(lambda: len(calls) > 1 or waiters_of("slow") == 1)
        return len(calls)

    results = in_threads(slow, lambda: (until(lambda: calls), slow.with_options(refresh=True)())[1])

    assert results == [1, 2]
    assert slow() == 2


# Exceptions


def test_the_owners_exception_reaches_everybody_as_a_copy():
    """In one process waiters raise what the owner raised, each his own object with its note; nothing is remembered."""
    calls = []

    class Refused(Exception):
        def __init__(self, url: str, *, code: int) -> None:
            super().__init__(f"refused {url}")
            self.url, self.code = url, code

    @cached_step
    def slow() -> None:
        calls.append(1)
        until(lambda: waiters_of("slow") == 3)
        raise Refused("u", code=7) from KeyError("cause")

    errors = in_threads(*[slow] * 4)

    assert [(type(error), str(error), error.url, error.code) for error in errors] == [
        (Refused, "refused u", "u", 7)
    ] * 4
    assert len({id(error) for error in errors}) == 4
    assert all(isinstance(error.__cause__, KeyError) for error in errors)
    assert all(len(error.__notes__) == 1 and "in step" in error.__notes__[0] for error in errors)
    assert len({id(error.__notes__) for error in errors}) == 4
    assert calls == [1]
    assert not slow.is_cached()


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that nothing can be noted on."""

    url: str


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__()
        self.total = one + two


class Unique(Exception):
    def __str__(self) -> str:
        return f"at {id(self)}"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        KeyError("k"),
        StopIteration(3),
        ExceptionGroup("several", [ValueError(1)]),
        Odd(1, 2),
        UnserializableValue("m", owner="o", path="p", type_name="t", result=[1]),
        PayloadTooLarge("m", path="p", hint="h", errno=3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_copies_of_exceptions_are_equal_and_apart(error):
    """Type, text, arguments and attributes are kept; notes of one are not notes of the other."""
    error.__notes__ = ["first"]
    twin = own_copy(error)
    twin.add_note("second")

    assert twin is not error
    assert (type(twin), str(twin), twin.args) == (type(error), str(error), error.args)
    assert {**vars(twin), "__notes__": 0} == {**vars(error), "__notes__": 0}
    assert error.__notes__ == ["first"]
    assert getattr(twin, "filename", None) == getattr(error, "filename", None)


def test_an_exception_that_cannot_be_copied_is_shared():
    """Then it is the very object, and nothing breaks over it."""
    error = Unique()

    assert own_copy(error) is error


def test_an_exception_that_cannot_be_noted_passes_through():
    """A frozen exception class gets no note and arrives as it is."""

    @cached_step
    def refuse() -> None:
        raise Frozen("u")

    with pytest.raises(Frozen) as caught:
        refuse()
    assert caught.value.url == "u"


def test_stop_iteration_passes_through_a_plain_step():
    """The user's own exception is unchanged, also one that generators cannot carry; retried if the policy says so."""
    calls = []

    @cached_step(retry=RetryPolicy(attempts=2, wait=0, on=StopIteration))
    def first(items: list[int]) -> int:
        calls.append(1)
        return next(iter(items))

    with pytest.raises(StopIteration) as caught:
        first([])
    assert "attempt 2 of 2" in caught.value.__notes__[0]
    assert calls == [1, 1]
    assert first([1]) == 1


async def test_stop_iteration_in_a_thread_is_told_and_not_waited_for():
    """A future cannot carry it, so acall raises what Python raises in a coroutine."""

    @cached_step
    def first() -> int:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(first.acall(), 5)


def test_an_inner_steps_timeout_is_an_exception_like_any_other():
    """The outer step failed of it: its waiters are told, and do not execute it one after the other."""
    calls = []
    over = threading.Event()  # no length of sleep is sure to outlast a caller that the machine does not get round to

    @cached_step(timeout=0.02)
    def inner() -> None:
        over.wait(60)

    @cached_step
    def outer() -> None:
        calls.append(1)
        until(lambda: waiters_of("outer") == 2)
        inner()

    errors = in_threads(*[outer] * 3)
    over.set()

    assert [type(error) for error in errors] == [StepTimeout] * 3
    assert calls == [1]


# Handing over


class Held:
    """An async step that says 7 when it may, and counts its executions."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.go_on = asyncio.Event()

        @cached_step
        async def slow() -> int:
            self.calls.append(1)
            await self.go_on.wait()
            return 7

        self.step = slow


async def test_cancelling_the_owner_hands_over_to_one_waiter():
    """The cancellation is the owner's alone; of those who wait one executes, and all get its value."""
    held = Held()

    owner = asyncio.create_task(held.step())
    await asyncio.sleep(0)
    waiters = [asyncio.create_task(held.step()) for _ in range(5)]
    await auntil(lambda: waiters_of("slow") == 5)
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    await auntil(lambda: len(held.calls) == 2)
    held.go_on.set()

    assert await asyncio.gather(*waiters) == [7] * 5
    assert held.calls == [1, 1]


async def test_cancelling_a_waiter_leaves_the_others_alone():
    """A waiter that is cancelled goes; the owner and the others are not touched."""
    held = Held()

    tasks = [asyncio.create_task(held.step()) for _ in range(3)]
    await auntil(lambda: waiters_of("slow") == 2)
    tasks[1].cancel()
    await asyncio.sleep(0)
    held.go_on.set()

    assert await tasks[0] == await tasks[2] == 7
    assert tasks[1].cancelled()
    assert held.calls == [1]


def test_the_owners_timeout_hands_over():
    """Its patience is its own: a waiter with more executes anew."""
    calls = []
    free = threading.Event()

    @cached_step
    def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            until(lambda: waiters_of("slow") == 1)
            free.wait(5)
        return len(calls)

    results = in_threads(slow.with_options(timeout=0.3), lambda: (until(lambda: calls), slow())[1])
    free.set()

    assert isinstance(results[0], StepTimeout)
    assert results[1] == 2
    assert calls == [1, 1]


@pytest.mark.parametrize("colour", ["value", "stream"])
def test_what_a_timed_out_step_was_inside_of_is_free_at_once(colour):
    """Its thread hangs in a nested step and may never come back: the next attempt executes that one anew, with its place."""
    calls = []
    free = threading.Event()

    def hangs_once() -> int:
        calls.append(1)
        if len(calls) == 1:
            free.wait(10)
        return len(calls)

    @cached_step(max_concurrency=1)
    def inner() -> int:
        return hangs_once()

    @cached_step(max_concurrency=1)
    def stream() -> Iterator[int]:
        yield hangs_once()

    @cached_step(retry=RetryPolicy(attempts=2, wait=0, timeout=0.3))
    def outer() -> int:
        return inner() if colour == "value" else next(stream())

    assert outer() == 2
    free.set()
    assert calls == [1, 1]
    until(lambda: {inner._spec.limiter._free, stream._spec.limiter._free} == {1})


def test_who_waits_for_a_nested_step_of_a_timed_out_one_takes_over():
    """A flight whose owner has lost its rights is handed over at once, also while its code still runs."""
    calls = []
    free = threading.Event()

    @cached_step
    def inner() -> int:
        calls.append(1)
        if len(calls) == 1:
            free.wait(10)
        return len(calls)

    @cached_step(timeout=0.3)
    def outer() -> int:
        return inner()

    results = in_threads(outer, lambda: (until(lambda: calls), inner())[1])
    free.set()

    assert isinstance(results[0], StepTimeout)
    assert results[1] == 2
    assert inner() == 2


def test_a_waiter_obeys_its_own_timeout():
    """It leaves in time; the owner finishes."""
    go_on = threading.Event()

    @cached_step
    def slow() -> int:
        go_on.wait(10)
        return 7

    def hasty() -> Any:
        until(lambda: FLIGHTS._under_way)
        try:
            return slow.with_options(timeout=0.05)()
        finally:
            go_on.set()

    results = in_threads(slow, hasty)

    assert results[0] == 7
    assert isinstance(results[1], StepTimeout)


@pytest.mark.parametrize("error", [RunCancelled("cancelled"), BudgetExceeded("spent")], ids=lambda e: type(e).__name__)
def test_the_fate_of_the_owners_run_is_not_passed_on(error):
    """Its run is cancelled, or has spent its budget: a waiter of another run executes for itself."""
    calls = []

    @cached_step(scope="global")
    def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            until(lambda: waiters_of("slow") == 1)
            raise error
        return 7

    @workflow
    def flow() -> int:
        return slow()

    results = in_threads(flow, lambda: (until(lambda: calls), flow.with_options(session_id="other")())[1])

    assert results == [error, 7]
    assert calls == [1, 1]


def test_a_waiter_whose_run_is_revoked_stops_waiting():
    """A sync waiter looks now and then whether it may go on."""
    go_on = threading.Event()
    runs: list[Any] = []

    @cached_step(scope="global")
    def slow() -> int:
        go_on.wait(10)
        return 7

    @workflow
    def flow(ctx: Context) -> int:
        runs.append(ctx._frame.run)
        return slow()

    def cancelled() -> Any:
        until(lambda: FLIGHTS._under_way)
        try:
            return flow()
        finally:
            go_on.set()

    def canceller() -> None:
        until(lambda: runs)
        runs[0].token.revoke(RunCancelled("cancelled"))

    results = in_threads(slow.with_options(workflow="x"), cancelled, canceller)

    assert results[0] == 7
    assert isinstance(results[1], RunCancelled)


async def test_a_task_cancelled_while_its_result_is_committed_has_committed():
    """The commit is not called back; the result is remembered, said once, and the task is cancelled."""
    committing, go_on = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        """Commits in a thread, as slowly as the test likes."""

        pool = ThreadPoolExecutor(1)

        def commit_soon(self, transaction: Any) -> Any:
            if not transaction.entries:
                return super().commit_soon(transaction)

            def work() -> None:
                committing.set()
                assert go_on.wait(10)
                self.commit(transaction)

            return self.pool.submit(work)

    store = SlowStore()

    @cached_step
    async def give(ctx: Context) -> int:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return 7

    @workflow
    async def flow() -> int:
        with pytest.warns(UserWarning, match="reads state"):
            return await give()

    task = asyncio.create_task(flow.with_options(store=store)())
    await asyncio.to_thread(committing.wait)
    task.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    SlowStore.pool.shutdown()

    (run,) = flow.with_options(store=store).session("default").runs()
    assert [event.type for event in run.events()] == ["run_started", "step_started", "step_completed", "run_cancelled"]
    assert run.status == "cancelled"
    assert dict(flow.with_options(store=store).session("default").state) == {"n": 1}


def test_a_result_that_could_not_be_kept_is_not_said_to_be_completed():
    """The store refuses it: the events of the run say failed, never completed; waiters get the error with its result."""
    store = MemoryStore(max_value_bytes=2000)
    calls = []

    @cached_step
    def large() -> str:
        calls.append(1)
        return "x" * 3000

    @workflow
    def flow() -> str:
        try:
            return large()
        except PayloadTooLarge as error:
            return error.result[:3]

    assert flow.with_options(store=store)() == "xxx"
    (run,) = flow.with_options(store=store).session("default").runs()
    assert [event.type for event in run.events()] == ["run_started", "step_started", "step_failed", "run_completed"]
    assert calls == [1]
    assert store._locks == set()


# What could never end


def test_a_step_that_calls_itself_with_the_same_arguments_is_refused():
    """It would wait for itself; with other arguments recursion is fine."""

    @cached_step
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    @cached_step
    def stuck(n: int) -> int:
        return stuck(n)

    assert down(5) == 5
    with pytest.raises(UsageError, match="calls itself with the same arguments"):
        stuck(1)


async def test_an_async_step_that_calls_itself_is_refused():
    """Through ctx.map and tasks too: they carry the context."""

    @cached_step
    async def stuck(ctx: Context, n: int) -> Any:
        return await ctx.map(stuck, [n])

    with pytest.raises(UsageError, match="calls itself"):
        await asyncio.wait_for(stuck(1), 5)


def test_steps_that_wait_for_each_other_in_a_circle_over_threads_are_refused():
    """Two threads, each inside a step, each asks for the other's."""
    inside = threading.Barrier(2, timeout=10)
    first = [True, True]

    @cached_step
    def one() -> str:
        if first[0]:
            first[0] = False
            inside.wait()
        return two()

    @cached_step
    def two() -> str:
        if first[1]:
            first[1] = False
            inside.wait()
        return one()

    errors = in_threads(one, two)

    assert [type(error) for error in errors] == [UsageError] * 2
    assert any("circle" in str(error) for error in errors)


async def test_steps_that_wait_for_each_other_in_a_circle_over_tasks_are_refused():
    """Two tasks of one loop, each inside a step, each asks for the other's."""
    ready = [asyncio.Event(), asyncio.Event()]

    @cached_step
    async def one() -> str:
        ready[0].set()
        await ready[1].wait()
        return await two()

    @cached_step
    async def two() -> str:
        ready[1].set()
        await ready[0].wait()
        return await one()

    errors = await asyncio.wait_for(asyncio.gather(one(), two(), return_exceptions=True), 5)

    assert [type(error) for error in errors] == [UsageError] * 2
    assert any("circle" in str(error) for error in errors)


def test_a_diamond_is_no_circle():
    """Two steps that need the same third one wait for it, and not for each other."""
    calls = []

    @cached_step
    def base() -> int:
        calls.append(1)
        time.sleep(0.05)
        return 1

    @cached_step
    def side(n: int) -> int:
        return base() + n

    @cached_step
    def top() -> int:
        return sum(side.map([1, 2, 3]))

    assert in_threads(top, lambda: side(1), lambda: side(2)) == [9, 2, 3]
    assert calls == [1]


# Places


def test_places_are_given_first_come_first_served():
    """Nobody overtakes."""
    limiter = Limiter(1)
    places = [limiter.enter(n) for n in range(4)]
    granted = []
    for place in places:
        place.granted.add_done_callback(lambda _, place=place: granted.append(place.holder))

    for place in places:
        limiter.leave(place)

    assert granted == [0, 1, 2, 3]
    assert limiter._free == 1


def test_leaving_the_queue_takes_no_place():
    """Who gives up waiting is skipped, and gives nothing back."""
    limiter = Limiter(1)
    one, two, three = (limiter.enter(n) for n in range(3))

    limiter.leave(two)
    assert not three.granted.done()
    limiter.leave(one)
    assert three.granted.done()
    assert not two.granted.done()
    limiter.leave(three)
    limiter.leave(three)
    assert limiter._free == 1


def test_an_idle_place_is_taken_only_for_somebody_who_waits():
    """Holders that stand still keep their places until somebody needs one, and then only so many lose theirs."""
    limiter = Limiter(2)
    one, two = limiter.enter("one"), limiter.enter("two")
    one.idle_since = two.idle_since = time.monotonic() - 10

    limiter.take_back()
    assert sorted(limiter.holders()) == ["one", "two"]
    three = limiter.enter("three")
    limiter.take_back()

    assert three.granted.done()
    assert len(limiter.holders()) == 2
    for place in (one, two, three):
        limiter.leave(place)
    assert limiter._free == 2


def test_no_more_than_max_concurrency_run_at_once():
    """Over threads, whatever the arguments."""
    crowd = Crowd()

    @cached_step(max_concurrency=3)
    def slow(n: int) -> int:
        with crowd:
            time.sleep(0.01)
        return n

    assert in_threads(*[(lambda n=n: slow(n)) for n in range(12)]) == list(range(12))
    assert crowd.most == 3
    assert slow._spec.limiter._free == 3


def test_a_nested_call_of_the_same_step_takes_no_place():
    """Recursion through a step that runs one at a time does not wait for itself."""

    @cached_step(max_concurrency=1)
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert in_threads(lambda: down(4)) == [4]
    assert down._spec.limiter._free == 1


def test_a_place_is_lent_to_whom_its_holder_waits_for():
    """crawl(1) runs and needs crawl(2), which another thread has begun and which waits for crawl(1)'s place."""
    queued = threading.Event()

    @cached_step(max_concurrency=1)
    def crawl(n: int) -> int:
        if n == 1:
            until(lambda: crawl._spec.limiter._queue)
            queued.set()
            return crawl(2) + 1
        return n

    def second() -> int:
        until(lambda: not crawl._spec.limiter._free)
        return crawl(2)

    assert in_threads(lambda: crawl(1), second) == [3, 2]
    assert queued.is_set()
    assert crawl._spec.limiter._free == 1


def test_a_place_is_lent_along_a_chain_of_waits():
    """The holder waits for a step that waits for a step that waits for the holder's place."""

    @cached_step(max_concurrency=1)
    def limited(n: int) -> int:
        if n == 1:
            until(lambda: len(FLIGHTS._under_way) >= 3)
            return middle() + 1
        return n

    @cached_step
    def middle() -> int:
        return limited(2)

    def other() -> int:
        until(lambda: not limited._spec.limiter._free)
        return middle()

    assert in_threads(lambda: limited(1), other) == [3, 2]
    assert limited._spec.limiter._free == 1


async def test_places_come_back_from_errors_and_cancellation():
    """However an execution ends, or waits in vain, the next one gets the place."""
    inside = asyncio.Event()

    @cached_step(max_concurrency=1)
    async def step(n: int) -> int:
        if n == 0:
            raise ValueError
        if n == 1:
            inside.set()
            await asyncio.sleep(10)
        return n

    with pytest.raises(ValueError):
        await step(0)
    running = asyncio.create_task(step(1))
    await inside.wait()
    waiting = [asyncio.create_task(step(n)) for n in (2, 3)]
    await auntil(lambda: len(step._spec.limiter._queue) == 2)
    waiting[0].cancel()
    with pytest.raises(StepTimeout):
        await step.with_options(timeout=0.02)(4)
    running.cancel()

    assert await waiting[1] == 3
    assert step._spec.limiter._free == 1
    await asyncio.gather(running, *waiting, return_exceptions=True)


async def test_a_thousand_tasks_with_a_hundred_places():
    """Everybody gets a place in the end, and no more than a hundred have one."""
    now, most = 0, 0

    @cached_step(max_concurrency=100)
    async def step(n: int) -> int:
        nonlocal now, most
        now += 1
        most = max(now, most)
        await asyncio.sleep(0.05)
        now -= 1
        return n

    assert await asyncio.gather(*(step(n) for n in range(1000))) == list(range(1000))
    assert most == 100
    assert step._spec.limiter._free == 100


# Retries and limits


def test_a_rest_between_attempts_ends_with_the_calls_time():
    """The whole call may take so long, rests included."""
    calls = []

    @cached_step(timeout=0.1, retry=RetryPolicy(attempts=5, wait=60))
    def fail() -> None:
        calls.append(1)
        raise ConnectionError

    began = time.monotonic()
    with pytest.raises(StepTimeout):
        fail()

    assert calls == [1]
    assert time.monotonic() - began < 30


async def test_what_a_cancelled_attempt_still_returns_does_not_count():
    """An async step that catches its cancellation at the limit and returns what it has, has no result."""

    @cached_step(timeout=0.02)
    async def stubborn() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "half"
        return "whole"

    with pytest.raises(StepTimeout):
        await stubborn()
    assert not stubborn.is_cached()


def test_an_error_is_not_hidden_by_a_store_that_fails_too(store: Store):
    """The model answers of a failed attempt could not be forgotten: the user's exception arrives, with that as a note."""
    from agentflow import Agent
    from agentflow.testing import FunctionModel

    agent = Agent(FunctionModel(lambda messages, info: "hello"))

    @cached_step
    def ask() -> str:
        answer = agent.run("hi").output
        current_context()._frame.run.record = broken
        raise ValueError(answer)

    import attrs

    broken: Any = None

    @workflow
    def flow(ctx: Context) -> str:
        nonlocal broken
        mine = ctx._frame.run.record
        broken = attrs.evolve(mine, owner="somebody else")
        try:
            return ask()
        finally:
            ctx._frame.run.record = mine

    with pytest.raises(ValueError, match="hello") as caught:
        flow()
    assert "could not be forgotten" in "".join(caught.value.__notes__)
