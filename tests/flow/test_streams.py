"""What a streamed step does: live now, replayed on a hit, shared by whoever asks meanwhile; in both colours, over both stores."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentflow
from agentflow import Context, RetryPolicy, cached_step, current_context, workflow
from agentflow._flights import FLIGHTS
from agentflow.exceptions import (
    BudgetExceeded,
    PayloadTooLarge,
    RunCancelled,
    RunInterrupted,
    StepTimeout,
    StoreBusy,
    UnserializableValue,
    UsageError,
)
from agentflow.stores import DiskStore, MemoryStore

from ._flying import in_threads, nothing_left

pytestmark = pytest.mark.usefixtures("store")


class Player:
    """Makes and consumes streams of one colour, so that a test reads the same in both."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self._runner = asyncio.Runner(debug=True) if is_async else None

    def step(self, body: Callable[..., Iterator[Any]], **options: Any) -> Any:
        """A step that yields what a generator function yields."""
        if name := options.pop("name", None):
            options["name"] = self.named(name)
        if not self.is_async:

            @cached_step(**options)
            def stream(*args: Any) -> Generator[Any, None, Any]:
                return (yield from body(*args))

            return stream

        @cached_step(**options)
        async def astream(*args: Any) -> AsyncIterator[Any]:
            items = body(*args)
            try:
                for item in items:
                    await asyncio.sleep(0)
                    yield item
            finally:
                items.close()

        return astream

    def named(self, name: str) -> str:
        return f"async {name}" if self.is_async else name

    def next(self, stream: Any) -> Any:
        if not self.is_async:
            return next(stream)
        return self._run(lambda: stream.__anext__())

    def list(self, stream: Any) -> list[Any]:
        if not self.is_async:
            return list(stream)

        async def consume() -> list[Any]:
            return [item async for item in stream]

        return self._run(consume)

    def close(self, stream: Any) -> None:
        if self.is_async:
            self._run(lambda: stream.aclose())
        else:
            stream.close()

    def throw(self, stream: Any, error: BaseException) -> Any:
        return self._run(lambda: stream.athrow(error)) if self.is_async else stream.throw(error)

    def send(self, stream: Any, value: Any) -> Any:
        return self._run(lambda: stream.asend(value)) if self.is_async else stream.send(value)

    def settle(self) -> None:
        """Let what garbage collection has left to the loop be done."""
        if self._runner:
            self._run(lambda: asyncio.sleep(0.01))

    def _run(self, begin: Callable[[], Any]) -> Any:
        assert self._runner

        async def wait() -> Any:
            return await begin()

        return self._runner.run(wait())

    def shut(self) -> None:
        if self._runner:
            self._runner.close()


def counting(items: Iterable[Any]) -> tuple[Callable[[], Iterator[Any]], list[int]]:
    """A body that yields items, and the list to which each execution of it adds."""
    calls: list[int] = []

    def body() -> Iterator[Any]:
        calls.append(1)
        yield from items

    return body, calls


def counted_in_loops() -> tuple[Any, list[int]]:
    """An async streamed step that yields three items, and the list to which each execution of it adds."""
    calls: list[int] = []

    @cached_step
    async def stream() -> AsyncIterator[int]:
        calls.append(1)
        for k in range(3):
            yield k

    return stream, calls


@pytest.fixture(params=["sync", "async"])
def player(request: pytest.FixtureRequest) -> Iterator[Player]:
    player = Player(is_async=request.param == "async")
    yield player
    player.shut()


@pytest.fixture(autouse=True)
def _nothing_stays_in_flight() -> Iterator[None]:
    """No test leaves a flight, a thread or a task behind."""
    with nothing_left(patience=5):
        yield


# Recording and replaying


def test_a_stream_is_recorded_and_replays_its_items(player):
    """A hit yields what the miss did, without executing anything."""
    calls = []

    def body(word: str) -> Iterator[Any]:
        calls.append(word)
        yield from (word, 0, "", None, 2.5, b"x", [word])

    step = player.step(body)

    live, replayed = player.list(step("a")), player.list(step("a"))

    assert live == replayed == ["a", 0, "", None, 2.5, b"x", ["a"]]
    assert calls == ["a"]
    assert step.is_cached("a")
    assert not step.is_cached("b")


def test_the_return_value_is_recorded_too():
    """What a generator returns is there on a hit; it is what acall gives."""

    @cached_step
    def stream() -> Generator[str, None, dict[str, int]]:
        yield "a"
        return {"n": 1}

    def returned() -> Any:
        return (yield from stream())

    def value(generator: Generator[Any, None, Any]) -> Any:
        while True:
            try:
                next(generator)
            except StopIteration as stop:
                return stop.value

    first, second = value(returned()), value(returned())

    assert first == second == {"n": 1}
    assert first is not second
    assert asyncio.run(stream.acall()) == {"n": 1}


def test_an_empty_stream_is_a_result(player):
    """A stream without items is remembered like any other."""
    body, calls = counting(())
    step = player.step(body)

    assert player.list(step()) == player.list(step()) == []
    assert calls == [1]


def test_items_arrive_before_the_end(player):
    """The consumer has an item before the next one is made."""
    made = []

    def body() -> Iterator[int]:
        for n in range(3):
            made.append(n)
            yield n

    stream = player.step(body)()
    seen = [(player.next(stream), list(made)) for _ in range(3)]

    assert seen == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    assert player.list(stream) == []


def test_a_stream_is_begun_at_its_first_item(player):
    """Calling it executes nothing; a bad argument is told at the call."""
    calls = []

    def body(n: int) -> Iterator[int]:
        calls.append(n)
        yield n

    step = player.step(body)
    stream = step(1)

    with pytest.raises(UsageError):
        step(threading.Lock())
    assert calls == []
    assert player.list(stream) == [1]


