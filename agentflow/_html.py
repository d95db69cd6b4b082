"""HTML for notebooks, made by one function that escapes whatever is not HTML of its own making.

No scripts, no style sheets, no links, no pictures: a notebook shows it as it is, trusted or not. Colours are such as can be read on
white and on black, and all others are the page's own.
"""

from __future__ import annotations

import html
from typing import Final

from agentflow._shown import shown

__all__ = ["COLOURS", "FRAME", "MONO", "QUIET", "Markup", "tag"]

COLOURS: Final = {
    "running": "#1b82a6",
    "pending": "#1b82a6",
    "waiting": "#1b82a6",
    "completed": "#248a42",
    "hit": "#1b82a6",
    "cancelled": "#9a7209",
    "interrupted": "#9a7209",
    "failed": "#d9484a",
}
"""Of the words that say how something stands."""

FRAME: Final = "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.5em .8em;margin:.2em 0;max-width:72em"
MONO: Final = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em"
QUIET: Final = "opacity:.65"


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


def tag(name: str, *children: str | Markup, style: str = "", **attributes: str) -> Markup:
    """Return an element: text in it is escaped, and what would steer or reorder it appears as an escape; `Markup` stays as it is."""
    inner = "".join(each if isinstance(each, Markup) else _escaped(each) for each in children)
    told = {**({"style": style} if style else {}), **attributes}
    opening = "".join(f' {key}="{_escaped(value)}"' for key, value in told.items())
    return Markup(f"<{name}{opening}>{inner}</{name}>")


def _escaped(text: str) -> str:
    return html.escape(shown(text), quote=True)
