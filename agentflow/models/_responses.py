"""What OpenAI's Responses API answers, whole or streamed.

A stream ends with an event that holds the whole answer; only the text is taken from the events before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from agentflow.messages import Usage
from agentflow.models._answers import Answer, Assembly, Piece, Tokens, Whole, Wire, broken_off, reported

if TYPE_CHECKING:
    from agentflow.models._base import Codec

__all__ = ["ResponsesAnswer"]


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


class _Tokens(Tokens):
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


class _Response(Whole):
    status: str | None = None
    model: str | None = None
    output: list[_Item] | None = None
    usage: _Tokens | None = None
    incomplete_details: _Incomplete | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is an answer, which may have nothing in it."""
        return self.output is not None


class _Event(Piece):
    type: str
    output_index: int = 0
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    code: Any = None
    message: str | None = None


class ResponsesAnswer(Answer[_Response, _Event]):
    """An answer put together from its items."""

    provider: ClassVar = "openai-responses"
    what: ClassVar = "answer of the Responses API"
    # The provider gives a reason only where something is missing.
    reasons: ClassVar = {
        "completed": "stop",
        "max_output_tokens": "length",
        "max_tokens": "length",
        "content_filter": "content_filter",
    }
    whole, piece = _Response, _Event

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self._items: list[_Item] = []
        self.writing = Assembly(self.provider)

    def take(self, piece: _Event) -> str:
        """Take what an event says, and return the text that it adds."""
        match piece.type:
            case "response.output_text.delta":
                return piece.delta if isinstance(piece.delta, str) else ""
            case "response.output_item.added" if piece.item is not None and piece.item.type == "function_call":
                self.writing.call(piece.output_index, name=piece.item.name)
            case "response.function_call_arguments.delta":
                self.writing.call(piece.output_index, piece.delta)
            case "response.output_item.done" if piece.item is not None:
                self._items.append(piece.item)
            case "response.completed" | "response.incomplete" | "response.failed" if piece.response is not None:
                self.complete = True
                self.take_whole(piece.response)
            case "error":
                raise reported(self.codec, {"code": piece.code, "message": piece.message})
            case _:
                pass  # how far it is; new kinds come with new models
        return ""

    def take_whole(self, whole: _Response) -> None:
        """Take a complete answer, of which a stream may have said the items before."""
        if whole.error:
            raise reported(self.codec, whole.error)
        if whole.status in {"failed", "cancelled", "in_progress", "queued"}:
            raise broken_off(self.codec, whole.status)
        self.model, self.tokens = whole.model, whole.usage
        self.stopped = "completed"
        if whole.status == "incomplete":
            self.stopped = (whole.incomplete_details or _Incomplete()).reason or whole.status
        for place, item in enumerate(whole.output or self._items):
            self._add(item, place)

    def _add(self, item: _Item, place: int) -> None:
        """Add what one item of an answer says."""
        match item.type:
            case "message":
                self.refusals += [content.refusal for content in item.content or () if content.refusal]
                self.parts.text("".join(content.text or "" for content in item.content or ()), place)
            case "function_call":
                self.parts.call(place, item.arguments, call_id=item.call_id, name=item.name)
            case "reasoning":
                # Each text is a part of its own, so that it can go back as it was.
                texts = [text.text for text in item.summary or item.content or ()] or [""]
                for number, text in enumerate(texts):
                    self.parts.reasoning(text, (place, number), name=item.id, signature=item.encrypted_content)
            case _:
                pass  # what OpenAI's own tools did
