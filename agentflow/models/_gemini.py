"""What Google's Gemini API answers, whole or streamed: each event of a stream has the form of a whole answer."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from agentflow.exceptions import UnexpectedModelBehavior
from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import (
    Assembly,
    Wire,
    broken_off,
    ended_early,
    no_answer,
    no_piece,
    parsed,
    reported,
)

if TYPE_CHECKING:
    from agentflow.messages import FinishReason
    from agentflow.models._base import Codec
    from agentflow.models._sse import ServerSentEvent

__all__ = ["GeminiDecoder", "asked_wait", "read_content"]

_WHAT: Final = "answer of the Gemini API"


def read_content(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no answer.
        UnexpectedModelBehavior: If the prompt was blocked.
    """
    whole = parsed(_Content, body)
    if whole is None or not (whole.candidates or whole.prompt_feedback or whole.error):
        raise no_answer(codec, body, _WHAT)
    answer = _Answer(codec)
    answer.add(whole)
    return answer.response()


def asked_wait(body: bytes) -> float | None:
    """Return the seconds that the details of an error ask to wait."""
    found = re.search(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"', body)
    return None if found is None else float(found[1])


class GeminiDecoder:
    """Reads the events of one streamed answer."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._answer = _Answer(codec)

    @property
    def complete(self) -> bool:
        """Never known: nothing says that no more comes but the end of the connection."""
        return False

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event and return the text that it adds.

        Raises:
            ModelHTTPError: If it reports an error, or is no event of such an answer.
        """
        piece = parsed(_Content, event.data)
        if piece is None:
            raise no_piece(self._codec, event.data, _WHAT)
        return self._answer.add(piece)

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete.
            UnexpectedModelBehavior: If the prompt was blocked.
        """
        if not self._answer.finished:
            raise ended_early(self._codec)
        return self._answer.response()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


class _Camel(Wire, alias_generator=_camel, populate_by_name=True):
    """A part of an answer; the provider writes its names in camel case."""


class _Call(_Camel):
    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None


class _Part(_Camel):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None


class _Parts(_Camel):
    parts: list[_Part] | None = None


class _Candidate(_Camel):
    index: int = 0
    content: _Parts | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(_Camel):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Modality(_Camel):
    modality: str | None = None
    token_count: int | None = None


class _Tokens(_Camel):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None

    def usage(self) -> Usage:
        """Return what one request used; the provider counts what was thought beside what was said."""
        thought = self.thoughts_token_count or 0
        return Usage(
            requests=1,
            input_tokens=(self.prompt_token_count or 0) + (self.tool_use_prompt_token_count or 0),
            output_tokens=(self.candidates_token_count or 0) + thought,
            cached_input_tokens=self.cached_content_token_count or 0,
            reasoning_tokens=thought,
            audio_input_tokens=_sound(self.prompt_tokens_details),
            audio_output_tokens=_sound(self.candidates_tokens_details),
        )


def _sound(details: list[_Modality] | None) -> int:
    return sum(each.token_count or 0 for each in details or () if each.modality == "AUDIO")


class _Content(_Camel):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Tokens | None = None
    model_version: str | None = None
    error: Any = None


_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        ),
        "content_filter",
    ),
}
# The model wrote something that the provider could not read: it often can the next time.
_BROKEN_OFF: Final = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})


class _Answer:
    """An answer put together from its pieces; a complete one is a single piece."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._assembly = Assembly("google")
        self._place = 0
        self._tokens = _Tokens()
        self._model: str | None = None
        self._finish: str | None = None
        self._blocked: _Feedback | None = None

    @property
    def finished(self) -> bool:
        """Whether the provider has said why the model stopped, or did not begin."""
        return self._finish is not None or self._blocked is not None

    def add(self, piece: _Content) -> str:
        """Take a piece and return the text that it adds."""
        if piece.error:
            raise reported(self._codec, piece.error)
        if piece.prompt_feedback is not None and piece.prompt_feedback.block_reason:
            self._blocked = piece.prompt_feedback
        self._model = piece.model_version or self._model
        self._tokens = piece.usage_metadata or self._tokens
        return "".join(self._candidate(each) for each in piece.candidates or () if each.index == 0)

    def _candidate(self, candidate: _Candidate) -> str:
        """Take what the model said; only the first of several answers counts."""
        self._finish = candidate.finish_reason or self._finish
        if candidate.finish_reason in _BROKEN_OFF:
            raise broken_off(self._codec, candidate.finish_message or candidate.finish_reason or "")
        parts = candidate.content.parts if candidate.content else None
        return "".join(self._part(part) for part in parts or ())

    def _part(self, part: _Part) -> str:
        """Take a part and return the text that it adds; one with a signature stays by itself, as it has to come back."""
        call, signature = part.function_call, part.thought_signature
        if call is not None or signature:
            self._place += 1
        if call is not None:
            arguments = json.dumps(call.args, ensure_ascii=False) if call.args else ""
            self._assembly.call(
                self._place, arguments, call_id=call.id or "", name=call.name or "", signature=signature
            )
            text = ""
        elif part.thought:
            self._assembly.reasoning(part.text or "", self._place)
            text = ""
        else:
            text = self._assembly.text(part.text or "", self._place, signature=signature)
        if call is not None or signature:
            self._place += 1
        return text

    def response(self) -> ModelResponse:
        """Return the whole answer."""
        if self._blocked is not None:
            why = self._blocked.block_reason_message or self._blocked.block_reason or ""
            message = f"{self._codec.name}: the prompt was blocked ({why}). Change the prompt"
            raise UnexpectedModelBehavior(message, model=self._codec.name, body=why)
        return ModelResponse(
            parts=self._assembly.parts(),
            usage=self._tokens.usage(),
            model=self._model,
            finish_reason=self._finish_reason(),
        )

    def _finish_reason(self) -> FinishReason | None:
        """Return why the model stopped; the provider says `STOP` also where it calls tools."""
        reason = _FINISH_REASONS.get(self._finish or "")
        return "tool_calls" if reason == "stop" and self._assembly.has_calls else reason
