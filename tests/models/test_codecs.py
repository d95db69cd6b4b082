"""What all codecs promise: an answer is the same whole, streamed, and cut anywhere; what the model thought goes back."""

from __future__ import annotations

import json

import pytest

from agentflow import messages as m
from agentflow.exceptions import ModelHTTPError

from ._chat import HELLO, heard, read, sent
from ._dialects import DIALECTS

PNG = b"\x89PNG\r\n\x1a\n\x00canary"
FORM = m.OutputSchema(
    name="city",
    json_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1}},
        "required": ["name"],
    },
)
WEATHER = m.ToolDefinition(
    name="weather",
    description="Tell the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TODAY = m.ToolDefinition(name="today")


@pytest.fixture(params=DIALECTS)
def dialect(request):
    """Each provider."""
    return DIALECTS[request.param]


def test_a_whole_answer_is_read_with_everything_in_it(dialect):
    """Reasoning, text, parallel calls, every kind of usage, the model, and why it stopped."""
    answer = dialect.rich()

    assert read(dialect.codec(), dialect.whole(answer)) == answer


def test_a_streamed_answer_amounts_to_the_whole_one(dialect):
    """Its text comes out in the pieces in which it arrived."""
    answer = dialect.rich()

    texts, response = heard(dialect.codec(), dialect.events(answer))

    assert response == answer
    assert "".join(texts) == answer.text
    assert len(texts) == 2


def test_a_stream_cut_at_any_offset_gives_the_same_answer(dialect):
    """Wherever the network cuts it, also inside a character, and byte by byte: the same events give the same answer."""
    answer = dialect.rich()
    data = b"".join(dialect.events(answer))
    whole = dialect.codec().events().feed(data)

    for offset in range(len(data) + 1):
        source = dialect.codec().events()
        assert source.feed(data[:offset]) + source.feed(data[offset:]) == whole
    for offset in range(0, len(data) + 1, 41):
        assert heard(dialect.codec(), [data[:offset], data[offset:]])[1] == answer
    assert heard(dialect.codec(), [data[place : place + 1] for place in range(len(data))])[1] == answer


def test_a_stream_that_ends_early_is_no_answer(dialect):
    """Whatever event it ends after: a part of an answer must never pass for the whole."""
    events = dialect.events(dialect.rich())
    last = len(events) - (1 if dialect.provider != "openai" else 2)

    for kept in range(last):
        with pytest.raises(ModelHTTPError, match="ended before"):
            heard(dialect.codec(), events[:kept])


def test_a_stream_that_reports_an_error_is_an_error(dialect):
    """With the provider's sentence, and a status that says whether to try again, where it has one."""
    begun = dialect.events(dialect.rich())[:2]

    with pytest.raises(ModelHTTPError, match="Too busy") as raised:
        heard(dialect.codec(), [*begun, dialect.failure("Too busy.")])

    assert raised.value.status in {500, 503, 529, None}


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b"null", b"{}", b'{"a": 1}', b"\xff"])
def test_something_else_is_an_error(dialect, body):
    """An address that answers 200 need not be the provider."""
    with pytest.raises(ModelHTTPError, match="Check base_url") as raised:
        dialect.codec().decode(body)

    assert raised.value.status == 200


def test_an_event_that_is_something_else_is_an_error(dialect):
    """Also with the key in it, which is not shown."""
    with pytest.raises(ModelHTTPError, match="Check base_url") as raised:
        heard(dialect.codec(), [b"data: <html>sk-canary-0001</html>\n\n"])

    assert "canary" not in str(raised.value) + raised.value.body


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_why_the_model_stopped_is_read(dialect, finish):
    """In the words of each provider."""
    if finish == "content_filter" and dialect.provider in {"anthropic", "ollama"}:
        return  # they have no such ending

    answer = dialect.said(m.TextPart(text="Hel"), finish=finish)

    assert read(dialect.codec(), dialect.whole(answer)).finish_reason == finish
    assert heard(dialect.codec(), dialect.events(answer))[1].finish_reason == finish


