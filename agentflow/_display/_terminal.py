"""A terminal, drawn by rich: what is finished goes up and stays, what is under way moves at the bottom.

Everything is drawn through `_Harmless`, which lets through what rich itself would colour and no control character of a text:
Markdown can write those too, as in `&#27;`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar, Final, Self

import attrs
from markdown_it import MarkdownIt
from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Heading, Markdown, MarkdownElement
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from agentflow._clock import wall_time
from agentflow._display._markdown import Growing
from agentflow._display._screens import described
from agentflow._display._view import Line
from agentflow._shown import cell, shown
from agentflow._words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from agentflow._display._view import Doing, Mark, Said, View

__all__ = ["TerminalScreen"]

_MARKS: Final[dict[Mark, tuple[str, str, str]]] = {
    "begun": ("▶", ">", "bold"),
    "done": ("✓", "+", "green"),
    "hit": ("=", "=", "cyan"),
    "model": ("·", "-", "dim"),
    "told": ("»", ">", "dim"),
    "retried": ("↻", "~", "yellow"),
    "stopped": ("■", "!", "yellow"),
    "failed": ("✗", "x", "red"),
}
"""The sign of each kind of line, another for terminals without it, and its colour."""

_TURNING: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TURNING_PLAIN: Final = "-\\|/"
_BAR: Final = 20  # characters
_WIDE: Final = 60  # from here on there is room for one
_MOST_ROWS: Final = 12  # of what is under way; more are counted
_BETWEEN: Final = 0.1  # seconds between two pictures
_REST: Final = 10  # times as long as a picture took


@attrs.frozen
class _Harmless:
    """Draws something with no control character in its texts, and no link that hides where it leads."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            if not segment.control:
                style = segment.style
                plain = style.update_link(None) if style and style.link else style
                yield Segment(shown(segment.text), plain)


class _Heading(Heading):
    """A heading at the margin, where the text is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "heading_open": _Heading}


@attrs.frozen
class _Block:
    """Draws a piece of Markdown with one empty line after it, and none before."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = _Markdown("", hyperlinks=False)
        # Read anew without HTML, which rich would leave out: a tag that a model writes is to be seen.
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        drawn.parsed = parser.parse(shown(self.text))
        lines = console.render_lines(drawn, options, pad=False)
        while lines and not _text_of(lines[0]):
            del lines[0]
        while lines and not _text_of(lines[-1]):
            del lines[-1]
        for line in lines:
            yield from line
            yield Segment.line()
        yield Segment.line()


def _text_of(line: list[Segment]) -> str:
    return "".join(segment.text for segment in line).strip()


@attrs.frozen
class _Tail:
    """Draws the last lines of something that may be higher than the terminal."""

    inner: RenderableType
    lines: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.inner, options, pad=False)[-self.lines :]:
            yield from line
            yield Segment.line()


