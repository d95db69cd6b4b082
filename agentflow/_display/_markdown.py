"""Text that is still being written: which of it is finished. Pure, and each piece is looked at once, however long the text grows."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Growing"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


class Growing:
    """A text that grows, less what no further words can change.

    Args:
        markdown: Whether blocks count, which a line that is empty ends outside of a fence; else lines.
    """

    def __init__(self, *, markdown: bool) -> None:
        self._markdown = markdown
        self._fence = ""
        self._lines: list[str] = []  # of the block that is not finished
        self._pieces: list[str] = []  # of the line that is not finished

    def add(self, text: str) -> str:
        """Add some words, and return what is finished by them."""
        *lines, rest = text.split("\n")
        finished = ""
        for line in lines:
            finished += self._ended("".join([*self._pieces, line, "\n"]))
            self._pieces.clear()
        self._pieces.append(rest)
        return finished

    def _ended(self, line: str) -> str:
        self._lines.append(line)
        found = _FENCE.match(line) if self._markdown else None
        if found and not self._fence:
            self._fence = found[1]
        elif found and found[1].startswith(self._fence):
            self._fence = ""
        is_end = not self._markdown or (line == "\n" and not self._fence)
        return self._taken() if is_end else ""

    def _taken(self) -> str:
        text = "".join(self._lines)
        self._lines.clear()
        return text

    def end(self) -> str:
        """Return the rest, which is finished by something else than words, and begin anew."""
        rest = self._taken() + "".join(self._pieces)
        self._pieces.clear()
        self._fence = ""
        return rest

    def tail(self, lines: int, width: int) -> str:
        """Return what is not finished, or the end of it that fills so many lines of a width."""
        line = "".join(self._pieces)[-lines * width :]
        kept = self._lines[-lines:]
        opening = f"{self._fence}\n" if self._fence and len(kept) < len(self._lines) else ""
        return opening + "".join(each[-lines * width :] for each in kept) + line
