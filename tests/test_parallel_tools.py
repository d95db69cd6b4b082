"""The tool calls of one turn are made at once, in both colours, streaming or not, and what was promised of one call holds for each."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from agentflow import Agent, Context, ModelRetry, cached_step, configure, current_context, list_runs, workflow
from agentflow.exceptions import RunCancelled, RunFailed, StepTimeout
from agentflow.messages import ToolCall, ToolReturn
from agentflow.testing import FunctionModel, ScriptedModel, fresh_store
from agentflow.tools import tool
from tests._ways import WAYS

PATIENCE = 20  # seconds after which a barrier breaks, and the test with it: nothing waits so long where it works

Answers: TypeAlias = Callable[[Agent[Any]], Awaitable[list[ToolReturn]]]


def returns(messages: Any) -> list[ToolReturn]:
    return [message for message in messages if isinstance(message, ToolReturn)]


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Answers:
    """Ask an agent in one of the four ways, for what its tools answered."""
    return answers_by(request.param)


def answers_by(way: str) -> Answers:
    async def answers(agent: Agent[Any]) -> list[ToolReturn]:
        return returns((await WAYS[way](agent, "?")).messages)

    return answers


@pytest.fixture(params=["run", "stream"])
def call(request: pytest.FixtureRequest) -> Answers:
    """Ask in one of the two sync ways."""
    return answers_by(request.param)


def calling(name: str, times: int) -> ScriptedModel:
    return ScriptedModel([[ToolCall.of(name, n=n) for n in range(times)], "done"])


def left_behind() -> list[threading.Thread]:
    """The threads of tools that do not end by themselves."""
    ours = [thread for thread in threading.enumerate() if thread.name == "agentflow-tool"]
    for thread in ours:
        thread.join(1)
    return [thread for thread in ours if thread.is_alive()]


async def test_the_sync_calls_of_one_turn_meet(ask: Answers) -> None:
    """As many as 32 wait for each other, with the context of the caller, and are answered in their order."""
    met, who = threading.Barrier(32, timeout=PATIENCE), contextvars.ContextVar("who", default="nobody")
    who.set("me")

    def meet(n: int) -> str:
        met.wait()
        return f"{n} {who.get()}"

    answers = await ask(Agent(calling("meet", 32), tools=[meet]))

    assert [answer.content for answer in answers] == [f"{n} me" for n in range(32)]
    assert left_behind() == []


async def test_a_loop_goes_on_while_its_sync_tools_wait() -> None:
    """They are let go by a task of the same loop, also more of them than the loop has threads in its own pool."""
    begun, let_go = threading.Semaphore(0), threading.Event()

    def wait(n: int) -> str:
        begun.release()
        return "let go" if let_go.wait(PATIENCE) else "never"

    async def release() -> None:
        for _ in range(40):
            await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        let_go.set()

    answers, _ = await asyncio.gather(answers_by("arun")(Agent(calling("wait", 40), tools=[wait])), release())

    assert {answer.content for answer in answers} == {"let go"}


def test_a_single_call_is_made_by_the_caller_itself() -> None:
    """There is nothing to be made at once with, and some libraries belong to one thread."""
    seen: list[threading.Thread] = []

    def note(n: int) -> None:
        seen.append(threading.current_thread())

    Agent(calling("note", 1), tools=[note]).run("?")

    assert seen == [threading.current_thread()]


async def test_no_more_than_32_sync_calls_are_made_at_once(call: Answers) -> None:
    """The others come after them."""
    met, counting = threading.Barrier(32, timeout=PATIENCE), threading.Lock()
    running, most = [0], [0]

    def meet(n: int) -> None:
        with counting:
            running[0] += 1
            most[0] = max(most[0], running[0])
        met.wait()
        with counting:
            running[0] -= 1
        met.wait()

    await call(Agent(calling("meet", 64), tools=[meet]))

    assert most == [32]


async def test_when_sync_calls_fail_the_first_error_is_raised_and_nothing_is_left(call: Answers) -> None:
    """What is under way is awaited, what has no place yet is never begun; the error is that of the first call, with a note."""
    ended: list[int] = []
    begun = threading.Barrier(3, timeout=PATIENCE)

    @tool(max_concurrency=3)
    def work(n: int) -> None:
        begun.wait()
        if n < 2:
            raise KeyError(n)
        for _ in range(1000):  # until the others are gone
            if threading.active_count() <= alone + 1:
                break
            threading.Event().wait(0.01)
        ended.append(n)

    alone = threading.active_count()
    with pytest.raises(KeyError, match="0") as caught:
        await call(Agent(calling("work", 20), tools=[work]))

    assert "in tool 'work'" in caught.value.__notes__[0]
    assert ended == [2]
    assert left_behind() == []


async def test_retries_timeouts_and_answers_do_not_disturb_each_other(ask: Answers) -> None:
    """Of four calls at once one speaks to the model, one takes too long, one does not fit, and one answers."""
    released = threading.Event()

    def retry() -> str:
        raise ModelRetry("say please")

    @tool(timeout=0.05)
    def slow() -> str:
        released.wait(PATIENCE)
        return "late"

    def fine(n: int) -> str:
        return f"fine {n}"

    calls = [ToolCall.of("retry"), ToolCall.of("slow"), ToolCall.of("fine", n="x"), ToolCall.of("fine", n=1)]
    try:
        answers = await ask(Agent(ScriptedModel([calls, "done"]), tools=[retry, slow, fine]))
    finally:
        released.set()

    assert [answer.is_error for answer in answers] == [True, True, True, False]
    assert answers[0].text == "say please"
    assert "slow took longer" in answers[1].text
    assert answers[3].text == "fine 1"


async def test_the_calls_of_a_turn_are_approved_one_after_another(ask: Answers) -> None:
    """A person at a terminal is asked one thing at a time, before anything is done; what was refused is not done."""
    asked: list[int] = []
    asking = threading.Lock()
    made: list[int] = []
    met = threading.Barrier(2, timeout=PATIENCE)

    def decide(name: str, arguments: Any) -> bool | str:
        assert made == []
        assert asking.acquire(blocking=False)
        threading.Event().wait(0.02)  # as long as another one would take to come
        asking.release()
        asked.append(arguments["n"])
        return arguments["n"] != 1 or "not that one"

    @tool(needs_approval=decide)
    def work(n: int) -> str:
        met.wait()
        made.append(n)
        return f"made {n}"

    answers = await ask(Agent(calling("work", 3), tools=[work]))

    assert asked == [0, 1, 2]
    assert sorted(made) == [0, 2]
    assert [answer.is_error for answer in answers] == [False, True, False]
    assert answers[1].text.endswith("not that one")


def test_ctrl_c_waits_for_what_is_under_way_and_begins_nothing_more() -> None:
    """Nothing goes on behind the back of who got the KeyboardInterrupt: neither the calls in flight, nor those that had no place yet."""
    made: list[int] = []
    begun = threading.Barrier(2, timeout=PATIENCE)

    @tool(max_concurrency=2)
    def work(n: int) -> None:
        begun.wait()
        threading.Event().wait(0.2)  # until the caller waits for the first call
        if n == 1:
            signal.pthread_kill(main, signal.SIGINT)
        threading.Event().wait(0.6 - 0.3 * n)  # longer than who waits for a place takes to look
        made.append(n)

    main = threading.main_thread().ident
    assert main
    with pytest.raises(KeyboardInterrupt):
        Agent(calling("work", 6), tools=[work]).run("?")

    assert sorted(made) == [0, 1]
    assert left_behind() == []


def test_cached_steps_that_are_called_at_once_are_steps_of_the_run() -> None:
    """They see its context and state, are remembered, and are not run again."""
    met = threading.Barrier(2, timeout=PATIENCE)
    runs: list[str] = []

    @cached_step(name="work")
    def work(ctx: Context, n: int) -> str:
        met.wait()
        runs.append(ctx.run_id)
        ctx.state[f"seen {n}"] = n
        return f"{n} {ctx.session_id}"

    agent = Agent(FunctionModel(lambda messages, info: "done" if len(messages) > 1 else both), tools=[work])
    both = [ToolCall.of("work", n=1), ToolCall.of("work", n=2)]

    @workflow(session="mine")
    def flow(ctx: Context, again: int) -> list[str]:
        texts = [each.text for each in returns(agent.run("?").messages)]
        return [*texts, str(ctx.state["seen 1"] + ctx.state["seen 2"])]

    with fresh_store():
        assert flow(1) == flow(2) == ["1 mine", "2 mine", "3"]
        last, first = list_runs()

        assert runs == [first.id] * 2
        assert [[(step.step, step.hit) for step in run.steps()] for run in (first, last)] == [
            [("work", False)] * 2,
            [("work", True)] * 2,
        ]


def test_agents_that_are_asked_by_calls_at_once_replay_in_any_order() -> None:
    """Each call is a place of its own: equal requests in two of them keep their answers, whoever is first."""
    said: list[str] = []
    order = {"first": [threading.Event(), threading.Event()], "second": [threading.Event(), threading.Event()]}
    order["first"][0].set()
    order["second"][1].set()

    def sample(messages: Any, info: Any) -> str:
        said.append(f"sample {len(said)}")
        return said[-1]

    inner, attempts, results = Agent(FunctionModel(sample)), [0], list[str]()

    def ask(who: str) -> str:
        other = {"first": "second", "second": "first"}[who]
        assert order[who][attempts[0]].wait(PATIENCE)
        answers = [inner.run("A sample, please").output for _ in range(2)]
        order[other][attempts[0]].set()
        return " ".join(answers)

    def outer(messages: Any, info: Any) -> Any:
        told = [message.text for message in messages if message.kind == "tool_return"]
        return ", ".join(told) if told else [ToolCall.of("ask", who="first"), ToolCall.of("ask", who="second")]

    agent = Agent(FunctionModel(outer), tools=[ask])

    @workflow
    def flow() -> str:
        results.append(agent.run("?").output)
        if len(results) == 1:
            attempts[0] = 1
            raise RuntimeError
        return results[-1]

    with fresh_store():
        with pytest.raises(RuntimeError):
            flow()
        flow()

    assert results == ["sample 0 sample 1, sample 2 sample 3"] * 2
    assert len(said) == 4


def test_cancelling_a_run_stops_the_calls_of_its_tools() -> None:
    """Each at its next boundary, in its own thread; nothing of them is left."""
    begun = threading.Barrier(3, timeout=PATIENCE)

    def work(n: int) -> None:
        begun.wait()
        while True:
            current_context().check()
            threading.Event().wait(0.01)

    agent = Agent(calling("work", 2), tools=[work])

    @workflow
    def flow() -> str:
        return agent.run("?").output

    with fresh_store():
        run = flow.start()
        begun.wait()
        run.cancel()

        with pytest.raises(RunCancelled):
            run.result(timeout=PATIENCE)

    assert run.status == "cancelled"
    assert left_behind() == []


def test_a_step_that_is_too_late_takes_its_calls_with_it() -> None:
    """They learn it at their next boundary, and change nothing any more."""
    ended = threading.Semaphore(0)

    def work(n: int) -> None:
        try:
            while True:
                current_context().check()
                threading.Event().wait(0.01)
        finally:
            ended.release()

    agent = Agent(calling("work", 2), tools=[work])

    @cached_step(timeout=0.1)
    def ask() -> str:
        return agent.run("?").output

    @workflow
    def flow() -> str:
        return ask()

    with fresh_store(), pytest.raises(StepTimeout):
        flow()

    assert [ended.acquire(timeout=PATIENCE) for _ in range(2)] == [True, True]
    assert left_behind() == []


@pytest.mark.parametrize("way", ["tools", "map"])
def test_runs_that_calls_at_once_wait_for_do_not_use_up_all_places(way: str) -> None:
    """A background run with one place: its threads start runs and wait for them, which get the place meanwhile."""

    @workflow(name="small")
    def small(n: int) -> int:
        return 2 * n

    def work(n: int) -> int:
        return small.start(n).result(timeout=PATIENCE)

    agent = Agent(FunctionModel(lambda messages, info: "done" if len(messages) > 1 else both), tools=[work])
    both = [ToolCall.of("work", n=1), ToolCall.of("work", n=2)]

    @workflow(name="large")
    def large(ctx: Context) -> list[str]:
        if way == "map":
            return [str(each) for each in ctx.map(work, [1, 2])]
        return [each.text for each in returns(agent.run("?").messages)]

    with fresh_store():
        configure(max_runs=1)
        try:
            assert large.start().result(timeout=2 * PATIENCE) == ["2", "4"]
        finally:
            configure(max_runs=None)


def test_an_error_is_not_replaced_by_what_was_given_up() -> None:
    """An agent inside a tool whose own calls no one wants any more says nothing of its own."""
    begun = threading.Event()

    @tool(max_concurrency=1)
    def look(n: int) -> str:
        """Look."""
        begun.set()
        refused.wait(PATIENCE)
        return str(n)

    @tool
    def research() -> str:
        """Ask another agent."""
        return Agent(calling("look", 3), tools=[look]).run("?").output

    @tool
    def bill() -> str:
        """Refuse."""
        begun.wait(PATIENCE)
        threading.Timer(0.2, refused.set).start()
        raise RuntimeError("the card was refused")

    refused = threading.Event()
    asked = Agent(ScriptedModel([[ToolCall.of("research"), ToolCall.of("bill")], "end"]), tools=[research, bill])

    with pytest.raises(RuntimeError, match="the card was refused"):
        asked.run("?")


def test_what_was_given_up_is_no_outcome_for_others() -> None:
    """A run that waits for a step of calls which nobody wants any more executes it itself."""
    held, inside, over = threading.Event(), threading.Event(), threading.Event()

    @tool(max_concurrency=1)
    def look(n: int) -> str:
        """Look."""
        if n == 99:
            held.set()
            over.wait(PATIENCE)
        return str(n)

    @cached_step(scope="global", version="1")
    def study() -> str:
        inside.set()
        return Agent(ScriptedModel([[ToolCall.of("look", n=1)], "done"]), tools=[look]).run("?").output

    @tool
    def research() -> str:
        """Study."""
        return study()

    @tool
    def bill() -> str:
        """Refuse."""
        inside.wait(PATIENCE)
        waits.wait(PATIENCE)
        threading.Timer(0.3, over.set).start()
        raise RuntimeError("the card was refused")

    @workflow
    def holds() -> str:
        return Agent(ScriptedModel([[ToolCall.of("look", n=99)], "end"]), tools=[look]).run("?").output

    @workflow
    def loses() -> str:
        model = ScriptedModel([[ToolCall.of("research"), ToolCall.of("bill")], "end"])
        return Agent(model, tools=[research, bill]).run("?").output

    @workflow
    def waits_for_it() -> str:
        waits.set()
        return study()

    waits = threading.Event()
    with fresh_store():
        holding = holds.start()
        held.wait(PATIENCE)
        losing = loses.start()
        inside.wait(PATIENCE)
        waiting = waits_for_it.start()

        with pytest.raises(RunFailed, match="the card was refused"):
            losing.result(timeout=PATIENCE)
        assert waiting.result(timeout=PATIENCE) == "done"
        assert holding.result(timeout=PATIENCE) == "end"