class TerminalScreen:
    """A terminal.

    Args:
        markdown: Whether text is set as Markdown.
        show_time: Whether lines say how long things took.
    """

    def __init__(self, *, markdown: bool, show_time: bool) -> None:
        self._markdown = markdown
        self._show_time = show_time
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._can_draw = (self._console.encoding or "").startswith("utf")
        self._text = Growing(markdown=markdown)
        self._waiting: list[RenderableType] = []
        self._print_at = 0.0
        self._doing: list[Doing] = []
        self._footer = ""
        self._since = 0.0
        # Not refreshed by rich's own thread, which could draw in the middle of what is printed here, and leave both on the screen.
        self._live = Live(console=self._console, get_renderable=self._picture, auto_refresh=False, transient=True)
        self._mutex = threading.RLock()
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        self._live.start()
        threading.Thread(target=self._move, name="agentflow-screen", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with self._mutex:
            self._text_is_over()
            self._print()
            self._live.stop()

    def _move(self) -> None:
        pause = _BETWEEN
        while not self._is_over.wait(pause):
            with self._mutex:
                if not self._is_over.is_set():
                    began = time.monotonic()
                    self._print()
                    self._live.refresh()
                    pause = max(_BETWEEN, _REST * (time.monotonic() - began))

    def show(self, said: Sequence[Said], view: View) -> None:
        """Show what has been said for good, and what is under way."""
        with self._mutex:
            self._say(said)
            self._doing, self._since = view.doing, view.since
            self._footer = ", ".join(filter(None, [view.name, view.totals()]))
            if time.monotonic() >= self._print_at:
                self._print()

    def _say(self, said: Sequence[Said]) -> None:
        for each in said:
            if isinstance(each, Line):
                self._text_is_over()
                self._waiting.append(self._line(each))
            else:
                self._print_text(self._text.add(each.text))

    def _print(self) -> None:
        """Print what has been said since the last time, at once: each time the rest of the picture is drawn anew."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._console.print(_Harmless(Group(*waiting)))
            self._print_at = time.monotonic() + _BETWEEN

    # What stays

    def _text_is_over(self) -> None:
        self._print_text(self._text.end())

    def _print_text(self, text: str) -> None:
        if text.strip("\n"):
            self._waiting.append(self._set(text))

    def _set(self, text: str) -> RenderableType:
        if not self._markdown:
            return Text(shown(text.removesuffix("\n")))
        return _Block(text)

    def _line(self, line: Line) -> RenderableType:
        sign, plain_sign, colour = _MARKS[line.mark]
        loud = line.mark in ("failed", "retried")
        text = Text.assemble(
            (cell(line.name), "bold" if line.mark == "begun" else ""),
            (f"  {described(line, show_time=self._show_time)}", colour if loud else "dim"),
        )
        for number, more in enumerate(line.more):
            text.append(f"\n{cell(more)}", "red" if number else "bold red")
        row = Table.grid(padding=(0, 1, 0, 0))  # so that what is too long goes on below its beginning
        row.add_column()
        row.add_column(overflow="fold")  # a long word too, such as an address in an error
        row.add_row(Text(sign if self._can_draw else plain_sign, colour), text)
        return Padding(row, (0, 0, 0, 2 * line.depth))

    # What moves

    def _picture(self) -> RenderableType:
        now, doing = wall_time(), self._doing
        rows: list[RenderableType] = [self._row(each, now) for each in doing[:_MOST_ROWS]]
        if len(doing) > _MOST_ROWS:
            rows.append(Text(f"  and {len(doing) - _MOST_ROWS} more", "dim"))
        if self._footer:
            took = duration(now - self._since) if self._show_time else ""
            rows.append(
                Text(shown(", ".join(filter(None, [self._footer, took]))), "dim", no_wrap=True, overflow="ellipsis")
            )
        room = max(1, self._console.height - len(rows) - 1)
        tail = self._text.tail(room, self._console.width)
        text: list[RenderableType] = [_Tail(self._set(tail), room)] if tail else []
        return _Harmless(Group(*text, *rows))

    def _row(self, doing: Doing, now: float) -> RenderableType:
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, overflow="ellipsis")
        signs = _TURNING if self._can_draw else _TURNING_PLAIN
        spinner = Text(signs[int(now / _BETWEEN) % len(signs)], "cyan")
        cells: list[RenderableType] = [spinner, Text.assemble(cell(doing.name), *self._how_far(doing, now))]
        if doing.total is not None and self._console.width >= _WIDE:
            row.add_column()
            cells.append(ProgressBar(doing.total, doing.done, width=_BAR))
        row.add_row(*cells)
        return Padding(row, (0, 0, 0, 2 * doing.depth))

    def _how_far(self, doing: Doing, now: float) -> Iterator[tuple[str, Style]]:
        words = [f"{doing.done} of {doing.total}"] if doing.total is not None else []
        words += [duration(now - doing.since)] if self._show_time else []
        words += [cell(doing.said)] if doing.said else []
        yield f"  {', '.join(words)}", Style(dim=True)
