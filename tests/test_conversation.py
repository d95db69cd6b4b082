"""The decisions of an agent's run, told without a model, a tool or a loop."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from agentflow import _conversation
from agentflow._conversation import OUTPUT_TOOL, AskModel, Conversation, Finish, RunTools, Terms
from agentflow._output import Output
from agentflow._remembered_answers import read_answer, request_bytes, write_answer
from agentflow.exceptions import (
    OutputInvalid,
    StoreCorrupt,
    TurnLimitExceeded,
    UnexpectedModelBehavior,
    UnknownTool,
)
from agentflow.messages import (
    ModelRequest,
    ModelResponse,
    ModelSettings,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolReturn,
    Usage,
    UserMessage,
)
from agentflow.tools import tool

if TYPE_CHECKING:
    from agentflow.messages import FinishReason


class City(BaseModel):
    name: str


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def conversation(output_type: Any = str, *, form: str = "schema", **changes: Any) -> Conversation[Any]:
    """Start a conversation about "hi" with the tool `add`."""
    terms: dict[str, Any] = {
        "agent": "Agent('m')",
        "model": "m",
        "tools": {"add": add},
        "output": Output[Any].of(output_type),
        "form": form,
        "settings": ModelSettings(temperature=0.5),
        "max_turns": 5,
        "output_retries": 1,
        "system": None,
        **changes,
    }
    return Conversation(Terms(**terms), "hi")


def answer(*parts: str | ToolCall, finish: FinishReason | None = None) -> ModelResponse:
    return ModelResponse(
        parts=tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts),
        usage=Usage(requests=1, input_tokens=10, output_tokens=1),
        finish_reason=finish,
    )


def call(identity: str = "1", name: str = "add", arguments: str = '{"a": 1, "b": 2}') -> ToolCall:
    return ToolCall(id=identity, name=name, arguments=arguments)


def asked(talk: Conversation[Any]) -> ModelRequest:
    action = talk.next_action()
    assert isinstance(action, AskModel)
    return action.request


def planned(talk: Conversation[Any]) -> tuple[tuple[str, dict[str, Any]], ...]:
    action = talk.next_action()
    assert isinstance(action, RunTools)
    return tuple((each.call.id, dict(each.arguments)) for each in action.calls)


def returned(talk: Conversation[Any], *contents: str) -> None:
    """Answer the planned calls."""
    action = talk.next_action()
    assert isinstance(action, RunTools)
    talk.receive_results([each.answered(content) for each, content in zip(action.calls, contents, strict=True)])


# --- asking


def test_it_begins_with_a_request() -> None:
    """The first request has the system message, the prompt, the tools and the settings."""
    request = asked(conversation(system="Be brief."))

    assert request.messages == (SystemMessage(content="Be brief."), UserMessage(content="hi"))
    assert request.tools == (add.definition,)
    assert request.tool_choice == "auto"
    assert request.output is None
    assert request.settings == ModelSettings(temperature=0.5)


def test_without_anything_to_say_there_is_no_system_message() -> None:
    """An empty one would only cost tokens."""
    assert asked(conversation()).messages == (UserMessage(content="hi"),)


def test_a_schema_goes_with_the_request() -> None:
    """A model that knows JSON schemas is given the output's."""
    request = asked(conversation(City))

    assert request.output == Output[City].of(City).schema
    assert request.tools == (add.definition,)


def test_a_model_without_schemas_gets_an_output_tool_and_must_call_one() -> None:
    """The output's schema becomes that of a tool."""
    request = asked(conversation(City, form="tool"))

    assert request.output is None
    assert request.tool_choice == "required"
    assert [each.name for each in request.tools] == ["add", OUTPUT_TOOL]
    assert request.tools[1].parameters["properties"] == {"name": {"type": "string"}}


def test_the_action_stays_until_it_is_done() -> None:
    """Asking twice what to do changes nothing."""
    talk = conversation()

    assert talk.next_action() is talk.next_action()


# --- finishing


def test_text_finishes() -> None:
    """The result has the output, all messages, the usage and no calls."""
    talk = conversation()
    assert talk.result is None

    talk.receive_response(answer("hello"), answer("hello").usage)

    finish = talk.next_action()
    assert isinstance(finish, Finish)
    assert finish.result is talk.result
    assert finish.result.output == "hello"
    assert finish.result.messages == (UserMessage(content="hi"), answer("hello"))
    assert finish.result.usage == Usage(requests=1, input_tokens=10, output_tokens=1)
    assert finish.result.tool_calls == ()


def test_a_remembered_answer_counts_nothing() -> None:
    """Hits are free: only what was paid now is in the usage."""
    talk = conversation()
    talk.receive_response(answer(call()), answer(call()).usage)
    returned(talk, "3")

    talk.receive_response(answer("3"))

    assert talk.result is not None
    assert talk.result.usage == Usage(requests=1, input_tokens=10, output_tokens=1)


