"""What OpenAI's chat completions answer, whole or streamed, and what other servers make of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

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

__all__ = ["CompletionDecoder", "read_completion"]

_DONE: Final = "[DONE]"
_WHAT: Final = "chat completion"


def read_completion(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no chat completion.
        UnexpectedModelBehavior: If the model refused.
    """
    completion = parsed(_Completion, body)
    if completion is None or not (completion.choices or completion.error):
        raise no_answer(codec, body, _WHAT)
    answer = _Answer(codec)
    answer.add(completion)
    return answer.response()


class CompletionDecoder:
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
            ModelHTTPError: If it reports an error, or is no piece of a chat completion.
        """
        if self._done or event.data.startswith(_DONE):
            self._done = True
            return ""
        piece = parsed(_Completion, event.data)
        if piece is None:
            raise no_piece(self._codec, event.data, _WHAT)
        return self._answer.add(piece)

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the provider did not say how the answer ended: it may then be a part of one.
            UnexpectedModelBehavior: If the model refused.
        """
        if not self._done or not self._answer.finished:
            raise ended_early(self._codec)
        return self._answer.response()


class _Function(Wire):
    name: str | None = None
    arguments: str | None = None


class _Call(Wire):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


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


class _Choice(Wire):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None


class _Details(Wire):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Tokens(Wire):
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


class _Completion(Wire):
    """A complete answer, or a piece of a streamed one: they differ in `message` and `delta` only."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: Any = None


_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BROKEN_OFF: Final = frozenset({"error", "abort", "insufficient_system_resource"})


class _Answer:
    """An answer put together from its pieces; a complete one is a single piece."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._assembly = Assembly("openai")
        self._refusals: list[str] = []
        self._details = _ReasoningDetails()
        self._places: dict[int | None, tuple[int, str]] = {}
        self._calls = 0
        self._tokens = _Tokens()
        self._model: str | None = None
        self._finish: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the provider has said why the model stopped."""
        return self._finish is not None

    def add(self, piece: _Completion) -> str:
        """Take a piece and return the text that it adds."""
        if piece.error:
            raise reported(self._codec, piece.error)
        self._model = piece.model or self._model
        self._tokens = piece.usage or self._tokens
        return "".join([self._choice(choice) for choice in piece.choices or () if choice.index == 0])

    def _choice(self, choice: _Choice) -> str:
        """Take what the model said; only the first of several answers counts."""
        self._finish = choice.finish_reason or self._finish
        if choice.finish_reason in _BROKEN_OFF:
            raise broken_off(self._codec, choice.finish_reason or "")
        said = choice.message or choice.delta
        return "" if said is None else self._said(said)

    def _said(self, said: _Said) -> str:
        """Take what the model said."""
        if said.reasoning_content or said.reasoning or said.reasoning_details:
            self._reasoning(said)
        if said.refusal:
            self._refusals.append(said.refusal)
        text = self._assembly.text(said.text)
        for call in said.tool_calls or ():
            written = call.function.arguments or ""
            self._assembly.call(self._place(call), written, call_id=call.id or "", name=call.function.name or "")
        return text

    def _reasoning(self, said: _Said) -> None:
        """Take what the model thought; some servers say it twice, under both names."""
        name = "reasoning_content" if said.reasoning_content else "reasoning"
        signature = self._details.add(said.reasoning_details or ())
        self._assembly.reasoning(said.reasoning_content or said.reasoning or "", name=name, signature=signature)

    def _place(self, piece: _Call) -> int:
        """Return which call a piece belongs to: by its index, and where servers leave that out by a new name."""
        known = self._places.get(piece.index)
        named = bool(piece.function.name)
        begins = named and (piece.index is None or (known is not None and bool(piece.id) and piece.id != known[1]))
        if known is None or begins:
            known = self._places[piece.index] = self._calls, piece.id or ""
            self._calls += 1
        return known[0]

    def response(self) -> ModelResponse:
        """Return the whole answer."""
        if refused := "".join(self._refusals):
            raise refusal(self._codec, refused)
        return ModelResponse(
            parts=self._assembly.parts(),
            usage=self._tokens.usage(),
            model=self._model,
            finish_reason=self._finish_reason(),
        )

    def _finish_reason(self) -> FinishReason | None:
        """Return why the model stopped; some servers say `stop` although they call tools."""
        reason = _FINISH_REASONS.get(self._finish or "")
        return "tool_calls" if reason == "stop" and self._assembly.has_calls else reason


class _ReasoningDetails:
    """OpenRouter's account of what the model thought, which it wants back as it was: the pieces of each entry joined."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def add(self, pieces: list[dict[str, Any]] | tuple[()]) -> str | None:
        """Take pieces and return all so far as JSON, None if there are none."""
        for piece in pieces:
            last = self._entries[-1] if self._entries else {}
            if last and (last.get("type"), last.get("index")) == (piece.get("type"), piece.get("index")):
                self._entries[-1] = {**last, **_joined(last, piece)}
            else:
                self._entries.append(piece)
        return json.dumps(self._entries) if pieces else None


def _joined(last: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    """Return what a further piece of an entry changes in it."""
    growing = ("text", "summary", "data")
    return {
        name: last[name] + value if name in growing and name in last and isinstance(value, str) else value
        for name, value in piece.items()
        if value is not None
    }
