"""Messages: frozen values that come back from JSON as what they were."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import TypeAdapter, ValidationError

from agentflow import messages as m
from agentflow._keys import arguments_digest
from agentflow._serialization import codec_for

PNG = b"\x89PNG\r\n\x1a\n\x00"
MESSAGES = (
    m.SystemMessage(content="s"),
    m.UserMessage(content="u\u2028\x00"),
    m.UserMessage.of(
        "What is this?",
        m.CachePoint(ttl="1h"),
        m.ImagePart(data=PNG, detail="low"),
        m.ImagePart(url="https://example.com/a.png"),
        m.FilePart(data=b"\x00\xff", media_type="application/x-thing", name="thing"),
    ),
    m.ModelResponse(
        parts=(
            m.ReasoningPart(text="r", signature="s", id="i", provider="p"),
            m.TextPart(text="t"),
            m.ToolCall(id="1", name="f", arguments="{broken", signature="s"),
        ),
        usage=m.Usage(requests=1, input_tokens=2, output_tokens=3, cached_input_tokens=1, reasoning_tokens=1),
        model="m",
        finish_reason="tool_calls",
        answered_by="m:n",
    ),
    m.ToolReturn(tool_call_id="1", tool_name="f", content="no", is_error=True),
    m.ToolReturn(tool_call_id="1", tool_name="f", content=(m.TextPart(text="seen"), m.ImagePart(data=PNG))),
)
REQUEST = m.ModelRequest(
    messages=MESSAGES,
    tools=(m.ToolDefinition(name="f", description="d", parameters={"type": "object"}),),
    tool_choice="required",
    output=m.OutputSchema(name="o", json_schema={"type": "object"}, strict=False),
    settings=m.ModelSettings(temperature=0, stop=("x",), reasoning="low", cache_prompt="5m", extra={"a": [1]}),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_is_read_back_as_what_it_was(message):
    """Its kind tells which."""
    adapter = TypeAdapter(m.Message)

    assert adapter.validate_json(adapter.dump_json(message)) == message


def test_a_request_is_read_back_as_what_it_was():
    """With everything in it; its JSON does not depend on where it is made."""
    again = m.ModelRequest.model_validate_json(REQUEST.model_dump_json())

    assert again == REQUEST
    assert again.model_dump_json() == REQUEST.model_dump_json()


@pytest.mark.parametrize(
    "value", [*MESSAGES, REQUEST, REQUEST.settings, m.Usage()], ids=lambda value: type(value).__name__
)
def test_values_are_frozen(value):
    """They are shared between threads and stored."""
    field = next(iter(type(value).model_fields))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, field, None)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (m.ModelSettings, {"temprature": 1}),
        (m.ModelSettings, {"max_tokens": 0}),
        (m.ModelSettings, {"timeout": 0}),
        (m.ModelResponse, {"finish_reason": "bored"}),
        (m.ModelRequest, {"messages": (), "tool_choice": "maybe"}),
        (m.ModelRequest, {"messages": ({"kind": "unknown"},)}),
        (m.TextPart, {"text": "x", "kind": "tool_call"}),
    ],
)
def test_mistakes_are_refused(kind, fields):
    """A misspelt field is not lost in silence."""
    with pytest.raises(ValidationError):
        kind(**fields)


def test_a_response_gives_its_text_and_its_calls():
    """Whatever their order."""
    parts = (m.ToolCall(name="f"), m.TextPart(text="a"), m.ToolCall(name="g"), m.TextPart(text="b"))
    response = m.ModelResponse(parts=parts)

    assert response.text == "ab"
    assert [call.name for call in response.tool_calls] == ["f", "g"]
    assert m.ModelResponse().text == ""


def test_usage_adds_up():
    """Every count; shares are not counted twice."""
    one = m.Usage(requests=1, input_tokens=10, output_tokens=20, cached_input_tokens=3, reasoning_tokens=4)

    assert one + one == m.Usage(
        requests=2, input_tokens=20, output_tokens=40, cached_input_tokens=6, reasoning_tokens=8
    )
    assert sum([one, one], m.Usage()) == one + one
    assert one.total_tokens == 30


def test_a_call_can_be_written_in_python():
    """Also with an argument called `name`; what JSON cannot say is refused."""
    assert m.ToolCall.of("f", name="é", n=[1]) == m.ToolCall(name="f", arguments='{"name": "é", "n": [1]}')
    with pytest.raises(TypeError):
        m.ToolCall.of("f", x=object())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_is_json_in_every_form(message):
    """Also as a dict, with the bytes of images as text, so that any writer of JSON can keep it."""
    adapter = TypeAdapter(m.Message)

    written = json.dumps(adapter.dump_python(message))

    assert adapter.validate_python(json.loads(written)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_message_can_be_an_argument_and_a_result_of_a_step(message):
    """It has a key, and what a store gives back is what it was given."""
    codec = codec_for(type(message))

    again = codec.loads(codec.dumps(message, owner="test"))

    assert again == message
    assert arguments_digest("test", {"x": again}) == arguments_digest("test", {"x": message})


def test_images_with_other_bytes_have_other_keys():
    """Images count by what they show."""
    one, other = m.ImagePart(data=PNG), m.ImagePart(data=PNG + b"\x01")

    assert arguments_digest("test", {"x": one}) != arguments_digest("test", {"x": other})


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (m.ImagePart(data=PNG), "image/png"),
        (m.ImagePart(data=b"\xff\xd8\xff\xe0"), "image/jpeg"),
        (m.ImagePart(data=b"GIF89a"), "image/gif"),
        (m.ImagePart(data=b"RIFF\x00\x00\x00\x00WEBPVP8 "), "image/webp"),
        (m.ImagePart(url="https://example.com/a.JPG?size=2"), "image/jpeg"),
        (m.ImagePart(url="https://example.com/a"), None),
        (m.ImagePart(data=PNG, media_type="image/x-mine"), "image/x-mine"),
        (m.FilePart(data=b"%PDF-1.4"), "application/pdf"),
        (m.FilePart(data=b"RIFF\x00\x00\x00\x00WAVEfmt "), "audio/wav"),
        (m.FilePart(url="https://example.com/a.wav"), "audio/wav"),
    ],
)
def test_the_media_type_is_found_where_it_can_be_known(part, kind):
    """By the first bytes, by the name in the address, or as it was said."""
    assert part.media_type == kind


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either data= "),
        ({"data": PNG, "url": "https://example.com/a.png"}, "either data= "),
        ({"data": b"unknown"}, "give media_type="),
        ({"data": "no base64!"}, "pass the bytes themselves"),
    ],
)
def test_an_image_that_no_provider_could_use_is_refused(fields, said):
    """With what to write instead."""
    with pytest.raises(ValidationError, match=said):
        m.ImagePart(**fields)


def test_a_large_image_does_not_flood_what_shows_it():
    """Its repr says how large it is."""
    assert repr(m.UserMessage.of(m.ImagePart(data=PNG * 1000))).count("9000 bytes") == 1
    assert len(repr(m.ImagePart(data=PNG * 1000))) < 100


def test_bytes_given_as_base64_are_the_bytes():
    """As they come out of JSON."""
    assert m.ImagePart(data=base64.b64encode(PNG).decode()) == m.ImagePart(data=PNG)


def test_a_file_is_read_from_its_path(tmp_path):
    """With its name, and the media type that the name tells."""
    path = tmp_path / "report.csv"
    path.write_bytes(b"a,b")

    file = m.FilePart.from_path(path)

    assert (file.data, file.name, file.media_type) == (b"a,b", "report.csv", "text/csv")
    assert file.address == "data:text/csv;base64,YSxi"


def test_the_text_of_a_message_leaves_out_its_other_parts():
    """Parts are there also where the content is one text."""
    assert m.UserMessage.of("a", m.ImagePart(data=PNG), "b").text == "ab"
    assert m.UserMessage.of("a").parts == (m.TextPart(text="a"),)
    assert m.ToolReturn(tool_call_id="", tool_name="f", content=(m.TextPart(text="x"),)).text == "x"
    assert m.ModelResponse(parts=(m.ReasoningPart(text="hm"), m.TextPart(text="x"))).text == "x"


def test_usages_are_added_in_every_kind():
    """None of the fields is forgotten."""
    one = m.Usage(**{name: place for place, name in enumerate(m.Usage.model_fields, start=1)})

    assert (one + one).model_dump() == {name: 2 * value for name, value in one.model_dump().items()}
