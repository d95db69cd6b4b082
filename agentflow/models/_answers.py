"""An answer while it arrives, for all providers: its parts, what it used, why it ended, and the errors in place of one.

A complete answer is put together like a streamed one, from a single piece. What a provider's pieces look like, and what
each adds, is said by its own kind of `Answer`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar, cast
from uuid import uuid4

import attrs
from pydantic import BaseModel, ConfigDict, ValidationError

from agentflow._call_delta import CallDelta
from agentflow.exceptions import ModelHTTPError, UnexpectedModelBehavior
from agentflow.messages import ModelResponse, ReasoningPart, TextPart, ToolCall, Usage
from agentflow.models._attempts import refused

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from agentflow.exceptions import ModelError
    from agentflow.messages import FinishReason, ResponsePart
    from agentflow.models._base import Codec
    from agentflow.models._sse import ServerSentEvent

__all__ = ["Answer", "Assembly", "Tokens", "Whole", "Wire", "broken_off", "refusal", "reported"]

_SHOWN: Final = 200
_DONE: Final = "[DONE]"  # the last event of those who speak one of OpenAI's formats


# ---- what a provider says ------------------------------------------------------------------------


class Wire(BaseModel):
    """A part of an answer, as far as it is used; servers add fields of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Piece(Wire):
    """A complete answer or a piece of one; in the place of either there may be an error, whatever the status."""

    error: Any = None


class Whole(Piece, ABC):
    """A complete answer."""

    @property
    @abstractmethod
    def says_something(self) -> bool:
        """Whether there is an answer in it; any JSON object would pass for one with nothing in it."""


class Tokens(Wire, ABC):
    """What a provider says of the tokens that one answer used."""

    @abstractmethod
    def usage(self) -> Usage:
        """Return what one request used."""


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
        self._has_grown = False

    @property
    def has_calls(self) -> bool:
        """Whether the model calls a tool."""
        return any(part.kind == "tool_call" for part in self._open.values())

    def began_call(self, key: Hashable) -> bool:
        """Tell whether there is a call of this key."""
        return ("tool_call", key) in self._open

    def text(self, piece: str | None, key: Hashable = "", *, signature: str | None = None) -> str:
        """Take a piece of text and return it; one without anything in it begins no part."""
        if piece or signature:
            part = self._part(("text", key), "text")
            part.texts.append(piece or "")
            part.signature = signature or part.signature
        return piece or ""

    def reasoning(
        self, piece: str | None, key: Hashable = "", *, name: str | None = None, signature: str | None = None
    ) -> None:
        """Take a piece of what the model thought."""
        if piece or signature:
            part = self._part(("reasoning", key), "reasoning")
            part.texts.append(piece or "")
            part.id = part.id or name or ""
            part.signature = signature or part.signature

    def call(
        self,
        key: Hashable,
        arguments: object = None,
        *,
        call_id: str | None = None,
        name: str | None = None,
        signature: str | None = None,
    ) -> None:
        """Take a piece of a tool call; only its arguments come in several, as JSON text or as what that would say."""
        part = self._part(("tool_call", key), "tool_call")
        part.texts.append(_json_text(arguments))
        self._has_grown = True
        part.id, part.name = part.id or call_id or "", part.name or name or ""
        part.signature = signature or part.signature

    def delta(self, text: str) -> str:
        """Return a text as what the stream gives, which also tells if the arguments of a call have grown since the last one."""
        has_grown, self._has_grown = self._has_grown, False
        return CallDelta(text, self.written) if has_grown else text

    def written(self, tool: str) -> str:
        """Return what is written so far of the arguments of the first call of a tool."""
        calls = (part for part in self._open.values() if part.kind == "tool_call" and part.name == tool)
        return next(("".join(part.texts) for part in calls), "")

    def _part(self, key: Hashable, kind: Literal["text", "reasoning", "tool_call"]) -> _Open:
        """Return the part of a key, which may begin here."""
        if (part := self._open.get(key)) is None:
            part = self._open[key] = _Open(kind)
        return part

    def closed(self) -> tuple[ResponsePart, ...]:
        """Return the parts; a call without an id gets one that no other call of the conversation has."""
        return tuple(self._part_of(part) for part in self._open.values())

    def _part_of(self, part: _Open) -> ResponsePart:
        text = "".join(part.texts)
        match part.kind:
            case "text":
                return TextPart(text=text, signature=part.signature)
            case "reasoning":
                return ReasoningPart(text=text, signature=part.signature, id=part.id or None, provider=self._provider)
            case "tool_call":
                call_id = part.id or f"call_{uuid4().hex}"
                return ToolCall(id=call_id, name=part.name, arguments=text or "{}", signature=part.signature)


