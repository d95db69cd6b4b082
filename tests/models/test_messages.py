"""Messages: frozen values that come back from JSON as what they were."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from agentflow.messages import (
    Message,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    OutputSchema,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolReturn,
    Usage,
    UserMessage,
)

MESSAGES = (
    SystemMessage(content="s"),
    UserMessage(content="u\u2028\x00"),
    ModelResponse(
        parts=(TextPart(text="t"), ToolCall(id="1", name="f", arguments="{broken")),
        usage=Usage(requests=1, input_tokens=2, output_tokens=3, cached_input_tokens=1, reasoning_tokens=1),
        model="m",
        finish_reason="tool_calls",
    ),
    ToolReturn(tool_call_id="1", tool_name="f", content="no", is_error=True),
)
REQUEST = ModelRequest(
    messages=MESSAGES,
    tools=(ToolDefinition(name="f", description="d", parameters={"type": "object"}),),
    tool_choice="required",
    output=OutputSchema(name="o", json_schema={"type": "object"}, strict=False),
    settings=ModelSettings(temperature=0, stop=("x",), extra={"a": [1]}),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_is_read_back_as_what_it_was(message):
    """Its kind tells which."""
    adapter = TypeAdapter(Message)

    assert adapter.validate_json(adapter.dump_json(message)) == message


def test_a_request_is_read_back_as_what_it_was():
    """With everything in it; its JSON does not depend on where it is made."""
    again = ModelRequest.model_validate_json(REQUEST.model_dump_json())

    assert again == REQUEST
    assert again.model_dump_json() == REQUEST.model_dump_json()


@pytest.mark.parametrize(
    "value", [*MESSAGES, REQUEST, REQUEST.settings, Usage()], ids=lambda value: type(value).__name__
)
def test_values_are_frozen(value):
    """They are shared between threads and stored."""
    field = next(iter(type(value).model_fields))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, field, None)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ModelSettings, {"temprature": 1}),
        (ModelSettings, {"max_tokens": 0}),
        (ModelSettings, {"timeout": 0}),
        (ModelResponse, {"finish_reason": "bored"}),
        (ModelRequest, {"messages": (), "tool_choice": "maybe"}),
        (ModelRequest, {"messages": ({"kind": "unknown"},)}),
        (TextPart, {"text": "x", "kind": "tool_call"}),
    ],
)
def test_mistakes_are_refused(kind, fields):
    """A misspelt field is not lost in silence."""
    with pytest.raises(ValidationError):
        kind(**fields)


def test_a_response_gives_its_text_and_its_calls():
    """Whatever their order."""
    parts = (ToolCall(name="f"), TextPart(text="a"), ToolCall(name="g"), TextPart(text="b"))
    response = ModelResponse(parts=parts)

    assert response.text == "ab"
    assert [call.name for call in response.tool_calls] == ["f", "g"]
    assert ModelResponse().text == ""


def test_usage_adds_up():
    """Every count; shares are not counted twice."""
    one = Usage(requests=1, input_tokens=10, output_tokens=20, cached_input_tokens=3, reasoning_tokens=4)

    assert one + one == Usage(requests=2, input_tokens=20, output_tokens=40, cached_input_tokens=6, reasoning_tokens=8)
    assert sum([one, one], Usage()) == one + one
    assert one.total_tokens == 30


def test_a_call_can_be_written_in_python():
    """Also with an argument called `name`; what JSON cannot say is refused."""
    assert ToolCall.of("f", name="é", n=[1]) == ToolCall(name="f", arguments='{"name": "é", "n": [1]}')
    with pytest.raises(TypeError):
        ToolCall.of("f", x=object())
