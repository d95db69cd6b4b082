"""Anthropic's Messages API: what is sent, and what the answers mean.

`AnthropicModel` is the model; `Messages` is its codec and does no I/O. What comes back is read in `_claude`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never

import attrs

from agentflow import messages as m
from agentflow.models._claude import REDACTED, ClaudeAnswer
from agentflow.models._provider import ProviderModel, WireCodec
from agentflow.models._strict import strict_schema
from agentflow.models._wording import arguments_object, chosen, described, instructions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agentflow.models._base import HttpCall

__all__ = ["AnthropicModel", "Messages"]

_VERSION: Final = "2023-06-01"
_MOST_MARKS: Final = 4  # what the API allows of cache marks in one request
_BUDGETS: Final = {"low": 2048, "medium": 8192, "high": 16384}

_Block = dict[str, Any]


@attrs.frozen
class Messages(WireCodec):
    """The codec of one model."""

    own_url: ClassVar = "https://api.anthropic.com"
    answer: ClassVar = ClaudeAnswer
    nested: ClassVar[tuple[str, ...]] = ("output_config", "thinking")

    def headers(self) -> dict[str, str]:
        """Return the headers by which the provider knows who asks, and in which form."""
        return {"anthropic-version": _VERSION, **({} if self.api_key is None else {"x-api-key": self.api_key})}

    def encode(self, request: m.ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request.

        Raises:
            UsageError: If `settings.extra` holds something JSON cannot say.
        """
        schema = _enforceable(request.output)
        body = {"model": self.model, "messages": _turns(request.messages), **_tools(request)}
        told = instructions(request, form_told=schema is None)
        if system := [_text(text) for text in told if text.strip()]:
            body["system"] = system
        _mark(body, request.settings)
        form = {} if schema is None else {"format": {"type": "json_schema", "schema": schema}}
        body |= self._settings(request.settings, form)
        if stream:
            body["stream"] = True
        path = "messages" if self.base_url.rstrip("/").endswith("/v1") else "v1/messages"
        return self.post(path, body, request, stream=stream)

    def _settings(self, settings: m.ModelSettings, form: dict[str, Any]) -> dict[str, Any]:
        """Return the options that were chosen; the most tokens must be said, and a budget to think comes on top."""
        thinking, effort = self._thinking(settings)
        most = settings.max_tokens or (32_000 if _age(self.model) >= (4, 5) else 8192)
        # Newer models, and older ones that think, refuse to be told how freely to choose their words.
        sampled = _age(self.model) < (4, 7) and (thinking or {}).get("type") != "enabled"
        return chosen(
            {
                "max_tokens": most + (thinking or {}).get("budget_tokens", 0),
                "temperature": settings.temperature if sampled else None,
                "top_p": settings.top_p if sampled else None,
                "stop_sequences": settings.stop,
                "thinking": thinking,
                "output_config": {**form, **effort} or None,
            }
        )

    def _thinking(self, settings: m.ModelSettings) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """Return whether and how much to think: older models take a budget of tokens, newer ones an effort."""
        if settings.reasoning is None:
            return None, {}
        if settings.reasoning == "off":
            return {"type": "disabled"}, {}
        if _age(self.model) < (4, 6):
            return {"type": "enabled", "budget_tokens": _BUDGETS[settings.reasoning]}, {}
        return {"type": "adaptive", "display": "summarized"}, {"effort": settings.reasoning}


class AnthropicModel(ProviderModel):
    """A model behind Anthropic's Messages API.

    The arguments are those of every provider: `api_key` (else `ANTHROPIC_API_KEY`), `base_url` (else
    `ANTHROPIC_BASE_URL`) and the others of `ProviderModel`.

    ```python
    from agentflow.models import resolve

    assert resolve("anthropic:claude-sonnet-5").supports_json_schema
    assert not resolve("anthropic:claude-3-5-haiku-latest").supports_json_schema
    ```
    """

    provider: ClassVar = "anthropic"
    url_variable: ClassVar = "ANTHROPIC_BASE_URL"
    key_variables: ClassVar = ("ANTHROPIC_API_KEY",)
    example: ClassVar = "claude-sonnet-5"
    codec_type: ClassVar = Messages

    @staticmethod
    def knows_json_schemas(model: str) -> bool:
        """Tell whether a model of this name can be held to a JSON schema: those from 4.5 on can."""
        return _age(model) >= (4, 5) or "opus-4-1" in model


def _age(model: str) -> tuple[int, int]:
    """Return the version in a model's name; a name without one is taken for a new model's."""
    found = re.search(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)", model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def _enforceable(output: m.OutputSchema | None) -> dict[str, Any] | None:
    """Return the schema of the answer in the form that the provider can enforce, None if there is none."""
    return strict_schema(output.json_schema) if output is not None and output.strict else None