def _json_text(arguments: object) -> str:
    """Return the arguments of a call as JSON text, nothing for none."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False) if arguments else ""


# ---- one answer ----------------------------------------------------------------------------------

W = TypeVar("W", bound=Whole)
P = TypeVar("P", bound=Piece)


def _parsed(form: type[P], data: str | bytes) -> P | None:
    """Return an answer or a piece of one, None if it is something else."""
    try:
        return form.model_validate_json(data)
    except ValidationError:
        return None


class Answer(ABC, Generic[W, P]):
    """One answer of a provider: read whole, or fed with the events of a stream until it is complete.

    A subclass says which form a complete answer (`whole`) and an event of a stream (`piece`) have, and what they add.
    The fields below are for it to fill.

    Attributes:
        provider: Whose answer it is.
        what: What it is called in errors.
        reasons: What the provider's reasons to stop mean; one that is missing is none of ours.
        codec: Whose request it answers, for errors.
        parts: What the model said.
        writing: Its calls while it writes them; others than `parts` where what a stream says is repeated as a whole.
        tokens: What was used so far.
        model: The model that answers.
        stopped: Why the model stopped, in the provider's words; an answer without a reason is a part of one.
        refusals: What the model said in place of an answer.
        complete: Whether the provider has said that nothing more comes.
    """

    provider: ClassVar[str]
    what: ClassVar[str]
    reasons: ClassVar[Mapping[str, FinishReason]]
    whole: type[W]
    piece: type[P]

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.writing = self.parts = Assembly(self.provider)
        self.tokens: Tokens | None = None
        self.model: str | None = None
        self.stopped: str | None = None
        self.refusals: list[str] = []
        self.complete = False

    @abstractmethod
    def take_whole(self, whole: W) -> None:
        """Take a complete answer."""

    @abstractmethod
    def take(self, piece: P) -> str:
        """Take what an event of a stream says, and return the text that it adds."""

    def read(self, body: bytes) -> ModelResponse:
        """Read a complete answer.

        Raises:
            ModelHTTPError: If the body is no answer, or reports an error.
            UnexpectedModelBehavior: If the model refused.
        """
        whole = _parsed(self.whole, body)
        if whole is None or not (whole.error or whole.says_something):
            raise _no_answer(self.codec, body, self.what)
        if whole.error:
            raise reported(self.codec, whole.error)
        self.take_whole(whole)
        return self.response()

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event and return the text that it adds; a `CallDelta` if calls have grown.

        Raises:
            ModelHTTPError: If it reports an error, or is no event of such an answer.
        """
        if event.data.startswith(_DONE):
            self.complete = True
        if self.complete or not event.data.strip():
            return ""
        piece = _parsed(self.piece, event.data)
        if piece is None:
            raise _no_piece(self.codec, event.data, self.what)
        if piece.error or event.event == "error":
            raise reported(self.codec, piece.error or json.loads(event.data))
        return self.writing.delta(self.take(piece))

    def finish(self) -> ModelResponse:
        """Return the answer, once no more events come.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete.
            UnexpectedModelBehavior: If the model refused.
        """
        if self.stopped is None:
            raise _ended_early(self.codec)
        return self.response()

    def response(self) -> ModelResponse:
        """Return what has come as an answer."""
        if self.refusals:
            raise refusal(self.codec, "".join(self.refusals))
        return ModelResponse(
            parts=self.parts.closed(),
            usage=Usage(requests=1) if self.tokens is None else self.tokens.usage(),
            model=self.model,
            finish_reason=self._finish_reason(),
        )

    def _finish_reason(self) -> FinishReason | None:
        """Return why the model stopped; many say that it was done also where it calls tools."""
        reason = self.reasons.get(self.stopped or "")
        return "tool_calls" if reason == "stop" and self.parts.has_calls else reason


# ---- what comes in place of an answer ------------------------------------------------------------


def _no_answer(codec: Codec, body: bytes, what: str) -> ModelHTTPError:
    """Return the error of a body that is something else."""
    text = codec.error_text(body)[:_SHOWN]
    message = f"{codec.name} answered with something that is no {what}: {text!r}. Check base_url"
    return ModelHTTPError(message, model=codec.name, status=200, body=text)


def _no_piece(codec: Codec, data: str, what: str) -> ModelHTTPError:
    """Return the error of an event that is something else."""
    text = codec.redact(data)[:_SHOWN]
    message = f"{codec.name} streamed something that is no {what}: {text!r}. Check base_url"
    return ModelHTTPError(message, model=codec.name, body=text)


def _ended_early(codec: Codec) -> ModelHTTPError:
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
