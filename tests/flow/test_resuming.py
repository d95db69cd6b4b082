"""Letting runs go on that stopped: in the background, at most so often, and once, whoever asks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentflow import Context, cached_step, list_runs, workflow
from agentflow._loading import _workflows
from agentflow.exceptions import (
    RunCancelled,
    RunConflict,
    RunFailed,
    RunNotFound,
    TooManyAttempts,
    UsageError,
    WorkflowNotLoaded,
)
from agentflow.stores._base import run_lock

PATIENCE = 20

pytestmark = pytest.mark.usefixtures("store")

executed: list[str] = []


@pytest.fixture(autouse=True)
def _afresh() -> None:
    executed.clear()


@cached_step
def step(n: int) -> int:
    executed.append(f"step {n}")
    return n


def stumble(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ValueError("in the first attempt")


@workflow
def plain(ctx: Context, n: int, *, word: str = "word") -> str:
    value = step(n)
    stumble(ctx)
    return f"{word} {value}"


@workflow
async def tasked(ctx: Context, n: int, *, word: str = "word") -> str:
    value = step(n)
    await asyncio.sleep(0)
    stumble(ctx)
    return f"{word} {value}"


@workflow
def streamed(ctx: Context, n: int, *, word: str = "word") -> Iterator[str]:
    yield f"{word} "
    value = step(n)
    stumble(ctx)
    yield str(value)


@workflow
async def astreamed(ctx: Context, n: int, *, word: str = "word") -> AsyncIterator[str]:
    yield f"{word} "
    value = step(n)
    await asyncio.sleep(0)
    stumble(ctx)
    yield str(value)


def fails(run: Any) -> None:
    with pytest.raises(RunFailed):
        run.result(timeout=PATIENCE)


@pytest.mark.parametrize("flow", [plain, tasked, streamed, astreamed], ids=lambda flow: flow.fn.__name__)
def test_a_failed_run_goes_on(flow):
    """With the arguments that it was called with, as a second attempt of the same run; no finished step is repeated."""
    run = flow.with_options(session_id="s").start(3, word="number")
    fails(run)

    again = run.resume()

    assert again is run
    assert run.result(timeout=PATIENCE) == "number 3"
    assert (run.status, run.attempt, run.session_id, run.error) == ("completed", 2, "s", None)
    assert executed == ["step 3"]


async def test_a_run_goes_on_without_blocking_the_loop():
    """`aresume` is the twin of `resume`."""
    run = await tasked.astart(3)
    with pytest.raises(RunFailed):
        await run.aresult(timeout=PATIENCE)

    assert await (await run.aresume()).aresult(timeout=PATIENCE) == "word 3"


def test_a_direct_call_that_failed_can_be_resumed():
    """Its arguments were stored as well."""
    with pytest.raises(ValueError, match="first attempt"):
        plain(3, word="call")

    assert list_runs()[0].resume().result(timeout=PATIENCE) == "call 3"


def test_a_cancelled_run_goes_on_only_so():
    """The wish that cancelled it does not reach its next attempt."""
    begun = threading.Event()

    @workflow
    def flow(ctx: Context) -> str:
        begun.set()
        while ctx.attempt == 1:
            ctx.check()
        time.sleep(0.06)  # longer than between two looks for the wish
        ctx.check()
        return "done"

    run = flow.start()
    assert begun.wait(PATIENCE)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout=PATIENCE)

    assert run.resume().result(timeout=PATIENCE) == "done"
    assert run.attempt == 2


def test_refresh_goes_on_with_the_run():
    """What the call asked to run again is not forgotten."""
    step(5)
    with pytest.raises(ValueError, match="first attempt"):
        plain.with_options(refresh=True)(5)
    executed.clear()

    list_runs()[0].resume().result(timeout=PATIENCE)

    assert executed == []  # it was made anew once, in the first attempt
    assert list_runs()[0].attempt == 2


def test_attempts_are_bounded():
    """After `max_attempts` it is refused, and a call begins a new run."""

    @workflow(max_attempts=2)
    def flow() -> None:
        raise ValueError

    run = flow.start()
    fails(run)
    fails(run.resume())

    with pytest.raises(TooManyAttempts, match="max_attempts is 2") as raised:
        run.resume()
    assert raised.value.run_id == run.id
    assert flow.start().id != run.id


def test_two_who_resume_a_run_get_one_outcome():
    """One executes it, and both get what it gives; nothing happens to a run that goes on or has completed."""
    release = threading.Event()

    @workflow
    def flow(ctx: Context) -> int:
        stumble(ctx)
        executed.append("body")
        release.wait(PATIENCE)
        return ctx.attempt

    run = flow.start()
    fails(run)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run.resume(), range(8)))
        release.set()
        results = set(pool.map(lambda _: run.result(timeout=PATIENCE), range(8)))
    run.resume()

    assert results == {2}
    assert executed == ["body"]


def test_what_a_lost_run_still_wants_to_write_is_refused(store):
    """Whoever has lost its lock, and comes back when another has the run, or has ended it, changes nothing: steps, state, events, end."""
    begun, over = threading.Event(), threading.Event()
    refused: list[str] = []

    def attempted(what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except RunConflict:
            refused.append(what)

    @workflow
    def flow(ctx: Context) -> int:
        if ctx.attempt == 1:
            begun.set()
            over.wait(PATIENCE)
            attempted("step", lambda: step(1))
            attempted("state", lambda: ctx.state.update(late=True))
            ctx.emit("late")
        return ctx.attempt

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(flow)
        begun.wait(PATIENCE)
        run = list_runs(workflow=flow.name)[0]
        store.unlock(run_lock(run.id))  # as when somebody removes the file of the locks
        assert run.status == "interrupted"
        assert flow() == 2
        over.set()
        with pytest.raises(RunConflict):
            late.result(PATIENCE)

    assert refused == ["step", "state"]
    assert (run.status, run.attempt, run.result(timeout=0)) == ("completed", 2, 2)
    assert dict(flow.session("default").state) == {}
    assert [event.type for event in run.events()] == ["run_started", "run_started", "run_completed"]
    assert not step.with_options(workflow=flow.name, session_id="default").is_cached(1)


def test_a_workflow_that_is_not_imported_is_told():
    """Its name stands in the store, and is shown and never imported."""
    run = plain.start(1)
    fails(run)
    known = dict(_workflows)
    _workflows.clear()
    try:
        with pytest.raises(WorkflowNotLoaded, match="import the module"):
            run.resume()
    finally:
        _workflows.update(known)

    assert run.status == "failed"


def test_a_run_that_cannot_do_without_its_caller_is_refused():
    """Arguments that are ignored without a default, or that cannot be stored, are with the caller alone."""

    @workflow(ignore="client")
    def with_client(client: object) -> None:
        raise ValueError

    @workflow
    def with_class(kind: object) -> None:
        raise ValueError

    @workflow(ignore="client")
    def with_default(ctx: Context, client: object = None) -> str:
        stumble(ctx)
        return repr(client)

    for flow in (with_client, with_class):
        run = flow.start(ValueError)
        fails(run)
        with pytest.raises(UsageError, match=r"[Cc]all the workflow again"):
            run.resume()
    run = with_default.start(object())
    fails(run)

    assert run.resume().result(timeout=PATIENCE) == "None"


def test_a_child_goes_on_with_its_parent():
    """It cannot go on alone, and the error names its parent."""

    @workflow
    def child(ctx: Context) -> str:
        stumble(ctx)
        return "done"

    @workflow
    def parent() -> str:
        return child()

    run = parent.start()
    fails(run)

    with pytest.raises(UsageError, match=run.id):
        run.children()[0].resume()
    assert run.resume().result(timeout=PATIENCE) == "done"
    assert [each.attempt for each in run.children()] == [2]


def test_an_unknown_run_cannot_be_resumed():
    """It is told as such."""
    run = plain.start(1)
    fails(run)
    plain.session("default").delete()

    with pytest.raises(RunNotFound):
        run.resume()
