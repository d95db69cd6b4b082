"""What stands around a tool: approval, time limits, so many calls at once; and what it may answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from agentflow import Agent, cached_step, workflow
from agentflow.exceptions import UsageError
from agentflow.messages import FilePart, ImagePart, TextPart, ToolCall, ToolReturn
from agentflow.testing import ScriptedModel, fresh_store
from agentflow.tools import tool
from tests._ways import WAYS

PNG = ImagePart(data=b"\x89PNG\r\n\x1a\n")

Answers: TypeAlias = Callable[[Agent[Any]], Awaitable[list[ToolReturn]]]


def answers_by(way: str) -> Answers:
    """Return what asks an agent in one of the four ways, and gives what its tools answered."""

    async def returns(agent: Agent[Any]) -> list[ToolReturn]:
        result = await WAYS[way](agent, "?")
        return [message for message in result.messages if isinstance(message, ToolReturn)]

    return returns


by_arun = answers_by("arun")


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Answers:
    return answers_by(request.param)


def calling(*calls: ToolCall) -> ScriptedModel:
    return ScriptedModel([list(calls), "done"])


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (True, "sent to ann"),
        (False, "The call of send was not approved, so it was not made."),
        ("Ask ann first.", "The call of send was not approved, so it was not made. Ask ann first."),
    ],
)
async def test_a_call_is_made_if_it_is_approved(ask: Answers, verdict: Any, told: str) -> None:
    """Who decides sees the name and the checked arguments, before anything is done; the model is told the refusal."""
    seen: list[Any] = []
    sent: list[str] = []

    def decide(name: str, arguments: Any) -> Any:
        seen.append((name, dict(arguments), list(sent)))
        return verdict

    @tool(needs_approval=decide)
    def send(to: str, copies: int = 1) -> str:
        sent.append(to)
        return f"sent to {to}"

    answers = await ask(Agent(calling(ToolCall.of("send", to="ann")), tools=[send]))

    assert [answer.text for answer in answers] == [told]
    assert answers[0].is_error is (verdict is not True)
    assert seen == [("send", {"to": "ann"}, [])]
    assert sent == (["ann"] if verdict is True else [])


async def test_arguments_that_do_not_fit_are_never_put_to_anybody(ask: Answers) -> None:
    """Nobody approves what could not be called."""

    @tool(needs_approval=lambda name, arguments: pytest.fail("asked"))
    def send(to: str) -> str:
        return to

    answers = await ask(Agent(calling(ToolCall.of("send", to=1), ToolCall.of("send", to="a", ctx="b")), tools=[send]))

    assert [answer.is_error for answer in answers] == [True, True]


async def test_who_decides_may_be_async() -> None:
    """It is awaited in an async run, and refused in a sync one."""

    async def decide(name: str, arguments: Any) -> bool:
        await asyncio.sleep(0)
        return False

    @tool(needs_approval=decide)
    def send(to: str) -> str:
        return to

    def agent() -> Agent[str]:
        return Agent(calling(ToolCall.of("send", to="ann")), tools=[send])

    assert [answer.is_error for answer in await by_arun(agent())] == [True]
    with pytest.raises(UsageError, match="needs_approval= of tool 'send' is async"):
        agent().run("?")


async def test_a_verdict_that_is_none_lets_nothing_pass(ask: Answers) -> None:
    """A function that forgot its `return` has not approved."""

    @tool(needs_approval=lambda name, arguments: None)
    def send(to: str) -> str:
        return pytest.fail("sent")

    with pytest.raises(UsageError, match="return True, False, or a reason"):
        await ask(Agent(calling(ToolCall.of("send", to="ann")), tools=[send]))


def test_a_cached_step_is_approved_on_hits_too() -> None:
    """Who decides is asked for every call, also where a remembered result would answer it."""
    seen: list[str] = []
    sent: list[str] = []

    def decide(name: str, arguments: Any) -> bool:
        seen.append(arguments["to"])
        return True

    @cached_step
    def send(to: str) -> str:
        sent.append(to)
        return to

    agent = Agent(
        calling(ToolCall.of("send", to="ann"), ToolCall.of("send", to="ann")), tools=[tool(send, needs_approval=decide)]
    )

    @workflow
    def flow() -> str:
        return agent.run("?").output

    with fresh_store():
        flow()

    assert (seen, sent) == (["ann", "ann"], ["ann"])


@pytest.mark.parametrize("limit", [0.05, timedelta(milliseconds=50)])
async def test_a_call_that_takes_too_long_is_given_up(ask: Answers, limit: Any) -> None:
    """The model is told, and goes on; a function that comes back in time is not touched."""
    released = threading.Event()

    @tool(timeout=limit)
    def slow() -> str:
        released.wait(30)
        return "late"

    @tool(timeout=30)
    def quick() -> str:
        return threading.current_thread().name

    try:
        answers = await ask(Agent(calling(ToolCall.of("slow"), ToolCall.of("quick")), tools=[slow, quick]))
    finally:
        released.set()

    assert [answer.is_error for answer in answers] == [True, False]
    assert "slow took longer than 0.05 s" in answers[0].text


async def test_an_async_call_that_takes_too_long_is_cancelled() -> None:
    """It is told by a cancellation, and a timeout of its own is its own."""
    cancelled: list[str] = []

    @tool(timeout=0.05)
    async def slow() -> str:
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.append("slow")
        return "late"

    @tool(timeout=30)
    async def broken() -> str:
        raise TimeoutError("mine")

    answers = await by_arun(Agent(calling(ToolCall.of("slow")), tools=[slow]))
    assert [answer.is_error for answer in answers] == [True]
    assert cancelled == ["slow"]
    with pytest.raises(TimeoutError, match="mine"):
        await Agent(calling(ToolCall.of("broken")), tools=[broken]).arun("?")


@pytest.mark.parametrize("slow", ["thread", "task"])
async def test_so_many_calls_are_made_at_once(slow: str) -> None:
    """Of ten calls in one turn three are under way, in threads or tasks; all are answered in their order."""
    running, most = [0], [0]

    def enter() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])

    @tool(name="look", max_concurrency=3)
    def in_thread(n: int) -> int:
        enter()
        threading.Event().wait(0.01)
        running[0] -= 1
        return n

    @tool(name="look", max_concurrency=3)
    async def in_task(n: int) -> int:
        enter()
        await asyncio.sleep(0.01)
        running[0] -= 1
        return n

    look = in_thread if slow == "thread" else in_task
    answers = await by_arun(Agent(calling(*(ToolCall.of("look", n=n) for n in range(10))), tools=[look]))

    assert [answer.text for answer in answers] == [str(n) for n in range(10)]
    assert 1 < most[0] <= 3


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ("text", "text"),
        ({"a": [1]}, '{"a":[1]}'),
        (PNG, (PNG,)),
        (["a cat", PNG, {"n": 1}], (TextPart(text="a cat"), PNG, TextPart(text='{"n":1}'))),
        ((FilePart(data=b"%PDF-1", name="a.pdf"),), (FilePart(data=b"%PDF-1", name="a.pdf"),)),
        ([], "[]"),
    ],
)
async def test_answers_are_text_json_images_or_files(ask: Answers, answer: Any, content: Any) -> None:
    """Each comes to the model as what it is."""

    def look() -> Any:
        return answer

    assert [each.content for each in await ask(Agent(calling(ToolCall.of("look")), tools=[look]))] == [content]


@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"timeout": "5"}, {"max_concurrency": 0}, {"max_concurrency": True}, {"needs_approval": True}],
)
def test_options_that_cannot_be_are_refused(options: Any) -> None:
    """Where they are written."""
    with pytest.raises(UsageError, match=next(iter(options))):
        tool(**options)