@pytest.mark.parametrize("how", ["close", "drop", "throw"])
def test_a_consumer_that_stops_leaves_no_partial_stream(player, how):
    """After k items it stops: the generator's finally runs, nothing of the stream is a hit, and the next call gets it whole."""
    calls, cleaned = [], []

    def body() -> Iterator[int]:
        calls.append(1)
        try:
            yield from range(5)
        finally:
            cleaned.append(len(calls))

    step = player.step(body)
    stream = step()
    assert [player.next(stream), player.next(stream)] == [0, 1]
    if how == "close":
        player.close(stream)
    elif how == "throw":
        with pytest.raises(KeyError, match="thrown"):
            player.throw(stream, KeyError("thrown"))
    del stream
    player.settle()

    assert cleaned == [1]
    assert not step.is_cached()
    assert player.list(step()) == [0, 1, 2, 3, 4]
    assert calls == [1, 1]


def test_an_exception_at_item_k_is_raised_unchanged(player):
    """The consumer gets the user's own exception with a note; what was yielded is no hit; the next call executes again."""
    error = ValueError("at 2")
    errors = [error]

    def body() -> Iterator[int]:
        yield 1
        if errors:
            raise errors.pop()
        yield 2

    step = player.step(body, name="stumbling", retry=RetryPolicy(attempts=3, wait=0))
    stream = step()

    assert player.next(stream) == 1
    with pytest.raises(ValueError) as caught:
        player.next(stream)
    assert caught.value is error
    assert error.__notes__ == [f"agentflow: in step {player.named('stumbling')!r} (session 'default', attempt 1 of 3)"]
    assert not step.is_cached()
    assert player.list(step()) == [1, 2]


def test_finished_steps_and_state_survive_a_broken_stream(player):
    """Steps inside a stream that was left stay remembered; its own changes of state are discarded, the body's are kept."""
    executed = []

    @cached_step
    def inner(n: int) -> int:
        executed.append(n)
        return n

    def body() -> Iterator[int]:
        current_context().state["by stream"] = 1
        yield inner(1)
        yield inner(2)

    step = player.step(body)
    kept = []

    @workflow
    def flow(ctx: Context) -> None:
        ctx.state["by body"] = 1
        kept.append(step())
        player.next(kept[0])
        player.close(kept.pop())

    flow()

    assert executed == [1]
    assert dict(flow.session("default").state) == {"by body": 1}
    assert inner.with_options(workflow=flow.name).is_cached(1)


def test_a_finished_streams_state_commits_with_it(player):
    """State that a stream changes is there when it is exhausted, and a hit changes nothing."""

    def body() -> Iterator[int]:
        state = current_context().state
        state["items"] = []
        for n in range(3):
            state["items"].append(n)
            yield n

    step = player.step(body)

    @workflow
    def flow(ctx: Context) -> Any:
        items = player.list(step())
        first = ctx.state["items"]
        ctx.state["items"] = "changed"
        assert player.list(step()) == items
        return first, ctx.state["items"]

    assert flow() == ([0, 1, 2], "changed")


def test_cache_if_judges_the_whole_stream(player):
    """cache_if gets what the stream gives, text joined; what it refuses is executed again."""
    words = [["a", "b"], ["a", "c"], ["never"]]
    seen = []

    def body() -> Iterator[str]:
        yield from words.pop(0)

    def judge(found: str) -> bool:
        seen.append(found)
        return "c" in found

    step = player.step(body, cache_if=judge)

    assert [player.list(step()) for _ in range(3)] == [["a", "b"], ["a", "c"], ["a", "c"]]
    assert seen == ["ab", "ac"]


def test_what_cache_if_refuses_need_not_be_storable():
    """A value that is not to be remembered reaches the consumer, whatever it is."""
    lock = threading.Lock()

    @cached_step(cache_if=lambda value: False)
    def stream() -> Generator[int, None, Any]:
        yield 1
        return lock

    played = stream()
    next(played)
    with pytest.raises(StopIteration) as stop:
        next(played)

    assert stop.value.value is lock
    assert not stream.is_cached()


def test_every_consumer_has_private_copies(player):
    """Changing an item changes neither the store, nor what another consumer gets, nor the generator's own object."""
    source = [1]

    def body() -> Iterator[list[int]]:
        yield source
        yield source

    step = player.step(body)
    one, two = step(), step()
    player.next(one).append(99)

    assert player.next(two) == [1]
    player.next(two).append(98)
    assert player.next(one) == [1]
    assert player.list(one) == player.list(two) == []
    assert player.list(step()) == [[1], [1]]
    assert source == [1]


def test_an_item_that_cannot_be_stored_is_a_typed_error(player):
    """It names the step and carries the items so far; the generator is closed, once executed and not retried."""
    lock = threading.Lock()
    calls, cleaned = [], []

    def body() -> Iterator[Any]:
        calls.append(1)
        try:
            yield [1]
            yield {"lock": lock}
        finally:
            cleaned.append(1)

    step = player.step(body, name="locks", retry=RetryPolicy(attempts=3, wait=0))
    stream = step()
    assert player.next(stream) == [1]
    with pytest.raises(UnserializableValue, match=f"an item of step '{player.named('locks')}'") as caught:
        player.next(stream)

    assert caught.value.result == [[1], {"lock": lock}]
    assert "lock" in caught.value.path
    assert (calls, cleaned) == ([1], [1])
    assert not step.is_cached()


def test_a_return_value_that_cannot_be_stored_is_a_typed_error():
    """The error carries the value, since the work is done."""
    lock = threading.Lock()

    @cached_step(name="returns a lock")
    def stream() -> Generator[int, None, Any]:
        yield 1
        return lock

    played = stream()
    next(played)
    with pytest.raises(UnserializableValue, match="returns a lock") as caught:
        next(played)

    assert caught.value.result is lock
    assert not stream.is_cached()


def test_a_store_that_refuses_the_stream_hands_it_over(player):
    """Items were seen live; at the end the store's error carries the result, and the key is free again."""
    small = MemoryStore(max_value_bytes=300)

    def body(n: int) -> Iterator[str]:
        yield from ["x" * 100] * n

    step = player.step(body).with_options(store=small)
    stream = step(9)
    assert [player.next(stream) for _ in range(9)] == ["x" * 100] * 9
    with pytest.raises(PayloadTooLarge) as caught:
        player.next(stream)

    assert caught.value.result == "x" * 900
    assert player.list(step(1)) == ["x" * 100]
    assert small._locks == set()


