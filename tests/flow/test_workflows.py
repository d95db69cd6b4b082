"""What a workflow's call is: a run in a session, in four colours, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from agentflow import Agent, Context, RetryPolicy, RunStatus, cached_step, configure, get_run, list_runs, workflow
from agentflow.exceptions import NoActiveRun, RunNotFound, UnkeyableArgument, UnserializableValue, UsageError
from agentflow.stores import MemoryStore
from agentflow.testing import FunctionModel

pytestmark = pytest.mark.usefixtures("store")


class Stop(BaseException):
    """Stands for the death of the process: no Exception, so nothing of it is handled."""


executed: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_executed() -> Iterator[None]:
    executed.clear()
    yield
    trouble.clear()


@cached_step
def first(n: int) -> int:
    executed.append(f"first {n}")
    return n + 1


@cached_step
def second(n: int) -> int:
    executed.append(f"second {n}")
    return n * 10


Body = Callable[[Context, int], None]
trouble: list[Body] = []


def _meet(ctx: Context, n: int) -> None:
    for body in trouble:
        body(ctx, n)


@workflow
def plain(ctx: Context, n: int) -> int:
    ctx.state["begun"] = n
    value = first(n)
    _meet(ctx, n)
    return second(value)


@workflow
async def tasked(ctx: Context, n: int) -> int:
    ctx.state["begun"] = n
    value = first(n)
    await asyncio.sleep(0)
    _meet(ctx, n)
    return second(value)


@workflow
def streamed(ctx: Context, n: int) -> Iterator[int]:
    ctx.state["begun"] = n
    yield first(n)
    _meet(ctx, n)
    yield second(n + 1)


@workflow
async def astreamed(ctx: Context, n: int) -> AsyncIterator[int]:
    ctx.state["begun"] = n
    yield first(n)
    await asyncio.sleep(0)
    _meet(ctx, n)
    yield second(n + 1)


def consume(flow: Any, n: int) -> object:
    """Call a workflow of any colour and return its value or its items."""
    if inspect.iscoroutinefunction(flow):
        return asyncio.run(flow(n))
    if inspect.isgeneratorfunction(flow):
        return list(flow(n))
    if inspect.isasyncgenfunction(flow):

        async def items() -> list[object]:
            return [item async for item in flow(n)]

        return asyncio.run(items())
    return flow(n)


@pytest.fixture(params=[plain, tasked, streamed, astreamed], ids=["plain", "async", "stream", "async-stream"])
def flow(request: pytest.FixtureRequest) -> Any:
    return request.param


EXPECTED = {plain: 20, tasked: 20, streamed: [2, 20], astreamed: [2, 20]}


def newest(flow: Any) -> Any:
    return list_runs(workflow=flow.name)[0]


def test_a_run_is_recorded(flow):
    """A finished call is a completed run with its events, and its steps are remembered."""
    assert consume(flow, 1) == EXPECTED[flow]
    assert consume(flow, 1) == EXPECTED[flow]

    assert executed == ["first 1", "second 2"]
    runs = flow.session("default").runs()
    assert [(run.status, run.attempt) for run in runs] == [("completed", 1), ("completed", 1)]
    told = [event.type for event in runs[0].events() if event.type != "run_yielded"]
    assert told == ["run_started", "step_hit", "step_hit", "run_completed"]
    assert [event.seq for event in runs[1].events()] == list(range(1, 1 + len(list(runs[1].events()))))
    assert runs[0].started_at <= runs[0].finished_at


ENDINGS = [
    pytest.param(flow, error, status, id=f"{name}-{error.__name__}")
    for name, flow in {"plain": plain, "async": tasked, "stream": streamed, "async-stream": astreamed}.items()
    for error, status in {
        ValueError: "failed",
        Stop: "interrupted",
        KeyboardInterrupt: "cancelled",
        SystemExit: "interrupted",
    }.items()
    # A loop ends at once on these two, and turns them into a cancellation of the task: there it is not the body that raises.
    if flow in (plain, streamed) or error not in (KeyboardInterrupt, SystemExit)
]


@pytest.mark.parametrize(("flow", "kind", "status"), ENDINGS)
def test_a_run_that_raises_has_the_true_status(flow, kind, status):
    """Whatever ends the body, the status says so, and state and finished steps are kept."""
    error = kind("no")

    def fail(ctx: Context, n: int) -> None:
        ctx.state["nested"] = {}
        ctx.state["nested"]["late"] = n
        raise error

    trouble.append(fail)
    with pytest.raises(kind) as caught:
        consume(flow, 1)

    assert caught.value is error
    assert newest(flow).status == status
    assert dict(flow.session("default").state) == {"begun": 1, "nested": {"late": 1}}
    assert executed == ["first 1"]
    trouble.clear()
    assert consume(flow, 1) == EXPECTED[flow]
    assert executed == ["first 1", "second 2"]


def test_the_same_call_continues_a_failed_run(flow):
    """The next call with equal arguments is the next attempt of the same run; another argument is another run."""
    trouble.append(lambda ctx, n: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        consume(flow, 1)
    failed = newest(flow)
    trouble.clear()

    consume(flow, 2)
    assert newest(flow).id != failed.id
    consume(flow, 1)

    assert failed.attempt == 2
    assert failed.status is RunStatus.COMPLETED
    assert len(flow.session("default").runs()) == 2


def test_a_cancelled_run_is_not_continued_by_a_call():
    """Ctrl-C ends a run for good: only resume() would continue it."""

    def interrupt(ctx: Context, n: int) -> None:
        raise KeyboardInterrupt

    trouble.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        plain(1)
    trouble.clear()

    plain(1)

    assert [run.status for run in plain.session("default").runs()] == ["completed", "cancelled"]


async def test_a_cancelled_task_leaves_a_cancelled_run():
    """Cancelling the awaiting task is recorded, and finished steps are kept."""
    reached = asyncio.Event()

    @workflow
    async def slow() -> None:
        first(1)
        reached.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(slow())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert newest(slow).status == "cancelled"
    assert executed == ["first 1"]


def test_a_closed_stream_leaves_an_interrupted_run_that_goes_on():
    """A consumer that stops keeps what was done; the same call goes on."""
    for item in streamed(1):
        assert item == 2
        break

    assert newest(streamed).status == "interrupted"
    assert list(streamed(1)) == [2, 20]
    assert newest(streamed).attempt == 2
    assert executed == ["first 1", "second 2"]


async def test_a_closed_async_stream_leaves_an_interrupted_run():
    """aclose() is recorded like close()."""
    stream = astreamed(1)
    assert await anext(stream) == 2
    await stream.aclose()

    assert newest(astreamed).status == "interrupted"
    assert dict(astreamed.session("default").state) == {"begun": 1}


def test_a_generator_workflow_begins_at_its_first_item():
    """Calling it makes no run; a bad argument is told at the call."""
    stream = streamed(1)
    assert list_runs(workflow=streamed.name) == []
    with pytest.raises(TypeError):
        streamed()

    next(stream)
    assert newest(streamed).status == "running"
    stream.close()


def test_throwing_into_a_stream_reaches_the_body():
    """The body may handle what its consumer throws; what is sent is refused."""

    @workflow
    def stubborn() -> Iterator[str]:
        try:
            yield "one"
        except ValueError:
            yield "handled"

    stream = stubborn()
    next(stream)
    assert stream.throw(ValueError) == "handled"
    assert list(stream) == []
    assert newest(stubborn).status == "completed"

    stream = stubborn()
    next(stream)
    with pytest.raises(UsageError, match="sent"):
        stream.send("a value")


def test_max_attempts_begins_a_new_run():
    """A run is tried so often; the next call is never refused for it."""

    @workflow(max_attempts=2)
    def hopeless() -> None:
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):
            hopeless()

    assert [run.attempt for run in hopeless.session("default").runs()] == [1, 2]


def test_resume_within_lets_old_runs_rest(monkeypatch):
    """An unfinished run whose last event is too old is not continued."""

    @workflow(resume_within=timedelta(hours=1))
    def fail(fails: bool) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fail(True)
    import time

    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(ValueError):
        fail(True)

    assert [run.attempt for run in fail.session("default").runs()] == [1, 1]


def test_a_live_run_is_never_joined():
    """A second call while the first runs is a run of its own."""
    inside, go_on = threading.Event(), threading.Event()

    @workflow
    def slow() -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(5)

    thread = threading.Thread(target=slow)
    thread.start()
    assert inside.wait(5)
    slow()
    statuses = {run.status for run in slow.session("default").runs()}
    go_on.set()
    thread.join()

    assert statuses == {"completed", "running"}
    assert len(slow.session("default").runs()) == 2


def test_sessions_come_from_options_then_the_workflow_then_the_caller():
    """The order of DESIGN 3.1; ids are any text."""

    @workflow
    def inner(ctx: Context) -> str:
        return ctx.session_id

    @workflow(session=lambda topic: f"about {topic}")
    def outer(ctx: Context, topic: str, n: int = 0) -> tuple[str, str]:
        return ctx.session_id, inner()

    odd = "\udc80'; DROP TABLE af_runs; --\0"

    assert inner() == "default"
    assert outer("cats") == ("about cats", "about cats")
    assert outer.with_options(session_id=odd)("cats") == (odd, odd)
    assert {session.id for session in outer.sessions()} == {"about cats", odd}


def test_a_session_function_that_asks_for_what_is_not_there():
    """session= may name only the workflow's arguments."""

    @workflow(session=lambda user: user)
    def flow(topic: str) -> None: ...

    with pytest.raises(UsageError, match="'user'"):
        flow("cats")


