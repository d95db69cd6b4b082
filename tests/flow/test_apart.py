"""What a run has nothing to do with does not reach it: the listener of whoever started it, the end of other calls, a late cancellation."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from agentflow import Agent, Context, _listening, cached_step, get_run, list_runs, print_run, tool, workflow
from agentflow._listening import FAMILY, Listener
from agentflow.exceptions import UnserializableValue
from agentflow.messages import ModelResponse, TextPart, ToolCall, Usage
from agentflow.stores import DiskStore
from agentflow.stores._base import ANY_REVISION, StateWrite, Transaction
from agentflow.testing import ScriptedModel

pytestmark = pytest.mark.usefixtures("disk")


def test_a_run_that_was_started_is_not_heard_with_its_starter() -> None:
    """Else its child would wait for a consumer that has long gone."""
    started = []

    @workflow
    def talks(ctx: Context) -> str:
        for number in range(3000):
            ctx.emit(number)
        return "said"

    @workflow
    def background(starter_is_over: float) -> str:
        time.sleep(starter_is_over)
        return talks()

    @workflow
    def starts() -> None:
        started.append(background.start(0.2))

    print_run(starts.stream_events())

    assert started[0].result(timeout=20) == "said"


def test_a_run_that_was_started_is_not_paid_by_its_starters_agent() -> None:
    """An agent's usage is that of its own conversation, and of those that its tools wait for inside it."""
    answer = ModelResponse(parts=(TextPart(text="x"),), usage=Usage(requests=1, input_tokens=100))

    @workflow
    def background(question: str) -> str:
        return Agent(ScriptedModel([answer])).run(question).output

    @tool
    def ask(question: str) -> str:
        """Ask elsewhere."""
        return background.start(question).result(timeout=20)

    result = Agent(ScriptedModel([[ToolCall.of("ask", question="a")], "end"]), tools=[ask]).run("?")

    assert result.usage.requests == 2


def test_a_cancellation_is_not_lost_to_an_error() -> None:
    """Cancelled while others go first, a step whose result is then refused is cancelled, also for whoever catches the refusal."""
    went_on = []

    async def main() -> None:
        ended = asyncio.Event()

        @cached_step(ignore=["number"])
        async def refused(number: int) -> object:
            await ended.wait()
            time.sleep(0.002)
            return lambda: number

        async def one(number: int) -> None:
            try:
                await refused.with_options(session_id=str(number))(number)
            except UnserializableValue:
                pass
            else:
                pytest.fail("a function was remembered")
            await asyncio.sleep(0.05)
            went_on.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(60)]
        await asyncio.sleep(0.3)
        ended.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(task.cancel() for task in tasks if not task.done())
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert Counter(type(outcome).__name__ for outcome in outcomes) == {"CancelledError": 60}

    asyncio.run(main())

    assert went_on == []


@pytest.mark.parametrize("deep", [False, True], ids=["flat", "in a child"])
def test_cancelling_reaches_code_that_waits_for_its_listener(deep: bool) -> None:
    """Also where it is a child of the run that is cancelled."""

    @workflow
    def inner(ctx: Context) -> None:
        for number in range(3000):
            ctx.emit(number)

    @workflow
    def outer(ctx: Context, deep: bool) -> None:
        if deep:
            inner()
        else:
            for number in range(3000):
                ctx.emit(number)

    token = FAMILY.set(True)
    try:
        stream = outer.stream_events(deep)
        run = get_run(next(stream).run_id)
    finally:
        FAMILY.reset(token)
    time.sleep(0.3)
    run.cancel()
    deadline = time.monotonic() + 10
    while run.status == "running" and time.monotonic() < deadline:
        time.sleep(0.02)

    assert run.status == "cancelled"
    stream.close()


def test_a_second_cancellation_leaves_no_run_open(disk: DiskStore) -> None:
    """It comes while the state is being saved, and the run is `cancelled` all the same."""
    disk.commit(Transaction())
    holder = sqlite3.connect(disk.path / "cache.db", isolation_level=None, check_same_thread=False)

    @workflow
    async def waits(ctx: Context) -> None:
        ctx.state["a"] = 1
        holder.execute("BEGIN IMMEDIATE")
        ctx.state["b"] = 2  # handed over, and not durable before the lock is given back
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(waits())
        for _ in range(3):
            await asyncio.sleep(0.2)
            task.cancel()
        holder.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    holder.close()

    assert [run.status for run in list_runs()] == ["cancelled"]


def test_deleting_a_session_comes_after_what_was_handed_over_before(tmp_path: Path) -> None:
    """A store that is just being made is no store without anything in it."""
    store = DiskStore(tmp_path / "new")
    write = StateWrite(workflow="w", session_id="s", key="k", value=b"1", expected=ANY_REVISION)

    written = store.commit_soon(Transaction(state=(write,)))
    store.delete_session("w", "s")
    written.result()

    assert store.state_row("w", "s", "k").value is None
    store.close()


def test_a_finalizer_may_leave_while_its_thread_asks_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector runs where it likes."""
    listener = Listener()
    listener._notes.extend([None] * 1001)

    class Left:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            listener.leave()

    gc.disable()
    Left()

    made = _listening.Future

    def collecting() -> object:
        gc.collect()
        return made()

    monkeypatch.setattr(_listening, "Future", collecting)
    thread = threading.Thread(target=listener.room, daemon=True)
    thread.start()
    thread.join(10)
    gc.enable()

    assert not thread.is_alive()
