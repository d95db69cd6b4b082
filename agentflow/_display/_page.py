"""A run as a piece of a web page, for notebooks: made of what a view says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentflow._display._prose import prose
from agentflow._display._screens import described
from agentflow._display._view import Line, Words
from agentflow._html import COLOURS, FRAME, MONO, QUIET, Markup, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._display._view import Doing, Mark, Said

__all__ = ["page"]

_MARKS: Final[dict[Mark, tuple[str, str]]] = {
    "begun": ("▶", "inherit"),
    "done": ("✓", COLOURS["completed"]),
    "hit": ("=", COLOURS["hit"]),
    "model": ("·", "inherit"),
    "told": ("»", "inherit"),
    "retried": ("↻", COLOURS["cancelled"]),
    "stopped": ("■", COLOURS["cancelled"]),
    "failed": ("✗", COLOURS["failed"]),
}
_MOST: Final = 300  # pieces; of a longer run the newest are shown


def page(said: Sequence[Said], doing: Sequence[Doing], footer: str, *, markdown: bool, show_time: bool) -> Markup:
    """Return what is to be seen of a run.

    Args:
        said: All that was said for good; words in a row in one piece.
        doing: What is under way.
        footer: What is said below that.
        markdown: Whether words are set as Markdown.
        show_time: Whether lines say how long things took.
    """
    parts = [_earlier(len(said) - _MOST)] if len(said) > _MOST else []
    for each in said[-_MOST:]:
        if isinstance(each, Words):
            parts.append(_words(each, markdown=markdown))
        else:
            parts.append(_line(each, show_time=show_time))
    parts += [_doing(each) for each in doing]
    if footer:
        parts.append(tag("div", footer, style=f"{QUIET};margin-top:.3em"))
    return tag("div", *parts, style=FRAME)


def _earlier(count: int) -> Markup:
    return tag("div", f"{count} earlier lines are left out", style=QUIET)


def _words(words: Words, *, markdown: bool) -> Markup:
    plain = "white-space:pre-wrap"
    inner = prose(words.opening + words.text) if markdown else Markup(tag("div", words.text, style=plain))
    return tag("div", inner, style="margin:.5em 0;overflow-wrap:anywhere")


def _line(line: Line, *, show_time: bool) -> Markup:
    sign, colour = _MARKS[line.mark]
    loud = line.mark in ("failed", "retried")
    told = tag("span", f"  {described(line, show_time=show_time)}", style=f"color:{colour}" if loud else QUIET)
    more = [tag("div", each, style=f"color:{COLOURS['failed']};white-space:pre-wrap") for each in line.more]
    if more:
        more[0] = tag("b", more[0])
    name = tag("b" if line.mark == "begun" else "span", line.name)
    return tag("div", tag("span", f"{sign} ", style=f"color:{colour}"), name, told, *more, style=_indented(line.depth))


def _doing(doing: Doing) -> Markup:
    words = [f"{doing.done} of {doing.total}"] if doing.total is not None else []
    words += [doing.said] if doing.said else []
    known = {} if doing.total is None else {"max": str(doing.total), "value": str(doing.done)}
    # Without a value the browser itself moves it: no script is needed to say that something goes on.
    bar = tag("progress", style="width:8em;height:.8em;margin-left:.8em;vertical-align:middle", **known)
    return tag(
        "div",
        tag("span", "… ", style=f"color:{COLOURS['running']}"),
        doing.name,
        tag("span", f"  {', '.join(words)}", style=QUIET),
        bar,
        style=_indented(doing.depth),
    )


def _indented(depth: int) -> str:
    return f"{MONO};margin-left:{1.4 * depth:.1f}em;overflow-wrap:anywhere"