def test_services_can_require_a_session(monkeypatch):
    """configure(require_session=True), or the environment, refuses the session "default"."""
    configure(require_session=True)
    try:
        with pytest.raises(UsageError, match="without a session"):
            plain(1)
        assert plain.with_options(session_id="ada")(1) == 20
    finally:
        configure(require_session=None)
    monkeypatch.setenv("AGENTFLOW_REQUIRE_SESSION", "1")
    with pytest.raises(UsageError, match="without a session"):
        plain(1)


def test_arguments_must_be_keyable_or_ignored():
    """A client is named in ignore; it does not tell calls apart."""

    @workflow(ignore=("client",))
    def flow(topic: str, client: object) -> str:
        if len(flow.session("default").runs()) == 1 and newest(flow).attempt == 1:
            raise ConnectionError
        return topic

    with pytest.raises(ConnectionError):
        flow("cats", threading.Lock())
    assert flow("cats", threading.Lock()) == "cats"
    assert newest(flow).attempt == 2
    with pytest.raises(UnkeyableArgument):
        plain(threading.Lock())


def test_refresh_makes_results_anew_once_per_run():
    """refresh=[step] executes what would have been a hit, once in a run, and everybody gets the new result."""
    answers = iter(range(100))

    @cached_step
    def ask() -> int:
        return next(answers)

    @cached_step
    def other() -> int:
        executed.append("other")
        return 0

    @workflow
    def flow() -> list[int]:
        return [ask(), other(), ask()]

    assert flow() == [0, 0, 0]
    assert flow.with_options(refresh=[ask])() == [1, 0, 1]
    assert flow.with_options(refresh=ask.name)() == [2, 0, 2]
    assert flow() == [2, 0, 2]
    assert executed == ["other"]
    assert flow.with_options(refresh=True)() == [3, 0, 3]
    assert executed == ["other", "other"]
    with pytest.raises(UsageError):
        flow.with_options(refresh=[1])