def test_a_model_finishes_with_its_value() -> None:
    """The output is of the output type."""
    talk = conversation(City)

    talk.receive_response(answer('{"name": "Paris"}'))

    assert talk.result is not None
    assert talk.result.output == City(name="Paris")


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize("parts", [("The beginning of",), (call(arguments='{"a": 1, "b"'),)])
def test_a_truncated_answer_never_passes_for_a_whole_one(finish: FinishReason, parts: tuple[Any, ...]) -> None:
    """It is raised with what there was: it must not become a result, a correction or a call."""
    talk = conversation()

    with pytest.raises(UnexpectedModelBehavior, match=r"Agent\('m'\): the answer of m .*\. (Raise|Change)") as caught:
        talk.receive_response(answer(*parts, finish=finish))

    assert caught.value.model == "m"
    assert caught.value.body in ("The beginning of", 'add({"a": 1, "b")')


# --- tools


def test_calls_are_planned_with_checked_arguments_and_answered_in_order() -> None:
    """Every call gets its return under its own id; then the model is asked again."""
    talk = conversation()
    first = answer("Let me see.", call("1"), call("2", arguments='{"a": 3, "b": 4}'))

    talk.receive_response(first)
    assert planned(talk) == (("1", {"a": 1, "b": 2}), ("2", {"a": 3, "b": 4}))
    returned(talk, "3", "7")

    assert asked(talk).messages == (
        UserMessage(content="hi"),
        first,
        ToolReturn(tool_call_id="1", tool_name="add", content="3"),
        ToolReturn(tool_call_id="2", tool_name="add", content="7"),
    )


def test_all_calls_are_in_the_result() -> None:
    """Also a refused one; but not that of the output tool."""
    talk = conversation(City, form="tool")
    calls = call("1"), call("2", arguments="{}")
    talk.receive_response(answer(*calls))
    returned(talk, "3")

    talk.receive_response(answer(call("3", OUTPUT_TOOL, '{"name": "Paris"}')))

    assert talk.result is not None
    assert talk.result.tool_calls == calls


def test_wrong_arguments_go_back_and_the_other_calls_run() -> None:
    """The model is told what is wrong; the order of the returns is that of the calls."""
    talk = conversation()

    talk.receive_response(answer(call("1", arguments='{"a": "1", "b": 2, "ctx": 0}'), call("2")))
    assert planned(talk) == (("2", {"a": 1, "b": 2}),)
    returned(talk, "3")

    refused, fine = asked(talk).messages[-2:]
    assert refused == ToolReturn(
        tool_call_id="1",
        tool_name="add",
        is_error=True,
        content=(
            "The arguments are not valid, so the tool was not run:\n"
            "- a: Input should be a valid integer\n- ctx: Extra inputs are not permitted"
        ),
    )
    assert fine == ToolReturn(tool_call_id="2", tool_name="add", content="3")


def test_when_no_call_can_run_the_model_is_asked_at_once() -> None:
    """There is nothing to do between."""
    talk = conversation()

    talk.receive_response(answer(call(arguments="{}")))

    assert [message.kind for message in asked(talk).messages] == ["user", "response", "tool_return"]


def test_a_refusal_by_the_tool_is_an_error_for_the_model() -> None:
    """`PlannedCall.refused` is what a `ModelRetry` becomes."""
    talk = conversation()
    talk.receive_response(answer(call()))
    action = talk.next_action()
    assert isinstance(action, RunTools)

    talk.receive_results([action.calls[0].refused("try smaller numbers")])

    expected = ToolReturn(tool_call_id="1", tool_name="add", content="try smaller numbers", is_error=True)
    assert asked(talk).messages[-1] == expected


def test_an_unknown_tool_goes_back_once() -> None:
    """The first time the model is told which tools there are, the second time it is an error."""
    talk = conversation()
    talk.receive_response(answer(call(name="subtract"), call("2", name="divide")))
    told = asked(talk).messages[-1]
    assert isinstance(told, ToolReturn)
    assert (told.content, told.is_error) == ("There is no tool 'divide'. The tools are: add.", True)

    with pytest.raises(UnknownTool, match="m called 'subtract'.* The tools are: add") as caught:
        talk.receive_response(answer(call("2"), call("3", name="subtract")))

    assert caught.value.body == 'add({"a": 1, "b": 2})\nsubtract({"a": 1, "b": 2})'


