"""What a tool answers, as a model can be told it: text, JSON, images and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pydantic_core

from agentflow.exceptions import UsageError
from agentflow.messages import FilePart, ImagePart, TextPart

if TYPE_CHECKING:
    from agentflow.messages import ToolPart

__all__ = ["Content", "content_of"]

Content: TypeAlias = "str | tuple[ToolPart, ...]"
"""A text, or several parts."""

_PARTS = (TextPart, ImagePart, FilePart)


def content_of(name: str, answer: object) -> Content:
    """Return an answer as content: text as it is, images and files (also among other things in a list) as parts, all else as JSON.

    Raises:
        UsageError: If JSON cannot say it.
    """
    if isinstance(answer, _PARTS):
        return (answer,)
    if isinstance(answer, list | tuple) and any(isinstance(each, _PARTS) for each in answer):
        return tuple(each if isinstance(each, _PARTS) else TextPart(text=_text(name, each)) for each in answer)
    return _text(name, answer)


def _text(name: str, answer: object) -> str:
    if isinstance(answer, str):
        return answer
    try:
        return pydantic_core.to_json(answer).decode()
    except ValueError as error:
        raise UsageError(
            f"tool {name!r} returned a {type(answer).__qualname__} that cannot be written as JSON for the model "
            f"({error}). Return a str, an image or a file, or a pydantic model, a dataclass or plain containers"
        ) from error