def test_the_result_of_a_stream_that_was_refused_is_what_was_seen(player):
    """The items that the error carries are those that the consumer saw, of whatever type."""
    small = MemoryStore(max_value_bytes=300)
    step = player.step(lambda n: ([f"{k}" * 100] for k in range(n))).with_options(store=small)

    with pytest.raises(PayloadTooLarge) as caught:
        player.list(step(4))

    assert caught.value.result == [[f"{k}" * 100] for k in range(4)]


def test_a_stream_that_is_remembered_nowhere_is_executed_each_time(player):
    """Scope "run" outside a run: nothing is shared and nothing kept, not even what cannot be stored."""
    lock = threading.Lock()
    calls = []

    def body() -> Iterator[Any]:
        calls.append(1)
        yield lock

    step = player.step(body, scope="run")
    one, two = step(), step()

    assert player.next(one) is player.next(two) is lock
    player.close(one)
    player.close(two)
    assert calls == [1, 1]


def test_sent_values_are_refused(player):
    """A replay would not ask for them, so send() is a UsageError on a miss and on a hit; sending None is next()."""

    def body() -> Iterator[int]:
        yield from range(3)

    step = player.step(body)
    for _ in range(2):
        stream = step()
        player.next(stream)
        assert player.send(stream, None) == 1
        with pytest.raises(UsageError, match="sent 'a value'"):
            player.send(stream, "a value")
        player.list(step())


def test_what_is_thrown_reaches_the_consumer_and_closes_the_source():
    """throw() ends the consumer's stream; the body sees its closing, since a replay could not tell it more."""
    seen = []

    @cached_step
    def stream() -> Iterator[int]:
        try:
            yield 1
        except BaseException as error:
            seen.append(type(error))
            raise

    played = stream()
    next(played)
    with pytest.raises(LookupError, match="mine"):
        played.throw(LookupError("mine"))

    assert seen == [GeneratorExit]
    assert list(played) == []


def test_a_generator_that_ignores_its_closing_is_told_as_python_does(player):
    """The RuntimeError is Python's own, and the key is free."""
    stubborn = [True]

    def body() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            if stubborn:
                stubborn.clear()
                yield 2
            raise

    if player.is_async:

        @cached_step
        async def step() -> AsyncIterator[int]:
            for item in body():
                try:
                    yield item
                except GeneratorExit:
                    if stubborn:
                        stubborn.clear()
                        yield 2
                    raise
    else:
        step = player.step(body)
    stream = step()
    player.next(stream)

    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        player.close(stream)
    assert FLIGHTS._under_way == {}
    assert player.next(step()) == 1


def test_stop_iteration_in_a_body_is_told_as_python_does(player):
    """A bare next() that finds nothing does not end the stream silently."""

    def body() -> Iterator[int]:
        yield 1
        next(iter(()))

    step = player.step(body)
    stream = step()
    player.next(stream)

    with pytest.raises(RuntimeError, match="StopIteration"):
        player.next(stream)
    assert not step.is_cached()


def test_the_context_of_a_stream_ends_with_it(player):
    """ctx may be used until the stream is over, and not after."""
    kept = []

    if player.is_async:

        @cached_step
        async def step(ctx: Context) -> AsyncIterator[str]:
            kept.append(ctx)
            yield ctx.session_id
    else:

        @cached_step
        def step(ctx: Context) -> Iterator[str]:
            kept.append(ctx)
            yield ctx.session_id

    stream = step()
    assert player.next(stream) == "default"
    kept[0].check()
    assert player.list(stream) == []
    with pytest.raises(UsageError, match="has ended"):
        kept[0].check()

    closed = step.with_options(session_id="other")()
    player.next(closed)
    player.close(closed)
    with pytest.raises(UsageError, match="has ended"):
        kept[1].check()


def test_events_tell_a_streams_story(player):
    """Started and completed when executed, hit when replayed or joined, failed when left."""

    def body(n: int) -> Iterator[int]:
        yield n
        yield n

    step = player.step(body)

    @workflow
    def flow() -> None:
        one, two = step(1), step(1)
        player.next(one)
        player.list(two)
        player.list(one)
        player.list(step(1))
        left = step(2)
        player.next(left)
        player.close(left)

    flow()
    events = [event for event in flow.session("default").runs()[0].events() if event.type.startswith("step")]

    assert [event.type for event in events] == [
        "step_started",
        "step_yielded",
        "step_completed",
        "step_hit",
        "step_hit",
        "step_started",
        "step_yielded",
        "step_failed",
    ]
    assert events[-1].error == "GeneratorExit: closed before its end"


# Retry and timeout


def test_a_stream_is_retried_only_before_its_first_item(player):
    """Failures before the first item are tried again; after it the error is final."""
    calls = []

    def body(fails_at: int) -> Iterator[int]:
        calls.append(current_context().attempt)
        if len(calls) < 3 and fails_at == 0:
            raise ConnectionError("before")
        yield 1
        if fails_at == 1:
            raise ConnectionError("after")

    step = player.step(body, retry=RetryPolicy(attempts=3, wait=0))

    assert player.list(step(0)) == [1]
    assert calls == [1, 2, 3]
    calls.clear()
    with pytest.raises(ConnectionError, match="after"):
        player.list(step(1))
    assert calls == [1]


def test_a_stream_that_never_begins_times_out(player):
    """Before the first item: StepTimeout, nothing is kept, and the generator is closed when it comes out."""
    go_on, left = threading.Event(), threading.Event()

    if player.is_async:

        @cached_step(timeout=0.05)
        async def step() -> AsyncIterator[int]:
            try:
                await asyncio.sleep(0 if go_on.is_set() else 10)
                yield 1
            finally:
                left.set()
    else:

        @cached_step(timeout=0.05)
        def step() -> Iterator[int]:
            try:
                go_on.wait(10)
                yield 1
            finally:
                left.set()

    with pytest.raises(StepTimeout, match=r"longer than 0\.05 s"):
        player.list(step())
    go_on.set()

    assert left.wait(5)
    assert not step.is_cached()
    assert player.list(step.with_options(timeout=None)()) == [1]


