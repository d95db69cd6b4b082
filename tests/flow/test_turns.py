"""Many calls that are ready in one moment share the loop's turns, so that the rest of the loop need not wait for all of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentflow import Context, cached_step, workflow

pytestmark = pytest.mark.usefixtures("disk")

MANY = 200
AT_ONCE = 64
"""More than go on in one turn when each takes a millisecond, and far fewer than `MANY`."""


class Turns:
    """Counts the turns of the running loop, and what is done in each."""

    def __init__(self) -> None:
        self.number = 0
        self.done: Counter[int] = Counter()

    def count(self) -> None:
        self.number += 1
        asyncio.get_running_loop().call_soon(self.count)

    def takes_a_millisecond(self, *_: object, **__: object) -> bool:
        time.sleep(0.001)
        self.done[self.number] += 1
        return True

    async def most(self, work: Callable[[], Awaitable[object]]) -> int:
        """Return how much was done in the fullest turn."""
        self.count()
        await work()
        assert sum(self.done.values()) == MANY
        return max(self.done.values())


def many(call: Callable[[int], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    async def work() -> None:
        await asyncio.gather(*(call(number) for number in range(MANY)))

    return work


def test_steps_that_begin_together() -> None:
    """Steps that begin in one moment do not all begin in one turn of the loop."""
    turns = Turns()

    @cached_step(key=lambda number: (number, turns.takes_a_millisecond()))
    async def step(number: int) -> int:
        return number

    assert asyncio.run(turns.most(many(step))) <= AT_ONCE


def test_steps_that_end_together() -> None:
    """Steps that end in one moment are not all dealt with in one turn of the loop."""
    turns = Turns()
    begun: list[int] = []

    @cached_step(ignore=["ended"], cache_if=turns.takes_a_millisecond)
    async def step(number: int, ended: Callable[[], Awaitable[object]]) -> int:
        begun.append(number)
        await ended()
        return number

    async def work() -> None:
        ended = asyncio.Event()
        tasks = [asyncio.create_task(step(number, ended.wait)) for number in range(MANY)]
        while len(begun) < MANY:
            await asyncio.sleep(0)
        ended.set()
        await asyncio.gather(*tasks)

    assert asyncio.run(turns.most(work)) <= AT_ONCE


def test_streams_that_begin_together() -> None:
    """Streamed steps that begin in one moment do not all begin in one turn of the loop."""
    turns = Turns()

    @cached_step
    async def step(number: int) -> AsyncIterator[bool]:
        yield turns.takes_a_millisecond()

    assert asyncio.run(turns.most(many(step.acall))) <= AT_ONCE


def test_runs_that_begin_together() -> None:
    """Runs that begin in one moment do not all begin in one turn of the loop."""
    turns = Turns()

    @workflow(session=lambda number: str(turns.takes_a_millisecond() and number))
    async def flow(ctx: Context, number: int) -> int:
        return number

    assert asyncio.run(turns.most(many(flow))) <= AT_ONCE


def test_streamed_runs_that_begin_together() -> None:
    """Streamed runs that begin in one moment do not all begin in one turn of the loop."""
    turns = Turns()

    @workflow(session=lambda number: str(turns.takes_a_millisecond() and number))
    async def flow(ctx: Context, number: int) -> AsyncIterator[int]:
        yield number

    assert asyncio.run(turns.most(many(flow.acall))) <= AT_ONCE


def test_nothing_is_lost_by_a_cancellation_meanwhile() -> None:
    """A step that is cancelled after its end, while others go first, is remembered."""
    turns = Turns()
    executed: Counter[int] = Counter()

    @cached_step(ignore=["ended"], cache_if=turns.takes_a_millisecond)
    async def step(number: int, ended: Callable[[], Awaitable[object]]) -> int:
        await ended()
        executed[number] += 1
        return number

    async def cancelled() -> None:
        ended = asyncio.Event()
        tasks = [asyncio.create_task(step(number, ended.wait)) for number in range(MANY)]
        await asyncio.sleep(0.2)
        ended.set()
        while len(executed) < MANY:
            await asyncio.sleep(0)
        assert sum(turns.done.values()) < MANY
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(cancelled())
    asyncio.run(many(lambda number: step(number, asyncio.Event().wait))())

    assert set(executed.values()) == {1}
    assert len(executed) == MANY
