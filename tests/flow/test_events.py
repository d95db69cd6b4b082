"""Events: what a run says is recorded in order and within a moment, and can be read from anywhere while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agentflow import Agent, Context, Run, cached_step, list_runs, workflow
from agentflow._outbox import MOST
from agentflow.events import Emitted, ModelRetried, RunCompleted, RunYielded, StepYielded
from agentflow.exceptions import ModelHTTPError, StoreFull, UnserializableValue
from agentflow.models import FallbackModel
from agentflow.stores import MemoryStore
from agentflow.stores._base import Transaction
from agentflow.testing import FunctionModel

pytestmark = pytest.mark.usefixtures("store")


def newest(flow: Any) -> Run:
    return list_runs(workflow=flow.name)[0]


def eventually(claim: Callable[[], bool]) -> bool:
    """Whether something comes true before long."""
    deadline = time.monotonic() + 10
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def items_of(events: list[Any], kind: type[Any] = RunYielded) -> list[Any]:
    return [item for event in events if isinstance(event, kind) for item in event.items]


@cached_step
def chunks(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{number} "


@workflow
def writing(count: int) -> Iterator[str]:
    yield from chunks(count)


@cached_step
async def achunks(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{number} "


@workflow
async def awriting(count: int) -> AsyncIterator[str]:
    async for chunk in achunks(count):
        yield chunk


async def _listed(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


def listed(stream: Any) -> list[Any]:
    return asyncio.run(_listed(stream)) if hasattr(stream, "__anext__") else list(stream)


# What is recorded


@pytest.mark.parametrize("flow", [writing, awriting], ids=["sync", "async"])
def test_what_is_yielded_is_recorded(flow):
    """The items of the run and of its streamed step are in its events, in order, and few events carry many."""
    expected = [f"{number} " for number in range(300)]

    assert listed(flow(300)) == expected

    events = list(newest(flow).events())
    assert items_of(events) == expected
    assert items_of(events, StepYielded) == expected
    assert {event.step for event in events if isinstance(event, StepYielded)} == {
        (chunks if flow is writing else achunks).name
    }
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_chunks_in_a_row_are_one_event(store):
    """A stream that nothing interrupts is written in a few events: a time and a size part them, not the chunks."""

    @workflow
    def flow() -> Iterator[str]:
        for _ in range(2000):
            yield "x"

    list(flow())

    told = [event for event in newest(flow).events() if isinstance(event, RunYielded)]
    assert sum(len(event.items) for event in told) == 2000
    assert len(told) < 100


@pytest.mark.parametrize("flow", [writing, awriting], ids=["sync", "async"])
def test_a_stream_inside_a_stream_is_few_events_too(flow):
    """A workflow that passes on what its step yields takes turns with it, chunk by chunk: both are put together all the same."""
    listed(flow(2000))

    events = list(newest(flow).events())
    assert len(items_of(events)) == len(items_of(events, StepYielded)) == 2000
    assert len(events) < 200


def test_a_large_batch_is_parted():
    """No event holds much more than 64 KiB of text, whatever a stream yields at once."""

    @workflow
    def flow() -> Iterator[str]:
        for _ in range(100):
            yield "x" * 10_000

    list(flow())

    sizes = [sum(map(len, event.items)) for event in newest(flow).events() if isinstance(event, RunYielded)]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 80_000


def test_the_output_is_what_was_yielded_so_far():
    """It grows while the run goes on, without a commit of the run's own."""

    @workflow
    def flow() -> Iterator[str]:
        yield "a"
        yield "b"
        yield "c"

    stream = flow()
    next(stream)
    next(stream)
    run = newest(flow)

    assert eventually(lambda: run.output() == "ab")
    assert run.status == "running"
    assert next(stream) == "c"
    assert list(stream) == []
    assert run.output() == "abc"
    assert asyncio.run(run.aoutput()) == "abc"


def test_the_output_is_that_of_the_latest_attempt():
    """An attempt begins anew: what earlier ones yielded is in their events, not in the output."""

    @workflow
    def flow(ctx: Context) -> Iterator[int]:
        yield ctx.attempt
        if ctx.attempt == 1:
            raise ConnectionError
        yield 10

    with pytest.raises(ConnectionError):
        list(flow())
    assert newest(flow).output() == [1]

    assert list(flow()) == [2, 10]
    assert newest(flow).output() == [2, 10]
    assert items_of(list(newest(flow).events())) == [1, 2, 10]


class Odd:
    """A value of a class that JSON knows nothing of."""


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"a": (1, 2.5)}, {"a": [1, 2.5]}),
        (b"bytes", "bytes"),
        (float("nan"), "NaN"),
        (Odd(), "<Odd>"),
        ([Odd()], ["<Odd>"]),
        ("half \ud800", "half \\ud800"),
        (["half \ud800"], "<list>"),
        (10**5000, "<int>"),
        ("emoji 😀", "emoji 😀"),
    ],
    ids=["nested", "bytes", "nan", "object", "object inside", "surrogate", "surrogate inside", "huge", "emoji"],
)
def test_whatever_is_yielded_can_be_told(item, told):
    """The consumer gets the object itself; its events say it in JSON, or name its type, and never fail."""

    @workflow
    def flow() -> Iterator[Any]:
        yield item

    assert list(flow())[0] is item
    assert newest(flow).output() in (told, [told])