def test_a_stream_that_stops_half_way_times_out(player):
    """The limit is that of the whole call; what is left behind can reach no boundary and commits nothing."""
    go_on, left = threading.Event(), threading.Event()
    seen = []

    if player.is_async:

        @cached_step(timeout=0.3)
        async def step(ctx: Context) -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.sleep(0 if go_on.is_set() else 10)
                yield 2
            finally:
                left.set()
    else:

        @cached_step(timeout=0.3)
        def step(ctx: Context) -> Iterator[int]:
            try:
                yield 1
                go_on.wait(10)
                try:
                    ctx.check()
                except StepTimeout as error:
                    seen.append(error)
                yield 2
            finally:
                left.set()

    stream = step()
    assert player.next(stream) == 1
    with pytest.raises(StepTimeout):
        player.next(stream)
    assert FLIGHTS._under_way == {}
    go_on.set()

    assert left.wait(5)
    assert len(seen) == (not player.is_async)
    assert not step.is_cached()
    assert player.list(step.with_options(timeout=None)()) == [1, 2]


def test_the_end_of_a_stream_that_took_too_long_is_told(player):
    """Its event names the timeout, also where the consumer came back too late."""

    def body() -> Iterator[int]:
        yield 1
        yield 2

    step = player.step(body, timeout=0.3)

    @workflow
    def flow() -> None:
        stream = step()
        player.next(stream)
        time.sleep(0.35)
        with pytest.raises(StepTimeout):
            player.next(stream)

    flow()
    (failed,) = [event for event in flow.session("default").runs()[0].events() if event.type == "step_failed"]

    assert "StepTimeout" in failed.error
    with pytest.raises(StepTimeout):
        player.list(step.with_options(timeout=0)())


def test_the_time_of_a_stream_begins_with_its_first_item(player):
    """A stream may lie for a while before it is consumed."""

    def body() -> Iterator[int]:
        yield 1

    stream = player.step(body, timeout=0.5)()
    time.sleep(0.55)

    assert player.list(stream) == [1]


def test_an_attempt_that_is_too_slow_is_tried_again(player):
    """RetryPolicy.timeout limits one attempt; the slow one is closed."""
    calls, closed = [], threading.Event()

    if player.is_async:

        @cached_step(retry=RetryPolicy(attempts=2, wait=0, timeout=0.5))
        async def step() -> AsyncIterator[int]:
            calls.append(1)
            try:
                await asyncio.sleep(10 if len(calls) == 1 else 0)
                yield len(calls)
            finally:
                closed.set()
    else:
        free = threading.Event()

        @cached_step(retry=RetryPolicy(attempts=2, wait=0, timeout=0.5))
        def step() -> Iterator[int]:
            calls.append(1)
            try:
                if len(calls) == 1:
                    free.wait(5)
                yield len(calls)
            finally:
                closed.set()

    stream = step()
    assert player.next(stream) == 2
    assert player.list(stream) == []
    if not player.is_async:
        free.set()
    assert closed.wait(5)


# Several consumers


def test_zip_of_a_stream_with_itself(player):
    """Two consumers in one thread or task: one execution, and nobody waits for himself."""
    calls = []

    def body(word: str) -> Iterator[str]:
        calls.append(word)
        yield from word

    step = player.step(body)
    if player.is_async:

        async def zipped() -> list[Any]:
            one, two = step("abc"), step("abc")
            return [(await anext(one), await anext(two)) for _ in range(3)] + [
                await anext(two, None),
                await anext(one, None),
            ]

        found = player._run(zipped)[:3]
    else:
        found = list(zip(step("abc"), step("abc"), strict=True))

    assert found == [("a", "a"), ("b", "b"), ("c", "c")]
    assert calls == ["abc"]


def test_a_paused_stream_called_again_is_followed_from_its_first_item(player):
    """The same thread or task asks again while its first stream stands: it goes on from the buffer."""
    body, calls = counting(range(4))
    step = player.step(body)
    paused = step()
    player.next(paused)
    player.next(paused)

    assert player.list(step()) == [0, 1, 2, 3]
    assert step.is_cached()
    assert player.list(paused) == [2, 3]
    assert calls == [1]


def test_a_paused_stream_called_by_another_thread(player):
    """Another thread (with a loop of its own) takes over where the first one stands, and both see all items."""
    body, calls = counting(range(4))
    step = player.step(body)
    paused = step()
    player.next(paused)

    def other() -> list[int]:
        another = Player(is_async=player.is_async)
        try:
            return another.list(step())
        finally:
            another.shut()

    assert in_threads(other) == [[0, 1, 2, 3]]
    assert player.list(paused) == [1, 2, 3]
    assert calls == [1]


def test_the_last_consumer_closes_the_source(player):
    """Leaving closes the source only if nobody else reads it."""
    cleaned = []

    def body() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            cleaned.append(1)

    step = player.step(body)
    one, two = step(), step()
    player.next(one), player.next(two)
    player.close(one)
    assert cleaned == []
    assert player.next(two) == 1
    player.close(two)

    assert cleaned == [1]
    assert not step.is_cached()


def test_the_first_consumer_leaving_does_not_hurt_the_second(player):
    """Who began the stream may go; the other exhausts it, and it is remembered."""
    body, calls = counting(range(3))
    step = player.step(body)
    one, two = step(), step()
    player.next(one), player.next(two)
    player.close(one)

    assert player.list(two) == [1, 2]
    assert player.list(step()) == [0, 1, 2]
    assert calls == [1]


