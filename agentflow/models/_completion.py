"""What OpenAI's chat completions answer, whole or streamed, and what other servers make of that.

A complete answer is put together like a streamed one, from a single piece.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from pydantic import BaseModel, ConfigDict, ValidationError

from agentflow.exceptions import ModelHTTPError, UnexpectedModelBehavior
from agentflow.messages import ModelResponse, TextPart, ToolCall, Usage
from agentflow.models._attempts import refused

if TYPE_CHECKING:
    from agentflow.exceptions import ModelError
    from agentflow.messages import FinishReason
    from agentflow.models._base import Codec
    from agentflow.models._sse import ServerSentEvent

__all__ = ["CompletionDecoder", "error_sentence", "read_completion"]

_DONE: Final = "[DONE]"
_SHOWN: Final = 200


def read_completion(codec: Codec, body: bytes) -> ModelResponse:
    """Read a complete answer.

    Raises:
        ModelHTTPError: If the body is no chat completion.
        UnexpectedModelBehavior: If the model refused.
    """
    completion = _parsed(body)
    if completion is None or not (completion.choices or completion.error):
        text = codec.error_text(body)[:_SHOWN]
        message = f"{codec.name} answered with something that is no chat completion: {text!r}. Check base_url"
        raise ModelHTTPError(message, model=codec.name, status=200, body=text)
    answer = _Answer(codec)
    answer.add(completion)
    return answer.response()


def error_sentence(body: bytes) -> str:
    """Return what an error answer says: the provider's sentence if it is where it should be, else all of it."""
    text = body.decode("utf-8", errors="replace")
    try:
        return _sentence(json.loads(text)) or text
    except (ValueError, RecursionError):  # the second from lists in lists in lists
        return text


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
        if self._done or event.data.strip() == _DONE:
            self._done = True
            return ""
        piece = _parsed(event.data)
        if piece is None:
            text = self._codec.redact(event.data)[:_SHOWN]
            message = f"{self._codec.name} streamed something that is no chat completion: {text!r}. Check base_url"
            raise ModelHTTPError(message, model=self._codec.name, body=text)
        return self._answer.add(piece)

    def finish(self) -> ModelResponse:
        """Return the answer.

        Raises:
            ModelHTTPError: If the provider did not say how the answer ended: it may then be a part of one.
            UnexpectedModelBehavior: If the model refused.
        """
        if not self._done or not self._answer.finished:
            message = f"{self._codec.name}: the stream ended before the answer was complete. Ask again"
            raise ModelHTTPError(message, model=self._codec.name)
        return self._answer.response()


class _Wire(BaseModel):
    """A part of an answer, as far as it is used; servers add fields of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Function(_Wire):
    name: str | None = None
    arguments: str | None = None


class _Call(_Wire):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Text(_Wire):
    text: str | None = None


class _Said(_Wire):
    content: str | list[_Text] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None

    @property
    def text(self) -> str:
        """The text, which some servers send in parts."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class _Choice(_Wire):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None


class _Details(_Wire):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Tokens(_Wire):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None

    def usage(self) -> Usage:
        """Return what one request used."""
        return Usage(
            requests=1,
            input_tokens=self.prompt_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            cached_input_tokens=(self.prompt_tokens_details or _Details()).cached_tokens or 0,
            reasoning_tokens=(self.completion_tokens_details or _Details()).reasoning_tokens or 0,
        )


