"""What a test does to steps: `replace_step`, `fail_step`, `crash_after`; and `make_context` for a bare function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from agentflow import Context, RetryPolicy, RunStatus, Step, Workflow, cached_step, workflow
from agentflow.exceptions import NoActiveRun, UsageError
from agentflow.testing import SimulatedCrash, crash_after, fail_step, fresh_store, make_context, replace_step

executed: list[int] = []


@cached_step(retry=RetryPolicy(attempts=2, wait=0))
def plain(ctx: Context, n: int) -> list[int]:
    executed.append(n)
    return [n, n + 1]


@cached_step(retry=RetryPolicy(attempts=2, wait=0))
async def awaited(ctx: Context, n: int) -> list[int]:
    executed.append(n)
    return [n, n + 1]


@cached_step(retry=RetryPolicy(attempts=2, wait=0))
def stream(ctx: Context, n: int) -> Iterator[int]:
    executed.append(n)
    yield n
    yield n + 1


@cached_step(retry=RetryPolicy(attempts=2, wait=0))
async def astream(ctx: Context, n: int) -> AsyncIterator[int]:
    executed.append(n)
    yield n
    yield n + 1


STEPS = [plain, awaited, stream, astream]
each_colour = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.fn.__name__)


@pytest.fixture(autouse=True)
def _afresh():
    executed.clear()
    with fresh_store():
        yield


def called(step: Step[Any, Any], n: int) -> list[int]:
    return asyncio.run(step.acall(n))


def flow_of(step: Step[Any, Any]) -> Workflow[Any, Any]:
    @workflow
    async def flow() -> list[list[int]]:
        return [await step.acall(n) for n in (1, 2, 3)]

    return flow


@each_colour
def test_a_crash_comes_once_right_after_a_result_is_durable(step):
    """The run is interrupted; called again it goes on, and the result that was durable is not made again."""
    flow = flow_of(step)

    with crash_after(step, calls=2):
        with pytest.raises(SimulatedCrash, match="after result 2 of step"):
            asyncio.run(flow())
        crashed = flow.session("default").runs()[0]
        assert crashed.status is RunStatus.INTERRUPTED
        assert executed == [1, 2]
        assert asyncio.run(flow()) == [[1, 2], [2, 3], [3, 4]]

    assert executed == [1, 2, 3]
    assert crashed.status is RunStatus.COMPLETED
    assert crashed.attempt == 2
    assert [event.type for event in crashed.events()].count("step_failed") == 0


@each_colour
def test_hits_and_what_is_not_remembered_are_no_results_to_crash_after(step):
    """Only what became durable counts."""
    called(step, 1)

    with crash_after(step):
        called(step, 1)
        with pytest.raises(SimulatedCrash):
            called(step, 2)
        assert called(step, 3) == [3, 4]


def test_no_handler_of_errors_catches_a_crash():
    """It is a `BaseException`, so what would survive an error does not survive it; `finally` does run."""
    cleaned = []

    @workflow
    def flow() -> str:
        try:
            plain(1)
        except Exception:
            return "survived"
        finally:
            cleaned.append(True)
        return "never"

    with crash_after(plain), pytest.raises(SimulatedCrash):
        flow()

    assert cleaned == [True]


@each_colour
def test_a_failing_step_fails_as_often_as_told_and_then_runs(step):
    """Retries are executions: with two attempts one failure is got over, two are not."""
    with fail_step(step, ConnectionError("reset")):
        assert called(step, 1) == [1, 2]
    with fail_step(step, ConnectionError, times=2), pytest.raises(ConnectionError):
        called(step, 2)

    assert executed == [1]
    assert not step.is_cached(2)


@each_colour
def test_what_is_left_of_the_failures_ends_with_the_block(step):
    """After it the step is what it was."""
    with fail_step(step, ConnectionError, times=100), pytest.raises(ConnectionError):
        called(step, 1)

    assert called(step, 1) == [1, 2]


@each_colour
def test_a_replacement_is_called_in_every_colour(step):
    """A plain function does, without the context or with it."""
    with replace_step(step, lambda n: [n * 10]):
        assert called(step, 1) == [10]
    with replace_step(step, lambda ctx, n: [ctx.session_id, n]):
        assert called(step, 1) == ["default", 1]

    assert executed == []


@pytest.mark.parametrize("step", [awaited, astream], ids=["awaited", "astream"])
def test_a_replacement_of_an_async_step_may_be_async(step):
    """What is awaitable is awaited, what is an async iterator is followed."""

    async def other(n: int) -> list[int]:
        await asyncio.sleep(0)
        return [n * 10]

    async def items(n: int) -> AsyncIterator[int]:
        yield n * 10

    with replace_step(step, other):
        assert called(step, 1) == [10]
    if step is astream:
        with replace_step(step, items):
            assert called(step, 2) == [20]


def test_a_mock_can_stand_in():
    """It sees the step's arguments, without the context, once per execution."""
    mock = Mock(return_value=[7])

    with replace_step(plain, mock):
        assert [plain(1), plain(n=1)] == [[7], [7]]

    mock.assert_called_once_with(1)


