"""Markdown as a notebook shows it, as far as models use it for prose: headings, lists, code, emphasis. Pure.

It makes its own few elements around text that is escaped. There is no HTML in it, and no picture or link that a page would load or
follow: both are shown with where they lead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agentflow._html import MONO, Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["prose"]

_BLOCKS: Final = re.compile(
    r"^ {0,3}(?P<fence>`{3,}+|~{3,}+)[^\n]*\n(?P<code>.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|^ {0,3}(?P<level>\#{1,6})[ \t]+(?P<heading>[^\n]+)$"
    r"|^(?P<indent>[ \t]*)(?P<bullet>[-*+]|\d{1,9}[.)])[ \t]+(?P<item>[^\n]+)$"
    r"|^(?P<text>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)
# What is open and never closed is looked for so far only, and runs of ticks only as a whole: else a long line takes the square of its
# length, and a model could hold up whoever draws it.
_SPANS: Final = re.compile(
    r"(?<!`)(?P<tick>`++)(?P<code>.{1,400}?)(?P=tick)"
    r"|(?P<strong>\*\*|__)(?=\S)(?P<loud>.{1,400}?)(?<=\S)(?P=strong)"
    r"|(?<!\w)(?P<star>[*_])(?=\S)(?P<soft>.{1,400}?)(?<=\S)(?P=star)(?!\w)"
    r"|!?\[(?P<label>[^\[\]\n]*)\]\((?P<target>[^()\s]*)\)"
)
_PARAGRAPH: Final = "margin:.4em 0"


def prose(text: str) -> Markup:
    """Return Markdown as HTML of our own making."""
    return tag("div", *_blocks(text))


def _blocks(text: str) -> Iterator[Markup]:
    paragraph: list[str] = []
    end = 0
    for found in _BLOCKS.finditer(text):
        parts = "\n\n" in text[end : found.start()] or found["text"] is None
        if parts and paragraph:
            yield _paragraph(paragraph)
            paragraph = []
        if found["text"] is not None:
            paragraph.append(found["text"])
        elif found["code"] != "":
            yield _block(found)
        end = found.end()
    if paragraph:
        yield _paragraph(paragraph)


def _paragraph(lines: list[str]) -> Markup:
    return tag("div", *_spans(" ".join(lines)), style=_PARAGRAPH)


def _block(found: re.Match[str]) -> Markup:
    if found["code"] is not None:
        framed = (
            "white-space:pre-wrap;background:rgba(128,128,128,.12);border-radius:4px;padding:.4em .6em;margin:.4em 0"
        )
        return tag("pre", found["code"].removesuffix("\n"), style=f"{MONO};{framed}")
    if found["level"]:
        size = 1.5 - 0.1 * len(found["level"])
        return tag(
            "div", *_spans(found["heading"]), style=f"font-size:{size:.1f}em;font-weight:bold;margin:.6em 0 .3em"
        )
    bullet = found["bullet"] if found["bullet"][0].isdigit() else "•"
    inset = 1.2 + 0.6 * len(found["indent"].expandtabs(4))
    return tag(
        "div", f"{bullet} ", *_spans(found["item"]), style=f"margin:.15em 0 .15em {inset:.1f}em;text-indent:-1em"
    )


def _spans(text: str) -> Iterator[str]:
    end = 0
    for found in _SPANS.finditer(text):
        yield text[end : found.start()]
        yield _span(found)
        end = found.end()
    yield text[end:]


def _span(found: re.Match[str]) -> Markup:
    if found["code"] is not None:
        return tag("code", found["code"], style=MONO)
    if found["loud"] is not None:
        return tag("b", *_spans(found["loud"]))
    if found["soft"] is not None:
        return tag("i", *_spans(found["soft"]))
    label, target = found["label"], found["target"]
    return tag("span", f"{label} ({target})" if label != target else target)