def test_an_item_is_told_as_it_was_yielded():
    """Its consumer may change it before the event is written."""

    @workflow
    def flow() -> Iterator[list[int]]:
        yield [1]

    for item in flow():
        item.append(2)

    assert newest(flow).output() == [[1]]


def test_what_could_not_be_read_back_is_not_emitted():
    """A number that no JSON reader takes is refused where it is said, and does not make the run's events unreadable."""

    @workflow
    def flow(ctx: Context) -> None:
        with pytest.raises(UnserializableValue):
            ctx.emit({"n": 10**5000})

    flow()

    assert [event.type for event in newest(flow).events()] == ["run_started", "run_completed"]


class Counting(MemoryStore):
    """A store that counts its commits, and can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.is_full = False

    def commit(self, transaction: Transaction) -> None:
        if self.is_full:
            raise StoreFull("full", path="memory:", hint="make room")
        self.commits += 1
        super().commit(transaction)


def test_hits_cause_no_commit_of_their_own():
    """They are written with the next thing that is."""
    store = Counting()
    flow = reading.with_options(store=store)
    flow(1)
    before = store.commits

    flow(200)

    assert store.commits == before + 2  # the run's beginning and its end
    run = list_runs(workflow=flow.name, store=store)[0]
    assert [event.type for event in run.events()].count("step_hit") == 200


@cached_step
def page(number: int) -> int:
    return number


@workflow
def reading(times: int) -> None:
    for _ in range(times):
        page(1)


def test_memory_stays_flat_through_hits():
    """A body that does nothing but hit is written now and then, so that what it said does not pile up."""
    store = Counting()

    @workflow
    def flow(ctx: Context) -> int:
        most = 0
        for _ in range(MOST + 500):
            page(1)
            most = max(most, ctx._frame.run.outbox.weight)
        return most

    assert flow.with_options(store=store)() <= MOST
    assert store.commits < 30


@pytest.mark.parametrize("flow", [writing, awriting], ids=["sync", "async"])
def test_chunks_that_cannot_be_written_end_the_stream(flow):
    """With a full store a stream goes on for a while, then raises what the store says; what it said is bounded."""
    store = Counting()
    stream = flow.with_options(store=store)(10 * MOST)

    def consume() -> Iterator[str]:
        for number, chunk in enumerate(stream):
            store.is_full = number > 0
            yield chunk

    async def aconsume() -> AsyncIterator[str]:
        number = 0
        async for chunk in stream:
            store.is_full, number = number > 0, number + 1
            yield chunk

    with pytest.raises(StoreFull):
        listed(consume() if flow is writing else aconsume())


def test_what_failed_to_be_written_is_written_later():
    """A store that is full for a moment loses no event and changes no order."""
    store = Counting()

    @workflow
    def flow() -> Iterator[int]:
        for number in range(100):
            store.is_full = 10 <= number < 90
            yield number
            if number == 50:
                time.sleep(0.1)  # so that the flusher comes, in vain

    list(flow.with_options(store=store)())

    run = list_runs(workflow=flow.name, store=store)[0]
    assert run.output() == list(range(100))
    assert [event.seq for event in run.events()] == list(range(1, 1 + len(list(run.events()))))


def test_events_of_threads_are_numbered_as_they_were_said(store):
    """Whatever thread commits, each one's events stand in the order in which it said them."""

    @cached_step
    def talk(ctx: Context, who: int) -> int:
        for number in range(30):
            ctx.emit([who, number])
            mark(who * 100 + number)
        return who

    @cached_step
    def mark(number: int) -> int:
        return number

    @workflow
    def flow(ctx: Context) -> None:
        ctx.map(talk, range(6))

    flow()

    said = [event.value for event in newest(flow).events() if event.type == "emitted"]
    assert len(said) == 180
    for who in range(6):
        assert [number for each, number in said if each == who] == list(range(30))


# Reading while it goes on


def test_a_reader_follows_to_the_end():
    """It gets what was before it came, what comes, and ends with the run."""
    go = threading.Event()

    @workflow
    def flow(ctx: Context) -> None:
        ctx.emit("before")
        assert go.wait(10)
        ctx.emit("after")

    worker = threading.Thread(target=flow)
    worker.start()
    assert eventually(lambda: bool(list_runs(workflow=flow.name)))
    seen = []
    for event in newest(flow).events():
        seen.append(event.type if event.type != "emitted" else event.value)
        if seen[-1] == "before":
            go.set()
    worker.join()

    assert seen == ["run_started", "before", "after", "run_completed"]