def test_all_consumers_get_the_exception_each_its_own(player):
    """An error reaches everybody who reads, as copies, and is not remembered."""

    class Refused(Exception):
        def __init__(self, url: str) -> None:
            super().__init__(f"refused {url}")
            self.url = url

    def body() -> Iterator[int]:
        yield 1
        raise Refused("u")

    step = player.step(body)
    one, two = step(), step()
    player.next(one), player.next(two)
    errors = []
    for stream in (one, two):
        with pytest.raises(Refused, match=r"^refused u(\n|$)") as caught:
            player.next(stream)
        errors.append(caught.value)

    assert errors[0] is not errors[1]
    assert errors[1].url == "u"
    assert not step.is_cached()


def test_threads_that_read_one_stream_get_equal_items():
    """Eight threads at once: one execution, equal items, each a copy."""
    calls = []
    barrier = threading.Barrier(8, timeout=10)

    @cached_step
    def stream(n: int) -> Iterator[list[int]]:
        calls.append(n)
        for k in range(n):
            time.sleep(0.001)
            yield [k]

    def consume() -> list[list[int]]:
        barrier.wait()
        return list(stream(20))

    results = in_threads(*[consume] * 8)

    assert results == [[[k] for k in range(20)]] * 8
    assert calls == [20]
    assert len({id(item) for result in results for item in result}) == 160


async def test_tasks_that_read_one_stream_get_equal_items():
    """Two hundred tasks at once: one execution."""
    calls = []

    @cached_step
    async def stream(n: int) -> AsyncIterator[int]:
        calls.append(n)
        for k in range(n):
            await asyncio.sleep(0)
            yield k

    async def consume() -> list[int]:
        return [item async for item in stream(5)]

    results = await asyncio.gather(*(consume() for _ in range(200)))

    assert results == [[0, 1, 2, 3, 4]] * 200
    assert calls == [5]


def test_loops_in_several_threads_read_one_stream():
    """Four loops in four threads, ten tasks in each: one execution, in the loop that began it."""
    calls, loops = [], set()
    barrier = threading.Barrier(4, timeout=10)

    @cached_step
    async def stream(n: int) -> AsyncIterator[int]:
        calls.append(n)
        for k in range(n):
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0.002)
            yield k

    async def consume() -> list[int]:
        return [item async for item in stream(8)]

    async def main() -> list[list[int]]:
        barrier.wait()
        found = await asyncio.gather(*(consume() for _ in range(10)))
        await asyncio.to_thread(barrier.wait)
        return found

    results = in_threads(*[lambda: asyncio.run(main(), debug=True)] * 4)

    assert results == [[list(range(8))] * 10] * 4
    assert calls == [8]
    assert len(loops) == 1


def test_a_paused_stream_of_a_loop_that_stands_still(monkeypatch):
    """Another loop asks while the first one is not running: it goes on there, and nobody hangs."""
    monkeypatch.setattr("agentflow._streams._PATIENCE", 1000)
    calls = []

    @cached_step
    async def stream() -> AsyncIterator[int]:
        calls.append(1)
        for k in range(3):
            await asyncio.sleep(0)
            yield k

    async def consume(played: Any) -> list[int]:
        return [item async for item in played]

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    paused = stream()
    assert first.run_until_complete(anext(paused)) == 0

    assert in_threads(lambda: second.run_until_complete(consume(stream()))) == [[0, 1, 2]]
    assert first.run_until_complete(consume(paused)) == [1, 2]
    assert calls == [1]
    first.close()
    second.close()


def test_a_paused_stream_of_a_loop_that_was_closed():
    """A consumer whose loop ended without closing it is in nobody's way."""
    stream, calls = counted_in_loops()

    async def consume() -> list[int]:
        return [item async for item in stream()]

    loop = asyncio.new_event_loop()
    paused = stream()
    loop.run_until_complete(anext(paused))
    loop.close()
    results = [asyncio.run(consume())]
    del paused
    gc.collect()
    results.append(asyncio.run(consume()))

    assert results == [[0, 1, 2]] * 2
    assert calls == [1]


def test_a_dropped_stream_of_a_closed_loop_is_begun_anew():
    """Its consumer is gone and could not even close it: the next call executes again instead of waiting."""
    stream, calls = counted_in_loops()

    async def consume(played: Any, most: int) -> list[int]:
        return [await anext(played) for _ in range(most)]

    loop = asyncio.new_event_loop()
    paused = stream()
    loop.run_until_complete(consume(paused, 1))
    loop.close()
    del paused
    gc.collect()

    assert FLIGHTS._under_way == {}
    assert asyncio.run(consume(stream(), 3)) == [0, 1, 2]
    assert calls == [1, 1]


def test_a_dropped_stream_that_no_loop_knows_is_closed_at_once():
    """Begun by an `anext()` made outside any loop, it is closed by the garbage collector, and the key is free."""
    cleaned = []

    @cached_step
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            cleaned.append(1)

    loop = asyncio.new_event_loop()
    paused = stream()
    loop.run_until_complete(anext(paused))
    del paused
    gc.collect()
    loop.close()

    assert cleaned == [1]
    assert FLIGHTS._under_way == {}


def test_a_paused_stream_of_a_loop_that_is_blocked(monkeypatch):
    """The loop that began it waits, blocked, for a thread that reads the same stream: not for ever."""
    monkeypatch.setattr("agentflow._streams._PATIENCE", 0.1)

    @cached_step
    async def stream() -> AsyncIterator[int]:
        for k in range(3):
            yield k

    async def consume(played: Any) -> list[int]:
        return [item async for item in played]

    async def main() -> Any:
        paused = stream()
        await anext(paused)
        others = in_threads(lambda: asyncio.run(consume(stream())))
        return others, await consume(paused)

    assert asyncio.run(main()) == ([[0, 1, 2]], [1, 2])


