"""Runs in the background: started here, asked from anywhere, and each way to end told apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest

from agentflow import Agent, Context, Run, cached_step, configure, get_run, list_runs, workflow
from agentflow.exceptions import (
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunInterrupted,
    RunNotFound,
    RunTimeout,
    UnkeyableArgument,
    UnserializableValue,
    UsageError,
)
from agentflow.executors import Executor, Job, ThreadExecutor, execute
from agentflow.testing import FunctionModel

PATIENCE = 20

pytestmark = pytest.mark.usefixtures("store")


@cached_step
def double(n: int) -> int:
    return 2 * n


@workflow
def plain(ctx: Context, n: int) -> int:
    ctx.state["n"] = n
    return double(n)


@workflow
async def tasked(ctx: Context, n: int) -> int:
    ctx.state["n"] = n
    await asyncio.sleep(0)
    return double(n)


@workflow
def streamed(ctx: Context, n: int) -> Iterator[str]:
    ctx.state["n"] = n
    yield "a"
    yield str(double(n))


@workflow
async def astreamed(ctx: Context, n: int) -> AsyncIterator[int]:
    ctx.state["n"] = n
    yield double(n)
    await asyncio.sleep(0)
    yield n


@workflow
def returning(n: int) -> Generator[int, None, str]:
    yield n
    return "what it returned"


COLOURS = [
    pytest.param(plain, 14, id="plain"),
    pytest.param(tasked, 14, id="async"),
    pytest.param(streamed, "a14", id="stream"),
    pytest.param(astreamed, [14, 7], id="async-stream"),
    pytest.param(returning, "what it returned", id="returning-stream"),
]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opens at the end of the test, so that no thread is left waiting."""
    event = threading.Event()
    gates.append(event)
    yield event
    event.set()
    gates.clear()


gates: list[threading.Event] = []


@workflow
def gated(n: int) -> int:
    gates[-1].wait(PATIENCE)
    return n


@workflow
def raising(n: int) -> int:
    try:
        return n // 0
    except ZeroDivisionError as error:
        raise ValueError("no such number") from error


@pytest.mark.parametrize(("flow", "expected"), COLOURS)
def test_a_started_run_gives_what_the_call_would(flow, expected):
    """Each colour runs in the background and gives its result, with the run recorded as any other."""
    run = flow.start(7)

    assert run.result(timeout=PATIENCE) == expected
    assert (run.status, run.attempt, run.error, run.workflow) == ("completed", 1, None, flow.name)
    assert get_run(run.id) == run
    assert json.loads(run.result_json()) == expected


@pytest.mark.parametrize(("flow", "expected"), COLOURS)
async def test_a_started_run_can_be_awaited(flow, expected):
    """The async twins wait without blocking the loop."""
    run = await flow.astart(7)

    assert await run.aresult(timeout=PATIENCE) == expected
    assert json.loads(await run.aresult_json(timeout=PATIENCE)) == expected


def test_a_run_is_pending_until_a_thread_is_free(gate):
    """No more than `max_runs` run at once, and what waits says so."""
    configure(max_runs=1)
    try:
        runs = [gated.start(n) for n in range(3)]
        wait_until(lambda: runs[0].status == "running")
        waiting = [(run.status, run.attempt) for run in runs[1:]]
        gate.set()
        results = [run.result(timeout=PATIENCE) for run in runs]
    finally:
        configure(max_runs=None)

    assert waiting == [("pending", 0), ("pending", 0)]
    assert results == [0, 1, 2]


@pytest.mark.parametrize("how", ["result", "events", "aresult", "aevents"])
def test_however_a_run_waits_for_another_one_it_lets_it_have_its_place(how):
    """Also one that awaits it, or follows its events."""

    @workflow
    def child() -> str:
        return "done"

    @workflow
    def parent() -> str:
        run = child.start()
        return run.result() if how == "result" else [event.type for event in run.events()][-1]

    @workflow
    async def aparent() -> str:
        run = await child.astart()
        return await run.aresult() if how == "aresult" else [event.type async for event in run.aevents()][-1]

    configure(max_runs=1)
    try:
        result = (aparent if how.startswith("a") else parent).start().result(timeout=PATIENCE)
    finally:
        configure(max_runs=None)

    assert result in {"done", "run_completed"}


def test_runs_that_wait_for_runs_do_not_use_up_all_places():
    """A run that waits for another one lets it have its place."""

    @workflow
    def parent(depth: int) -> int:
        return parent.start(depth - 1).result(timeout=PATIENCE) + 1 if depth else 0

    configure(max_runs=1)
    try:
        assert parent.start(5).result(timeout=PATIENCE) == 5
    finally:
        configure(max_runs=None)


