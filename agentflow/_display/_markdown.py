"""Markdown that is still being written: which of it is finished. Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["settled"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


def settled(text: str, *, markdown: bool) -> tuple[str, str]:
    """Split a text into what no further words can change, and the rest.

    Args:
        text: The text until now.
        markdown: Whether blocks count, which a line that is empty ends outside of a fence; else lines.
    """
    end = _end_of_blocks(text) if markdown else text.rfind("\n") + 1
    return text[:end], text[end:]


def _end_of_blocks(text: str) -> int:
    end = position = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        position += len(line)
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence):
            fence = ""
        elif not fence and line == "\n":
            end = position
    return end