def test_without_schemas_the_output_tool_is_among_the_tools() -> None:
    """A model that is told its tools is told that one too; without it that is unknown like any other."""
    told = conversation(City, form="tool")
    told.receive_response(answer(call(name="subtract")))
    unknown = conversation()
    unknown.receive_response(answer(call(name=OUTPUT_TOOL)))

    assert asked(told).messages[-1].content == "There is no tool 'subtract'. The tools are: add, final_answer."  # type: ignore[union-attr]
    assert asked(unknown).messages[-1].content == "There is no tool 'final_answer'. The tools are: add."  # type: ignore[union-attr]


def test_calls_in_the_last_turn_are_not_run() -> None:
    """The model could not read their answers any more, so they would be side effects for nothing."""
    talk = conversation(max_turns=2)
    talk.receive_response(answer(call()))
    returned(talk, "3")

    with pytest.raises(TurnLimitExceeded, match=r"turn 2 of max_turns=2; they were not run\. Raise max_turns"):
        talk.receive_response(answer(call()))


def test_the_last_turn_may_answer() -> None:
    """`max_turns` answers are allowed, not one fewer."""
    talk = conversation(max_turns=2)
    talk.receive_response(answer(call()))
    returned(talk, "3")

    talk.receive_response(answer("3"))

    assert talk.result is not None


# --- output


def test_a_wrong_output_goes_back_with_what_is_wrong() -> None:
    """The model reads where its answer does not fit, and may correct it."""
    talk = conversation(City)
    talk.receive_response(answer('{"nam": "Paris"}'))
    assert asked(talk).messages[-1] == UserMessage(
        content="This is not a valid answer:\n- name: Field required\nCorrect it and answer again."
    )

    talk.receive_response(answer('{"name": "Paris"}'))

    assert talk.result is not None
    assert talk.result.output == City(name="Paris")


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_after_its_corrections_a_wrong_output_is_an_error(retries: int) -> None:
    """`output_retries` corrections, then OutputInvalid with what the model said: never a str in place of a model."""
    talk = conversation(City, output_retries=retries)
    for _ in range(retries):
        talk.receive_response(answer("Paris"))

    with pytest.raises(OutputInvalid, match=rf"m gave no valid City, after {retries} correction") as caught:
        talk.receive_response(answer("It is Paris."))

    assert caught.value.body == "It is Paris."
    assert caught.value.model == "m"
    assert "the whole: Invalid JSON" in str(caught.value)
    assert talk.result is None


def test_a_wrong_output_in_the_last_turn_is_an_error() -> None:
    """There is no turn left to correct it in, whatever `output_retries` allows."""
    talk = conversation(City, output_retries=9, max_turns=1)

    with pytest.raises(OutputInvalid):
        talk.receive_response(answer("Paris"))


def test_the_output_tool_finishes_whatever_is_called_beside_it() -> None:
    """What the model wanted with the other calls, it no longer needs."""
    talk = conversation(City, form="tool")

    talk.receive_response(answer(call("1"), call("2", OUTPUT_TOOL, '{"name": "Paris"}')))

    assert talk.result is not None
    assert talk.result.output == City(name="Paris")


def test_a_wrong_call_of_the_output_tool_is_answered_with_what_is_wrong() -> None:
    """Every call of the turn is answered: the wrong one with its problems, the others by their tools."""
    talk = conversation(City, form="tool")

    talk.receive_response(answer(call("1", OUTPUT_TOOL, "{}"), call("2"), call("3", OUTPUT_TOOL, "{}")))
    assert planned(talk) == (("2", {"a": 1, "b": 2}),)
    returned(talk, "3")

    first, second, third = asked(talk).messages[-3:]
    assert isinstance(first, ToolReturn)
    assert (first.tool_call_id, first.is_error) == ("1", True)
    assert "- name: Field required" in first.content
    assert second == ToolReturn(tool_call_id="2", tool_name="add", content="3")
    assert third == first.model_copy(update={"tool_call_id": "3"})


def test_a_wrong_output_and_an_unknown_tool_are_both_told() -> None:
    """One mistake does not hide the other, and the unknown tool counts."""
    talk = conversation(City, form="tool", output_retries=3)
    calls = call("1", OUTPUT_TOOL, "{}"), call("2", name="subtract")

    talk.receive_response(answer(*calls))
    assert [getattr(message, "is_error", None) for message in asked(talk).messages[-2:]] == [True, True]

    with pytest.raises(UnknownTool, match="'subtract'"):
        talk.receive_response(answer(*calls))


def test_prose_where_the_output_tool_was_to_be_called_goes_back() -> None:
    """A model that only talks is told how to answer; after its corrections it is an error."""
    talk = conversation(City, form="tool")
    talk.receive_response(answer("Paris!"))
    assert "- it is not given by calling final_answer" in asked(talk).messages[-1].content  # type: ignore[union-attr]

    with pytest.raises(OutputInvalid) as caught:
        talk.receive_response(answer("Paris, I said."))

    assert caught.value.body == "Paris, I said."


