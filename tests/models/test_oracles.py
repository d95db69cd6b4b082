"""The providers' own libraries as judges: what is sent is what their types take, and our fakes say what theirs say.

They are large, so these tests are slow ones; `.ci/run` installs the libraries (the dependency group `oracles`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest
from pydantic import TypeAdapter

from agentflow import messages as m

from ._dialects import DIALECTS

pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"
LOOKUP = m.ToolDefinition(
    name="lookup", description="Look it up.", parameters={"type": "object", "properties": {"q": {"type": "string"}}}
)
FORM = m.OutputSchema(
    name="city",
    json_schema={"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]},
)
SETTINGS = m.ModelSettings(
    temperature=0.5, max_tokens=77, top_p=0.9, parallel_tool_calls=True, reasoning="low", cache_prompt="1h"
)


@pytest.fixture(params=DIALECTS)
def dialect(request):
    """Each provider."""
    return DIALECTS[request.param]


def conversation(dialect):
    """Everything that can be said to this provider."""
    answer = dialect.rich()
    files = [m.FilePart(data=b"a,b", media_type="text/plain", name="a.txt")]
    images = [m.ImagePart(data=PNG, detail="low")]
    if dialect.provider != "ollama":
        files += [m.FilePart(data=b"%PDF-1.7", name="a.pdf"), m.FilePart(url="https://example.com/a.pdf")]
        images += [m.ImagePart(url="https://example.com/a.png")]
    if dialect.provider == "openai":
        files = [*files[:-1], m.FilePart(data=b"RIFF\0\0\0\0WAVE")]
    first, second = answer.tool_calls
    return (
        m.SystemMessage(content="Be brief."),
        m.UserMessage.of("What is this?", m.CachePoint(), *images, *files),
        answer,
        m.ToolReturn(tool_call_id=first.id, tool_name=first.name, content='{"sun": true}'),
        m.ToolReturn(
            tool_call_id=second.id,
            tool_name=second.name,
            content=(m.TextPart(text="A map:"), m.ImagePart(data=PNG)),
            is_error=True,
        ),
        m.UserMessage(content="And?"),
    )


def plain(value):
    """A validated value with its lazy parts read, which validates them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [plain(item) for item in value] if isinstance(value, list | tuple | Iterator) else value


def taken(type_, body):
    """Check a value against a provider's types; what they do not know they drop, so it must come out as it went in."""
    assert plain(_adapter(type_).validate_python(body)) == body


@cache
def _adapter(type_):
    return TypeAdapter(type_)


def take_chat(body):
    from openai.types.chat import completion_create_params as params

    taken(
        params.CompletionCreateParamsStreaming if body.get("stream") else params.CompletionCreateParamsNonStreaming,
        body,
    )


def take_responses(body):
    from openai.types.responses import response_create_params as params

    taken(params.ResponseCreateParamsStreaming if body.get("stream") else params.ResponseCreateParamsNonStreaming, body)


def take_anthropic(body):
    from anthropic.types import message_create_params as params

    # The library no longer has these, which only older models take.
    body = {name: value for name, value in body.items() if name not in {"temperature", "top_p"}}
    taken(params.MessageCreateParamsStreaming if body.get("stream") else params.MessageCreateParamsNonStreaming, body)


def take_google(body):
    from google.genai import types

    known = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
    }
    for name, value in body.items():
        _adapter(known[name]).validate_python(value)  # they refuse what they do not know


def take_ollama(body):
    from ollama import _types as types

    types.ChatRequest.model_validate({**body, "messages": []})
    for message in body["messages"]:
        assert set(message) <= set(types.Message.model_fields)
        images = [types.Image(value=image) for image in message.get("images", ())]
        types.Message.model_validate(message | ({"images": images} if images else {}))
    assert set(body) <= set(types.ChatRequest.model_fields)
    assert set(body.get("options", ())) <= set(types.Options.model_fields)


TAKE = {
    "openai": take_chat,
    "openai-responses": take_responses,
    "anthropic": take_anthropic,
    "google": take_google,
    "ollama": take_ollama,
}
OLDER = {"anthropic": "claude-3-5-haiku-latest", "google": "gemini-2.5-flash", "openai-responses": "gpt-4o"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tool_choice", ["auto", "required", "none"])
def test_what_is_sent_is_what_the_library_would_send(dialect, tool_choice, stream):
    """For every choice of tools, output and settings, to a new model and to an old one."""
    outputs, settings = (None, FORM), (m.ModelSettings(), SETTINGS, m.ModelSettings(reasoning="off"))
    names = {dialect.model_name, OLDER.get(dialect.provider, "m-1")}
    for model, output, chosen, tools in product(names, outputs, settings, ((), (LOOKUP,))):
        codec = dialect.codec_class("x:y", model, api_key="k")
        asked = m.ModelRequest(
            messages=conversation(dialect), tools=tools, tool_choice=tool_choice, output=output, settings=chosen
        )

        body = json.loads(codec.encode(asked, stream=stream).body)

        TAKE[dialect.provider](body)


def test_our_whole_answers_are_the_librarys(dialect):
    """Each reads as the library's own response type."""
    answer = json.dumps(dialect.whole(dialect.rich()))

    assert RESPONSE[dialect.provider]().validate_json(answer) is not None


def test_our_streamed_answers_are_the_librarys(dialect):
    """Each event reads as the library's own type of an event."""
    adapter = EVENT[dialect.provider]()

    for piece in dialect.pieces(dialect.rich()):
        if piece.get("type") == "ping":
            continue  # the library drops it before it looks at types
        assert adapter.validate_json(json.dumps(piece)) is not None


def _of(module, name):
    def load():
        from importlib import import_module

        return TypeAdapter(getattr(import_module(module), name))

    return load


RESPONSE = {
    "openai": _of("openai.types.chat", "ChatCompletion"),
    "openai-responses": _of("openai.types.responses", "Response"),
    "anthropic": _of("anthropic.types", "Message"),
    "google": _of("google.genai.types", "GenerateContentResponse"),
    "ollama": _of("ollama", "ChatResponse"),
}
EVENT = RESPONSE | {
    "openai": _of("openai.types.chat", "ChatCompletionChunk"),
    "openai-responses": _of("openai.types.responses", "ResponseStreamEvent"),
    "anthropic": _of("anthropic.types", "RawMessageStreamEvent"),
}


@pytest.fixture(autouse=True)
def _libraries(dialect):
    """The provider's library, or a skip that says how to get it."""
    library = {"openai-responses": "openai", "google": "google.genai"}.get(dialect.provider, dialect.provider)
    pytest.importorskip(library, reason=f"needs {library}, of the dependency group 'oracles'")
