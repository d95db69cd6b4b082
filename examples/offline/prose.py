"""The paragraphs of a markdown text, and the sentences of a paragraph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Paragraph", "items", "paragraphs", "sentences"]

_ITEM: Final = re.compile(r"(?:[-*+]|\d+\.)\s+(.*)")
_STANDFIRST: Final = re.compile(r"(\*\*|\*)[^*]+\1")  # a paragraph in bold or italics announces, and says nothing
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_EMPHASIS: Final = re.compile(r"(\*\*|\*|`)(?=\S)(.+?)(?<=\S)\1")
# A sentence ends before a capital, a figure or a quotation, unless the full stop belongs to an initial or a title.
_END: Final = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bSt\.)\s+(?=[A-Z0-9\"\u201c\u2018])"
)


@attrs.frozen
class Paragraph:
    """One paragraph of running text.

    Attributes:
        heading: The heading that it stands under; empty before the first.
        text: The text, on one line and without markup.
    """

    heading: str
    text: str


def paragraphs(markdown: str) -> Iterator[Paragraph]:
    """Yield the running text of a document: no lists, tables, quotations or code."""
    heading = ""
    for block in _blocks(markdown):
        if block.startswith("#"):
            heading = _plain(block.lstrip("# ")) if block.startswith("##") else ""  # a single # is the title again
        elif not block.startswith(("|", ">", "```")) and not _ITEM.match(block) and not _STANDFIRST.fullmatch(block):
            yield Paragraph(heading, _plain(block))


def items(markdown: str) -> Iterator[str]:
    """Yield the items of its lists."""
    for block in _blocks(markdown):
        for line in block.splitlines():
            if found := _ITEM.match(line.strip()):
                yield _plain(found[1])


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph."""
    return _END.split(paragraph)


def _blocks(markdown: str) -> list[str]:
    """Return what stands between blank lines; a heading is a block of its own also without them."""
    separated = re.sub(r"^(#+ .*)$", r"\n\1\n", markdown, flags=re.MULTILINE)
    return [block.strip() for block in re.split(r"\n\s*\n", separated) if block.strip()]


def _plain(text: str) -> str:
    """Return a text on one line, without links and emphasis."""
    return " ".join(_EMPHASIS.sub(r"\2", _LINK.sub(r"\1", text)).split())
