"""Saying things: to a person at a terminal, to the next program in a pipe, or as JSON."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
import pydantic_core

from agentflow._shown import cell, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Screen", "saying"]

_SHORT_ID: Final = 12
_TO_SECONDS: Final = len("2026-01-01T00:00:00")
_BETWEEN_COLUMNS: Final = 2
_FOLDED: Final = 10  # characters that a column needs to be read when it is folded
_COLOURS: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
}


@attrs.frozen
class Screen:
    """Where a command says what it found.

    Attributes:
        is_json: Whether it says it as JSON.
    """

    is_json: bool

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking."""
        has_output = bool(sys.stdout)  # a caller may have closed it
        return has_output and sys.stdout.isatty() and not self.is_json

    def document(self, facts: Any) -> None:
        """Say one JSON document, indented."""
        _write(pydantic_core.to_json(facts, indent=2).decode())

    def line(self, facts: Mapping[str, Any]) -> None:
        """Say one JSON document in one line."""
        _write(pydantic_core.to_json(facts).decode())

    def say(self, text: str) -> None:
        """Say a sentence."""
        _write(shown(text))

    def pairs(self, facts: Mapping[str, object]) -> None:
        """Say names and values, one pair a line."""
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            if value is not None:
                text = value if isinstance(value, str) else pydantic_core.to_json(value).decode()
                _write(f"{cell(name):<{width}}  {self._coloured(cell(text))}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Say rows: lined up, without boxes; for a terminal in its width, for a pipe whole."""
        cells = [["-" if value is None else cell(value) for value in row] for row in rows]
        if self.is_terminal:
            self._drawn(columns, cells)
            return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (columns, *cells):
            _write("  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip())

    def _drawn(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        from rich.console import Console  # noqa: PLC0415 - a pipe need not wait for it
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        console = Console()
        if not _fits(columns, cells, console.width):
            self._blocks(columns, cells)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(Text(name), overflow="fold")
        for row in cells:
            # Text, never markup: square brackets of others mean nothing here.
            table.add_row(*[Text(value, style=_COLOURS.get(value, "")) for value in row])
        with saying():
            console.print(table)

    def _blocks(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        for number, row in enumerate(cells):
            if number:
                _write("")
            self.pairs(dict(zip(columns, row, strict=True)))

    def moment(self, iso: str) -> str:
        """Return a time to the second, which may be parted between its day and its hour where a person is short of room."""
        return iso[:_TO_SECONDS].replace("T", " ") if self.is_terminal else iso[:_TO_SECONDS]

    def short(self, run_id: str) -> str:
        """Return a run's id as a person can read it; commands take the beginning of one."""
        return run_id[:_SHORT_ID] if self.is_terminal else run_id

    def _coloured(self, text: str) -> str:
        colour = _COLOURS.get(text)
        return click.style(text, fg=colour) if colour and self.is_terminal else text


def _fits(columns: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> bool:
    """Whether a table can be read in a width: its widest column may be folded, the others have to fit beside it."""
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    others = sum(widths) - max(widths) + _BETWEEN_COLUMNS * (len(widths) - 1)
    return room - others >= min(max(widths), _FOLDED)


def _write(text: str) -> None:
    with saying():
        click.echo(text.encode("utf-8", "backslashreplace").decode())


@contextmanager
def saying() -> Iterator[None]:
    """Tell in a sentence that the output takes no more; that its reader has left (`| head`) is no error, and click's business.

    Raises:
        click.ClickException: If it takes no more, as on a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go()
        raise click.ClickException(f"the output cannot be written: {error.strerror}") from error


def _let_go() -> None:
    """Send nowhere what is still buffered: written at the end of the interpreter it would fail again, and change the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
