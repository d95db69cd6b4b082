"""One conversation with a model: what to ask, which tools to run, what to say about a mistake, when it is over.

Theory of operation. A `Conversation` decides and does nothing: it has no I/O, no clock and no colour.
A driver asks `next_action()`, does it, and tells what came of it, until the action is `Finish`:

    AskModel ──receive_response──▶ RunTools ──receive_results──▶ AskModel ─ … ─▶ Finish

A mistake of the model becomes a message to it (wrong arguments, an unknown tool once, a wrong output `output_retries`
times) and the next action asks again; one mistake too many is raised out of the `receive_*` that found it.
A conversation belongs to one run: everything that changes in a run is here, and nothing of it on the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import attrs
from pydantic import ValidationError
from pydantic_core import to_json

from agentflow._call_delta import CallDelta
from agentflow._cards import Card, Table, bundle
from agentflow._output import problems
from agentflow._usage import spent
from agentflow.exceptions import OutputInvalid, TurnLimitExceeded, UnexpectedModelBehavior, UnknownTool
from agentflow.messages import (
    Message,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    SystemMessage,
    ToolCall,
    ToolDefinition,
    ToolReturn,
    Usage,
    UserMessage,
)
from agentflow.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentflow._output import Output
    from agentflow.messages import ToolPart

__all__ = ["OUTPUT_TOOL", "AgentResult", "AskModel", "Conversation", "Finish", "PlannedCall", "RunTools", "Terms"]

T = TypeVar("T")

OUTPUT_TOOL: Final = "final_answer"
"""The tool by which a model without JSON schemas gives its output."""

_CUT_SHORT: Final[Mapping[str, str]] = {
    "length": "reached its limit of tokens before it was done. Raise settings.max_tokens or ask for less",
    "content_filter": "was stopped by the provider's content filter. Change the prompt",
}
"""Endings that leave an answer incomplete, which must never pass for a whole one."""


class ArgumentReader(Protocol):
    """What a conversation needs to know of a tool."""

    @property
    def definition(self) -> ToolDefinition:
        """The tool as the model sees it."""
        ...

    def read_arguments(self, text: str) -> Mapping[str, Any]:
        """Return checked arguments, or raise ValidationError."""
        ...


@attrs.frozen
class AgentResult(Generic[T]):
    """What came of one run of an agent.

    ```python
    from agentflow import Agent
    from agentflow.testing import ScriptedModel

    result = Agent(ScriptedModel(["Hello!"])).run("Say hello")
    assert result.output == "Hello!"
    assert [message.kind for message in result.messages] == ["user", "response"]
    ```

    Attributes:
        output: The answer, of the agent's `output_type`.
        messages: The whole conversation.
        usage: What its model requests used and cost, those of agents that its tools have asked included; a remembered answer
            counts nothing.
        tool_calls: The calls that the model made, in order, also those that were refused.
    """

    output: T
    messages: tuple[Message, ...]
    usage: Usage
    tool_calls: tuple[ToolCall, ...]

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook shows: the answer, the calls of tools, and what it used."""
        calls = tuple((call.name, call.arguments) for call in self.tool_calls)
        tables = (Table("tool calls", ("tool", "arguments"), calls),) if calls else ()
        text = self.output if isinstance(self.output, str) else _as_json(self.output)
        return bundle(Card("Answer", "", facts=(("used", spent(self.usage)),), tables=tables, text=text))


def _as_json(output: object) -> str:
    """Return JSON of anything, for a person to read."""
    return to_json(output, indent=2, fallback=repr, bytes_mode="base64", inf_nan_mode="strings").decode()


@attrs.frozen
class Terms(Generic[T]):
    """What a conversation goes by: the agent and its model as far as decisions need them.

    Attributes:
        agent: The agent, for messages to people.
        model: The model's name.
        tools: The tools by name.
        output: The form of the answer.
        form: How the model is held to the form of its answer: by its provider, by a tool that takes the answer, or by words.
        settings: Options of every request.
        max_turns: So many answers the model may give.
        output_retries: So many corrections of its output it may try.
        system: What the model is told above all.
    """

    agent: str
    model: str
    tools: Mapping[str, ArgumentReader]
    output: Output[T]
    form: Literal["schema", "tool", "words"]
    settings: ModelSettings
    max_turns: int
    output_retries: int
    system: str | None

    @property
    def by_tool(self) -> bool:
        """Whether the answer is given by a tool."""
        return self.form == "tool" and self.output.schema is not None

    @property
    def in_prose(self) -> bool:
        """Whether the answer may stand among words."""
        return self.form == "words"

    def request(self, messages: Sequence[Message]) -> ModelRequest:
        """Return the request that continues these messages."""
        definitions = [tool.definition for tool in self.tools.values()]
        if self.by_tool and self.output.schema is not None:
            schema = self.output.schema.json_schema
            definitions.append(ToolDefinition(name=OUTPUT_TOOL, description=_OUTPUT_TOOL_USE, parameters=schema))
        return ModelRequest(
            messages=tuple(messages),
            tools=tuple(definitions),
            tool_choice="required" if self.by_tool else "auto",
            output=self.output.schema if self.form == "schema" else None,
            settings=self.settings,
        )


