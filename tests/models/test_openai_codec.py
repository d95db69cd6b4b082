"""The chat-completions codec: what is sent, and what answers mean, without any I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow import messages as m
from agentflow.exceptions import (
    AuthenticationFailed,
    ModelError,
    ModelHTTPError,
    RateLimited,
    UnexpectedModelBehavior,
    UsageError,
)
from agentflow.models._sse import EventParser
from agentflow.models.openai import ChatCompletions

from . import _chat
from ._chat import HELLO, completion, delta, event, stream_of, usage

CODEC = ChatCompletions("openai:gpt-4o-mini", "gpt-4o-mini", api_key="sk-canary-0001")
LOCAL = ChatCompletions("openai:llama", "llama", "http://localhost:11434/v1/")
LOOKUP = m.ToolDefinition(
    name="lookup", description="Look it up.", parameters={"type": "object", "properties": {"q": {}}}
)


def sent(codec=CODEC, *, messages=(), **fields) -> dict[str, Any]:
    """The JSON that is sent for a request."""
    return _chat.sent(codec, *messages, **fields)


def heard(*pieces, done=True) -> tuple[list[str], m.ModelResponse]:
    """The texts and the answer that the events of a stream amount to."""
    return _chat.heard(CODEC, [*map(event, pieces), *([event("[DONE]")] if done else [])])


def call_piece(index=None, call_id=None, name=None, arguments=None):
    """A part of a tool call, with only the fields that a server sends."""
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not None}
    return {k: v for k, v in {"index": index, "id": call_id, "function": function}.items() if v is not None}


# ---- what is sent --------------------------------------------------------------------------------


def test_a_request_is_as_small_as_it_can_be():
    """What is not asked for is not sent."""
    assert sent() == {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


def test_a_call_carries_the_key_in_its_header():
    """And nowhere else."""
    call = CODEC.encode(HELLO, stream=False)

    assert call.url == "https://api.openai.com/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer sk-canary-0001"
    assert call.headers["content-type"] == "application/json"
    assert b"canary" not in call.body


def test_a_server_without_a_key_gets_none():
    """There is no empty header."""
    assert "authorization" not in LOCAL.encode(HELLO, stream=False).headers


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("https://h/d?api-version=1#x", "https://h/d/chat/completions?api-version=1"),
    ],
)
def test_the_address_is_built_from_the_base(base_url, url):
    """A query stays behind the path."""
    assert ChatCompletions("n", "m", base_url).encode(HELLO, stream=False).url == url


def test_every_message_has_its_form():
    """All kinds of messages, in their order."""
    messages = (
        m.SystemMessage(content="Be brief."),
        m.UserMessage(content="Où?\ud800"),
        m.ModelResponse(
            parts=(
                m.TextPart(text="Let me "),
                m.TextPart(text="see."),
                m.ToolCall(id="1", name="f", arguments='{"a":1}'),
            )
        ),
        m.ToolReturn(tool_call_id="1", tool_name="f", content="here"),
        m.ModelResponse(parts=(m.ToolCall(id="2", name="f"), m.ToolCall(id="3", name="g"))),
        m.ToolReturn(tool_call_id="2", tool_name="f", content="no", is_error=True),
        m.ModelResponse(),
    )

    assert sent(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Où?\ud800"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "here"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "3", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "2", "content": "no"},
        {"role": "assistant", "content": ""},
    ]


def test_tools_are_functions():
    """A tool without parameters still has an object for them."""
    body = sent(tools=(LOOKUP, m.ToolDefinition(name="now")))

    assert body["tools"] == [
        {"type": "function", "function": LOOKUP.model_dump()},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize("choice", ["required", "none"])
def test_a_choice_of_tools_needs_tools(choice):
    """Without tools the provider would refuse it."""
    assert sent(tools=(LOOKUP,), tool_choice=choice)["tool_choice"] == choice
    assert "tool_choice" not in sent(tool_choice=choice)


def test_settings_are_named_as_the_provider_names_them():
    """What is set is sent; `extra` wins over everything; the timeout is for the transport."""
    settings = m.ModelSettings(
        temperature=0.0, max_tokens=9, top_p=0.5, seed=0, stop=("\n",), timeout=3.5, extra={"top_p": 1, "user": "u"}
    )

    body = sent(settings=settings)
    call = CODEC.encode(m.ModelRequest(messages=HELLO.messages, settings=settings), stream=False)

    assert body == {
        **sent(),
        "temperature": 0.0,
        "max_completion_tokens": 9,
        "top_p": 1,
        "seed": 0,
        "stop": ["\n"],
        "user": "u",
    }
    assert call.timeout == 3.5


def test_extra_wins_over_everything():
    """Also over what the request itself says."""
    body = sent(tools=(LOOKUP,), settings=m.ModelSettings(extra={"model": "other", "tools": [], "messages": []}))

    assert body == {"model": "other", "tools": [], "messages": []}


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
        ("https://notopenai.com/v1", "max_tokens"),
    ],
)
def test_the_token_limit_has_the_name_that_the_server_knows(base_url, name):
    """OpenAI's newer models refuse the old name, other servers do not know the new one."""
    body = sent(ChatCompletions("n", "m", base_url), settings=m.ModelSettings(max_tokens=9))

    assert body[name] == 9
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1


