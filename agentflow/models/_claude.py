"""What Anthropic's Messages API answers, whole or streamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import (
    Assembly,
    Wire,
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

__all__ = ["REDACTED", "ClaudeDecoder", "read_message"]

REDACTED: Final = "redacted_thinking"
"""The name of thoughts that are there in encrypted form only."""

_WHAT: Final = "answer of the Messages API"


def read_message(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no answer.
        UnexpectedModelBehavior: If the model refused.
    """
    message = parsed(_Message, body)
    if message is None or (message.content is None and not message.error):
        raise no_answer(codec, body, _WHAT)
    answer = _Answer(codec)
    answer.whole(message)
    return answer.response()


class ClaudeDecoder:
    """Reads the events of one streamed answer."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._answer = _Answer(codec)
        self._done = False

    @property
    def complete(self) -> bool:
        """Whether the provider has said that it is done."""
        return self._done

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event and return the text that it adds.

        Raises:
            ModelHTTPError: If it reports an error, or is no event of such an answer.
        """
        if self._done:
            return ""
        piece = parsed(_Event, event.data)
        if piece is None:
            raise no_piece(self._codec, event.data, _WHAT)
        self._done = piece.type == "message_stop"
        return self._answer.add(piece)

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete.
            UnexpectedModelBehavior: If the model refused.
        """
        if not self._done or not self._answer.finished:
            raise ended_early(self._codec)
        return self._answer.response()


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


class _Tokens(Wire):
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


class _Message(Wire):
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Tokens | None = None
    error: Any = None


class _Delta(_Block):
    stop_reason: str | None = None


class _Event(Wire):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Tokens | None = None
    error: Any = None


_STOP_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


class _Answer:
    """An answer put together from its blocks, which a stream gives in pieces."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._assembly = Assembly("anthropic")
        self._tokens: dict[str, Any] = {}
        self._model: str | None = None
        self._stop: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the provider has said why the model stopped."""
        return self._stop is not None

    def whole(self, message: _Message) -> None:
        """Take a complete answer, or what is known of one when it begins."""
        if message.error:
            raise reported(self._codec, message.error)
        self._model, self._stop = message.model, message.stop_reason
        self._count(message.usage)
        for index, block in enumerate(message.content or ()):
            self._block(index, block)

    def add(self, piece: _Event) -> str:
        """Take an event and return the text that it adds."""
        match piece.type:
            case "error":
                raise reported(self._codec, piece.error)
            case "message_start" if piece.message is not None:
                self.whole(piece.message)
            case "content_block_start" if piece.content_block is not None:
                return self._block(piece.index, piece.content_block)
            case "content_block_delta" if piece.delta is not None:
                return self._block(piece.index, piece.delta)
            case "message_delta":
                self._stop = (piece.delta and piece.delta.stop_reason) or self._stop
                self._count(piece.usage)
            case _:
                pass  # pings, ends of blocks, and what comes later
        return ""

    def _count(self, tokens: _Tokens | None) -> None:
        """Take what was used so far: each account replaces what it names of the one before."""
        if tokens is not None:
            self._tokens |= tokens.model_dump(exclude_none=True)

    def _block(self, index: int, block: _Block) -> str:
        """Take a block or a piece of one, and return the text that it adds."""
        match block.type:
            case "text" | "text_delta":
                return self._assembly.text(block.text or "", index)
            case "thinking" | "thinking_delta" | "signature_delta":
                self._assembly.reasoning(block.thinking or "", index, signature=block.signature)
            case "redacted_thinking":
                self._assembly.reasoning("", index, name=REDACTED, signature=block.data)
            case "tool_use":
                # A stream begins a call with an empty input, and then writes it piece by piece.
                arguments = json.dumps(block.input, ensure_ascii=False) if block.input else ""
                self._assembly.call(index, arguments, call_id=block.id or "", name=block.name or "")
            case "input_json_delta" if self._assembly.began_call(index):
                self._assembly.call(index, block.partial_json or "")
            case _:
                pass  # what Anthropic's own tools did
        return ""

    def response(self) -> ModelResponse:
        """Return the whole answer."""
        parts = self._assembly.parts()
        response = ModelResponse(
            parts=parts,
            usage=_Tokens.model_validate(self._tokens).usage(),
            model=self._model,
            finish_reason=_STOP_REASONS.get(self._stop or ""),
        )
        if self._stop == "refusal":
            raise refusal(self._codec, response.text or "no reason was given")
        return response