_OUTPUT_TOOL_USE: Final = "Give the final answer. Call it once, alone, when everything else is done."


@attrs.frozen
class AskModel:
    """Send this request and pass the answer to `receive_response`."""

    request: ModelRequest


@attrs.frozen
class PlannedCall:
    """A tool call whose arguments were checked."""

    call: ToolCall
    arguments: Mapping[str, Any]
    place: str = ""
    """Which call of the conversation it is; the same when the conversation is had again."""

    def answered(self, content: str | tuple[ToolPart, ...]) -> ToolReturn:
        """Return what the tool answered, as a message."""
        return ToolReturn(tool_call_id=self.call.id, tool_name=self.call.name, content=content)

    def refused(self, reason: str) -> ToolReturn:
        """Return why there is no answer, as a message."""
        return _error(self.call, reason)


@attrs.frozen
class RunTools:
    """Make these calls and pass what they return to `receive_results`, in this order."""

    calls: tuple[PlannedCall, ...]


@attrs.frozen
class Finish(Generic[T]):
    """It is over."""

    result: AgentResult[T]


Action: TypeAlias = AskModel | RunTools | Finish[T]


class Conversation(Generic[T]):
    """The state of one run of an agent, and the decisions in it; see the top of the module.

    Args:
        terms: What it goes by.
        prompt: What the user says first.

    Attributes:
        spent: What each paid answer has used, those of agents that its tools have asked included.
    """

    def __init__(self, terms: Terms[T], prompt: str | UserMessage) -> None:
        self._terms = terms
        self._messages: list[Message] = [] if terms.system is None else [SystemMessage(content=terms.system)]
        self._begin = len(self._messages)
        self.spent: list[Usage] = []  # a list, since tools that ask agents may add to it from several threads
        self._calls: list[ToolCall] = []
        self._considered: list[PlannedCall | ToolReturn] = []
        self._turns = self._corrections = self._unknown = 0
        self._heard: list[str] = []
        self._call: CallDelta | None = None
        self._shown: T | Unset = UNSET
        self._next: Action[T]
        self._say(UserMessage(content=prompt) if isinstance(prompt, str) else prompt)

    def recall(self, messages: Sequence[Message], summary: str | None) -> None:
        """Take what was said before, word for word and as a summary; to be done before anything else."""
        before = summary and f"Earlier in this conversation:\n{summary}"
        system = "\n\n".join(filter(None, [self._terms.system, before]))
        said = self.said
        self._messages = [*([SystemMessage(content=system)] if system else []), *messages]
        self._begin = len(self._messages)
        self._say(*said)

    @property
    def said(self) -> Sequence[Message]:
        """What was said in this run: neither the instructions nor what was recalled."""
        return tuple(self._messages[self._begin :])

    def next_action(self) -> Action[T]:
        """Return what to do now; the same until it is told what came of it."""
        return self._next

    @property
    def result(self) -> AgentResult[T] | None:
        """What came of it, or None while it goes on."""
        return self._next.result if isinstance(self._next, Finish) else None

    def receive_response(self, response: ModelResponse, used: Usage | None = None) -> None:
        """Take the model's answer to the last `AskModel`.

        Args:
            response: The answer.
            used: What it used; None if it was remembered, so that it counts nothing.

        Raises:
            UnexpectedModelBehavior: If it is one mistake too many, or incomplete.
        """
        self._messages.append(response)
        self._turns += 1
        if used is not None:
            self.spent.append(used)
        if cut_short := _CUT_SHORT.get(response.finish_reason or ""):
            reason = f"{self._terms.agent}: the answer of {self._terms.model} {cut_short}"
            raise UnexpectedModelBehavior(reason, model=self._terms.model, body=_said(response))
        if response.tool_calls:
            self._receive_calls(response)
        elif self._terms.by_tool:
            self._correct(response, f"- it is not given by calling {OUTPUT_TOOL}", None)
        else:
            self._receive_output(response, response.text, None)

    def receive_results(self, results: Sequence[ToolReturn]) -> None:
        """Take what the calls of the last `RunTools` returned, in their order."""
        ready = iter(results)
        self._say(*(next(ready) if isinstance(each, PlannedCall) else each for each in self._considered))

    def hear(self, delta: str) -> None:
        """Take a piece of the answer that is being written, for `grown`."""
        self._heard.append(delta)
        if isinstance(delta, CallDelta):
            self._call = delta

    def grown(self) -> Iterator[T]:
        """Yield the output as far as it is written, if it is valid and another than the last time."""
        result = self.result
        output = self._heard_so_far() if result is None else result.output
        if output is not UNSET and (self._shown is UNSET or self._shown != output):
            self._shown = output
            yield output

    def _heard_so_far(self) -> T | Unset:
        # What is said beside the tool that takes the answer is no part of it.
        terms = self._terms
        call = "" if self._call is None else self._call.written(OUTPUT_TOOL)
        text = call if terms.by_tool else "".join(self._heard)
        return terms.output.partial(text, in_prose=terms.in_prose)

    def _say(self, *messages: Message) -> None:
        """Add messages to the model and let it be asked."""
        self._messages.extend(messages)
        self._heard.clear()
        self._call = None
        self._next = AskModel(self._terms.request(self._messages))

    def _receive_calls(self, response: ModelResponse) -> None:
        calls = response.tool_calls
        self._calls.extend(call for call in calls if not self._is_output(call))
        # A final answer ends the run whatever else was called beside it: the model has what it wanted.
        final = next((call for call in calls if self._is_output(call)), None)
        if final is None:
            self._plan(response, None)
        else:
            self._receive_output(response, final.arguments, final)

    def _is_output(self, call: ToolCall) -> bool:
        return self._terms.by_tool and call.name == OUTPUT_TOOL

    def _receive_output(self, response: ModelResponse, text: str, call: ToolCall | None) -> None:
        try:
            output = self._terms.output.read(text, in_prose=self._terms.in_prose)
        except ValidationError as error:
            wrong = problems(error)
        else:
            usage = sum(self.spent, Usage())
            self._next = Finish(AgentResult(output, tuple(self._messages), usage, tuple(self._calls)))
            return
        # Not where it is caught: what the model said, which may be anybody's secret, would be in the traceback of what is raised.
        self._correct(response, wrong, call)

    def _correct(self, response: ModelResponse, wrong: str, call: ToolCall | None) -> None:
        """Tell the model what is wrong with its output, unless it was told often enough."""
        terms = self._terms
        if self._corrections >= terms.output_retries or self._turns >= terms.max_turns:
            raise OutputInvalid(
                f"{terms.agent}: {terms.model} gave no valid {terms.output.name}, after {self._corrections} correction(s):\n"
                f"{wrong}\nIts last answer is in .body; say in the instructions what is wanted, or raise output_retries",
                model=terms.model,
                body=_said(response),
            )
        self._corrections += 1
        correction = f"This is not a valid answer:\n{wrong}\nCorrect it and answer again."
        if call is None:
            self._say(UserMessage(content=correction))
        else:
            self._plan(response, _error(call, correction))

    def _plan(self, response: ModelResponse, correction: ToolReturn | None) -> None:
        """Decide about every call of an answer: providers want each one answered, whatever comes of it."""
        terms = self._terms
        if self._turns >= terms.max_turns:
            raise TurnLimitExceeded(
                f"{terms.agent}: {terms.model} still calls tools in turn {self._turns} of max_turns={terms.max_turns}; "
                f"they were not run. Raise max_turns, or say in the instructions when to stop",
                model=terms.model,
                body=_said(response),
            )
        self._considered = [
            self._consider(call, correction, f"{call.name}.{self._turns}.{number}")
            for number, call in enumerate(response.tool_calls)
        ]
        self._count_unknown(response)
        planned = tuple(each for each in self._considered if isinstance(each, PlannedCall))
        if planned:
            self._next = RunTools(planned)
        else:
            self.receive_results(())

    def _consider(self, call: ToolCall, correction: ToolReturn | None, place: str) -> PlannedCall | ToolReturn:
        if correction is not None and self._is_output(call):
            return correction.model_copy(update={"tool_call_id": call.id})
        if self._is_unknown(call):
            return _error(call, f"There is no tool {call.name!r}. The tools are: {self._tool_names()}.")
        try:
            return PlannedCall(call, self._terms.tools[call.name].read_arguments(call.arguments), place)
        except ValidationError as error:
            return _error(call, f"The arguments are not valid, so the tool was not run:\n{problems(error)}")

    def _count_unknown(self, response: ModelResponse) -> None:
        """Let the first turn with an unknown tool pass, since the model is told of it."""
        unknown = [call.name for call in response.tool_calls if self._is_unknown(call)]
        self._unknown += bool(unknown)
        if unknown and self._unknown > 1:
            raise UnknownTool(
                f"{self._terms.agent}: {self._terms.model} called {unknown[0]!r}, which is no tool of this agent, after it "
                f"was told so once. The tools are: {self._tool_names()}. Name them in the instructions as they are called",
                model=self._terms.model,
                body=_said(response),
            )

    def _is_unknown(self, call: ToolCall) -> bool:
        return call.name not in self._terms.tools and not self._is_output(call)

    def _tool_names(self) -> str:
        names = [*self._terms.tools, *([OUTPUT_TOOL] if self._terms.by_tool else [])]
        return ", ".join(names) or "none"


def _error(call: ToolCall, reason: str) -> ToolReturn:
    """Return a message that a call has no answer."""
    return ToolReturn(tool_call_id=call.id, tool_name=call.name, content=reason, is_error=True)


def _said(response: ModelResponse) -> str:
    """Return an answer as text, calls included."""
    calls = (f"{call.name}({call.arguments})" for call in response.tool_calls)
    return "\n".join(filter(None, [response.text, *calls]))
