"""Changes of one session's state by many at once: increments and transactions."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from agentflow import Context, cached_step, workflow
from agentflow.exceptions import StateConflict, UsageError
from agentflow.stores import DiskStore

pytestmark = pytest.mark.usefixtures("store")

bodies: list[Callable[[Context], Any]] = []


@workflow(session="s")
def flow(ctx: Context, number: int) -> Any:
    return bodies[number](ctx)


@workflow(session="s", name="aflow")
async def aflow(ctx: Context, number: int) -> Any:
    return await bodies[number](ctx)


def run(body: Callable[[Context], Any]) -> Any:
    """Run a body as a workflow of its own call."""
    bodies.append(body)
    return flow(len(bodies) - 1)


async def arun(body: Callable[[Context], Any]) -> Any:
    bodies.append(body)
    return await aflow(len(bodies) - 1)


def stored() -> dict[str, Any]:
    return dict(flow.session("s").state)


@contextmanager
def locked(store: DiskStore) -> Iterator[None]:
    """Hold the write lock of a store's file, as another process would."""
    con = sqlite3.connect(store.path / "cache.db", isolation_level=None)
    con.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        con.rollback()
        con.close()


# Increments


def test_an_increment_adds_to_what_others_have_added():
    """A view that was loaded long ago adds to what stands there now, without a conflict, and returns the sum."""

    def body(ctx: Context) -> list[Any]:
        ctx.state["n"] = 1
        flow.session("s").state.increment("n", 10)
        return [ctx.state.increment("n"), ctx.state["n"], ctx.state.increment("new", 0.5)]

    assert run(body) == [12, 12, 0.5]
    assert stored() == {"n": 12, "new": 0.5}


def test_increments_of_many_threads_all_count_and_give_different_sums():
    """No two callers get the same number."""
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda _: flow.session("s").state.increment("n"), range(40)))

    assert sorted(sums) == list(range(1, 41))
    assert stored() == {"n": 40}


def test_an_increment_in_a_step_commits_with_its_result():
    """Until then nobody else sees it; what others add meanwhile stays."""

    @cached_step
    def step(ctx: Context) -> list[Any]:
        mine = ctx.state.increment("n", 5)
        before = stored().get("n")
        flow.session("s").state.increment("n", 100)
        return [mine, before]

    assert run(lambda ctx: [step(), ctx.state["n"]]) == [[5, None], 105]
    assert stored() == {"n": 105}


def test_an_increment_in_a_step_that_fails_is_not_made():
    """It is discarded like every other change."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state.increment("n")
        raise OSError

    with pytest.raises(OSError):
        run(lambda ctx: step())

    assert stored() == {}


def test_a_nested_step_and_its_caller_both_add():
    """Each commits its own difference, whoever comes first and whoever fails."""

    @cached_step
    def inner(ctx: Context) -> Any:
        return ctx.state.increment("n", 10)

    @cached_step
    def outer(ctx: Context) -> list[Any]:
        first = ctx.state.increment("n")
        seen = inner()
        inside = stored()["n"]
        return [first, seen, inside, ctx.state["n"]]

    assert run(lambda ctx: [outer(), ctx.state["n"]]) == [[1, 11, 10, 11], 11]
    assert stored() == {"n": 11}


def test_steps_side_by_side_add_to_one_number():
    """The body's view has what all of them have added, in whatever order they commit and end."""

    @cached_step
    def add(ctx: Context, number: int) -> None:
        ctx.state.increment("n", number)

    def body(ctx: Context) -> Any:
        ctx.state["n"] = 1000
        for start in range(0, 400, 40):
            ctx.map(add, range(start, start + 40))
        return ctx.state["n"]

    assert run(body) == 1000 + sum(range(400)) == stored()["n"]