# --- growing


def test_what_is_heard_grows_into_the_output() -> None:
    """Each valid beginning comes once; the output itself comes last, if it is another."""
    talk = conversation(City)
    grown: list[list[City]] = []

    for piece in ('{"na', 'me": "', "Pa", "", 'ris"}'):
        talk.hear(piece)
        grown.append(list(talk.grown()))
    talk.receive_response(answer('{"name": "Paris"}'))

    assert grown == [[], [City(name="")], [City(name="Pa")], [], [City(name="Paris")]]
    assert list(talk.grown()) == []


def test_a_new_turn_is_heard_from_its_beginning() -> None:
    """What was said beside a call of a tool is no beginning of the answer."""
    talk = conversation()
    talk.hear("Let me see.")
    talk.receive_response(answer("Let me see.", call()))
    returned(talk, "3")
    talk.hear("3")

    assert list(talk.grown()) == ["3"]


# --- remembering


def request(**changes: Any) -> ModelRequest:
    call_ = call("call_1")
    fields: dict[str, Any] = {
        "messages": (
            UserMessage(content="hi"),
            answer("x", call_),
            ToolReturn(tool_call_id="1", tool_name="add", content="3"),
        ),
        "tools": (add.definition,),
        "output": Output[City].of(City).schema,
        "settings": ModelSettings(temperature=0.5),
        **changes,
    }
    return ModelRequest(**fields)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (UserMessage(content="ho"),)},
        {"messages": (*request().messages[:2], ToolReturn(tool_call_id="1", tool_name="add", content="4"))},
        {"messages": (request().messages[0], answer("x", call("call_2")), request().messages[2])},
        {"tools": ()},
        {"tools": (ToolDefinition(name="add", description="Sum.", parameters=add.definition.parameters),)},
        {"tool_choice": "required"},
        {"output": None},
        {"settings": ModelSettings(temperature=0.6)},
        {"settings": ModelSettings(temperature=0.5, extra={"service_tier": "flex"})},
    ],
)
def test_what_is_asked_changes_the_bytes(change: dict[str, Any]) -> None:
    """Messages with the ids of their calls, tools, schema and settings count, and so does the model."""
    assert request_bytes("m", request(**change)) != request_bytes("m", request())
    assert request_bytes("n", request(**change)) != request_bytes("m", request(**change))


def test_what_is_not_asked_does_not_change_the_bytes() -> None:
    """What an earlier answer used, who gave it and how long we wait say nothing to the model."""
    other = answer("x", call("call_1")).model_copy(
        update={"usage": Usage(requests=1, input_tokens=7), "model": "m-2026-11-22", "finish_reason": "tool_calls"}
    )
    messages = (request().messages[0], other, request().messages[2])

    changed = request(messages=messages, settings=ModelSettings(temperature=0.5, timeout=3))

    assert request_bytes("m", changed) == request_bytes("m", request())


def test_the_order_of_fields_does_not_change_the_bytes() -> None:
    """Dicts in schemas and settings count by what they hold."""
    one = request(settings=ModelSettings(extra={"a": 1, "b": {"c": 2, "d": 3}}))
    two = request(settings=ModelSettings(extra={"b": {"d": 3, "c": 2}, "a": 1}))

    assert request_bytes("m", one) == request_bytes("m", two)


@pytest.mark.parametrize(
    "response",
    [
        ModelResponse(),
        answer("text", call(), "more", finish="tool_calls"),
        answer("\ud83d alone", call(arguments='{"a": "\udc00"}')),
        ModelResponse(parts=(TextPart(text="ü\0"),), usage=Usage(requests=1, reasoning_tokens=3), model="m"),
    ],
)
def test_an_answer_is_remembered_as_it_was(response: ModelResponse) -> None:
    """Parts in order, usage, model and lone surrogates come back equal."""
    assert read_answer(write_answer(response)) == response


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"kind": "response", "parts": [{"kind": "image"}]}'])
def test_a_damaged_answer_is_a_typed_error(damaged: bytes) -> None:
    """It is never taken for an answer."""
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        read_answer(damaged)


def test_request_bytes_are_plain_json() -> None:
    """Whoever looks into a store can read what was asked."""
    assert json.loads(request_bytes("m", request()))["messages"][0] == {"kind": "user", "content": "hi"}


# --- purity


def test_the_decisions_import_no_clock_loop_or_thread() -> None:
    """The module itself imports none of what would give it I/O, a clock or a colour."""
    tree = ast.parse(Path(_conversation.__file__).read_text())

    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {"attrs", "agentflow.messages"} <= names
    assert not names & {"asyncio", "threading", "httpx", "time", "agentflow.models", "agentflow.tools._base"}
