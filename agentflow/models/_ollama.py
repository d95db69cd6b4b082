"""What Ollama's own chat API answers, whole or streamed: a stream is lines of JSON, each in the form of a whole answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import Assembly, Wire, ended_early, no_answer, no_piece, parsed, reported

if TYPE_CHECKING:
    from agentflow.messages import FinishReason
    from agentflow.models._base import Codec
    from agentflow.models._sse import ServerSentEvent

__all__ = ["OllamaDecoder", "read_chat"]

_WHAT: Final = "answer of Ollama's chat API"


def read_chat(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no answer.
    """
    whole = parsed(_Piece, body)
    if whole is None or (whole.message is None and not whole.error):
        raise no_answer(codec, body, _WHAT)
    answer = OllamaDecoder(codec)
    answer.add(whole)
    return answer.finish()


class _Function(Wire):
    name: str | None = None
    arguments: Any = None


class _Call(Wire):
    id: str | None = None
    function: _Function = _Function()


class _Said(Wire):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Piece(Wire):
    """A complete answer, or a piece of a streamed one: they have the same form."""

    model: str | None = None
    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


class OllamaDecoder:
    """Reads the lines of one streamed answer."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._assembly = Assembly("ollama")
        self._calls = 0
        self._last: _Piece | None = None

    @property
    def complete(self) -> bool:
        """Whether the provider has said that it is done."""
        return self._last is not None

    def feed(self, event: ServerSentEvent) -> str:
        """Take a line and return the text that it adds.

        Raises:
            ModelHTTPError: If it reports an error, or is no piece of such an answer.
        """
        if self.complete:
            return ""
        piece = parsed(_Piece, event.data)
        if piece is None:
            raise no_piece(self._codec, event.data, _WHAT)
        return self.add(piece)

    def add(self, piece: _Piece) -> str:
        """Take a piece and return the text that it adds."""
        if piece.error:
            raise reported(self._codec, piece.error)
        said = piece.message or _Said()
        self._assembly.reasoning(said.thinking or "")
        text = self._assembly.text(said.content or "")
        for call in said.tool_calls or ():
            arguments = json.dumps(call.function.arguments, ensure_ascii=False) if call.function.arguments else ""
            self._assembly.call(self._calls, arguments, call_id=call.id or "", name=call.function.name or "")
            self._calls += 1
        self._last = piece if piece.done else None
        return text

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete.
        """
        if self._last is None:
            raise ended_early(self._codec)
        last = self._last
        read, written = last.prompt_eval_count or 0, last.eval_count or 0
        return ModelResponse(
            parts=self._assembly.parts(),
            usage=Usage(requests=1, input_tokens=read, output_tokens=written),
            model=last.model,
            finish_reason=self._finish_reason(last.done_reason),
        )

    def _finish_reason(self, said: str | None) -> FinishReason | None:
        """Return why the model stopped; an answer with calls is `stop` too for the provider."""
        reasons: dict[str | None, FinishReason] = {"stop": "stop", None: "stop", "length": "length"}
        reason = reasons.get(said)
        return "tool_calls" if reason == "stop" and self._assembly.has_calls else reason