# ---- what is sent --------------------------------------------------------------------------------


def _turns(messages: Iterable[m.Message]) -> list[dict[str, Any]]:
    """Return the conversation; what follows each other on one side is one turn, as the provider wants it."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if isinstance(message, m.ModelResponse) else "user"
        before: list[_Block] = turns[-1]["content"] if turns and turns[-1]["role"] == role else []
        blocks = _blocks(message, before)
        if before:
            before += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: m.Message, before: list[_Block]) -> list[_Block]:
    """Return the blocks of a message; empty ones are refused by the provider."""
    match message:
        case m.SystemMessage():
            return []
        case m.UserMessage():
            return _user_blocks(message, before)
        case m.ToolReturn():
            return [_tool_result(message)]
        case m.ModelResponse():
            return list(_said(message))
        case _:
            assert_never(message)


def _user_blocks(message: m.UserMessage, before: list[_Block]) -> list[_Block]:
    """Return what a user says; a cache mark belongs to the block before it."""
    blocks: list[_Block] = []
    for part in message.parts:
        if not isinstance(part, m.CachePoint):
            blocks += _part(part)
        elif marked := blocks or before:
            marked[-1]["cache_control"] = _mark_of(part.ttl)
    return blocks


def _part(part: m.ToolPart) -> list[_Block]:
    """Return a part in the provider's form, none for an empty text."""
    match part:
        case m.TextPart():
            return [_text(part.text)] if part.text.strip() else []
        case m.ImagePart():
            return [{"type": "image", "source": _source(part)}]
        case m.FilePart() if (part.media_type or "").startswith("text/") and part.data is not None:
            text = part.data.decode("utf-8", errors="replace")
            return [_document(part, {"type": "text", "media_type": "text/plain", "data": text})]
        case m.FilePart():
            return [_document(part, _source(part))]
        case _:
            assert_never(part)


def _text(text: str) -> _Block:
    return {"type": "text", "text": text}


def _document(part: m.FilePart, source: dict[str, Any]) -> _Block:
    return {"type": "document", "source": source, **({"title": part.name} if part.name else {})}


def _source(part: m.ImagePart | m.FilePart) -> dict[str, Any]:
    """Return where an image or a file comes from."""
    if part.data is None:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": part.base64}


def _tool_result(message: m.ToolReturn) -> _Block:
    """Return what a tool answered."""
    blocks = [block for part in message.parts for block in _part(part)]
    content = message.content if isinstance(message.content, str) else blocks
    result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}
    return {**result, "is_error": True} if message.is_error else result


def _said(response: m.ModelResponse) -> Iterator[_Block]:
    """Yield what the model said and thought before; what it thought must come back as it was."""
    for part in response.parts:
        match part:
            case m.TextPart():
                yield from _part(part)
            case m.ToolCall():
                yield {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
            case m.ReasoningPart(provider="anthropic", signature=str()) if part.id == REDACTED:
                yield {"type": "redacted_thinking", "data": part.signature}
            case m.ReasoningPart(provider="anthropic", signature=str()):
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
            case m.ReasoningPart():
                pass  # another provider's, which this one would not believe
            case _:
                assert_never(part)


def _tools(request: m.ModelRequest) -> dict[str, Any]:
    """Return the tools, and whether the model may, must or may not call them."""
    if not request.tools:
        return {}
    settings = request.settings
    kind = {"auto": "auto", "required": "any", "none": "none"}[request.tool_choice]
    if settings.reasoning not in {None, "off"} and kind == "any":
        kind = "auto"  # a model that thinks cannot be forced
    choice: dict[str, Any] = {"type": kind}
    if settings.parallel_tool_calls is not None and kind != "none":
        choice["disable_parallel_tool_use"] = not settings.parallel_tool_calls
    tools = [described(tool, "input_schema") for tool in request.tools]
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


# ---- cache marks ---------------------------------------------------------------------------------


def _mark_of(ttl: str) -> dict[str, str]:
    return {"type": "ephemeral"} if ttl == "5m" else {"type": "ephemeral", "ttl": ttl}


def _mark(body: dict[str, Any], settings: m.ModelSettings) -> None:
    """Mark what the settings ask for: the end of tools and instructions, and of the conversation so far.

    Of more marks than the provider allows, the last ones are kept: each covers everything before it.
    """
    blocks: list[_Block] = [block for turn in body["messages"] for block in turn["content"]]
    prefix: list[_Block] = body.get("system") or body.get("tools") or []
    if settings.cache_prompt is not None:
        for group in filter(None, (prefix, blocks)):
            group[-1]["cache_control"] = _mark_of(settings.cache_prompt)
    marked = [block for block in blocks if "cache_control" in block]
    allowed = _MOST_MARKS - any("cache_control" in block for block in prefix)
    for block in marked[:-allowed]:
        del block["cache_control"]
