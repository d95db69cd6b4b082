"""What several providers are told in the same way, or in ways that differ in a word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from agentflow.messages import SystemMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentflow.messages import FilePart, ModelRequest, OutputSchema, ToolCall, ToolDefinition

__all__ = ["arguments_object", "chosen", "described", "file_text", "instructions", "offered_tools", "prompted", "tools"]


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were chosen; what is None is left to the provider."""
    return {name: value for name, value in options.items() if value is not None}


def instructions(request: ModelRequest, *, form_told: bool) -> list[str]:
    """Return what stands above the conversation, also what was said in its midst, and perhaps the answer's form."""
    texts = [message.content for message in request.messages if isinstance(message, SystemMessage)]
    return [*texts, prompted(request.output)] if request.output is not None and form_told else texts


def arguments_object(call: ToolCall) -> Mapping[str, Any]:
    """Return the arguments of a call for providers that want an object; what is none is told as what it was."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    return cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else {"INVALID_JSON": call.arguments}


def prompted(output: OutputSchema) -> str:
    """Return how to ask in words for an answer of a form, where the provider cannot be held to it."""
    schema = json.dumps(output.json_schema, ensure_ascii=False)
    return f"Give your final answer as JSON that fits this JSON schema, with nothing before or after it:\n{schema}"


def file_text(part: FilePart) -> str | None:
    """Return the text of a file of text, with its name; None for other files, and for those that are elsewhere."""
    if part.data is None or not (part.media_type or "").startswith(("text/", "application/json")):
        return None
    return f"{part.name or 'File'}:\n{part.data.decode('utf-8', errors='replace')}"


def described(tool: ToolDefinition, schema: str = "parameters") -> dict[str, Any]:
    """Return a tool, with its arguments' schema under a name; providers want an object also where there are none."""
    description = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **description, schema: tool.parameters or {"type": "object", "properties": {}}}


def tools(request: ModelRequest, form: Callable[[ToolDefinition], dict[str, Any]]) -> dict[str, Any]:
    """Return the tools as OpenAI's formats have them; a choice without tools is refused, and `auto` is its default."""
    if not request.tools:
        return {}
    choice = None if request.tool_choice == "auto" else request.tool_choice
    parallel = request.settings.parallel_tool_calls
    return chosen(
        {"tools": [form(tool) for tool in request.tools], "tool_choice": choice, "parallel_tool_calls": parallel}
    )


def offered_tools(request: ModelRequest) -> tuple[ToolDefinition, ...]:
    """Return the tools that the model may call, for providers where it may call all that it knows."""
    return () if request.tool_choice == "none" else request.tools
