"""OpenAI's chat completions, which many other servers speak as well: what is sent, and what the answers mean.

`OpenAIModel` is the model; `ChatCompletions` is its codec and does no I/O. What comes back is read in `_completion`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never
from urllib.parse import urlsplit

import attrs

from agentflow import messages as m
from agentflow.models._completion import Completion
from agentflow.models._provider import ProviderModel, WireCodec
from agentflow.models._strict import named_form
from agentflow.models._wording import chosen, described, file_text, tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow.models._base import HttpCall

__all__ = ["ChatCompletions", "OpenAIModel"]

_OWN_HOSTS: Final = (".openai.com", ".openai.azure.com")
_SOUNDS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


@attrs.frozen
class ChatCompletions(WireCodec):
    """The codec of one model."""

    own_url: ClassVar = "https://api.openai.com/v1"
    answer: ClassVar = Completion

    def encode(self, request: m.ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If the request holds something that cannot be said.
        """
        messages = _messages(request.messages, own=self._is_own)
        body: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        body |= tools(request, _tool) | _output(request.output) | self._settings(request.settings)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return self.post("chat/completions", body, request, stream=stream)

    @property
    def _host(self) -> str:
        return f".{urlsplit(self.base_url).hostname}"

    @property
    def _is_own(self) -> bool:
        """Whether the server is OpenAI's own, which refuses what it does not know."""
        return self._host.endswith(_OWN_HOSTS)

    def _settings(self, settings: m.ModelSettings) -> dict[str, Any]:
        """Return the options that were chosen."""
        # OpenAI's newer models refuse `max_tokens`; most other servers know nothing else.
        limit = "max_completion_tokens" if self._is_own else "max_tokens"
        return chosen(
            {
                "temperature": settings.temperature,
                limit: settings.max_tokens,
                "top_p": settings.top_p,
                "seed": settings.seed,
                "stop": settings.stop,
                **self._reasoning(settings),
            }
        )

    def _reasoning(self, settings: m.ModelSettings) -> dict[str, Any]:
        """Return how hard the model should think; OpenRouter has an option of its own, for all its providers."""
        if settings.reasoning is None:
            return {}
        if self._host.endswith(".openrouter.ai"):
            return {"reasoning": {"enabled": False} if settings.reasoning == "off" else {"effort": settings.reasoning}}
        return {"reasoning_effort": "none" if settings.reasoning == "off" else settings.reasoning}


class OpenAIModel(ProviderModel):
    """A model behind OpenAI's chat completions API, or behind another server that speaks it.

    The arguments are those of every provider: `api_key` (else `OPENAI_API_KEY`), `base_url` (else `OPENAI_BASE_URL`; up
    to and without `/chat/completions`), `http_client`, `async_http_client`, `transport`, `max_retries` and
    `supports_json_schema`, to be set to False for servers without JSON schemas; see `ProviderModel`.

    ```python
    from agentflow.models.openai import OpenAIModel

    model = OpenAIModel("llama3.3", base_url="http://localhost:11434/v1")
    assert model.name == "openai:llama3.3"
    ```
    """

    provider: ClassVar = "openai"
    url_variable: ClassVar = "OPENAI_BASE_URL"
    key_variables: ClassVar = ("OPENAI_API_KEY",)
    example: ClassVar = "gpt-4o-mini"
    codec_type: ClassVar = ChatCompletions


# ---- what is sent --------------------------------------------------------------------------------


def _messages(messages: Sequence[m.Message], *, own: bool) -> Iterator[dict[str, Any]]:
    """Yield messages in the provider's form.

    The answer of a tool can only be text there: what else it has follows as a message of the user's, after all answers.
    """
    seen: list[m.UserPart] = []
    for message in messages:
        if seen and not isinstance(message, m.ToolReturn):
            yield {"role": "user", "content": _content(seen)}
            seen = []
        yield _message(message, own=own)
        if isinstance(message, m.ToolReturn) and (media := [part for part in message.parts if part.kind != "text"]):
            seen += [m.TextPart(text=f"What {message.tool_name} returned ({message.tool_call_id}):"), *media]
    if seen:
        yield {"role": "user", "content": _content(seen)}


def _message(message: m.Message, *, own: bool) -> dict[str, Any]:
    """Return a message in the provider's form."""
    match message:
        case m.SystemMessage():
            return {"role": "system", "content": message.content}
        case m.UserMessage(content=str() as text):
            return {"role": "user", "content": text}
        case m.UserMessage():
            return {"role": "user", "content": _content(message.parts)}
        case m.ToolReturn():
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}
        case m.ModelResponse():
            return _assistant(message) | ({} if own else _thoughts(message))
        case _:
            assert_never(message)


def _content(parts: Sequence[m.UserPart]) -> list[dict[str, Any]]:
    """Return what a user says, in parts; the provider caches by itself, so there are no marks."""
    return [_part(part) for part in parts if not isinstance(part, m.CachePoint)]


def _part(part: m.TextPart | m.ImagePart | m.FilePart) -> dict[str, Any]:
    """Return a part in the provider's form."""
    match part:
        case m.TextPart():
            return {"type": "text", "text": part.text}
        case m.ImagePart():
            detail = {} if part.detail is None else {"detail": part.detail}
            return {"type": "image_url", "image_url": {"url": part.address, **detail}}
        case m.FilePart() if part.media_type in _SOUNDS and part.data is not None:
            return {"type": "input_audio", "input_audio": {"data": part.base64, "format": _SOUNDS[part.media_type]}}
        case m.FilePart() if (text := file_text(part)) is not None:
            return {"type": "text", "text": text}
        case m.FilePart():
            return {"type": "file", "file": {"filename": part.name or "file", "file_data": part.address}}
        case _:
            assert_never(part)


def _assistant(response: m.ModelResponse) -> dict[str, Any]:
    """Return what the model said before; text may be missing only beside tool calls."""
    if not response.tool_calls:
        return {"role": "assistant", "content": response.text}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in response.tool_calls
    ]
    return {"role": "assistant", "content": response.text or None, "tool_calls": calls}


def _thoughts(response: m.ModelResponse) -> dict[str, Any]:
    """Return what the model thought when it called tools, which some servers want back, under the name it came by."""
    thoughts = [part for part in response.parts if isinstance(part, m.ReasoningPart) and part.provider == "openai"]
    if not thoughts or not response.tool_calls:
        return {}
    said: dict[str, Any] = {part.id or "reasoning": part.text for part in thoughts if part.text}
    details = [detail for part in thoughts if part.signature for detail in json.loads(part.signature)]
    return {**said, **({"reasoning_details": details} if details else {})}


def _tool(tool: m.ToolDefinition) -> dict[str, Any]:
    """Return a tool in the provider's form."""
    return {"type": "function", "function": described(tool)}


def _output(output: m.OutputSchema | None) -> dict[str, Any]:
    """Return the form of the answer."""
    if output is None:
        return {}
    return {"response_format": {"type": "json_schema", "json_schema": named_form(output)}}
