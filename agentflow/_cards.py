"""What an object shows of itself in a notebook: a title, facts and tables, as text and as HTML. It knows no object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentflow._html import COLOURS, FRAME, MONO, QUIET, Markup, tag
from agentflow._shown import cell, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Card", "Table", "bundle"]


@attrs.frozen
class Table:
    """Rows under a heading; a cell that is the name of a state has its colour."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


@attrs.frozen
class Card:
    """What is shown of an object.

    Attributes:
        kind: What kind of object, such as `Run`.
        name: Which one.
        state: How it stands, in one word; empty where that is no question.
        facts: Names and values; those that are empty are not shown.
        trouble: Why it failed: the first line counts most.
        tables: Tables.
        text: What it gave, as it is.
    """

    kind: str
    name: str
    state: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    trouble: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    text: str = ""

    @property
    def known(self) -> list[tuple[str, str]]:
        """The facts that there are."""
        return [(name, value) for name, value in self.facts if value]


def bundle(card: Card) -> dict[str, str]:
    """Return a card in the forms in which a notebook takes it."""
    return {"text/plain": "\n".join(_lines(card)), "text/html": _html(card)}


# Text


def _lines(card: Card) -> Iterator[str]:
    yield cell(f"{card.kind} {card.name}".strip() + (f": {card.state}" if card.state else ""))
    width = max((len(name) for name, _ in card.known), default=0)
    yield from (f"  {name:<{width}}  {cell(value)}" for name, value in card.known)
    yield from (f"  {cell(line)}" for line in card.trouble)
    for table in card.tables:
        yield f"  {cell(table.title)}:"
        yield from (f"    {line}" for line in _columns([table.columns, *table.rows]))
        if table.left_out:
            yield f"    and {table.left_out} more"
    if card.text:
        yield shown(card.text)


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip()


# HTML


def _html(card: Card) -> Markup:
    parts = [_heading(card)]
    if card.known:
        parts.append(tag("div", *map(_fact, card.known), style="margin-top:.3em"))
    if card.trouble:
        first, *others = card.trouble
        parts.append(tag("pre", tag("b", first), *[f"\n{line}" for line in others], style=_pre(COLOURS["failed"])))
    parts += [_table(table) for table in card.tables]
    if card.text:
        parts.append(tag("pre", card.text, style=_pre("inherit")))
    return tag("div", *parts, style=FRAME)


def _pre(colour: str) -> str:
    return (
        f"{MONO};white-space:pre-wrap;overflow-wrap:anywhere;background:none;color:{colour};margin:.5em 0 0;padding:0"
    )


def _heading(card: Card) -> Markup:
    state = tag("span", card.state, style=f"{_badge(card.state)};float:right") if card.state else Markup()
    return tag("div", state, tag("span", f"{card.kind} ", style=QUIET), tag("b", card.name, style=MONO))


def _badge(state: str) -> str:
    return f"color:{COLOURS.get(state, 'inherit')};border:1px solid;border-radius:1em;padding:0 .6em;font-size:.85em"


def _fact(fact: tuple[str, str]) -> Markup:
    name, value = fact
    return tag("span", tag("span", f"{name} ", style=QUIET), value, style="margin-right:1.5em;display:inline-block")


def _table(table: Table) -> Markup:
    left = "text-align:left;padding:.1em 1.2em .1em 0;background:none"
    head = tag("tr", *[tag("th", name, style=f"{left};font-weight:normal;{QUIET}") for name in table.columns])
    rows = [tag("tr", *[_cell(value, left) for value in row], style="background:none") for row in table.rows]
    more = tag("div", f"and {table.left_out} more", style=QUIET) if table.left_out else Markup()
    drawn = tag("table", head, *rows, style="border-collapse:collapse;margin:0;font-size:.95em")
    return tag("div", tag("div", table.title, style=f"{QUIET};margin-top:.5em"), drawn, more)


def _cell(value: str, style: str) -> Markup:
    return tag("td", value, style=f"{style};color:{COLOURS.get(value, 'inherit')};overflow-wrap:anywhere")
