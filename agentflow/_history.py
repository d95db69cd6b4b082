"""What an agent remembers of its conversation in a session: which earlier turns it is told, and how a new one is added.

The turns lie in the session's state, under one key for each agent, so that the rules of state hold for them: a turn that was
taken in a step is kept if the step's result is. A turn notes which earlier ones it was told: a run that goes on, and takes a turn
again that it had taken before, tells its model the very same, and the recorded answers are found.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs
from pydantic import TypeAdapter

from agentflow._recording import RECORDING, RESERVED
from agentflow.exceptions import StateConflict, UsageError
from agentflow.messages import Message, ModelResponse, SystemMessage, ToolReturn, UserMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow._recording import Turn

__all__ = ["SUMMARIZE", "History", "Past", "Summarizer", "recall"]

SUMMARIZE: Final = (
    "Summarise the conversation that you are given, for an assistant who goes on with it: who wants what, what was found and decided, "
    "names and numbers. Write a few sentences."
)
"""What a model is told that summarises."""

_mutex: Final = threading.RLock()


class _Said(Protocol):
    @property
    def output(self) -> Any: ...


class Summarizer(Protocol):
    """An agent, as far as summarising goes."""

    def run(self, prompt: str) -> _Said:
        """Answer a prompt."""
        ...

    async def arun(self, prompt: str) -> _Said:
        """Answer a prompt without blocking."""
        ...


@attrs.frozen(kw_only=True)
class History:
    """How much of its conversation in a session an agent is told.

    ```python
    from agentflow import Agent, History, workflow
    from agentflow.testing import FunctionModel

    echo = FunctionModel(lambda messages, info: f"message {len(messages)}")
    guide = Agent(echo, name="guide", history=History(max_messages=4))

    @workflow(session="trip")
    def ask(question: str) -> str:
        return guide.run(question).output

    assert [ask(question) for question in ("Where to?", "When?", "How?", "Why?")] == ["message 1", "message 3", "message 5", "message 5"]
    ```

    Args:
        max_messages: At most so many earlier messages; whole turns are left out, oldest first. None: all.
        summarize: What makes a summary of the turns that are left out, which the agent is told in their place: True for the agent's
            own model, an agent, or a function of their text. It is asked when more than `max_messages` have come together.

    Raises:
        UsageError: If an option cannot be what it is.
    """

    max_messages: int | None = None
    summarize: bool | Summarizer | Callable[[str], str] = False

    def __attrs_post_init__(self) -> None:
        most = self.max_messages
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise UsageError(f"History(max_messages={most!r}): write a number from 1, or None for all messages")
        if self.summarize and most is None:
            raise UsageError("History(summarize=...) needs max_messages=: what is not left out is not summarised")


_Record: TypeAlias = dict[str, Any]


class Past:
    """What an agent is told of earlier turns when it takes one.

    Args:
        history: How much.
        turn: Which turn it takes, and where turns are kept.
        name: The agent's.

    Attributes:
        messages: What it is told word for word.
        summary: What it is told of what came before, None for nothing.
        transcript: What is yet to be summarised, as text; None for nothing.
    """

    def __init__(self, history: History, turn: Turn, name: str) -> None:
        self._most = history.max_messages
        self._turn = turn
        self._key = f"{RESERVED}history.{name}"
        with _mutex:
            record = self._record()
            turns: dict[str, _Record] = record["turns"]
            again = turns.get(turn.id)
            told, left_out = (
                self._again(list(turns), again) if again else self._window(record, summarizing=bool(history.summarize))
            )
            self.summary: str | None = again["summary"] if again else record["summary"]["text"]
            self._first: str | None = told[0] if told else None
            self._last: str | None = told[-1] if told else None
            self._until = left_out[-1] if left_out else None
            self.messages = [message for each in told for message in _read(turns[each])]
            earlier = [SystemMessage(content=self.summary)] if self.summary and left_out else []
            dropped = [message for each in left_out for message in _read(turns[each])]
        self.transcript = _transcript([*earlier, *dropped]) if dropped else None

    def _record(self) -> _Record:
        kept: _Record | None = self._turn.state.get(self._key)
        return {"turns": {}, "summary": {"text": None, "until": None}} if kept is None else kept

    @staticmethod
    def _again(turns: list[str], again: _Record) -> tuple[list[str], list[str]]:
        """Return what a turn was told that is taken again."""
        if again["first"] not in turns:
            return [], []
        return turns[turns.index(again["first"]) : turns.index(again["last"]) + 1], []

    def _window(self, record: _Record, *, summarizing: bool) -> tuple[list[str], list[str]]:
        """Return the newest turns, and those that are to be summarised now."""
        turns: dict[str, _Record] = record["turns"]
        ids, until = list(turns), record["summary"]["until"]
        fresh = ids[ids.index(until) + 1 :] if until in turns else ids
        if self._most is None or _count(turns, fresh) <= self._most:
            return fresh, []
        # A summary is worth a request: it makes room for half as many again.
        limit = self._most // 2 if summarizing else self._most
        told = list(fresh)
        while told and _count(turns, told) > limit:
            told.pop(0)
        return told, fresh[: len(fresh) - len(told)] if summarizing else []

    def summarized(self, text: str) -> None:
        """Take the summary of what is left out, and keep it."""
        self.summary = text
        self._changed(lambda record: record["summary"].update(text=text, until=self._until))

    def keep(self, messages: Sequence[Message]) -> None:
        """Add the turn, unless this run has added it before."""
        said = [_adapter().dump_python(message, mode="json") for message in messages]
        turn = {
            "first": self._first,
            "last": self._last,
            "summary": self.summary,
            "run": self._turn.run_id,
            "messages": said,
        }

        def add(record: _Record) -> None:
            turns: dict[str, _Record] = record["turns"]
            if self._turn.id not in turns:
                turns[self._turn.id] = turn
                self._trim(turns)

        self._changed(add)

    def _trim(self, turns: dict[str, _Record]) -> None:
        """Forget turns that nobody will be told again; many at once, since two runs that forget the same one are in conflict."""
        ids = list(turns)
        needed = [each["first"] for each in turns.values() if each["run"] == self._turn.run_id]
        if self._most is None or not needed or needed[0] not in turns:
            return
        old = ids[: ids.index(needed[0])]
        if _count(turns, old) > self._most:
            for each in old:
                del turns[each]

    def _changed(self, change: Callable[[_Record], None]) -> None:
        while True:
            with _mutex:
                record = self._record()
                change(record)
                try:
                    self._turn.state[self._key] = record
                except StateConflict:
                    continue  # another run was faster: its turns stay, and the change is made again
            return


def recall(history: History, name: str) -> Past:
    """Return what an agent is told of earlier turns in the session that is in force.

    Raises:
        UsageError: If there is none.
    """
    recording = RECORDING.get()
    if recording is None:
        raise UsageError(
            f"agent {name!r} has a history, which is kept in the session of a workflow, and no workflow is running here: "
            "call it from one, or set history=False"
        )
    return Past(history, recording.turn(name), name)


def _count(turns: dict[str, _Record], ids: Sequence[str]) -> int:
    return sum(len(turns[each]["messages"]) for each in ids)


def _read(turn: _Record) -> list[Message]:
    return [_adapter().validate_python(message) for message in turn["messages"]]


@cache
def _adapter() -> TypeAdapter[Message]:
    return TypeAdapter(Message)


def _transcript(messages: Sequence[Message]) -> str:
    """Return messages as text for whoever summarises them."""
    lines: list[str] = []
    for message in messages:
        match message:
            case SystemMessage():
                lines.append(f"Before that: {message.content}")
            case UserMessage():
                lines.append(f"User: {message.text}")
            case ModelResponse():
                calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
                lines.append(f"Assistant: {' '.join(filter(None, [message.text, *calls]))}")
            case ToolReturn():
                lines.append(f"{message.tool_name} answered: {message.text}")
    return "\n".join(lines)
