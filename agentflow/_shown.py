"""Text of others is shown, never obeyed: what would steer a terminal or reorder a line appears as an escape."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cell", "shown"]

# C0 less newline and tab, DEL, C1, the marks that reorder text, line separators, and halves of characters.
_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS: Final = {"\n": "\\n", "\t": "\\t"}


def shown(text: object) -> str:
    """Return text in which nothing steers the terminal."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def cell(text: object) -> str:
    """Return text for one line of a table."""
    return "".join(_BREAKS.get(letter, letter) for letter in shown(text))
