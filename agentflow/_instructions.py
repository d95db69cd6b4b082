"""What a model is told above all, and how it is held to the form of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentflow._options import several, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow.models import Model

__all__ = ["form_for", "points", "system_prompt"]


def points(instructions: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Return instructions that cannot change.

    Raises:
        UsageError: If they are no text, and no list of texts.
    """
    if instructions is None or isinstance(instructions, str):
        return instructions
    return tuple(
        text(each, "instructions") for each in several(instructions, "instructions", "a str or a list of them")
    )


def form_for(model: Model) -> Literal["schema", "tool", "words"]:
    """Return the surest way in which a model can be held to a form."""
    if model.supports_json_schema:
        return "schema"
    return "tool" if model.supports_tools else "words"


def system_prompt(
    description: str | None,
    instructions: str | tuple[str, ...] | None,
    *,
    expected: str | None,
    markdown: bool,
    form: str | None,
) -> str | None:
    """Return what a model is told above all, or None.

    Args:
        description: Who it is.
        instructions: What to do.
        expected: What a good answer looks like.
        markdown: Whether text is to be Markdown.
        form: The form of the answer in words, where nothing else holds the model to it.
    """
    if isinstance(instructions, tuple):
        instructions = "\n".join(f"- {point}" for point in instructions)
    parts = [
        description,
        instructions,
        expected and f"Expected output:\n{expected}",
        "Format your answer in Markdown." if markdown else None,
        form,
    ]
    return "\n\n".join(filter(None, parts)) or None