def test_a_run_whose_executor_fails_after_it_has_begun_keeps_its_lock(gate):
    """It is executed, so that nobody else may take it."""

    class Late:
        name = "late"

        def submit(self, job: Job) -> None:
            threading.Thread(target=job.run).start()
            wait_until(lambda: get_run(job.run_id).status == "running")
            raise TimeoutError("no word from the worker")

    with pytest.raises(TimeoutError):
        gated.with_options(executor=Late()).start(3)
    (run,) = list_runs(workflow=gated.name)
    status = run.status
    gate.set()

    assert status == "running"
    assert run.result(timeout=PATIENCE) == 3


def test_a_run_that_is_not_finished_is_told_from_one_that_is(gate):
    """`RunTimeout` says not yet, and the run goes on."""
    run = gated.start(3)

    with pytest.raises(RunTimeout, match="ask again later") as raised:
        run.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        run.result(timeout=0)
    gate.set()

    assert raised.value.run_id == run.id
    assert run.result(timeout=PATIENCE) == 3


def test_a_failed_run_tells_type_message_and_traceback():
    """`RunFailed` has what whoever asks needs, in any process, and no local variables."""
    run = raising.start(1)

    with pytest.raises(RunFailed) as raised:
        run.result(timeout=PATIENCE)

    failed = raised.value
    assert (failed.error_type, failed.error_message, failed.attempts) == ("ValueError", "no such number", 1)
    assert "ZeroDivisionError" in failed.traceback
    assert "return n // 0" in failed.traceback
    assert (run.status, run.error) == ("failed", "ValueError: no such number")


def test_a_direct_call_and_a_start_continue_each_other():
    """Starting is calling: it continues what a call left unfinished."""
    with pytest.raises(ValueError, match="no such number"):
        raising(5)

    run = raising.start(5)
    with pytest.raises(RunFailed):
        run.result(timeout=PATIENCE)

    assert run.attempt == 2
    assert len(list_runs(workflow=raising.name)) == 1


ANSWERS = {
    "not yet": RunTimeout,
    "failed": RunFailed,
    "cancelled": RunCancelled,
    "interrupted": RunInterrupted,
    "unknown": RunNotFound,
}


@contextlib.contextmanager
def a_run_that_has(ended: str) -> Iterator[Run]:
    """A run without a result, for one of the five reasons that there are."""

    @workflow
    def flow() -> Iterator[int]:
        yield 1
        if ended == "failed":
            raise ValueError(ended)

    stream = flow()
    next(stream)
    run = list_runs(workflow=flow.name)[0]
    if ended == "cancelled":
        run.cancel()
    if ended == "unknown":
        assert next(stream, None) is None
        flow.session("default").delete()
    if ended == "failed":
        with pytest.raises(ValueError, match=ended):
            next(stream)
    if ended in ("cancelled", "interrupted"):
        stream.close()
    yield run
    stream.close()


@pytest.mark.parametrize("ask", ["result", "result_json", "aresult", "aresult_json"])
@pytest.mark.parametrize("ended", ANSWERS)
def test_there_are_five_reasons_for_no_result(ended, ask):
    """Each has an error of its own, whoever asks, which names the run and is none of the others."""
    with a_run_that_has(ended) as run, pytest.raises(RunError) as raised:
        given = getattr(run, ask)(timeout=0.01)
        asyncio.run(given)

    assert [reason for reason, error in ANSWERS.items() if isinstance(raised.value, error)] == [ended]
    assert raised.value.run_id == run.id


def test_an_unknown_run_is_told():
    """A run that is nowhere is `RunNotFound`, also once it was deleted."""
    run = plain.start(7)
    run.result(timeout=PATIENCE)
    plain.session("default").delete()

    with pytest.raises(RunNotFound):
        run.result()
    with pytest.raises(RunNotFound):
        get_run("nothing")


def test_an_abandoned_run_is_interrupted_for_who_asks(disk):
    """What no process has any more does not keep anybody waiting."""
    with pytest.raises(SystemExit):
        leaving(1)

    with pytest.raises(RunInterrupted, match="go on"):
        list_runs(workflow=leaving.name)[0].result()


@workflow
def leaving(n: int) -> None:
    raise SystemExit


def test_results_that_cannot_be_stored_are_told():
    """The run completed, and only its result is not to be had."""

    @workflow
    def odd() -> object:
        return object()

    run = odd.start()

    with pytest.raises(UnserializableValue, match="plain data"):
        run.result(timeout=PATIENCE)
    assert run.status == "completed"


