"""A notebook: one output, drawn anew as the run goes on. IPython is asked only because it is there already."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from agentflow._display._markdown import opening_after
from agentflow._display._page import page
from agentflow._display._screens import plain_text
from agentflow._display._view import Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._display._view import Said, View

__all__ = ["NotebookScreen"]

_BETWEEN: Final = 0.1  # seconds between two pictures
_REST: Final = 10  # times as long as a picture took


class NotebookScreen:
    """An output of a cell.

    Args:
        markdown: Whether text is set as Markdown.
        show_time: Whether lines say how long things took.
    """

    def __init__(self, *, markdown: bool, show_time: bool) -> None:
        self._markdown = markdown
        self._show_time = show_time
        self._said: list[Said] = []
        self._opening = ""  # of a block of code in which the words have stopped
        self._view: View | None = None
        self._handle: Any = None
        self._draw_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()

    def show(self, said: Sequence[Said], view: View) -> None:
        """Take in what has been said, and draw it unless that was done a moment ago."""
        self._view = view
        for each in said:
            last = self._said[-1] if self._said else None
            if isinstance(each, Words) and isinstance(last, Words):
                self._said[-1] = attrs.evolve(last, text=last.text + each.text)
            elif isinstance(each, Words):
                self._said.append(attrs.evolve(each, opening=self._opening))
            else:
                if isinstance(last, Words):
                    self._opening = opening_after(last.opening + last.text)
                self._said.append(each)
        if time.monotonic() >= self._draw_at:
            self._draw()

    def _draw(self) -> None:
        began = time.monotonic()
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(self, display_id=True)
        else:
            self._handle.update(self)
        now = time.monotonic()
        self._draw_at = now + max(_BETWEEN, _REST * (now - began))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        doing = self._view.doing if self._view else []
        footer = ", ".join(filter(None, [self._view.name, self._view.totals()])) if self._view and doing else ""
        drawn = page(self._said, doing, footer, markdown=self._markdown, show_time=self._show_time)
        return {"text/plain": plain_text(self._said, show_time=self._show_time), "text/html": drawn}
