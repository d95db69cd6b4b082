"""Text that is still being written: which of it is finished. Pure, and each piece is looked at once, however long the text grows."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Growing", "opening_after"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


def opening_after(text: str) -> str:
    """Return the line that opens the fence in which a text ends, to be set before what goes on with it; else nothing."""
    growing = Growing(markdown=True)
    growing.add(text)
    growing.end()
    return growing.opening


class Growing:
    """A text that grows, less what no further words can change.

    Args:
        markdown: Whether blocks count, which a line that is empty ends outside of a fence; else lines.

    Attributes:
        opening: The line that opened the fence which was open at the last `end`: what follows is set inside of it again.
    """

    def __init__(self, *, markdown: bool) -> None:
        self._markdown = markdown
        self.opening = ""
        self._fence = ""
        self._fence_line = ""
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
        self._take(line)
        is_end = not self._markdown or (line == "\n" and not self._fence)
        return self._taken() if is_end else ""

    def _take(self, line: str) -> None:
        self._lines.append(line)
        found = _FENCE.match(line) if self._markdown else None
        if found and not self._fence:
            self._fence, self._fence_line = found[1], line.removesuffix("\n") + "\n"
        elif found and found[1].startswith(self._fence):
            self._fence = ""
            if self.opening and len(self._lines) == 1:  # nothing more is inside of the fence
                self._lines.clear()
                self.opening = ""

    def _taken(self) -> str:
        text = "".join(self._lines)
        self._lines.clear()
        if text:
            text, self.opening = self.opening + text, ""
        return text

    def end(self) -> str:
        """Return the rest, which is finished by something else than words; what follows goes on in a fence that is open."""
        if line := "".join(self._pieces):
            self._take(line)
        self._pieces.clear()
        rest = self._taken()
        self.opening = self._fence_line if self._fence else ""
        return rest

    def tail(self, lines: int, width: int) -> str:
        """Return what is not finished, or the end of it that fills so many lines of a width."""
        line = "".join(self._pieces)[-lines * width :]
        kept = self._lines[-lines:]
        if len(kept) < len(self._lines):
            opening = f"{self._fence}\n" if self._fence else ""
        else:
            opening = self.opening if kept or line else ""
        return opening + "".join(each[-lines * width :] for each in kept) + line
