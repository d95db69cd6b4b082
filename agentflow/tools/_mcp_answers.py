"""What a server of tools says, made safe to use: its schemas, which check what a model writes, and its answers, which a model is told.

A server is somebody else's program: whatever it writes is text, nothing that it names is fetched, and what cannot be read is said to the model.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from agentflow.exceptions import ModelRetry
from agentflow.messages import FilePart, ImagePart, TextPart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow.messages import ToolPart

__all__ = ["LARGEST", "answer_of", "checker_of"]

LARGEST: Final = 10_000_000
"""So many characters, or bytes of images and files, an answer may have: more than any model reads."""


def answer_of(tool: str, result: Any) -> str | list[ToolPart]:
    """Return what a tool answered.

    Raises:
        ModelRetry: If it is an error, too large, or cannot be read.
    """
    try:
        parts: list[ToolPart] = [_part(each) for each in result.content]
    except ValueError:  # not base64, or nothing that could be an image
        raise ModelRetry(f"{tool} gave an answer that cannot be read. Do without it.") from None
    if not parts and result.structured_content is not None:
        parts = [TextPart(text=pydantic_core.to_json(result.structured_content).decode())]
    if (size := sum(map(_size, parts))) > LARGEST:
        raise ModelRetry(f"{tool} gave an answer of {size:,} characters, more than can be read. Ask it for less.")
    if result.is_error:
        raise ModelRetry(_text(parts) or f"{tool} failed.")
    return _text(parts) if all(isinstance(part, TextPart) for part in parts) else parts


def _text(parts: Sequence[ToolPart]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def _size(part: ToolPart) -> int:
    return len(part.text if isinstance(part, TextPart) else part.data or "")


def _part(content: Any) -> ToolPart:
    """Return a part of a server's answer as a model is told it."""
    match content.type:
        case "text":
            return TextPart(text=content.text)
        case "image":
            return ImagePart(data=_bytes(content.data), media_type=content.mime_type)
        case "audio":
            return FilePart(data=_bytes(content.data), media_type=content.mime_type)
        case "resource" if hasattr(content.resource, "blob"):
            media_type = content.resource.mime_type or "application/octet-stream"
            return FilePart(data=_bytes(content.resource.blob), media_type=media_type)
        case "resource":
            return TextPart(text=content.resource.text)
        case _:
            return TextPart(text=content.model_dump_json(exclude_none=True))


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def checker_of(schema: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what checks arguments against a server's schema; what it does not name is refused unless it is let in."""
    from jsonschema.validators import validator_for  # noqa: PLC0415 - comes with the extra
    from referencing import Registry  # noqa: PLC0415 - comes with the extra

    closed = {"additionalProperties": False, **schema} if "properties" in schema else schema
    # A registry of its own: the default one would fetch whatever address a schema names.
    validator = validator_for(closed)(closed, registry=Registry())

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            wrong = [f"{_place(each)}: {each.validator} is not met" for each in validator.iter_errors(arguments)]
        except Exception as error:  # noqa: BLE001 - a schema that is none fails in a dozen ways, of which jsonschema names two
            raise ValueError(f"the server's schema cannot be followed ({type(error).__name__})") from None
        if wrong:
            raise ValueError("; ".join(wrong))
        return arguments

    return check


def _place(error: Any) -> str:
    return ".".join(map(str, error.absolute_path))