def test_a_task_follows_a_run_of_its_own_loop():
    """`aevents` waits without blocking the loop that executes the run."""

    @workflow
    async def flow(ctx: Context) -> None:
        for number in range(5):
            ctx.emit(number)
            await asyncio.sleep(0.01)

    async def main() -> list[str]:
        task = asyncio.create_task(flow())
        while not list_runs(workflow=flow.name):
            await asyncio.sleep(0.001)
        seen = [event.type async for event in newest(flow).aevents()]
        await task
        return seen

    assert asyncio.run(main()) == ["run_started", *["emitted"] * 5, "run_completed"]


def test_a_reader_of_several_attempts_reads_on():
    """The end of one attempt is not the end of the run."""

    @workflow
    def flow(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            flow()
    flow()

    told = [(event.attempt, event.type) for event in newest(flow).events()]
    assert [each for each in told if each[1] != "run_started"] == [
        (1, "run_failed"),
        (2, "run_failed"),
        (3, "run_completed"),
    ]


def test_a_reader_that_does_not_follow_ends_at_once():
    """`follow=False` reads what is there, also of a run that goes on."""

    @workflow
    def flow() -> Iterator[int]:
        yield 1

    stream = flow()
    next(stream)

    assert next(newest(flow).events(follow=False)).type == "run_started"
    assert len(list(newest(flow).events(follow=False))) <= 2
    stream.close()
    assert [event.type for event in newest(flow).events()][-1] == "run_interrupted"


def taken(run: Run, after: int, most: int) -> list[Any]:
    """Connect, take so many events, and leave."""
    with contextlib.closing(run.events(after=after)) as events:
        return list(itertools.islice(events, most))


async def ataken(run: Run, after: int, most: int) -> list[Any]:
    """Do the same in a task."""
    async with contextlib.aclosing(run.aevents(after=after)) as events:
        return [event for _ in range(most) if (event := await anext(events, None)) is not None]


def test_a_reader_that_reconnects_sees_each_event_once():
    """A hundred times and more, at random places, by threads and tasks in turns, while the run goes on: no gap and no repeat."""

    @workflow
    def flow(ctx: Context) -> None:
        for number in range(1500):
            ctx.emit(number)
            if number % 10 == 0:
                time.sleep(0.001)

    worker = threading.Thread(target=flow)
    worker.start()
    assert eventually(lambda: bool(list_runs(workflow=flow.name)))
    run, dice = newest(flow), random.Random(7)
    seen: list[Any] = []
    connections = 0
    while not seen or not isinstance(seen[-1], RunCompleted):
        connections += 1
        after, most = seen[-1].seq if seen else 0, dice.randrange(20)
        seen += taken(run, after, most) if connections % 2 else asyncio.run(ataken(run, after, most))
    worker.join()

    assert connections > 100
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert [event.value for event in seen if isinstance(event, Emitted)] == list(range(1500))


def test_half_a_character_in_what_an_event_tells_does_no_harm():
    """Whatever a provider's error or a function's name holds: an event that could not be written would be in the way of every commit."""

    def refusing(_: object, __: object) -> str:
        raise ModelHTTPError("half a \ud800 character", status=500)

    agent = Agent(FallbackModel(FunctionModel(refusing), FunctionModel(lambda _, __: "fine")))

    @workflow
    def flow(ctx: Context) -> str:
        def same(text: str) -> str:
            return text

        same.__qualname__ = "half\ud800"
        return ctx.map(same, [agent.run("Well?").output])[0]

    assert flow() == "fine"
    (retried,) = [event for event in newest(flow).events() if isinstance(event, ModelRetried)]
    assert "half a \\ud800 character" in retried.error


class CtrlCAfterCommit(MemoryStore):
    """Ctrl-C during a long write: Python hears of it when the write is done."""

    after: int = -1

    def commit(self, transaction: Transaction) -> None:
        super().commit(transaction)
        self.after -= bool(transaction.entries)
        if transaction.entries and self.after == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 3])
def test_ctrl_c_after_a_commit_records_no_event_twice(after):
    """What that commit has written is not written again with the end of the run."""
    store = CtrlCAfterCommit()

    @cached_step
    def step(number: int) -> int:
        return number

    @workflow
    def flow(ctx: Context) -> None:
        store.after = after
        for number in range(5):
            ctx.emit(number)
            step(number)

    with pytest.raises(KeyboardInterrupt):
        flow.with_options(store=store)()
    (run,) = list_runs(store=store)

    said = [(event.type, event.at) for event in run.events()]
    assert run.status == "cancelled"
    assert len(set(said)) == len(said)
    assert [event.value for event in run.events() if isinstance(event, Emitted)] == list(range(after))


def test_a_forked_child_leaves_its_parents_events_alone():
    """What the parent had said and not yet written is the parent's to write, and a lock that was held at the fork holds up nobody."""

    @workflow
    def flow(ctx: Context) -> int:
        outbox = ctx._frame.run.outbox
        ctx.emit("said")
        with outbox._mutex:  # so that nobody writes it meanwhile
            pid = os.fork()
            if pid == 0:
                os._exit(outbox.weight + outbox._mutex._is_owned())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert flow() == 0
    assert [event.type for event in newest(flow).events()].count("emitted") == 1