def test_the_steps_of_a_run():
    """Each step call is listed with how it was answered, how often it was tried, and how it ended."""
    tries: list[int] = []

    @cached_step(retry=3)
    def flaky(n: int) -> int:
        tries.append(n)
        if len(tries) < 2:
            raise ValueError("not yet")
        return n

    @cached_step
    def broken(n: int) -> int:
        raise KeyError(n)

    @workflow
    def flow(n: int) -> None:
        double(n)
        flaky(n)
        broken(n)

    double(1)
    with pytest.raises(KeyError):
        flow(1)
    with pytest.raises(KeyError):
        flow(1)
    steps = list_runs(workflow=flow.name)[0].steps()

    seen = [(step.step.rpartition(".")[2], step.status, step.hit, step.attempts, step.run_attempt) for step in steps]
    assert seen[1:3] == [("flaky", "completed", False, 2, 1), ("broken", "failed", False, 1, 1)]
    assert seen[4:] == [("flaky", "completed", True, 0, 2), ("broken", "failed", False, 1, 2)]
    assert steps[2].error == "KeyError: 1"
    assert steps[1].key == flaky.with_options(workflow=flow.name).key(1)
    assert all(step.seconds is not None and step.seconds >= 0 for step in steps)


def test_the_steps_of_a_run_that_runs(gate):
    """A step under way is `running`, and `interrupted` once its run is over without it."""

    @cached_step
    def waits(n: int) -> int:
        gates[-1].wait(PATIENCE)
        raise SystemExit

    @workflow
    def flow(ctx: Context, n: int) -> int:
        double(n)
        ctx.state["begun"] = True
        return waits(n)

    run = flow.start(1)
    wait_until(lambda: "begun" in flow.session("default").state)
    gate.set()
    with pytest.raises(RunInterrupted):
        run.result(timeout=PATIENCE)

    assert [step.status for step in run.steps()] == ["completed", "failed"]


def test_usage_is_what_the_recorded_requests_used():
    """Requests and tokens of all attempts count, those of children too; answers that are replayed do not."""
    agent = Agent(FunctionModel(lambda messages, info: "an answer"))

    @workflow
    def child(n: int) -> str:
        return agent.run("and you?").output

    @workflow
    def flow(n: int) -> str:
        agent.run("hello")
        child(n)
        raise ValueError("not finished")

    for _ in range(2):
        with pytest.raises(ValueError, match="not finished"):
            flow(1)
    used = list_runs(workflow=flow.name)[0].usage

    assert used.requests == 2


def test_context_variables_travel_and_the_run_around_does_not():
    """A run started inside another one is a run of its own, with the caller's context variables."""
    import contextvars

    word = contextvars.ContextVar("word", default="")

    @workflow
    def inner() -> str:
        return word.get()

    @workflow
    def outer() -> str:
        word.set("said")
        return inner.start().id

    inner_run = get_run(outer())

    assert inner_run.result(timeout=PATIENCE) == "said"
    assert list_runs(workflow=outer.name)[0].children() == []


def test_arguments_that_cannot_be_keyed_are_refused_where_it_is_started():
    """A mistake of the caller is the caller's, not the run's."""

    @workflow
    def flow(thing: object) -> None: ...

    with pytest.raises(UnkeyableArgument):
        flow.start(object())
    assert list_runs() == []


class Elsewhere:
    """An executor of somebody's own: it keeps the jobs until it is told to go on."""

    name = "elsewhere"

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        if job.workflow == raising.name:
            raise UsageError("not here")
        self.jobs.append(job)


def test_an_executor_of_ones_own():
    """Whatever has a name and takes jobs executes runs; what it refuses is raised, and recorded as failed."""
    elsewhere = Elsewhere()

    run = plain.with_options(executor=elsewhere).start(7)
    before = run.status
    elsewhere.jobs[0].run()
    with pytest.raises(UsageError, match="not here"):
        raising.with_options(executor=elsewhere).start(7)

    assert isinstance(elsewhere, Executor)
    assert isinstance(ThreadExecutor(), Executor)
    assert (before, run.status, run.result(timeout=0)) == ("pending", "completed", 14)
    assert list_runs(workflow=raising.name)[0].error == "agentflow.exceptions.UsageError: not here"


def test_a_run_is_handed_to_somebody_else():
    """An executor lets go of a run, and a worker that has imported the workflow executes it, once."""
    states: list[str] = []

    class Queue:
        name = "queue"

        def submit(self, job: Job) -> None:
            with job.handed_over():
                states.append(get_run(job.run_id).status)
                worker = threading.Thread(target=execute, args=(job.run_id,))
                worker.start()
                worker.join(PATIENCE)

    run = plain.with_options(executor=Queue()).start(7)

    assert states == ["pending"]
    assert run.result(timeout=0) == 14
    with pytest.raises(RunConflict, match="it is completed"):
        execute(run.id)
    with pytest.raises(RunNotFound):
        execute("nothing")


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: configure(executor="threads"),
        lambda: configure(executor=object()),
        lambda: configure(max_runs=0),
        lambda: configure(max_runs=True),
        lambda: plain.with_options(executor=object()),
        lambda: plain.start(1).result(timeout=-1),
        lambda: plain.start(1).result(timeout="1"),
    ],
)
def test_mistakes_are_told_as_such(mistake):
    """What cannot be an executor, a number of runs or a timeout is a `UsageError`."""
    with pytest.raises(UsageError):
        mistake()


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