class _Completion(_Wire):
    """A complete answer, or a piece of a streamed one: they differ in `message` and `delta` only."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: Any = None


def _parsed(data: str | bytes) -> _Completion | None:
    """Return an answer or a piece of one, None if it is something else."""
    try:
        return _Completion.model_validate_json(data)
    except ValidationError:
        return None


@attrs.define
class _OpenCall:
    """A tool call while it arrives."""

    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.Factory(list[str])

    def add(self, piece: _Call) -> None:
        """Take a further piece; only arguments come in several."""
        self.id = self.id or piece.id or ""
        self.name = self.name or piece.function.name or ""
        self.arguments.append(piece.function.arguments or "")


_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BROKEN_OFF: Final = frozenset({"error", "insufficient_system_resource"})
_STATUS_OF: Final = {
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "invalid_request_error": 400,
}


class _Answer:
    """An answer put together from its pieces; a complete one is a single piece."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int | None, _OpenCall] = {}
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
            raise self._reported(piece.error)
        self._model = piece.model or self._model
        self._tokens = piece.usage or self._tokens
        return "".join(self._choice(choice) for choice in piece.choices or () if choice.index == 0)

    def _choice(self, choice: _Choice) -> str:
        """Take what the model said; only the first of several answers counts."""
        self._finish = choice.finish_reason or self._finish
        if choice.finish_reason in _BROKEN_OFF:
            message = f"{self._codec.name} broke off its answer ({choice.finish_reason}). Ask again"
            raise ModelHTTPError(message, model=self._codec.name)
        said = choice.message or choice.delta or _Said()
        self._texts.append(said.text)
        self._refusals.append(said.refusal or "")
        for call in said.tool_calls or ():
            self._open_call(call).add(call)
        return said.text

    def _open_call(self, piece: _Call) -> _OpenCall:
        """Return the call that a piece belongs to: by its index, and where servers leave that out by a new name."""
        known = self._by_index.get(piece.index)
        named = bool(piece.function.name)
        begins = named and (piece.index is None or (known is not None and bool(piece.id) and piece.id != known.id))
        if known is None or begins:
            known = self._by_index[piece.index] = _OpenCall()
            self._calls.append(known)
        return known

    def _reported(self, error: object) -> ModelError:
        """Return the exception for an error that came in place of an answer, under a status that said all was well."""
        body = json.dumps({"error": error}).encode()
        status = _status(error)
        if status is not None:
            return refused(self._codec, status, {}, body, now=0).error
        text = self._codec.error_text(body)[:_SHOWN]
        return ModelHTTPError(
            f"{self._codec.name} reported an error: {text}. Ask again", model=self._codec.name, body=text
        )

    def response(self) -> ModelResponse:
        """Return the whole answer."""
        if refusal := "".join(self._refusals):
            message = f"{self._codec.name} refused to answer: {refusal}. Ask differently, or handle the refusal"
            raise UnexpectedModelBehavior(message, model=self._codec.name, body=refusal)
        text = "".join(self._texts)
        parts = (*((TextPart(text=text),) if text else ()), *self._tool_calls())
        return ModelResponse(
            parts=parts, usage=self._tokens.usage(), model=self._model, finish_reason=self._finish_reason()
        )

    def _tool_calls(self) -> list[ToolCall]:
        """Return the calls; one without an id gets one, and one without arguments has none."""
        return [
            ToolCall(id=call.id or f"call_{place}", name=call.name, arguments="".join(call.arguments) or "{}")
            for place, call in enumerate(self._calls)
        ]

    def _finish_reason(self) -> FinishReason | None:
        """Return why the model stopped; some servers say `stop` although they call tools."""
        reason = _FINISH_REASONS.get(self._finish or "")
        return "tool_calls" if reason == "stop" and self._calls else reason


def _sentence(said: Any) -> str | None:
    """Return the error sentence in a JSON answer; servers put it in different places."""
    match said:
        case str():
            return said
        case {"error": inner} | {"message": inner} | {"detail": inner} | [inner, *_]:
            return _sentence(inner)
        case _:
            return None


def _status(error: Any) -> int | None:
    """Return the HTTP status that an error inside an answer would have had."""
    if not isinstance(error, dict):
        return None
    said = cast("dict[str, object]", error)
    code, kind = str(said.get("code")), str(said.get("type"))
    if re.fullmatch(r"[345]\d\d", code, re.ASCII):
        return int(code)
    return _STATUS_OF.get(code) or _STATUS_OF.get(kind)
