"""Google's Gemini API: what is sent, and what the answers mean.

`GoogleModel` is the model; `GenerateContent` is its codec and does no I/O. What comes back is read in `_gemini`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never

import attrs

from agentflow import messages as m
from agentflow.models._gemini import GeminiAnswer, asked_wait
from agentflow.models._provider import ProviderModel, WireCodec
from agentflow.models._wording import arguments_object, chosen, described, instructions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agentflow.models._base import HttpCall

__all__ = ["GenerateContent", "GoogleModel"]

_BUDGETS: Final = {"off": 0, "low": 1024, "medium": 8192, "high": 24576}
_UNSIGNED: Final = "skip_thought_signature_validator"
"""What the provider takes in place of its signature for a call that another model made."""


@attrs.frozen
class GenerateContent(WireCodec):
    """The codec of one model."""

    own_url: ClassVar = "https://generativelanguage.googleapis.com/v1beta"
    answer: ClassVar = GeminiAnswer
    nested: ClassVar[tuple[str, ...]] = ("generationConfig", "toolConfig")

    def headers(self) -> dict[str, str]:
        """Return the key as a header, not in the address, which gets into logs."""
        return {} if self.api_key is None else {"x-goog-api-key": self.api_key}

    def encode(self, request: m.ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If `settings.extra` holds something JSON cannot say.
        """
        body: dict[str, Any] = {"contents": _turns(request.messages, signed=self._generation >= 3)}
        if told := instructions(request, form_told=not self._held(request)):
            body["systemInstruction"] = {"parts": [{"text": text} for text in told]}
        body |= _tools(request)
        if options := {**self._settings(request.settings), **self._form(request)}:
            body["generationConfig"] = options
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return self.post(f"models/{self.model}:{verb}", body, request, stream=stream)

    @property
    def _generation(self) -> int:
        """The model's generation; a name without one is taken for a new model's."""
        found = re.search(r"gemini-(\d+)", self.model)
        return int(found[1]) if found else 99

    def _held(self, request: m.ModelRequest) -> bool:
        """Tell whether the answer can be held to its form: older models cannot where they have tools."""
        return request.output is not None and (not request.tools or self._generation >= 3)

    def _form(self, request: m.ModelRequest) -> dict[str, Any]:
        """Return the form of the answer."""
        if request.output is None or not self._held(request):
            return {}
        return {"responseMimeType": "application/json", "responseJsonSchema": request.output.json_schema}

    def _settings(self, settings: m.ModelSettings) -> dict[str, Any]:
        """Return the options that were chosen."""
        return chosen(
            {
                "temperature": settings.temperature,
                "maxOutputTokens": settings.max_tokens,
                "topP": settings.top_p,
                "seed": settings.seed,
                "stopSequences": settings.stop,
                "thinkingConfig": self._thinking(settings),
            }
        )

    def _thinking(self, settings: m.ModelSettings) -> dict[str, Any] | None:
        """Return how hard the model should think: by a level, or before the third generation by a budget of tokens."""
        if settings.reasoning is None:
            return None
        shown = settings.reasoning != "off"
        if self._generation >= 3:
            return {"thinkingLevel": settings.reasoning if shown else "minimal", "includeThoughts": shown}
        return {"thinkingBudget": _BUDGETS[settings.reasoning], "includeThoughts": shown}

    def asked_wait(self, body: bytes) -> float | None:
        """Return how many seconds to wait an error answer asks for: the provider says it in the body only."""
        return asked_wait(body)


class GoogleModel(ProviderModel):
    """A Gemini model behind Google's Gemini API.

    The arguments are those of every provider: `api_key` (else `GOOGLE_API_KEY`, then `GEMINI_API_KEY`), `base_url` (else
    `GOOGLE_GEMINI_BASE_URL`; with the version, such as `/v1beta`) and the others of `ProviderModel`.

    ```python
    from agentflow.models import resolve

    assert resolve("google:gemini-2.5-flash").name == "google:gemini-2.5-flash"
    ```
    """

    provider: ClassVar = "google"
    url_variable: ClassVar = "GOOGLE_GEMINI_BASE_URL"
    key_variables: ClassVar = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    example: ClassVar = "gemini-2.5-flash"
    codec_type: ClassVar = GenerateContent


