"""Agents that remember their conversation: what they are told, once for each turn, in the session that is in force."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from agentflow import Agent, Context, History, cached_step, workflow
from agentflow.exceptions import UsageError
from agentflow.messages import ToolCall
from agentflow.testing import FunctionModel, ScriptedModel

pytestmark = pytest.mark.usefixtures("store")


class Log:
    """A model that answers with the number of its request, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.model = FunctionModel(self.answer, name="log")

    def answer(self, messages: Any, info: Any) -> str:
        self.asked.append([getattr(message, "text", None) or message.content for message in messages])
        return f"answer {len(self.asked)}"


def test_an_agent_remembers_what_was_said_in_its_session(ask):
    """The next run of the session is told the turns before, another session and another agent are not."""
    log = Log()
    guide = Agent(log.model, name="guide", instructions="Guide.", history=True)
    other = Agent(log.model, name="other", history=True)

    @workflow
    def chat(said: str, of: str = "guide") -> str:
        return ask(guide if of == "guide" else other, said)

    chat("one")
    chat("two")
    chat.with_options(session_id="else")("three")
    chat("four", "other")

    assert log.asked == [
        ["Guide.", "one"],
        ["Guide.", "one", "answer 1", "two"],
        ["Guide.", "three"],
        ["four"],
    ]


def test_calls_of_tools_are_remembered_too(ask):
    """A turn is all that was said in it, in its order."""
    kinds: list[list[str]] = []
    model = ScriptedModel([ToolCall(id="1", name="look", arguments="{}"), "seen"])
    guide = Agent(model, name="guide", tools=[look], history=True)

    def note(messages: Any, info: Any) -> str:
        kinds.append([message.kind for message in messages])
        return "fine"

    @workflow
    def chat(said: str) -> str:
        return ask(guide, said)

    chat("one")
    with guide.override(model=FunctionModel(note)):
        chat("two")

    assert kinds == [["user", "response", "tool_return", "response", "user"]]


def look() -> str:
    return "a cat"


def test_a_turn_is_added_once_when_its_run_goes_on(ask):
    """The next attempt tells the model the very same, so that the answers are found, and adds nothing twice."""
    log, fails = Log(), [True]
    guide = Agent(log.model, name="guide", history=True)

    @workflow
    def chat(said: str) -> str:
        answers = [ask(guide, said), ask(guide, f"{said} again")]
        if fails:
            fails.clear()
            raise RuntimeError
        return " ".join(answers)

    with pytest.raises(RuntimeError):
        chat("one")
    assert len(log.asked) == 2

    assert chat("one") == "answer 1 answer 2"
    assert len(log.asked) == 2
    chat("two")
    assert log.asked[2] == ["one", "answer 1", "one again", "answer 2", "two"]


def test_a_turn_that_fails_is_not_added(ask):
    """What was asked is forgotten with the answer that did not come."""
    log = Log()
    guide = Agent(log.model, name="guide", history=True)

    @workflow
    def chat(said: str) -> str:
        return ask(guide, said)

    with guide.override(model=ScriptedModel([RuntimeError("no")])), pytest.raises(RuntimeError):
        chat("one")
    chat("two")

    assert log.asked == [["two"]]


def test_in_a_step_a_turn_is_kept_with_the_result(ask):
    """A step that fails leaves no turn, one that succeeds leaves one, and a hit adds none; nobody is warned."""
    log, fails = Log(), [True]
    guide = Agent(log.model, name="guide", history=True)

    @cached_step
    def reply(said: str) -> str:
        answer = ask(guide, said)
        if fails:
            fails.clear()
            raise RuntimeError
        return answer

    @workflow
    def chat(said: str, n: int) -> str:
        return reply(said)

    with pytest.raises(RuntimeError):
        chat("one", 1)
    chat("one", 2)
    chat("one", 3)
    chat("two", 4)

    assert log.asked == [["one"], ["one"], ["one", "answer 2", "two"]]


def test_only_the_newest_messages_are_told(ask):
    """Whole turns are left out, and what nobody will be told again is not kept for ever."""
    log = Log()
    guide = Agent(log.model, name="guide", history=History(max_messages=4))

    @workflow
    def chat(n: int) -> str:
        return ask(guide, f"question {n}")

    for n in range(1, 12):
        chat(n)

    assert log.asked[-1] == ["question 9", "answer 9", "question 10", "answer 10", "question 11"]
    assert len(chat.session("default").state["agentflow.history.guide"]["turns"]) <= 5