def test_refresh_is_not_repeated_when_the_run_goes_on():
    """What a run has made anew before it died is a hit in its next attempt; a call without refresh is another run."""
    calls = []

    @cached_step
    def ask(n: int) -> int:
        calls.append(n)
        return n

    @workflow
    def flow() -> int:
        ask(1)
        if calls.count(2) == 1:
            ask(2)
            raise ConnectionError
        return ask(2)

    assert flow() == 2
    calls.clear()
    calls.append(2)
    with pytest.raises(ConnectionError):
        flow.with_options(refresh=True)()
    before = list(calls)
    assert flow.with_options(refresh=True)() == 2

    assert before == [2, 1, 2]
    assert calls == before


def test_a_child_run_gives_its_recorded_result():
    """When the parent goes on, a completed child is not executed again, and an unfinished one is continued."""

    @workflow
    def child(n: int) -> int:
        executed.append(f"child {n}")
        return n

    @workflow
    def child_stream(n: int) -> Iterator[int]:
        executed.append(f"child stream {n}")
        yield n
        yield n + 1

    @workflow
    def parent(ctx: Context) -> list[int]:
        found = [child(1), child(1), child(2), *child_stream(5)]
        if ctx.attempt == 1:
            raise ConnectionError
        return found

    with pytest.raises(ConnectionError):
        parent()
    assert parent() == [1, 1, 2, 5, 6]

    assert executed == ["child 1", "child 1", "child 2", "child stream 5"]
    assert [run.workflow for run in newest(parent).children()] == [child.name] * 3 + [child_stream.name]