def test_an_assignment_and_an_increment_after_it_are_one_assignment():
    """What was set is what is added to, and nothing of before comes back."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state.increment("n", 3)
        ctx.state["n"] = 100
        ctx.state.increment("n")

    flow.session("s").state["n"] = 7

    run(lambda ctx: step())

    assert stored() == {"n": 101}


@pytest.mark.parametrize("value", ["text", True, [1], None])
def test_only_numbers_can_be_added_to(value):
    """The error names the key, and nothing changes."""

    def body(ctx: Context) -> None:
        ctx.state["n"] = value
        with pytest.raises(UsageError, match="'n'"):
            ctx.state.increment("n")
        with pytest.raises(UsageError, match="adds an int or a float"):
            ctx.state.increment("m", value)

    run(body)

    assert stored() == {"n": value}


async def test_an_increment_on_a_loop_waits_for_a_locked_store_at_the_next_boundary(disk):
    """The loop goes on while another process holds the write lock, and nothing of either is lost."""

    async def body(ctx: Context) -> Any:
        ctx.state["n"] = 1
        with locked(disk):
            sums = [ctx.state.increment("n"), ctx.state.increment("n")]
            before = stored()["n"]
        await asyncio.to_thread(flow_increment)
        return [sums, before]

    def flow_increment() -> None:
        aflow.session("s").state.increment("n", 100)

    def stored() -> dict[str, Any]:
        return dict(aflow.session("s").state)

    assert await arun(body) == [[2, 3], 1]
    assert stored() == {"n": 103}


# Transactions


def test_a_transaction_reads_fresh_rows_and_commits_once():
    """It sees what others have set since, and nobody sees it half made; the body sees the outcome."""

    def body(ctx: Context) -> list[Any]:
        ctx.state["free"], ctx.state["list"] = 1, []
        ctx.state["list"].append("mine")
        flow.session("s").state["free"] = 10
        with ctx.state.transaction() as s:
            s["free"] -= 4
            s["list"].append("in it")
            s["booked"] = 4
            during = stored()
        return [during, dict(ctx.state)]

    after = {"free": 6, "list": ["mine", "in it"], "booked": 4}
    assert run(body) == [{"free": 10, "list": ["mine"]}, after]
    assert stored() == after


def test_a_transaction_that_raises_changes_nothing_and_frees_the_lock():
    """The exception passes, and the next transaction goes on."""

    def body(ctx: Context) -> None:
        with pytest.raises(KeyError), ctx.state.transaction() as s:
            s["a"] = 1
            raise KeyError
        with ctx.state.transaction() as s:
            s["b"] = s.increment("n")

    run(body)

    assert stored() == {"n": 1, "b": 1}


def test_transactions_of_threads_take_turns():
    """Read, compute and write of each happen with nobody in between."""

    def add(_: int) -> None:
        with flow.session("s").state.transaction() as s:
            s["n"] = s.get("n", 0) + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))

    assert stored() == {"n": 40}


async def test_transactions_of_tasks_take_turns_and_the_loop_goes_on():
    """A task that waits for the lock leaves the loop to the one that has it."""

    async def add(ctx: Context) -> None:
        async with ctx.state.transaction() as s:
            n = s.get("n", 0)
            await asyncio.sleep(0)
            s["n"] = n + 1

    async def body(ctx: Context) -> Any:
        await asyncio.gather(*(add(ctx) for _ in range(10)))
        return ctx.state["n"]

    assert await arun(body) == 10


async def test_waiting_for_a_transaction_can_be_cancelled():
    """The task that waits is cancelled; the one that has the lock is not concerned."""

    async def take() -> None:
        async with flow.session("s").state.transaction() as s:
            s.increment("n")

    async with flow.session("s").state.transaction() as s:
        patient, impatient = (asyncio.create_task(take(), context=contextvars.Context()) for _ in range(2))
        await asyncio.sleep(0.01)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        s["n"] = 10
    await patient

    assert stored() == {"n": 11}


async def test_a_task_cancelled_on_its_way_into_a_transaction_leaves_no_lock(disk):
    """Cancelled while what was changed before is written, it has not entered; else nobody could for ever."""

    async def take(ctx: Context) -> None:
        async with ctx.state.transaction() as s:
            s["entered"] = True

    async def body(ctx: Context) -> None:
        ctx.state["list"] = []
        ctx.state["list"].append(1)
        with locked(disk):
            task = asyncio.create_task(take(ctx))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await take(ctx)

    await arun(body)

    assert dict(aflow.session("s").state) == {"list": [1], "entered": True}


def test_in_a_step_a_transaction_is_refused():
    """A step's changes commit with its result; the error says what to do."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state.transaction()

    with pytest.raises(UsageError, match="in step"):
        run(lambda ctx: step())


async def test_what_would_wait_for_itself_is_refused():
    """A transaction inside one of the same session, one entered twice, and `with` in an async workflow."""

    def nested(ctx: Context) -> None:
        transaction = ctx.state.transaction()
        with transaction as s:
            with pytest.raises(UsageError, match="wait for itself"), flow.session("s").state.transaction():
                pass
            with flow.session("other").state.transaction() as other:
                other["a"] = 1
        with pytest.raises(UsageError, match="entered once"), transaction:
            pass
        with pytest.raises(UsageError, match="has ended"):
            s["a"] = 1

    async def plain(ctx: Context) -> None:
        with pytest.raises(UsageError, match="async with"), ctx.state.transaction():
            pass

    run(nested)
    await arun(plain)


def test_a_change_without_a_transaction_is_found_at_its_end():
    """The lock keeps out transactions only: what else changed the same path is a conflict, and nothing is written."""

    def body(ctx: Context) -> None:
        ctx.state["n"] = 1
        with pytest.raises(StateConflict) as caught, ctx.state.transaction() as s:
            s["n"] += 1
            s["m"] = 1
            flow.session("s").state["n"] = 10
        assert caught.value.keys == ("n",)

    run(body)

    assert stored() == {"n": 10}