def test_the_last_reader_need_not_wait_for_a_loop_that_is_blocked():
    """It is to be closed in the loop that began it, which does not come to it: the reader is cancelled, and the key is free."""
    attached, closed, left = threading.Event(), threading.Event(), threading.Event()

    @cached_step
    async def stream() -> AsyncIterator[int]:
        for k in range(3):
            yield k

    async def other() -> bool:
        played = stream()
        assert await anext(played) == 0
        attached.set()
        assert await asyncio.to_thread(closed.wait, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await played.aclose()
        left.set()
        return FLIGHTS._under_way == {}

    async def main() -> None:
        played = stream()
        await anext(played)
        assert await asyncio.to_thread(attached.wait, 5)
        await played.aclose()
        closed.set()
        assert left.wait(5)  # blocks this loop

    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(other())))

    async def both() -> None:
        thread_started = asyncio.create_task(main())
        await asyncio.sleep(0)
        thread.start()
        await thread_started

    asyncio.run(both())
    thread.join(5)

    assert results == [True]


def test_a_loop_that_ends_leaves_its_paused_streams_closed():
    """asyncio.run closes what its program left open: the source's finally runs once, to its end, and the key is free."""
    cleaned = []
    complaints: list[Any] = []

    @cached_step
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(1)

    kept = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept.append(stream())
        await anext(kept[0])

    asyncio.run(main(), debug=True)

    assert cleaned == [1]
    assert complaints == []
    assert FLIGHTS._under_way == {}


@pytest.mark.parametrize("seen", [0, 1], ids=["before an item", "after an item"])
async def test_cancelling_the_task_that_advances_does_not_hurt_the_other(seen):
    """Whoever is cancelled leaves; the other consumer gets every item."""
    go_on, waiting = asyncio.Event(), asyncio.Event()

    @cached_step
    async def stream() -> AsyncIterator[int]:
        for k in range(seen):
            yield k
        waiting.set()
        await go_on.wait()
        yield 10
        yield 11

    async def consume(into: list[int]) -> None:
        async for item in stream():
            into.append(item)

    first: list[int] = []
    second: list[int] = []
    one = asyncio.create_task(consume(first))
    await waiting.wait()
    two = asyncio.create_task(consume(second))
    await asyncio.sleep(0.01)
    waiting.clear()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    await asyncio.wait_for(waiting.wait(), 5)
    go_on.set()
    await two

    assert second == [*range(seen), 10, 11]