@pytest.mark.parametrize("kind", ["function", "agent", "own"])
def test_older_turns_are_summarised(ask, kind):
    """What is left out is told as a summary, which is made anew, with the one before, when too much has come together."""
    made: list[str] = []

    def shorten(text: str) -> str:
        made.append(text)
        return f"summary {len(made)}"

    log = Log()

    def answer(messages: Any, info: Any) -> str:
        is_summary = messages[0].kind == "system" and messages[0].content.startswith("Summarise")
        return shorten(messages[-1].text) if is_summary else log.answer(messages, info)

    model = FunctionModel(answer, name="both")
    chosen: Any = {"function": shorten, "agent": Agent(model, instructions="Summarise."), "own": True}[kind]
    guide = Agent(model, name="guide", history=History(max_messages=4, summarize=chosen))

    @workflow
    def chat(n: int) -> str:
        return ask(guide, f"q{n}")

    for n in range(1, 7):
        chat(n)

    assert made == [
        "User: q1\nAssistant: answer 1\nUser: q2\nAssistant: answer 2",
        "Before that: summary 1\nUser: q3\nAssistant: answer 3\nUser: q4\nAssistant: answer 4",
    ]
    assert log.asked[2] == ["q1", "answer 1", "q2", "answer 2", "q3"]
    assert log.asked[3] == ["Earlier in this conversation:\nsummary 1", "q3", "answer 3", "q4"]
    assert log.asked[5] == ["Earlier in this conversation:\nsummary 2", "q5", "answer 5", "q6"]


def test_a_run_that_goes_on_is_told_the_summary_that_it_was_told():
    """Neither the summary nor an answer is asked for again, although more has been said since."""
    log, summaries, fails = Log(), [], [True]

    def shorten(text: str) -> str:
        summaries.append(text)
        return f"summary {len(summaries)}"

    guide = Agent(log.model, name="guide", history=History(max_messages=2, summarize=shorten))

    @workflow
    def chat(said: str) -> list[str]:
        answers = [guide.run(f"{said} {n}").output for n in range(5)]
        if fails:
            fails.clear()
            raise RuntimeError
        return answers

    with pytest.raises(RuntimeError):
        chat("one")
    asked, summarised = len(log.asked), len(summaries)

    assert chat("one") == [f"answer {n + 1}" for n in range(5)]
    assert (len(log.asked), len(summaries)) == (asked, summarised)


def test_two_runs_of_one_session_both_keep_their_turns():
    """Turns that are taken at the same time in two runs are both remembered."""
    both, log = threading.Barrier(2, timeout=30), Log()

    def answer(messages: Any, info: Any) -> str:
        both.wait()
        return "fine"

    guide = Agent(FunctionModel(answer), name="guide", history=True)

    @workflow
    def chat(said: str) -> str:
        return guide.run(said).output

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(chat, ["one", "two"]))
    with guide.override(model=log.model):
        chat("three")

    assert sorted(log.asked[0]) == ["fine", "fine", "one", "three", "two"]


def test_a_history_stands_beside_a_typed_state():
    """A model of the state need not know of it, and does not see it."""
    log = Log()
    guide = Agent(log.model, name="guide", history=True)

    class Notes(BaseModel):
        count: int = 0

    @cached_step
    def reply(said: str) -> str:
        return guide.run(said).output

    @workflow(state=Notes)
    def chat(ctx: Context[Notes], said: str) -> dict[str, object]:
        ctx.state.count += 1
        guide.run(said)
        reply(f"{said} in a step")
        return ctx.state.model_dump()

    chat("one")

    assert chat("two") == {"count": 2}
    assert log.asked[-1] == [
        *("one", "answer 1", "one in a step", "answer 2", "two", "answer 3"),
        "two in a step",
    ]


def test_a_child_run_remembers_in_its_own_workflow():
    """The session is that of the workflow that asks."""
    log = Log()
    guide = Agent(log.model, name="guide", history=True)

    @workflow
    def inner(said: str) -> str:
        return guide.run(said).output

    @workflow
    def outer() -> None:
        guide.run("before")
        inner("child")
        guide.run("after")

    outer()

    assert log.asked == [["before"], ["child"], ["before", "answer 1", "after"]]


def test_a_history_needs_a_name_and_a_session():
    """Both are said before anything is asked."""
    model = ScriptedModel([])
    with pytest.raises(UsageError, match="name="):
        Agent(model, history=True)
    with pytest.raises(UsageError, match="no workflow is running"):
        Agent(model, name="guide", history=True).run("?")
    with pytest.raises(UsageError, match="max_messages"):
        History(max_messages=0)
    with pytest.raises(UsageError, match="needs max_messages"):
        History(summarize=True)