def test_answers_of_a_replacement_and_of_the_step_are_never_taken_for_each_other():
    """Both are remembered, apart."""
    assert plain(1) == [1, 2]

    with replace_step(plain, lambda n: [0]):
        assert not plain.is_cached(1)
        assert plain(1) == [0]
        assert plain.is_cached(1)
        assert plain(2) == [0]

    assert plain(1) == [1, 2]
    assert not plain.is_cached(2)


def test_replacements_nest():
    """The inner one counts inside, the outer one again after it."""
    with replace_step(plain, lambda n: [1]):
        with replace_step(plain, lambda n: [2]):
            assert plain(0) == [2]
        assert plain(0) == [1]


def test_options_keep_the_replacement():
    """It holds for the step whatever it is called with."""
    with replace_step(plain, lambda n: [0]):
        assert plain.with_options(session_id="other", refresh=True)(1) == [0]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: crash_after(plain, calls=0), r"crash_after\(calls=0\): a whole number from 1"),
        (lambda: crash_after("plain"), "give the decorated step, not str"),
        (lambda: fail_step(plain, "error"), r"fail_step\(error='error'\): give an exception"),
        (lambda: fail_step(plain, OSError, times=True), "a whole number from 1"),
        (lambda: replace_step(plain, [1]), r"give a function; for a fixed value"),
        (lambda: replace_step(plain.fn, lambda n: n), "give the decorated step, not function"),
    ],
)
def test_what_cannot_be_is_refused(use, said):
    """At once, with what to write instead."""
    with pytest.raises(UsageError, match=said), use():
        pass


def test_a_bare_function_can_be_called_with_a_context():
    """Its state, ids and events work, and nothing of it reaches the store in force."""

    @cached_step
    def visit(ctx: Context, page: str) -> int:
        ctx.state[page] = ctx.state.get(page, 0) + 1
        ctx.emit({"visited": page})
        ctx.check()
        return ctx.state[page]

    ctx = make_context(state={"home": 2}, session_id="me", workflow="tests", step="visit")

    assert visit.fn(ctx, "home") == 3
    assert dict(ctx.state) == {"home": 3}
    assert (ctx.session_id, ctx.workflow, ctx.attempt, ctx.usage.requests) == ("me", "tests", 1, 0)
    assert len(ctx.idempotency_key) == 32
    assert ctx.run_id
    assert not visit.is_cached("home")


def test_a_context_of_a_body_has_no_step():
    """As in a workflow."""
    with pytest.raises(NoActiveRun):
        _ = make_context().idempotency_key


def test_contexts_share_nothing_unless_told():
    """Each has a store of its own; given one, they meet in it."""
    with fresh_store() as store:
        make_context(state={"n": 1}, store=store)

        assert dict(make_context().state) == {}
        assert dict(make_context(store=store).state) == {"n": 1}
