"""What OpenAI's Responses API answers, whole or streamed.

A stream ends with an event that holds the whole answer; only the text is taken from the events before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import (
    Assembly,
    Wire,
    broken_off,
    ended_early,
    no_answer,
    no_piece,
    parsed,
    refusal,
    reported,
)

if TYPE_CHECKING:
    from agentflow.messages import FinishReason
    from agentflow.models._base import Codec
    from agentflow.models._sse import ServerSentEvent

__all__ = ["ResponsesDecoder", "read_responses"]

_WHAT: Final = "answer of the Responses API"


def read_responses(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no answer.
        UnexpectedModelBehavior: If the model refused.
    """
    whole = parsed(_Response, body)
    if whole is None or (whole.output is None and not whole.error):
        raise no_answer(codec, body, _WHAT)
    return _read(codec, whole)


class ResponsesDecoder:
    """Reads the events of one streamed answer."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._items: list[_Item] = []
        self._whole: _Response | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._whole is not None

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event and return the text that it adds.

        Raises:
            ModelHTTPError: If it reports an error, or is no event of such an answer.
        """
        if self.complete or event.data.strip() == "[DONE]":
            return ""
        piece = parsed(_Event, event.data)
        if piece is None:
            raise no_piece(self._codec, event.data, _WHAT)
        return self._take(piece)

    def _take(self, piece: _Event) -> str:
        match piece.type:
            case "response.output_text.delta":
                return piece.delta if isinstance(piece.delta, str) else ""
            case "response.output_item.done" if piece.item is not None:
                self._items.append(piece.item)
            case "response.completed" | "response.incomplete" | "response.failed":
                self._whole = piece.response
            case "error":
                raise reported(self._codec, piece.error or {"code": piece.code, "message": piece.message})
            case _:
                pass  # how far it is; new kinds come with new models
        return ""

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete, or the answer failed.
            UnexpectedModelBehavior: If the model refused.
        """
        if self._whole is None:
            raise ended_early(self._codec)
        whole = self._whole if self._whole.output else self._whole.model_copy(update={"output": self._items})
        return _read(self._codec, whole)


class _Content(Wire):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(Wire):
    type: str = ""
    id: str | None = None
    content: list[_Content] | None = None
    summary: list[_Content] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class _Details(Wire):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Tokens(Wire):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def usage(self) -> Usage:
        """Return what one request used."""
        read, written = self.input_tokens_details or _Details(), self.output_tokens_details or _Details()
        return Usage(
            requests=1,
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            cached_input_tokens=read.cached_tokens or 0,
            cache_write_tokens=read.cache_write_tokens or 0,
            reasoning_tokens=written.reasoning_tokens or 0,
        )


class _Incomplete(Wire):
    reason: str | None = None


class _Response(Wire):
    status: str | None = None
    model: str | None = None
    output: list[_Item] | None = None
    usage: _Tokens | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None


class _Event(Wire):
    type: str
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    code: str | None = None
    message: str | None = None


_INCOMPLETE: Final[dict[str | None, FinishReason]] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


def _read(codec: Codec, whole: _Response) -> ModelResponse:
    """Return what a whole answer means."""
    if whole.error:
        raise reported(codec, whole.error)
    if whole.status in {"failed", "cancelled", "in_progress", "queued"}:
        raise broken_off(codec, whole.status)
    assembly = Assembly("openai-responses")
    for place, item in enumerate(whole.output or ()):
        _add(codec, assembly, item, place)
    return ModelResponse(
        parts=assembly.parts(),
        usage=(whole.usage or _Tokens()).usage(),
        model=whole.model,
        finish_reason=_finish_reason(whole, assembly),
    )


def _finish_reason(whole: _Response, assembly: Assembly) -> FinishReason | None:
    """Return why the model stopped, which the provider says only where something is missing."""
    if whole.status == "incomplete":
        return _INCOMPLETE.get((whole.incomplete_details or _Incomplete()).reason)
    return "tool_calls" if assembly.has_calls else "stop"


def _add(codec: Codec, assembly: Assembly, item: _Item, place: int) -> None:
    """Add what one item of an answer says."""
    match item.type:
        case "message":
            if refused := "".join(content.refusal or "" for content in item.content or ()):
                raise refusal(codec, refused)
            assembly.text("".join(content.text or "" for content in item.content or ()), place)
        case "function_call":
            assembly.call(place, item.arguments or "", call_id=item.call_id or "", name=item.name or "")
        case "reasoning":
            _add_thought(assembly, item, place)
        case _:
            pass  # what OpenAI's own tools did


def _add_thought(assembly: Assembly, item: _Item, place: int) -> None:
    """Add what the model thought, each text as a part of its own, so that it can go back as it was."""
    texts = [text.text or "" for text in item.summary or item.content or ()] or [""]
    for number, text in enumerate(texts):
        assembly.reasoning(text, (place, number), name=item.id or "", signature=item.encrypted_content)
