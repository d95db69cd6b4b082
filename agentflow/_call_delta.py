"""A piece of an answer that also tells how far the model has got with the arguments of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallDelta"]


class CallDelta(str):
    """A piece of text, mostly an empty one, with which the arguments of a call have grown.

    A text, so that whoever is interested in the text alone need not know of it.

    Attributes:
        written: Returns what is written so far of the arguments for a tool, by its name.
    """

    __slots__ = ("written",)
    written: Callable[[str], str]

    def __new__(cls, text: str, written: Callable[[str], str]) -> Self:
        """Make a piece."""
        piece = super().__new__(cls, text)
        piece.written = written
        return piece