def test_what_the_model_said_goes_back_as_it_was(dialect):
    """A provider's own answer, read and sent again, has what it said, thought and signed; the result follows it."""
    answer = dialect.rich()
    returns = [m.ToolReturn(tool_call_id=call.id, tool_name=call.name, content="Sunny.") for call in answer.tool_calls]

    body = sent(dialect.codec(), *HELLO.messages, answer, *returns, tools=(WEATHER,))

    texts = json.dumps(body, ensure_ascii=False)
    assert all(text in texts for text in ("Both,", "Paris", "Zürich"))
    assert texts.count("Sunny.") == 2
    proofs = [part.signature for part in answer.parts if part.kind != "text" and part.signature]
    assert all(proof in texts for proof in proofs)


def test_another_providers_thoughts_are_not_sent(dialect):
    """Their signatures would be refused; what was said is sent all the same."""
    other = DIALECTS["anthropic" if dialect.provider != "anthropic" else "openai-responses"]

    body = sent(dialect.codec(), *HELLO.messages, other.rich(), tools=(WEATHER,))

    assert "Both," in json.dumps(body, ensure_ascii=False)
    assert other.thought("").signature not in json.dumps(body)


def test_images_and_files_are_sent_by_their_bytes(dialect):
    """In the user's messages, in their order."""
    if dialect.provider == "ollama":
        file = m.FilePart(data=b"canary text", media_type="text/plain", name="notes.txt")
    else:
        file = m.FilePart(data=b"%PDF-canary", name="report.pdf")
    message = m.UserMessage.of("What is this?", m.ImagePart(data=PNG), file)

    body = json.dumps(sent(dialect.codec(), message))

    assert m.ImagePart(data=PNG).base64 in body
    assert (file.base64 in body) or ("canary text" in body)


def test_an_image_that_a_tool_returns_is_sent(dialect):
    """Beside its text, wherever the provider has a place for it."""
    call = m.ToolCall(id="call_a", name="weather", arguments="{}")
    seen = m.ToolReturn(
        tool_call_id="call_a", tool_name="weather", content=(m.TextPart(text="A map:"), m.ImagePart(data=PNG))
    )

    body = json.dumps(sent(dialect.codec(), *HELLO.messages, dialect.said(call, finish="tool_calls"), seen))

    assert "A map:" in body
    assert m.ImagePart(data=PNG).base64 in body


def test_cache_marks_never_disturb(dialect):
    """Where the provider knows none there are none, and the text is whole."""
    settings = m.ModelSettings(cache_prompt="1h")
    message = m.UserMessage.of("A long book.", m.CachePoint(), "Who did it?")

    body = json.dumps(sent(dialect.codec(), m.SystemMessage(content="Be brief."), message, settings=settings))

    assert "A long book." in body
    assert "Who did it?" in body
    assert ("cache_control" in body) == (dialect.provider == "anthropic")


def test_a_form_is_enforced(dialect):
    """The schema is part of the request; where it cannot be enforced beside tools it is told in words."""
    alone = json.dumps(sent(dialect.codec(), output=FORM))
    with_tools = json.dumps(sent(dialect.codec(), output=FORM, tools=(TODAY,)))

    assert all(word in alone for word in ('"name"', '"size"', "integer"))
    assert "size" in with_tools


def test_options_are_sent_in_the_providers_words(dialect):
    """Those that it has; what the user adds wins."""
    settings = m.ModelSettings(temperature=0.5, max_tokens=77, top_p=0.9, extra={"user": "u1"})

    body = sent(dialect.codec(), settings=settings)

    texts = json.dumps(body)
    known = ("77",) if dialect.provider == "anthropic" else ("0.5", "77", "0.9")
    assert all(value in texts for value in known)
    assert body["user"] == "u1"


@pytest.mark.parametrize("reasoning", ["off", "low", "medium", "high"])
def test_how_hard_to_think_is_said_in_the_providers_words(dialect, reasoning):
    """Every provider has some way to say it."""
    plain = sent(dialect.codec())

    assert sent(dialect.codec(), settings=m.ModelSettings(reasoning=reasoning)) != plain


def test_the_key_is_in_a_header_only(dialect):
    """Addresses get into logs, and so do representations."""
    codec = dialect.codec()

    call = codec.encode(HELLO, stream=True)

    assert any("sk-canary-0001" in value for value in call.headers.values())
    assert "canary" not in call.url + repr(call) + repr(codec) + call.body.decode()