# ---- what is sent --------------------------------------------------------------------------------


def _turns(messages: Iterable[m.Message], *, signed: bool) -> list[dict[str, Any]]:
    """Return the conversation; what follows each other on one side is one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        parts = list(_parts(message, signed=signed))
        role = "model" if isinstance(message, m.ModelResponse) else "user"
        if parts and turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _parts(message: m.Message, *, signed: bool) -> Iterator[dict[str, Any]]:
    """Yield the parts of a message; from the third generation on calls are signed and have ids."""
    match message:
        case m.SystemMessage():
            return
        case m.UserMessage():
            yield from _user_parts(message.parts)
        case m.ToolReturn():
            yield _tool_result(message, signed=signed)
            yield from _user_parts([part for part in message.parts if part.kind != "text"])
        case m.ModelResponse():
            yield from _said(message, signed=signed)
        case _:
            assert_never(message)


def _user_parts(parts: Sequence[m.UserPart]) -> Iterator[dict[str, Any]]:
    """Yield what a user says; the provider caches by itself, so there are no marks."""
    for part in parts:
        match part:
            case m.TextPart():
                yield {"text": part.text}
            case m.ImagePart() | m.FilePart() if part.data is None:
                kind = {} if part.media_type is None else {"mimeType": part.media_type}
                yield {"fileData": {**kind, "fileUri": part.url}}
            case m.ImagePart() | m.FilePart():
                yield {"inlineData": {"mimeType": part.media_type, "data": part.base64}}
            case m.CachePoint():
                pass
            case _:
                assert_never(part)


def _tool_result(message: m.ToolReturn, *, signed: bool) -> dict[str, Any]:
    """Return what a tool answered, which is an object here; what is JSON stays so."""
    try:
        value = json.loads(message.text)
    except (ValueError, RecursionError):
        value = message.text
    said = value if isinstance(value, dict) and not message.is_error else None
    response = said or {"error" if message.is_error else "output": value}
    return {
        "functionResponse": {
            **_id(message.tool_call_id, signed=signed),
            "name": message.tool_name,
            "response": response,
        }
    }


def _said(response: m.ModelResponse, *, signed: bool) -> Iterator[dict[str, Any]]:
    """Yield what the model said before, with its signatures; its thoughts themselves are not wanted back."""
    unsigned = signed and not any(call.signature for call in response.tool_calls)
    for part in response.parts:
        match part:
            case m.TextPart():
                yield {"text": part.text, **({"thoughtSignature": part.signature} if part.signature else {})}
            case m.ToolCall():
                signature = part.signature or (_UNSIGNED if unsigned else None)
                call = {
                    "functionCall": {**_id(part.id, signed=signed), "name": part.name, "args": arguments_object(part)}
                }
                yield {**call, **({"thoughtSignature": signature} if signature else {})}
                unsigned = False
            case m.ReasoningPart():
                pass
            case _:
                assert_never(part)


def _id(call_id: str, *, signed: bool) -> dict[str, str]:
    """Return the name of a call, for models that know such names."""
    return {"id": call_id} if signed and call_id else {}


def _tools(request: m.ModelRequest) -> dict[str, Any]:
    """Return the tools, and whether the model may, must or may not call them."""
    if not request.tools:
        return {}
    declared = [described(tool, "parametersJsonSchema") for tool in request.tools]
    tools: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    if request.tool_choice == "auto":
        return tools
    mode = "ANY" if request.tool_choice == "required" else "NONE"
    return {**tools, "toolConfig": {"functionCallingConfig": {"mode": mode}}}
