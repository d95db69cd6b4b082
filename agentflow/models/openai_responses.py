"""OpenAI's Responses API: what is sent, and what the answers mean.

Nothing is kept at OpenAI: each request holds the whole conversation, with what the model thought in encrypted form.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never

import attrs

from agentflow import messages as m
from agentflow.exceptions import UsageError
from agentflow.models._provider import ProviderModel, WireCodec
from agentflow.models._responses import ResponsesAnswer
from agentflow.models._strict import named_form
from agentflow.models._wording import chosen, described, tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow.models._base import HttpCall

__all__ = ["OpenAIResponsesModel", "Responses"]

_REASONS: Final = re.compile(r"(o\d|gpt-([5-9]|\d\d)|codex|computer)(?!.*chat)")


@attrs.frozen
class Responses(WireCodec):
    """The codec of one model."""

    own_url: ClassVar = "https://api.openai.com/v1"
    answer: ClassVar = ResponsesAnswer

    def encode(self, request: m.ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If the request holds something that cannot be said.
        """
        if request.settings.stop:
            raise UsageError(f"{self.name} cannot be told where to stop: leave out settings.stop, or use 'openai:'")
        items = [item for message in request.messages for item in _items(message)]
        body: dict[str, Any] = {"model": self.model, "input": items, "store": False}
        body |= tools(request, _tool) | self._settings(request.settings)
        if request.output is not None:
            body["text"] = {"format": {"type": "json_schema", **named_form(request.output)}}
        if stream:
            body["stream"] = True
        return self.post("responses", body, request, stream=stream)

    def _settings(self, settings: m.ModelSettings) -> dict[str, Any]:
        """Return the options that were chosen; what such a model thought comes encrypted, to be sent back."""
        return chosen(
            {
                "temperature": settings.temperature,
                "max_output_tokens": settings.max_tokens,
                "top_p": settings.top_p,
                "reasoning": _reasoning(settings),
                "include": ["reasoning.encrypted_content"] if _REASONS.match(self.model) else None,
            }
        )


class OpenAIResponsesModel(ProviderModel):
    """A model behind OpenAI's Responses API, which gives reasoning models back what they thought before.

    The arguments are those of every provider; see `OpenAIModel`, whose key and address it shares.

    ```python
    from agentflow.models import resolve

    assert resolve("openai-responses:gpt-5").name == "openai-responses:gpt-5"
    ```
    """

    provider: ClassVar = "openai-responses"
    url_variable: ClassVar = "OPENAI_BASE_URL"
    key_variables: ClassVar = ("OPENAI_API_KEY",)
    example: ClassVar = "gpt-5"
    codec_type: ClassVar = Responses


# ---- what is sent --------------------------------------------------------------------------------


def _items(message: m.Message) -> Iterator[dict[str, Any]]:
    """Yield what a message is to the provider: it has no messages with calls, but calls among the messages."""
    match message:
        case m.SystemMessage():
            yield {"type": "message", "role": "system", "content": message.content}
        case m.UserMessage(content=str() as text):
            yield {"type": "message", "role": "user", "content": text}
        case m.UserMessage():
            yield {"type": "message", "role": "user", "content": _content(message.parts)}
        case m.ToolReturn():
            output = message.content if isinstance(message.content, str) else _content(message.content)
            yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
        case m.ModelResponse():
            yield from _said(message)
        case _:
            assert_never(message)


def _said(response: m.ModelResponse) -> Iterator[dict[str, Any]]:
    """Yield what the model said before; the parts of one thought are one item."""
    thought: dict[str, Any] = {}
    last: tuple[str | None, str] | None = None
    for part in response.parts:
        match part:
            case m.TextPart():
                yield {"type": "message", "role": "assistant", "content": part.text}
            case m.ToolCall():
                yield {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
            case m.ReasoningPart(provider="openai-responses", signature=str() as proof):
                if (part.id, proof) != last:
                    last = part.id, proof
                    named = {"id": part.id} if part.id else {}
                    thought = {"type": "reasoning", **named, "summary": [], "encrypted_content": proof}
                    yield thought  # summed up below, before anybody writes it
                if part.text:
                    thought["summary"].append({"type": "summary_text", "text": part.text})
            case m.ReasoningPart():
                pass  # another provider's, or one that only OpenAI could look up
            case _:
                assert_never(part)


def _content(parts: Sequence[m.UserPart]) -> list[dict[str, Any]]:
    """Return what a user says, or a tool answers, in parts; the provider caches by itself, so there are no marks."""
    return [_part(part) for part in parts if not isinstance(part, m.CachePoint)]


def _part(part: m.TextPart | m.ImagePart | m.FilePart) -> dict[str, Any]:
    """Return a part in the provider's form."""
    match part:
        case m.TextPart():
            return {"type": "input_text", "text": part.text}
        case m.ImagePart():
            return {"type": "input_image", "image_url": part.address, "detail": part.detail or "auto"}
        case m.FilePart() if part.data is None:
            return {"type": "input_file", "file_url": part.url}
        case m.FilePart():
            return {"type": "input_file", "filename": part.name or "file", "file_data": part.address}
        case _:
            assert_never(part)


def _tool(tool: m.ToolDefinition) -> dict[str, Any]:
    """Return a tool in the provider's form, which is strict unless it is told otherwise."""
    return {"type": "function", **described(tool), "strict": False}


def _reasoning(settings: m.ModelSettings) -> dict[str, str] | None:
    """Return how hard the model should think, and that it should say something of it."""
    match settings.reasoning:
        case None:
            return None
        case "off":
            return {"effort": "none"}
        case effort:
            return {"effort": effort, "summary": "auto"}