async def test_cancelling_one_of_two_that_wait_keeps_the_execution():
    """With two consumers the source is advanced by a task that neither's cancellation touches."""
    calls = []
    go_on = asyncio.Event()

    @cached_step
    async def stream() -> AsyncIterator[int]:
        calls.append(1)
        yield 0
        await go_on.wait()
        yield 1

    one, two = stream(), stream()
    assert [await anext(one), await anext(two)] == [0, 0]
    tasks = [asyncio.create_task(anext(played)) for played in (one, two)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    go_on.set()

    assert await tasks[1] == 1
    assert [item async for item in two] == []
    assert tasks[0].cancelled()
    assert stream.is_cached()
    assert calls == [1]


@pytest.mark.parametrize("consumers", [1, 2])
async def test_cancelled_tasks_leave_nothing_behind(consumers):
    """The last one to leave closes the source and waits until its finally has run: the key is free, no task is left."""
    cleaned = []

    @cached_step
    async def stream() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    async def consume() -> None:
        async for _ in stream():
            pass

    tasks = [asyncio.create_task(consume()) for _ in range(consumers)]
    await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ended] == [asyncio.CancelledError] * consumers
    assert cleaned == [1]
    assert FLIGHTS._under_way == {}
    assert not stream.is_cached()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_cancelled_again_while_it_leaves_frees_the_key():
    """The source cleans up slowly, and its last consumer is cancelled a second time: it waits no longer, and nothing stays taken."""
    go_on, cleaned = asyncio.Event(), []

    @cached_step(max_concurrency=1)
    async def stream() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(10)
        finally:
            await go_on.wait()
            cleaned.append(1)

    one, two = stream(), stream()
    assert [await anext(one), await anext(two)] == [0, 0]
    tasks = [asyncio.create_task(anext(played)) for played in (one, two)]
    await asyncio.sleep(0.01)
    for _ in range(2):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.wait(tasks), 5)

    assert all(task.cancelled() for task in tasks)
    assert FLIGHTS._under_way == {}
    assert stream._spec.limiter._free == 1
    assert cleaned == []
    go_on.set()
    await asyncio.sleep(0.01)
    assert cleaned == [1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def gated(player: Player) -> tuple[Any, threading.Event, list[int]]:
    """A streamed step that stands between its two items until it may go on, and the list to which each execution adds."""
    go_on = threading.Event()
    calls: list[int] = []

    @cached_step
    async def astep() -> AsyncIterator[int]:
        calls.append(1)
        yield 0
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        yield 1

    @cached_step
    def step() -> Iterator[int]:
        calls.append(1)
        yield 0
        go_on.wait(10)
        yield 1

    return astep if player.is_async else step, go_on, calls


def test_the_last_to_leave_may_be_one_that_did_not_begin_it(player):
    """Whoever began the stream has gone; a hasty reader times out while the source stands: all is freed."""
    step, go_on, _ = gated(player)
    patient, hasty = step(), step.with_options(timeout=0.3)()
    assert [player.next(patient), player.next(hasty)] == [0, 0]
    player.close(patient)
    with pytest.raises(StepTimeout):
        player.next(hasty)

    assert FLIGHTS._under_way == {}
    go_on.set()
    assert player.list(step()) == [0, 1]


def test_each_consumer_obeys_its_own_timeout(player):
    """A second consumer with less patience leaves; the first one's stream goes on."""
    step, go_on, calls = gated(player)
    patient = step()
    player.next(patient)
    hasty = step.with_options(timeout=0.3)()
    assert player.next(hasty) == 0
    with pytest.raises(StepTimeout):
        player.next(hasty)
    go_on.set()

    assert player.list(patient) == [1]
    assert player.list(step()) == [0, 1]
    assert calls == [1]


def test_a_run_that_is_cancelled_does_not_pass_it_on(player):
    """The run that began a stream is revoked: another reader is told to call again, and a new call executes anew."""
    runs: list[Any] = []

    def body() -> Iterator[int]:
        for n in range(3):
            current_context().check()
            yield n

    step = player.step(body, scope="global")

    @workflow
    def flow(ctx: Context) -> Iterator[Any]:
        runs.append(ctx._frame.run)
        stream = step()
        yield player.next(stream)
        yield player.next(stream)

    begun = flow()
    assert next(begun) == 0
    other = step.with_options(workflow="", session_id="default")()
    assert player.next(other) == 0
    runs[0].token.revoke(RunCancelled("cancelled"))
    with pytest.raises(RunInterrupted, match="call the step again"):
        player.next(other)
    with pytest.raises(RunCancelled):
        next(begun)

    again = step.with_options(workflow="", session_id="default")()
    assert player.list(again) == [0, 1, 2]


def test_what_the_run_of_the_first_reader_lacks_is_not_passed_on(player):
    """The budget of the run that began a stream is spent: another reader, who advances it, is told to call again."""
    spent = [BudgetExceeded("spent")]

    def body() -> Iterator[int]:
        yield 0
        if spent:
            raise spent.pop()
        yield 1

    step = player.step(body)
    one, two = step(), step()
    assert [player.next(one), player.next(two)] == [0, 0]
    with pytest.raises(RunInterrupted):
        player.next(two)
    with pytest.raises(BudgetExceeded, match="spent"):
        player.next(one)

    assert player.list(step()) == [0, 1]


@pytest.mark.parametrize("seen", [0, 1], ids=["before an item", "after an item"])
def test_readers_of_a_stream_whose_beginner_was_abandoned_do_not_wait_for_him(seen):
    """The step that began it times out and its thread hangs in the source: who has seen nothing begins anew, others are told."""
    calls, waiting = [], threading.Event()
    free = threading.Event()

    @cached_step
    def stream() -> Iterator[int]:
        calls.append(1)
        first = len(calls) == 1
        yield from range(seen)
        if first:
            waiting.set()
            free.wait(10)
        yield 10

    @cached_step(timeout=0.5)
    def outer() -> int:
        return sum(stream())

    def reader() -> Any:
        assert waiting.wait(5)
        return list(stream())

    results = in_threads(outer, reader)
    free.set()

    assert isinstance(results[0], StepTimeout)
    if seen:
        assert isinstance(results[1], RunInterrupted)
    else:
        assert results[1] == [10]
    assert list(stream()) == [*range(seen), 10]


def numbered(player: Player) -> Any:
    """A streamed step that yields twice which execution it is."""
    calls = []

    def body() -> Iterator[int]:
        calls.append(1)
        yield len(calls)
        yield len(calls)

    return player.step(body)


def test_refresh_lets_the_stream_under_way_finish_and_runs_anew(player):
    """It waits for what is in flight by reading it to its end, so that it waits for nobody who stands still."""
    step = numbered(player)
    paused = step()
    player.next(paused)

    assert player.list(step.with_options(refresh=True)()) == [2, 2]
    assert player.list(paused) == [1]
    assert player.list(step()) == [2, 2]


def test_refresh_keeps_the_old_stream_until_the_new_one_is_whole(player):
    """A refresh that is left half way leaves the old result."""
    step = numbered(player)
    player.list(step())
    anew = step.with_options(refresh=True)()
    assert player.next(anew) == 2
    assert player.list(step()) == [1, 1]
    player.close(anew)

    assert player.list(step()) == [1, 1]


def test_a_stream_that_calls_itself_is_refused(player):
    """Reading one's own stream inside it would wait for ever."""
    holder: list[Any] = []

    def body() -> Iterator[int]:
        yield 1
        yield from holder[0].fn() if not player.is_async else ()
        if player.is_async:
            holder[0]()

    if player.is_async:

        @cached_step
        async def step() -> AsyncIterator[int]:
            yield 1
            async for item in step():
                yield item
    else:

        @cached_step
        def step() -> Iterator[int]:
            yield 1
            yield from step()

    stream = step()
    player.next(stream)
    with pytest.raises(UsageError, match="calls itself"):
        player.next(stream)


def test_streams_and_steps_that_wait_for_each_other_in_a_circle_are_refused():
    """Thread 1: a step reads a stream that waits for a step that reads the stream: told, not waited for."""
    first, second = threading.Event(), threading.Event()

    @cached_step
    def stream() -> Iterator[int]:
        yield 1
        first.set()
        second.wait(5)
        yield outer()

    @cached_step
    def outer() -> int:
        second.set()
        first.wait(5)
        return sum(stream())

    results = in_threads(lambda: list(stream()), outer)

    assert all(isinstance(result, UsageError) for result in results)
    assert any("circle" in str(result) or "calls itself" in str(result) for result in results)


# Places


def test_places_come_back_however_a_stream_ends(player):
    """Exhausted, closed, failed or timed out: the next stream gets the place."""

    def body(n: int) -> Iterator[int]:
        yield n
        if n == 2:
            raise ValueError
        yield n

    step = player.step(body, max_concurrency=1)
    player.list(step(0))
    left = step(1)
    player.next(left)
    player.close(left)
    with pytest.raises(ValueError):
        player.list(step(2))

    assert player.list(step(3)) == [3, 3]
    assert step._spec.limiter._free == 1


def test_a_stream_that_stands_still_does_not_keep_its_place_for_ever(player):
    """zip of two streams of a step that runs one at a time: after a second the idle one has lost its place."""

    def body(word: str) -> Iterator[str]:
        yield from word

    step = player.step(body, max_concurrency=1)
    one, two = step("ab"), step("cd")
    found = [player.next(one), player.next(two), player.next(one), player.next(two)]
    player.close(one)
    player.close(two)

    assert found == ["a", "c", "b", "d"]
    assert step._spec.limiter._free == 1


def test_only_so_many_streams_run_at_once():
    """While they are read, no more than max_concurrency are open."""
    now, most = [0], [0]
    mutex = threading.Lock()

    @cached_step(max_concurrency=2)
    def stream(n: int) -> Iterator[int]:
        with mutex:
            now[0] += 1
            most[0] = max(most[0], now[0])
        for _ in range(3):
            time.sleep(0.005)
            yield n
        with mutex:
            now[0] -= 1

    results = in_threads(*[(lambda n=n: list(stream(n))) for n in range(6)])

    assert results == [[n] * 3 for n in range(6)]
    assert most == [2]


# Context variables

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def test_context_variables_never_leak_into_the_consumer(player):
    """What a generator sets stays its own, and it sees what held where it was begun."""

    def body() -> Iterator[str]:
        yield WHERE.get()
        WHERE.set("inside")
        yield WHERE.get()
        yield WHERE.get()

    step = player.step(body)
    WHERE.set("consumer")
    stream = step()
    seen = [(player.next(stream), WHERE.get()) for _ in range(3)]
    WHERE.set("nowhere")

    assert seen == [("consumer", "consumer"), ("inside", "consumer"), ("inside", "consumer")]
    with pytest.raises(UsageError):
        current_context()


def test_every_item_may_be_read_in_another_thread_and_context():
    """As web frameworks do: the step's context stays in force inside, whoever advances it."""

    @cached_step
    def inner(n: int) -> str:
        return f"{n} {current_context().session_id}"

    @cached_step
    def stream(ctx: Context) -> Iterator[str]:
        for n in range(4):
            WHERE.set(f"{WHERE.get()}{n}")
            yield f"{inner(n)} {WHERE.get()}"

    @workflow
    def flow() -> Iterator[str]:
        yield from stream()

    played = flow.with_options(session_id="s")()
    found = [in_threads(lambda: contextvars.Context().run(next, played))[0] for _ in range(4)]
    played.close()

    assert found == ["0 s nowhere0", "1 s nowhere01", "2 s nowhere012", "3 s nowhere0123"]


async def test_every_item_may_be_read_in_another_task():
    """An async stream is advanced from a new task for each item."""

    @cached_step
    async def inner(n: int) -> str:
        return f"{n} {current_context().session_id}"

    @cached_step
    async def stream(ctx: Context) -> AsyncIterator[str]:
        for n in range(3):
            WHERE.set(f"{WHERE.get()}{n}")
            await asyncio.sleep(0)
            yield f"{await inner(n)} {WHERE.get()}"

    @workflow
    async def flow() -> AsyncIterator[str]:
        async for item in stream():
            yield item

    played = flow.with_options(session_id="s")()
    found = [await asyncio.create_task(anext(played)) for _ in range(3)]
    await played.aclose()

    assert found == ["0 s nowhere0", "1 s nowhere01", "2 s nowhere012"]
    assert WHERE.get() == "nowhere"


# Streams in streams


def test_a_stream_inside_a_stream_inside_a_step(player):
    """Each level is remembered; the inner ones are hits when only the outer one is new."""
    calls = []

    @cached_step
    def letters(word: str) -> Iterator[str]:
        calls.append(word)
        yield from word

    @cached_step
    def upper(word: str) -> Iterator[str]:
        calls.append(f"upper {word}")
        for letter in letters(word):
            yield letter.upper()

    @cached_step
    def joined(word: str, mark: str) -> str:
        calls.append(mark)
        return mark.join(upper(word))

    assert joined("abc", "-") == "A-B-C"
    assert joined("abc", "+") == "A+B+C"
    assert calls == ["-", "upper abc", "abc", "+"]


def test_a_stream_read_half_way_inside_a_step_is_closed_with_it():
    """A step that reads only the first item gives its result; the stream is not remembered."""
    cleaned = []

    @cached_step
    def stream() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            cleaned.append(1)

    @cached_step
    def first() -> int:
        return next(stream())

    assert first() == 0
    assert cleaned == [1]
    assert not stream.is_cached()


def test_a_locked_store_is_an_error_and_not_a_wait_for_ever(tmp_path, player):
    """The store is busy when the stream ends: StoreBusy with the result, and the next call works."""
    import sqlite3

    store = DiskStore(tmp_path / "busy", busy_timeout=0.2)
    calls = []

    def body() -> Iterator[str]:
        calls.append(1)
        yield "a"
        yield "b"

    step = player.step(body).with_options(store=store)
    player.step(lambda: iter("x"), name="first").with_options(store=store)
    other = player.step(body, name="makes the file").with_options(store=store)
    player.list(other())
    stream = step()
    assert [player.next(stream), player.next(stream)] == ["a", "b"]
    blocker = sqlite3.connect(next((tmp_path / "busy").glob("*.db")), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy) as caught:
        player.next(stream)
    blocker.execute("ROLLBACK")
    blocker.close()

    assert caught.value.result == "ab"
    assert player.list(step()) == ["a", "b"]
    store.close()


def test_a_decorated_stream_tells_its_colour(player):
    """inspect sees a generator function, or an async one."""
    step = player.step(lambda: iter(()))

    assert inspect.isasyncgenfunction(step) == player.is_async
    assert inspect.isgeneratorfunction(step) != player.is_async


def test_the_traceback_of_a_streams_error_shows_the_users_code():
    """Between the caller's frame and the frames of the workflow and the step stands one of ours at most, sync and async."""

    @cached_step
    def words() -> Iterator[str]:
        yield "a"
        raise ValueError("no more")

    @workflow
    def post() -> Iterator[str]:
        yield from words()

    @cached_step
    async def awords() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("no more")

    @workflow
    async def apost() -> AsyncIterator[str]:
        async for word in awords():
            yield word

    async def consume() -> None:
        async for _ in apost():
            pass

    for run, names in (
        (lambda: list(post()), ["post", "words"]),
        (lambda: asyncio.run(consume()), ["apost", "awords"]),
    ):
        with pytest.raises(ValueError, match="no more") as raised:
            run()
        frames = traceback.extract_tb(raised.value.__traceback__)
        ours = [frame.name for frame in frames if Path(agentflow.__file__).parent in Path(frame.filename).parents]
        assert [frame.name for frame in frames][-2:] == names
        assert len(ours) <= 1