def test_a_child_sees_and_leaves_state_in_the_same_session():
    """A workflow called in the session of its caller works on the same state."""

    @workflow
    def child(ctx: Context) -> None:
        ctx.state["words"] = [*ctx.state["words"], "child"]

    @workflow
    def parent(ctx: Context) -> list[str]:
        words = ctx.state.setdefault("words", ["parent"])
        child.with_options()()
        own = ctx.state["words"]
        own.append("again")
        return words

    @workflow
    def unrelated(ctx: Context) -> bool:
        return "words" in ctx.state

    # A child's state is its own workflow's: sessions of two workflows never meet.
    with pytest.raises(KeyError):
        parent()
    assert unrelated() is False


def test_runs_are_found_by_id_and_by_filters():
    """get_run names the store when there is none; list_runs filters by what is true now."""
    plain(1)
    trouble.append(lambda ctx, n: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plain(2)
    trouble.clear()

    failed, completed = list_runs()
    assert get_run(failed.id) == failed
    assert failed.error == "ZeroDivisionError: division by zero"
    assert completed.error is None
    assert list_runs(status="failed") == [failed]
    assert list_runs(status=["failed", RunStatus.COMPLETED], limit=1) == [failed]
    with pytest.raises(RunNotFound, match="no run 'nope'") as caught:
        get_run("nope")
    assert isinstance(caught.value, LookupError)


def test_a_session_can_be_looked_at_and_deleted():
    """steps(), forget() and delete() work on one session of one workflow."""
    plain(1)
    plain.with_options(session_id="other")(1)
    session = plain.session("default")

    assert [step.step for step in session.steps()] == [first.name, second.name]
    assert session.forget(first) == 1
    assert session.forget(older_than=3600) == 0
    session.delete()

    assert (session.runs(), session.steps(), dict(session.state)) == ([], [], {})
    assert len(plain.session("other").steps()) == 2


def test_results_that_cannot_be_stored_reach_a_direct_caller():
    """A workflow may return anything; only its record goes without."""

    @workflow
    def flow() -> object:
        return threading.Lock()

    assert type(flow()) is type(threading.Lock())
    assert newest(flow).status == "completed"


def test_store_option_keeps_runs_apart():
    """store= chooses where a call is kept."""
    other = MemoryStore()

    plain.with_options(store=other)(1)

    assert list_runs() == []
    assert [run.status for run in list_runs(store=other)] == ["completed"]
    assert plain.with_options(store=other).session("default").state["begun"] == 1


async def test_a_sync_workflow_runs_inside_a_running_loop():
    """As in a notebook: a plain call, no loop of ours; acall awaits any colour."""
    assert plain(1) == 20
    assert await plain.acall(1) == 20
    assert await streamed.acall(1) == [2, 20]
    assert await astreamed.acall(1) == [2, 20]
    assert await tasked.acall(1) == 20


def test_no_value_lands_in_a_foreign_session_with_threads():
    """Four threads with their own sessions and one shared agent: nobody sees another's words."""
    echo = Agent(FunctionModel(lambda messages, info: f"<{messages[-1].content}>"))

    @cached_step
    def ask(ctx: Context, n: int) -> str:
        ctx.state[f"asked {n}"] = ctx.session_id
        return echo.run(f"{ctx.session_id} {n}").output

    @workflow
    def flow(ctx: Context) -> list[str]:
        answers = [ask(n) for n in range(10)]
        ctx.state["answers"] = answers
        return answers

    results: dict[str, list[str]] = {}

    def work(session: str) -> None:
        results[session] = flow.with_options(session_id=session)()

    threads = [threading.Thread(target=work, args=(f"session {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for session, answers in results.items():
        assert answers == [f"<{session} {n}>" for n in range(10)]
        state = dict(flow.session(session).state)
        assert state == {"answers": answers, **{f"asked {n}": session for n in range(10)}}


async def test_no_value_lands_in_a_foreign_session_with_tasks():
    """Fifty tasks with their own sessions and one shared agent."""

    async def answer(messages: Any, info: Any) -> str:
        await asyncio.sleep(0)
        return f"<{messages[-1].content}>"

    echo = Agent(FunctionModel(answer))

    @cached_step
    async def ask(ctx: Context, n: int) -> str:
        ctx.state["asked"] = ctx.session_id
        return (await echo.arun(f"{ctx.session_id} {n}")).output

    @workflow
    async def flow(ctx: Context) -> list[str]:
        answers = [await ask(n) for n in range(3)]
        ctx.state["answers"] = answers
        return answers

    sessions = [f"session {n}" for n in range(50)]
    results = await asyncio.gather(*(flow.with_options(session_id=session)() for session in sessions))

    for session, answers in zip(sessions, results, strict=True):
        assert answers == [f"<{session} {n}>" for n in range(3)]
        assert dict(flow.session(session).state) == {"answers": answers, "asked": session}


def test_emit_and_log_and_usage():
    """What the user's code says is an event of the run; usage counts requests that were paid."""
    model = Agent(FunctionModel(lambda messages, info: "hello"))

    @workflow
    def flow(ctx: Context) -> int:
        ctx.emit({"progress": 0.5})
        model.run("hi")
        return ctx.usage.requests

    assert flow() == 1
    emitted = [event for event in newest(flow).events() if event.type == "emitted"]
    assert [event.value for event in emitted] == [{"progress": 0.5}]


def test_a_context_is_dead_after_its_run():
    """A context kept after its run ended raises on use."""
    kept = []

    @workflow
    def flow(ctx: Context) -> None:
        kept.append(ctx)

    flow()
    with pytest.raises(NoActiveRun, match="has ended"):
        kept[0].emit(1)


def test_recorded_requests_in_the_body_replay_when_the_run_goes_on():
    """Three equal requests are three samples, replay as three, and are paid again by the next run."""
    asked = []

    def answer(messages: Any, info: Any) -> str:
        asked.append(1)
        return f"answer {len(asked)}"

    agent = Agent(FunctionModel(answer))

    @workflow
    def flow(ctx: Context) -> list[str]:
        answers = [agent.run("same").output for _ in range(3)]
        if ctx.attempt == 1 and len(asked) == 3:
            raise ConnectionError
        return answers

    with pytest.raises(ConnectionError):
        flow()
    assert flow() == ["answer 1", "answer 2", "answer 3"]
    assert len(asked) == 3
    assert flow() == ["answer 4", "answer 5", "answer 6"]


def test_a_finished_run_is_never_adopted():
    """Many equal calls at once are many runs: one that has ended meanwhile is not executed a second time."""

    @workflow
    def order() -> None: ...

    def work() -> None:
        for _ in range(40):
            order()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {run.attempt for run in order.session("default").runs()} == {1}
    assert len(order.session("default").runs()) == 160


def test_a_stream_left_at_the_end_of_the_program_is_interrupted():
    """asyncio.run cancels the closing of a stream that was left; it is the consumer that left, and the same call goes on."""

    async def leave() -> None:
        async for _ in astreamed(1):
            break

    asyncio.run(leave())

    assert newest(astreamed).status == "interrupted"
    assert consume(astreamed, 1) == [2, 20]
    assert newest(astreamed).attempt == 2


@pytest.mark.parametrize("ticks", range(6))
async def test_a_cancellation_while_a_stream_opens_leaves_no_run_open(ticks):
    """Whenever the cancellation comes, the run ends, and steps outside work again."""
    stream = astreamed(1)
    task = asyncio.create_task(anext(stream))
    for _ in range(ticks):
        await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
        await task
    await stream.aclose()

    assert "running" not in {run.status for run in list_runs()}
    assert first(7) == 8


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error", [OSError("name \udc80"), Mute(), ValueError("x" * 100_000)], ids=["surrogate", "mute", "long"]
)
def test_a_failure_is_recorded_whatever_its_text(error):
    """The user's exception is the one that is raised, and the run ends."""

    @workflow
    def flow() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        flow()

    assert caught.value is error
    assert newest(flow).status == "failed"
    assert list(newest(flow).events())[-1].type == "run_failed"


@pytest.mark.parametrize("value", ["\ud800", "x" * 300_000, object()], ids=["surrogate", "long", "object"])
def test_what_cannot_be_an_event_is_refused_where_it_is_said(value):
    """emit() refuses it, and the run goes on."""

    @workflow
    def flow(ctx: Context) -> str:
        with pytest.raises(UnserializableValue, match="emit"):
            ctx.emit(value)
        return "done"

    assert flow() == "done"
    assert newest(flow).status == "completed"


def test_refresh_reaches_child_workflows():
    """refresh=True makes everything anew, in workflows that are called too."""

    @workflow
    def child() -> int:
        return first(1)

    @workflow
    def parent() -> int:
        return child()

    parent()
    parent.with_options(refresh=True)()

    assert executed == ["first 1", "first 1"]


def test_a_step_outside_a_run_hands_on_no_session():
    """require_session holds for a workflow that such a step calls."""

    @cached_step
    def outside() -> int:
        return plain(1)

    configure(require_session=True)
    try:
        with pytest.raises(UsageError, match="without a session"):
            outside()
    finally:
        configure(require_session=None)


async def test_stop_iteration_in_a_workflow_does_not_hang_acall():
    """A StopIteration that the user's code lets out becomes a RuntimeError with its cause."""

    @workflow
    def flow() -> None:
        next(iter([]))

    with pytest.raises(RuntimeError) as caught:
        await asyncio.wait_for(flow.acall(), 5)

    assert isinstance(caught.value.__cause__, StopIteration)


async def test_a_task_that_outlives_its_run_is_refused():
    """It finds a run that has ended, and commits nothing to it."""
    go_on = asyncio.Event()
    tasks = []

    async def outliving() -> None:
        await go_on.wait()
        first(99)

    @workflow
    async def flow(ctx: Context) -> None:
        tasks.append((asyncio.create_task(outliving()), ctx.state))

    await flow()
    go_on.set()
    task, state = tasks[0]
    with pytest.raises(NoActiveRun, match="has ended"):
        await task
    with pytest.raises(NoActiveRun, match="has ended"):
        state["late"] = 1

    assert executed == []


def test_none_is_continued_if_resume_within_is_none():
    """resume_within=None: a call always begins a new run."""

    @workflow(resume_within=None)
    def flow() -> None:
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            flow()

    assert [run.attempt for run in flow.session("default").runs()] == [1, 1]


def test_steps_called_for_the_same_session_share_its_state():
    """with_options(session_id=) that names the session one is in changes nothing."""

    @cached_step
    def note(ctx: Context) -> None:
        ctx.state["by step"] = 1

    @workflow(session="s")
    def flow(ctx: Context) -> object:
        ctx.state["nested"] = {}
        ctx.state["nested"]["pending"] = 1
        note.with_options(session_id="s")()
        return ctx.state["by step"], dict(flow.session("s").state)

    assert flow() == (1, {"nested": {"pending": 1}, "by step": 1})


def test_mistakes_of_options_are_told_as_such():
    """A misspelled option, a status that is none, and a session that is no text say what to write."""
    with pytest.raises(UsageError, match=r"no option retries; it has: name, scope"):
        cached_step(retries=3)
    with pytest.raises(UsageError, match="a status is one of"):
        list_runs(status="bogus")
    with pytest.raises(UsageError, match="write True, False or None"):
        configure(require_session="no")

    @workflow(session=lambda n: n)
    def flow(n: int) -> None: ...

    with pytest.raises(UsageError, match=r"session= of workflow .* gave 1"):
        flow(1)


def test_a_stream_that_a_closed_loop_has_left_behind_is_interrupted():
    """Its loop runs no more of its code; the run is free all the same, for the next call to go on with."""

    @workflow
    async def flow() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def first() -> Any:
        stream = flow()
        await anext(stream)
        return stream

    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(first())
    loop.close()
    del stream
    gc.collect()

    (run,) = list_runs(workflow=flow.name)
    assert run.status == "interrupted"
    assert asyncio.run(flow.acall()) == [1, 2]
    assert run.status == "completed"


@pytest.mark.parametrize("how", ["collected", "closed"])
@pytest.mark.parametrize("place", ["body", "step", "child"])
def test_a_task_that_a_closed_loop_has_left_behind_is_interrupted(store, place, how):
    """As soon as it is thrown away, and with what it had set; whoever calls again goes on with it, and waits for nobody."""
    began = []

    async def rest() -> int:
        began.append(place)
        await asyncio.sleep(600 if len(began) == 1 else 0)
        return 7

    resting = cached_step(name="resting")(rest)
    child = workflow(name="child")(rest)

    @workflow
    async def flow(ctx: Context) -> int:
        ctx.state["a"] = {"x": 1}
        ctx.state["a"]["y"] = 2
        return await {"body": rest, "step": resting, "child": child}[place]()

    async def begun(call: Any) -> Any:
        task = asyncio.ensure_future(call)
        while not began:
            await asyncio.sleep(0.001)
        return task

    loop = asyncio.new_event_loop()
    call = flow()
    task = loop.run_until_complete(begun(call))
    loop.close()
    before = [run.status for run in list_runs()]
    if how == "closed":
        call.close()
    del task, call
    gc.collect()

    assert set(before) == {"running"}
    assert {run.status for run in list_runs()} == {"interrupted"}
    assert dict(flow.session("default").state) == {"a": {"x": 1, "y": 2}}
    assert asyncio.run(asyncio.wait_for(flow(), 20)) == 7
    assert {(run.status, run.attempt) for run in list_runs()} == {("completed", 2)}


def test_a_child_forked_while_a_run_is_active_has_no_active_run(disk):
    """A step outside any run works in it: the run is its parent's."""
    begun, over = threading.Event(), threading.Event()

    @cached_step
    def double(number: int) -> int:
        return 2 * number

    @workflow
    def flow() -> None:
        begun.set()
        over.wait(10)

    def in_child() -> None:
        os._exit(double(21))

    run = flow.start()
    begun.wait(10)
    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join(10)
    over.set()
    run.result(timeout=10)

    assert child.exitcode == 42


def test_a_service_refuses_an_empty_session_id():
    """Where a session is required, the empty text is none: it would be everybody's whose name is not known."""

    @workflow(session=lambda user: user)
    def greet(user: str) -> str:
        return f"hello {user}"

    assert greet("") == "hello "
    configure(require_session=True)
    try:
        assert greet("ann") == "hello ann"
        with pytest.raises(UsageError, match="was called with an empty session id, and this program requires one"):
            greet("")
    finally:
        configure(require_session=None)


def test_a_coroutine_that_nobody_has_awaited_is_no_result():
    """An `await` was forgotten, so nothing has run: the run fails and says so, in both colours."""

    @cached_step
    async def double(n: int) -> int:
        return 2 * n

    @workflow(name="forgot in def")
    def plain(n: int) -> object:
        return double(n)

    @workflow(name="forgot in async def")
    async def tasked(n: int) -> object:
        return double(n)

    for flow in (plain, tasked):
        with pytest.raises(
            UsageError, match=r"returned the coroutine of .*double.*, which has not run: write `return await"
        ):
            asyncio.run(flow.acall(1))
        assert flow.session("default").runs()[0].status is RunStatus.FAILED


def test_a_retry_waits_for_the_child_run_of_the_attempt_that_took_too_long():
    """Its thread was left alone and has the child still; the next attempt takes what the child gives, and nothing is paid twice."""
    executed: list[float] = []

    @workflow(name="slow child")
    def child() -> int:
        executed.append(time.monotonic())
        time.sleep(0.5 if len(executed) == 1 else 0)
        return 7

    @cached_step(name="impatient", retry=RetryPolicy(attempts=2, wait=0, timeout=0.3))
    def impatient() -> int:
        return child()

    @workflow(name="impatient parent")
    def parent() -> int:
        return impatient()

    assert parent() == 7
    assert len(executed) == 1
    assert [run.status for run in child.session("default").runs()] == [RunStatus.COMPLETED]
