"""What Google's Gemini API answers, whole or streamed: each event of a stream has the form of a whole answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from agentflow.exceptions import UnexpectedModelBehavior
from agentflow.messages import ModelResponse, Usage
from agentflow.models._answers import Answer, Tokens, Whole, Wire, broken_off

if TYPE_CHECKING:
    from agentflow.models._base import Codec

__all__ = ["GeminiAnswer", "asked_wait"]


def asked_wait(body: bytes) -> float | None:
    """Return the seconds that the details of an error ask to wait."""
    found = re.search(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"', body)
    return None if found is None else float(found[1])


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
    index: int | None = None
    content: _Parts | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(_Camel):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Modality(_Camel):
    modality: str | None = None
    token_count: int | None = None


class _Tokens(_Camel, Tokens):
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


class _Content(_Camel, Whole):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Tokens | None = None
    model_version: str | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is an answer, or the reason why there is none."""
        return bool(self.candidates or self.prompt_feedback)


_FILTERED: Final = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
)
# The model wrote something that the provider could not read: it often can the next time.
_BROKEN_OFF: Final = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE", "UNEXPECTED_TOOL_CALL"}
)


class GeminiAnswer(Answer[_Content, _Content]):
    """An answer; of several only the first counts. Nothing says that no more comes but the end of the connection."""

    provider: ClassVar = "google"
    what: ClassVar = "answer of the Gemini API"
    reasons: ClassVar = {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "CONTINUATION": "length",
        **dict.fromkeys(_FILTERED, "content_filter"),
    }
    whole = piece = _Content

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self._place = 0
        self._blocked: _Feedback | None = None

    def take_whole(self, whole: _Content) -> None:
        """Take a complete answer."""
        self.take(whole)

    def take(self, piece: _Content) -> str:
        """Take a piece and return the text that it adds."""
        if piece.prompt_feedback is not None and piece.prompt_feedback.block_reason:
            self._blocked, self.stopped = piece.prompt_feedback, piece.prompt_feedback.block_reason
        self.model = piece.model_version or self.model
        self.tokens = piece.usage_metadata or self.tokens
        return "".join(self._candidate(each) for each in piece.candidates or () if not each.index)

    def _candidate(self, candidate: _Candidate) -> str:
        """Take what the model said."""
        self.stopped = candidate.finish_reason or self.stopped
        if candidate.finish_reason in _BROKEN_OFF:
            raise broken_off(self.codec, candidate.finish_message or candidate.finish_reason or "")
        parts = candidate.content.parts if candidate.content else None
        return "".join(self._part(part) for part in parts or ())

    def _part(self, part: _Part) -> str:
        """Take a part and return the text that it adds; one with a signature stays by itself, as it has to come back."""
        alone = part.function_call is not None or bool(part.thought_signature)
        self._place += alone
        text = self._taken(part)
        self._place += alone
        return text

    def _taken(self, part: _Part) -> str:
        """Take a part in its place."""
        call, signature = part.function_call, part.thought_signature
        if call is not None:
            self.parts.call(self._place, call.args, call_id=call.id, name=call.name, signature=signature)
        elif part.thought:
            self.parts.reasoning(part.text, self._place)
        else:
            return self.parts.text(part.text, self._place, signature=signature)
        return ""

    def response(self) -> ModelResponse:
        """Return the whole answer, if the prompt was not blocked."""
        if self._blocked is None:
            return super().response()
        why = self._blocked.block_reason_message or self._blocked.block_reason or ""
        message = f"{self.codec.name}: the prompt was blocked ({why}). Change the prompt"
        raise UnexpectedModelBehavior(message, model=self.codec.name, body=why)
