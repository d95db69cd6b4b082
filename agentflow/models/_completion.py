"""What OpenAI's chat completions answer, whole or streamed, and what other servers make of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import Answer, Tokens, Whole, Wire, broken_off, reported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentflow.models._base import Codec

__all__ = ["Completion"]


class _Function(Wire):
    name: str | None = None
    arguments: Any = None


class _Call(Wire):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Text(Wire):
    text: str | None = None


class _Said(Wire):
    content: str | list[_Text] | None = Field(default=None, union_mode="left_to_right")
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    # Reasoning is none of OpenAI's format: DeepSeek and llama.cpp call it so, OpenRouter, Ollama and vLLM so.
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text, which some servers send in parts."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text or "" for part in self.content)


class _Details(Wire):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Tokens(Tokens):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's name for it

    def usage(self) -> Usage:
        """Return what one request used."""
        read, written = self.prompt_tokens_details or _Details(), self.completion_tokens_details or _Details()
        return Usage(
            requests=1,
            input_tokens=self.prompt_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            cached_input_tokens=read.cached_tokens or self.prompt_cache_hit_tokens or 0,
            cache_write_tokens=read.cache_write_tokens or 0,
            reasoning_tokens=written.reasoning_tokens or 0,
            audio_input_tokens=read.audio_tokens or 0,
            audio_output_tokens=written.audio_tokens or 0,
        )


class _Choice(Wire):
    index: int | None = None
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None
    usage: _Tokens | None = None  # where Moonshot puts it
    error: Any = None  # where OpenRouter puts that of the provider behind it


class _Completion(Whole):
    """A complete answer, or a piece of a streamed one: they differ in `message` and `delta` only."""

    object: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    # An error may also be the whole object, as vLLM has sent it.
    message: str | None = None
    type: str | None = None
    code: Any = None

    @property
    def says_something(self) -> bool:
        """Whether there is at least one answer, or an error."""
        return bool(self.choices) or self.object == "error"


_BROKEN_OFF: Final = frozenset({"error", "abort", "insufficient_system_resource"})


class Completion(Answer[_Completion, _Completion]):
    """An answer; of several that `n` asks for only the first counts."""

    provider: ClassVar = "openai"
    what: ClassVar = "chat completion"
    reasons: ClassVar = {
        "stop": "stop",
        "length": "length",
        "model_length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
    }
    whole = piece = _Completion

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self._details: list[dict[str, Any]] = []
        self._places: dict[int | None, tuple[int, str]] = {}
        self._calls = 0

    def take_whole(self, whole: _Completion) -> None:
        """Take a complete answer."""
        for choice in self._chosen(whole):
            self._choice(choice, choice.message or choice.delta)

    def take(self, piece: _Completion) -> str:
        """Take a piece and return the text that it adds; some servers repeat beside it all that was said so far."""
        return "".join([self._choice(choice, choice.delta or choice.message) for choice in self._chosen(piece)])

    def _chosen(self, piece: _Completion) -> list[_Choice]:
        """Take what is said about the answer, and return the choice that counts."""
        if piece.object == "error":
            raise reported(self.codec, {"message": piece.message, "type": piece.type, "code": piece.code})
        self.model = piece.model or self.model
        self.tokens = piece.usage or self.tokens
        return [choice for choice in piece.choices or () if not choice.index]

    def _choice(self, choice: _Choice, said: _Said | None) -> str:
        """Take a choice, and return the text that it adds."""
        if choice.error:
            raise reported(self.codec, choice.error)
        if choice.finish_reason in _BROKEN_OFF:
            raise broken_off(self.codec, choice.finish_reason or "")
        self.stopped = choice.finish_reason or self.stopped
        self.tokens = choice.usage or self.tokens
        return "" if said is None else self._said(said)

    def _said(self, said: _Said) -> str:
        """Take what the model said."""
        if said.reasoning_content or said.reasoning or said.reasoning_details:
            self._reasoning(said)
        if said.refusal:
            self.refusals.append(said.refusal)
        text = self.parts.text(said.text)
        for call in said.tool_calls or ():
            function = call.function or _Function()
            place = self._place(call, named=bool(function.name))
            self.parts.call(place, function.arguments, call_id=call.id, name=function.name)
        return text

    def _reasoning(self, said: _Said) -> None:
        """Take what the model thought; some servers say it twice, under both names."""
        name = "reasoning_content" if said.reasoning_content else "reasoning"
        _join(self._details, said.reasoning_details or ())
        written = "[]" if said.reasoning_details else None  # in full when all of it has come
        self.parts.reasoning(said.reasoning_content or said.reasoning, name=name, signature=written)

    def _place(self, piece: _Call, *, named: bool) -> int:
        """Return which call a piece belongs to: by its index, and where servers use that badly by a name with a new id."""
        known = self._places.get(piece.index)
        if known is None or (named and (piece.id != known[1] if piece.id else piece.index is None)):
            known = self._places[piece.index] = self._calls, piece.id or ""
            self._calls += 1
        return known[0]

    def response(self) -> ModelResponse:
        """Return the whole answer."""
        if self._details:
            self.parts.reasoning("", signature=json.dumps(self._details))
        return super().response()


def _join(entries: list[dict[str, Any]], pieces: Iterable[dict[str, Any]]) -> None:
    """Add to OpenRouter's account of what the model thought, which it wants back as it was, the pieces of an entry joined."""
    for piece in pieces:
        last = entries[-1] if entries else {}
        if last and (last.get("type"), last.get("index")) == (piece.get("type"), piece.get("index")):
            entries[-1] = {**last, **_joined(last, piece)}
        else:
            entries.append(piece)


def _joined(last: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    """Return what a further piece of an entry changes in it."""
    growing = ("text", "summary", "data")
    return {
        name: last[name] + value if name in growing and name in last and isinstance(value, str) else value
        for name, value in piece.items()
        if value is not None
    }
