"""What Anthropic's Messages API answers, whole or streamed."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import Answer, Piece, Tokens, Whole, Wire, refusal

__all__ = ["REDACTED", "ClaudeAnswer"]

REDACTED: Final = "redacted_thinking"
"""The name of thoughts that are there in encrypted form only."""


class _Block(Wire):
    """A block of an answer, or what is added to one: they have the same fields."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    partial_json: str | None = None


class _Written(Wire):
    thinking_tokens: int | None = None


class _Tokens(Tokens):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Written | None = None

    def usage(self) -> Usage:
        """Return what one request used; the provider's input is without what is in its cache."""
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        return Usage(
            requests=1,
            input_tokens=(self.input_tokens or 0) + read + written,
            output_tokens=self.output_tokens or 0,
            cached_input_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=(self.output_tokens_details or _Written()).thinking_tokens or 0,
        )


class _Message(Whole):
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Tokens | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is an answer, which may have nothing in it."""
        return self.content is not None


class _Delta(_Block):
    stop_reason: str | None = None


class _Event(Piece):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Tokens | None = None


class ClaudeAnswer(Answer[_Message, _Event]):
    """An answer put together from its blocks, which a stream gives in pieces."""

    provider: ClassVar = "anthropic"
    what: ClassVar = "answer of the Messages API"
    reasons: ClassVar = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
    }
    whole, piece = _Message, _Event

    def take_whole(self, whole: _Message) -> None:
        """Take a complete answer, or what is known of one when it begins."""
        self.model, self.stopped = whole.model, whole.stop_reason
        self._count(whole.usage)
        for index, block in enumerate(whole.content or ()):
            self._block(index, block)

    def take(self, piece: _Event) -> str:
        """Take an event and return the text that it adds."""
        match piece.type:
            case "message_start" if piece.message is not None:
                self.take_whole(piece.message)
            case "content_block_start" if piece.content_block is not None:
                return self._block(piece.index, piece.content_block)
            case "content_block_delta" if piece.delta is not None:
                return self._block(piece.index, piece.delta)
            case "message_delta":
                self.stopped = (piece.delta and piece.delta.stop_reason) or self.stopped
                self._count(piece.usage)
            case "message_stop":
                self.complete = True
            case _:
                pass  # pings, ends of blocks, and what comes later
        return ""

    def _count(self, tokens: _Tokens | None) -> None:
        """Take what was used so far: each account replaces what it counts of the one before; some end with zeros."""
        if tokens is not None:
            known = self.tokens or _Tokens()
            self.tokens = known.model_copy(update={name: count for name, count in tokens if count})

    def _block(self, index: int, block: _Block) -> str:
        """Take a block or a piece of one, and return the text that it adds."""
        match block.type:
            case "text" | "text_delta":
                return self.parts.text(block.text, index)
            case "thinking" | "thinking_delta" | "signature_delta":
                self.parts.reasoning(block.thinking, index, signature=block.signature)
            case "redacted_thinking":
                self.parts.reasoning("", index, name=REDACTED, signature=block.data)
            case "tool_use":
                # A stream begins a call with an empty input, and then writes it piece by piece.
                self.parts.call(index, block.input, call_id=block.id, name=block.name)
            case "input_json_delta" if self.parts.began_call(index):
                self.parts.call(index, block.partial_json)
            case _:
                pass  # what Anthropic's own tools did
        return ""

    def response(self) -> ModelResponse:
        """Return the whole answer; a refusal is told by its reason, with or without a text."""
        response = super().response()
        if self.stopped == "refusal":
            raise refusal(self.codec, response.text or "no reason was given")
        return response
