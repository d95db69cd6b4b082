"""An answer put together from its pieces, and the errors that come in place of one; for all providers.

A complete answer is put together like a streamed one, from a single piece.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import attrs
from pydantic import BaseModel, ConfigDict, ValidationError

from agentflow.exceptions import ModelHTTPError, UnexpectedModelBehavior
from agentflow.messages import ReasoningPart, TextPart, ToolCall
from agentflow.models._attempts import refused

if TYPE_CHECKING:
    from collections.abc import Hashable

    from agentflow.exceptions import ModelError
    from agentflow.messages import ResponsePart
    from agentflow.models._base import Codec

__all__ = [
    "Assembly",
    "Wire",
    "broken_off",
    "ended_early",
    "no_answer",
    "no_piece",
    "parsed",
    "refusal",
    "reported",
]

_SHOWN: Final = 200


class Wire(BaseModel):
    """A part of an answer, as far as it is used; servers add fields of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


W = TypeVar("W", bound=Wire)


def parsed(kind: type[W], data: str | bytes) -> W | None:
    """Return an answer or a piece of one, None if it is something else."""
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        return None


# ---- the parts -----------------------------------------------------------------------------------


@attrs.define
class _Open:
    """A part while it arrives."""

    kind: Literal["text", "reasoning", "tool_call"]
    texts: list[str] = attrs.Factory(list[str])
    id: str = ""
    name: str = ""
    signature: str | None = None


class Assembly:
    """The parts of one answer while they arrive, in the order in which they began.

    Args:
        provider: Whose reasoning it is.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._open: dict[Hashable, _Open] = {}

    @property
    def has_calls(self) -> bool:
        """Whether the model calls a tool."""
        return any(part.kind == "tool_call" for part in self._open.values())

    def began_call(self, key: Hashable) -> bool:
        """Tell whether there is a call of this key."""
        return ("tool_call", key) in self._open

    def text(self, piece: str, key: Hashable = "text", *, signature: str | None = None) -> str:
        """Take a piece of text and return it; one without anything in it begins no part."""
        if piece or signature:
            part = self._part(("text", key), "text")
            part.texts.append(piece)
            part.signature = signature or part.signature
        return piece

    def reasoning(self, piece: str, key: Hashable = "", *, name: str = "", signature: str | None = None) -> None:
        """Take a piece of what the model thought."""
        if piece or signature:
            part = self._part(("reasoning", key), "reasoning")
            part.texts.append(piece)
            part.id = part.id or name
            part.signature = signature or part.signature

    def call(
        self, key: Hashable, arguments: str = "", *, call_id: str = "", name: str = "", signature: str | None = None
    ) -> None:
        """Take a piece of a tool call; only its arguments come in several."""
        part = self._part(("tool_call", key), "tool_call")
        part.texts.append(arguments)
        part.id, part.name = part.id or call_id, part.name or name
        part.signature = signature or part.signature

    def _part(self, key: Hashable, kind: Literal["text", "reasoning", "tool_call"]) -> _Open:
        """Return the part of a key, which may begin here."""
        if (part := self._open.get(key)) is None:
            part = self._open[key] = _Open(kind)
        return part

    def parts(self) -> tuple[ResponsePart, ...]:
        """Return the parts; a call without an id gets one, and one without arguments has none."""
        calls = [part for part in self._open.values() if part.kind == "tool_call"]
        for place, call in enumerate(calls):
            call.id = call.id or f"call_{place}"
        return tuple(self._closed(part) for part in self._open.values())

    def _closed(self, part: _Open) -> ResponsePart:
        text = "".join(part.texts)
        match part.kind:
            case "text":
                return TextPart(text=text, signature=part.signature)
            case "reasoning":
                return ReasoningPart(text=text, signature=part.signature, id=part.id or None, provider=self._provider)
            case "tool_call":
                return ToolCall(id=part.id, name=part.name, arguments=text or "{}", signature=part.signature)


# ---- what comes in place of an answer ------------------------------------------------------------


def no_answer(codec: Codec, body: bytes, what: str) -> ModelHTTPError:
    """Return the error of a body that is something else."""
    text = codec.error_text(body)[:_SHOWN]
    message = f"{codec.name} answered with something that is no {what}: {text!r}. Check base_url"
    return ModelHTTPError(message, model=codec.name, status=200, body=text)


def no_piece(codec: Codec, data: str, what: str) -> ModelHTTPError:
    """Return the error of an event that is something else."""
    text = codec.redact(data)[:_SHOWN]
    message = f"{codec.name} streamed something that is no {what}: {text!r}. Check base_url"
    return ModelHTTPError(message, model=codec.name, body=text)


def ended_early(codec: Codec) -> ModelHTTPError:
    """Return the error of a stream that ended before it said so: its text may be a part of the answer only."""
    return ModelHTTPError(f"{codec.name}: the stream ended before the answer was complete. Ask again", model=codec.name)


def broken_off(codec: Codec, reason: str) -> ModelHTTPError:
    """Return the error of an answer that the provider did not finish."""
    return ModelHTTPError(f"{codec.name} broke off its answer ({reason}). Ask again", model=codec.name)


def refusal(codec: Codec, said: str) -> UnexpectedModelBehavior:
    """Return the error of a model that does not want to answer."""
    message = f"{codec.name} refused to answer: {said}. Ask differently, or handle the refusal"
    return UnexpectedModelBehavior(message, model=codec.name, body=said)


_STATUS_OF: Final = {
    # OpenAI and those who speak its formats
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    # Anthropic
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def reported(codec: Codec, error: object) -> ModelError:
    """Return the exception for an error that came in place of an answer, under a status that said all was well."""
    body = json.dumps({"error": error}).encode()
    status = _status(error)
    if status is not None:
        return refused(codec, status, {}, body, now=0).error
    text = codec.error_text(body)[:_SHOWN]
    return ModelHTTPError(f"{codec.name} reported an error: {text}. Ask again", model=codec.name, body=text)


def _status(error: Any) -> int | None:
    """Return the HTTP status that an error inside an answer would have had."""
    if not isinstance(error, dict):
        return None
    said = cast("dict[str, object]", error)
    code, kind = str(said.get("code")), str(said.get("type"))
    if re.fullmatch(r"[345]\d\d", code, re.ASCII):
        return int(code)
    return _STATUS_OF.get(code) or _STATUS_OF.get(kind)
