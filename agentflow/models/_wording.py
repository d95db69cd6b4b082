"""What several providers are told in the same way, where they have no form of their own for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentflow.messages import FilePart, ModelRequest, OutputSchema, ToolCall, ToolDefinition

__all__ = ["arguments_object", "file_text", "offered_tools", "parameters_of", "prompted"]


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


def parameters_of(tool: ToolDefinition) -> dict[str, Any]:
    """Return the schema of a tool's arguments; providers want an object also where there are none."""
    return tool.parameters or {"type": "object", "properties": {}}


def offered_tools(request: ModelRequest) -> tuple[ToolDefinition, ...]:
    """Return the tools that the model may call, for providers where it may call all that it knows."""
    return () if request.tool_choice == "none" else request.tools
