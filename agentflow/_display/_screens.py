"""Where a run is shown: what every place can do, and plain lines, for a pipe or a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

from agentflow._display._view import Words
from agentflow._shown import cell, shown
from agentflow._words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._display._view import Line, Said, View

__all__ = ["PlainScreen", "Screen", "described", "plain_text"]

_NAMED = {"failed": "failed", "retried": "retry"}


class Screen(Protocol):
    """A place where a run is shown, in a `with` block."""

    def show(self, said: Sequence[Said], view: View) -> None:
        """Show what has been said for good, and what is under way."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object, /) -> None: ...


def described(line: Line, *, show_time: bool) -> str:
    """Return what a line says after its name."""
    words = [_NAMED[line.mark]] if line.mark in _NAMED and not line.said.startswith("failed") else []
    words += [line.said] if line.said else []
    if show_time and line.seconds is not None:
        words.append(duration(line.seconds))
    return cell(", ".join(words) or "done")


def plain_text(said: Sequence[Said], *, show_time: bool) -> str:
    """Return what was said as plain lines: steps after `| `, and the text as it is."""
    text = ""
    for each in said:
        text += _plain(each, show_time=show_time, at_margin=not text or text.endswith("\n"))
    return text


def _plain(said: Said, *, show_time: bool, at_margin: bool) -> str:
    if isinstance(said, Words):
        return shown(said.text)
    margin = "| " * (said.depth + 1)
    first = f"{margin}{cell(said.name)}: {described(said, show_time=show_time)}\n"
    return "".join(["" if at_margin else "\n", first, *[f"{margin}  {cell(more)}\n" for more in said.more]])


class PlainScreen:
    """Plain lines on the standard output, each written once: steps after `| `, and the text as it comes."""

    def __init__(self, *, show_time: bool) -> None:
        self._show_time = show_time
        self._is_at_margin = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object, /) -> None:
        if not self._is_at_margin and not isinstance(error, OSError):  # else it is the output that is gone
            self._write("\n")

    def show(self, said: Sequence[Said], view: View) -> None:  # noqa: ARG002 - what may change is not written
        """Write what has been said for good."""
        for each in said:
            self._write(_plain(each, show_time=self._show_time, at_margin=self._is_at_margin))
        sys.stdout.flush()

    def _write(self, text: str) -> None:
        if not text:
            return
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._is_at_margin = text.endswith("\n")