def test_a_stream_asks_for_its_usage():
    """Without the option there would be none; `extra` can take it back."""
    assert sent(stream=True) == {**sent(), "stream": True, "stream_options": {"include_usage": True}}
    assert sent(stream=True, settings=m.ModelSettings(extra={"stream_options": {}}))["stream_options"] == {}


def test_a_schema_is_strict_where_it_can_be():
    """The strict form is sent as such."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}

    form = sent(output=m.OutputSchema(name="Answer[int]!", json_schema=schema))["response_format"]

    assert form == {
        "type": "json_schema",
        "json_schema": {
            "name": "Answer_int__",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": "(minimum: 1)"}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize(
    ("schema", "strict"),
    [({"type": "object"}, True), ({"type": "object", "properties": {"n": {"type": "integer"}}}, False)],
    ids=["cannot be", "need not be"],
)
def test_another_schema_is_sent_as_it_is(schema, strict):
    """And not called strict."""
    form = sent(output=m.OutputSchema(name="x" * 99, json_schema=schema, strict=strict))["response_format"][
        "json_schema"
    ]

    assert form == {"name": "x" * 64, "strict": False, "schema": schema}


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_what_json_cannot_say_is_refused(value):
    """Before anything is sent."""
    with pytest.raises(UsageError, match=r"settings\.extra"):
        sent(settings=m.ModelSettings(extra={"x": value}))


# ---- what comes back, whole ----------------------------------------------------------------------


def decoded(**choice):
    """What a complete answer with this choice means."""
    return _chat.read(CODEC, {"model": "m-1", "choices": [{"index": 0, **choice}]})


def test_a_text_answer():
    """Text, the model that answered, why it stopped, and what it used."""
    details = {"prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 3}}
    body = completion("Hi", usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, **details})

    assert _chat.read(CODEC, body) == m.ModelResponse(
        parts=(m.TextPart(text="Hi"),),
        usage=m.Usage(requests=1, input_tokens=7, output_tokens=5, cached_input_tokens=2, reasoning_tokens=3),
        model="m-1",
        finish_reason="stop",
    )


@pytest.mark.parametrize("said", [None, {"prompt_tokens": None, "prompt_tokens_details": None}, {}])
def test_missing_usage_is_a_request_all_the_same(said):
    """Requests are counted by us."""
    assert _chat.read(CODEC, completion(usage=said)).usage == m.Usage(requests=1)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("model_length", "length"),
        ("eos", None),
        (None, None),
    ],
)
def test_why_it_stopped(reason, expected):
    """A reason that is none of ours is none."""
    assert decoded(message={"content": "x"}, finish_reason=reason).finish_reason == expected


def test_an_error_beside_a_choice_is_its_error():
    """OpenRouter puts there what the provider behind it said."""
    with pytest.raises(RateLimited, match="Slow down"):
        decoded(message={"content": ""}, finish_reason="error", error={"code": 429, "message": "Slow down."})


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_an_answer_that_was_broken_off_is_an_error(reason):
    """Some servers say so in place of a status; another attempt may go better."""
    with pytest.raises(ModelHTTPError, match="broke off") as raised:
        decoded(message={"content": "x"}, finish_reason=reason)

    assert raised.value.status is None


def test_tool_calls():
    """Several calls beside a text; `stop` is not the whole truth then."""
    calls = [call_piece(call_id="a", name="f", arguments='{"x": 1}'), call_piece(name="g", arguments="")]

    response = decoded(message={"content": "See:", "tool_calls": calls}, finish_reason="stop")

    text, first, second = response.parts
    assert text == m.TextPart(text="See:")
    assert first == m.ToolCall(id="a", name="f", arguments='{"x": 1}')
    assert second == m.ToolCall(id=second.id, name="g", arguments="{}")
    assert response.finish_reason == "tool_calls"


def test_a_call_without_an_id_gets_one_of_its_own():
    """No other call has it, also of another answer: both may stand in one conversation."""
    calls = [call_piece(name="f"), call_piece(name="f")]

    answers = [decoded(message={"tool_calls": calls}) for _ in range(2)]

    ids = [call.id for answer in answers for call in answer.tool_calls]
    assert all(ids)
    assert len(set(ids)) == 4


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}'])
def test_arguments_may_be_an_object(arguments):
    """The format says text; llama.cpp has sent what the text would say."""
    calls = [{"id": "a", "function": {"name": "f", "arguments": arguments}}]

    assert decoded(message={"tool_calls": calls}).tool_calls == (m.ToolCall(id="a", name="f", arguments='{"x": 1}'),)


@pytest.mark.parametrize(
    ("content", "parts"),
    [(None, ()), ("", ()), ([{"type": "text", "text": "a"}, {"text": "b"}, {"type": "x"}], ("ab",))],
)
def test_content_has_many_forms(content, parts):
    """None, nothing, or a list of texts."""
    assert decoded(message={"content": content}).parts == tuple(m.TextPart(text=text) for text in parts)


def test_only_the_first_of_several_answers_counts():
    """`n` in `extra` does not mix answers."""
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]

    assert _chat.read(CODEC, {"choices": choices}).text == "a"


def test_a_refusal_is_an_error_with_the_text():
    """It is no answer of the form that was asked for."""
    with pytest.raises(UnexpectedModelBehavior, match="I cannot") as raised:
        decoded(message={"content": None, "refusal": "I cannot do that."}, finish_reason="stop")

    assert raised.value.body == "I cannot do that."
    assert raised.value.model == "openai:gpt-4o-mini"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>no</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [1]}',
        b'{"choices": "x"}',
        b"\xff",
    ],
)
def test_something_else_is_an_error(body):
    """An address that answers 200 need not be a chat-completions server."""
    with pytest.raises(ModelHTTPError, match="Check base_url") as raised:
        CODEC.decode(body)

    assert raised.value.status == 200
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "Slow down.", "code": 429}, RateLimited, 429),
        ({"message": "Slow down.", "code": "rate_limit_exceeded"}, RateLimited, 429),
        ({"message": "No.", "code": "401"}, AuthenticationFailed, 401),
        ({"message": "Oops.", "type": "server_error", "code": None}, ModelHTTPError, 500),
        ({"message": "Hm.", "code": "strange"}, ModelHTTPError, None),
        ("Hm.", ModelHTTPError, None),
        ([1], ModelHTTPError, None),
    ],
)
def test_an_error_in_place_of_an_answer(error, kind, status):
    """It means what its status would have meant, whole or streamed."""
    for read in (lambda: _chat.read(CODEC, {"error": error}), lambda: heard({"error": error})):
        with pytest.raises(ModelHTTPError) as raised:
            read()
        assert type(raised.value) is kind
        assert raised.value.status == status


def test_an_error_may_be_the_whole_object():
    """As vLLM has sent it; it is neither no completion nor an early end."""
    error = {"object": "error", "message": "Too long.", "type": "BadRequestError", "code": 400}

    for read in (lambda: _chat.read(CODEC, error), lambda: heard(error)):
        with pytest.raises(ModelHTTPError, match="Too long") as raised:
            read()
        assert raised.value.status == 400


def test_an_event_may_be_named_an_error():
    """Then it is one, whatever it says."""
    with pytest.raises(RateLimited, match="Slow down"):
        _chat.heard(CODEC, [b'event: error\ndata: {"message": "Slow down.", "code": 429}\n\n'])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "Bad key."}}, "Bad key."),
        ({"error": "Bad key."}, "Bad key."),
        ([{"error": {"message": "Bad key."}}], "Bad key."),
        ({"object": "error", "message": "Bad key."}, "Bad key."),
        ({"detail": [{"msg": "x"}]}, '{"detail": [{"msg": "x"}]}'),
        ({"error": {"message": "Not sk-canary-0001!"}}, "Not [redacted]!"),
    ],
)
def test_the_sentence_of_an_error_is_found(body, text):
    """Servers put it in different places; the key is never part of it."""
    assert CODEC.error_text(json.dumps(body).encode()) == text


def test_an_error_of_lists_in_lists_is_text():
    """However deep: what a server sends is no reason for an error of another kind."""
    body = b"[" * 100_000 + b"]" * 100_000

    assert CODEC.error_text(body) == body.decode()


# ---- what comes back, streamed -------------------------------------------------------------------


def test_a_stream_amounts_to_an_answer():
    """Texts come out as they arrive, usage comes last."""
    texts, response = heard(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        usage(prompt_tokens=1, completion_tokens=2),
    )

    assert texts == ["Hel", "lo"]
    assert response == m.ModelResponse(
        parts=(m.TextPart(text="Hello"),),
        usage=m.Usage(requests=1, input_tokens=1, output_tokens=2),
        model="m-1",
        finish_reason="stop",
    )


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [{"index": 0, "delta": {"content": "lo"}, "message": {"content": "Hello"}}]},
        {"choices": [{"index": None, "delta": {"content": "lo", "tool_calls": None}, "finish_reason": ""}]},
        {"choices": [{"message": {"content": "lo"}, "delta": None}], "usage": None, "error": None},
    ],
    ids=["also all so far", "nulls", "a message in place of a piece"],
)
def test_servers_that_send_chunks_of_their_own(chunk):
    """Perplexity repeats all text so far beside each piece; others leave fields empty."""
    texts, response = heard(delta(content="Hel"), chunk, delta("stop"))

    assert texts == ["Hel", "lo"]
    assert response.text == "Hello"


def test_usage_may_stand_in_the_choice():
    """Moonshot says it there."""
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"completion_tokens": 5}}]}

    assert heard(delta(content="Hi"), last)[1].usage == m.Usage(requests=1, output_tokens=5)


def test_an_event_without_data_says_nothing():
    """Proxies keep connections open with such."""
    assert heard(delta(content="Hi"), "", " ", delta("stop"))[1].text == "Hi"


def test_parallel_tool_calls_are_put_together_by_index():
    """Their pieces may come in any order; only the first has the id and the name."""
    _, response = heard(
        delta(tool_calls=[call_piece(0, "a", "f", "")]),
        delta(tool_calls=[call_piece(1, "b", "g", '{"y"')]),
        delta(tool_calls=[call_piece(0, arguments='{"x":'), call_piece(1, arguments=":2}")]),
        delta(tool_calls=[call_piece(0, arguments="1}")]),
        delta("tool_calls"),
    )

    assert response.tool_calls == (
        m.ToolCall(id="a", name="f", arguments='{"x":1}'),
        m.ToolCall(id="b", name="g", arguments='{"y":2}'),
    )


@pytest.mark.parametrize(
    "pieces",
    [
        [call_piece(None, "a", "f", "{}"), call_piece(None, "b", "g", "{}")],
        [call_piece(0, "a", "f", "{}"), call_piece(0, "b", "g", "{}")],
        [call_piece(None, "a", "f", "{"), call_piece(None, None, None, "}"), call_piece(None, "b", "g", "{}")],
        [call_piece(0, "a", "f", "{"), call_piece(0, "other", None, "}"), call_piece(1, "b", "g", "{}")],
        [call_piece(None, "a", "f", "{"), call_piece(None, "a", "f", "}"), call_piece(None, "b", "g", "{}")],
        [call_piece(0, "a", "f", "{}"), {"index": 0, "function": None}, call_piece(1, "b", "g", {})],
    ],
    ids=[
        "no index",
        "always index 0",
        "no index, in pieces",
        "a new id with every piece",
        "no index, all of it with every piece",
        "nothing in a piece",
    ],
)
def test_servers_that_number_calls_badly(pieces):
    """Each of these was seen at some compatible server."""
    _, response = heard(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls"))

    assert response.tool_calls == (m.ToolCall(id="a", name="f"), m.ToolCall(id="b", name="g"))


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [delta(content="Hel")],
        [delta(tool_calls=[call_piece(0, "a", "f", '{"x"')])],
    ],
)
def test_a_truncated_stream_is_no_answer(pieces):
    """Without a reason to stop nobody knows whether it was all."""
    with pytest.raises(ModelHTTPError, match="ended before") as raised:
        heard(*pieces, done=False)

    assert raised.value.status is None


def test_a_stream_with_a_reason_is_an_answer_without_done():
    """Several servers leave it out, or the blank line after it; a connection that breaks there is an error all the same."""
    data = b"".join(stream_of("Hello"))

    assert _chat.heard(CODEC, [data.removesuffix(event("[DONE]"))])[1].text == "Hello"
    assert _chat.heard(CODEC, [data[:-1]])[1].text == "Hello"


def test_a_stream_that_is_done_without_a_reason_is_no_answer():
    """[DONE] alone may be said by a proxy."""
    with pytest.raises(ModelHTTPError, match="ended before"):
        heard(delta(content="Hel"))


def test_a_refusal_can_be_streamed():
    """It is no text of the answer."""
    with pytest.raises(UnexpectedModelBehavior) as raised:
        heard(delta(refusal="I can"), delta(refusal="not."), delta("stop"))

    assert raised.value.body == "I cannot."


def test_an_event_that_is_no_piece_is_an_error():
    """Also with the key in it."""
    with pytest.raises(ModelHTTPError, match="Check base_url") as raised:
        heard("<html>sk-canary-0001</html>")

    assert "canary" not in str(raised.value) + raised.value.body


def test_nothing_counts_after_done():
    """A stream is over when it says so."""
    decoder = CODEC.decoder()
    for item in EventParser().feed(
        b"".join([*stream_of("Hello"), event(delta(content="more")), event({"error": "x"})])
    ):
        decoder.feed(item)

    assert decoder.complete
    assert decoder.finish().text == "Hello"


def test_a_stream_that_breaks_off_is_an_error():
    """The provider's own word for it."""
    with pytest.raises(ModelError, match="broke off"):
        heard(delta(content="Hel"), delta("error"))
