"""What Ollama's own chat API answers, whole or streamed: a stream is lines of JSON, each in the form of a whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from agentflow.messages import Usage
from agentflow.models._answers import Answer, Tokens, Whole, Wire, broken_off

if TYPE_CHECKING:
    from agentflow.models._base import Codec

__all__ = ["OllamaAnswer"]


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


class _Piece(Whole, Tokens):
    """A complete answer, or a piece of a streamed one: they have the same form. What was used stands in the last."""

    model: str | None = None
    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is an answer, which may have nothing in it."""
        return self.message is not None

    def usage(self) -> Usage:
        """Return what one request used."""
        return Usage(requests=1, input_tokens=self.prompt_eval_count or 0, output_tokens=self.eval_count or 0)


class OllamaAnswer(Answer[_Piece, _Piece]):
    """An answer put together from its lines."""

    provider: ClassVar = "ollama"
    what: ClassVar = "answer of Ollama's chat API"
    reasons: ClassVar = {"stop": "stop", "length": "length"}
    whole = piece = _Piece

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self._calls = 0

    def take_whole(self, whole: _Piece) -> None:
        """Take a complete answer."""
        self.take(whole)
        if not self.complete:
            raise broken_off(self.codec, "it is not done")

    def take(self, piece: _Piece) -> str:
        """Take a piece and return the text that it adds; the last one says that it is."""
        said = piece.message or _Said()
        self.parts.reasoning(said.thinking)
        text = self.parts.text(said.content)
        for call in said.tool_calls or ():
            self.parts.call(self._calls, call.function.arguments, call_id=call.id, name=call.function.name)
            self._calls += 1
        if piece.done:
            self.complete, self.stopped = True, piece.done_reason or "stop"
            self.model, self.tokens = piece.model, piece
        return text
