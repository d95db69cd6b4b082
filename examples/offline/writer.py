"""A blog post made of sentences that its sources contain.

The writer chooses and arranges; it words nothing but its headings. It says so in the last line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from .prose import Paragraph, items, paragraphs, sentences
from .ranking import Index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .sources import Source

__all__ = ["CONFESSION", "NOTHING_QUOTED", "post", "short_answer"]

NOTHING_QUOTED: Final = "*Written offline by extraction, which found nothing to quote; no language model was asked.*"
CONFESSION: Final = (
    "*Written offline by extraction: every sentence is quoted from the sources above, and no language model was asked.*"
)

_MOST_SOURCES: Final = 5
_SECTIONS_EACH: Final = 2
_SENTENCES: Final = 3  # of a paragraph, from its beginning, so that an "it" has what it stands for before it
_POINTING: Final = frozenset(
    (
        "it",
        "they",
        "he",
        "she",
        "this",
        "that",
        "these",
        "those",
        "his",
        "her",
        "their",
        "its",
        "them",
        "him",
        "too",
        "one",
    )
)  # words that point at something said before
_POINT: Final = range(8, 29)  # words of a takeaway


@attrs.frozen
class _Cited:
    """A paragraph and the source that it is from, by its number in the list."""

    number: int
    source: Source
    paragraph: Paragraph
    score: float


def post(topic: str, sources: Sequence[Source]) -> str:
    """Return a blog post on a topic, as markdown."""
    used = [source for source in sources if source.text][:_MOST_SOURCES]
    if not used:
        return f"# {topic}\n\nThere are no articles on this topic to write from.\n\n{NOTHING_QUOTED}\n"
    cited = _cited(topic, used)
    opening = [_first_of(cited, number) for number in range(1, min(2, len(used)) + 1)]
    introduction = [_quoted(one) for one in opening]
    sections = _sections([one for one in cited if one not in opening])
    blocks = [
        f"# {topic or used[0].title}",
        "## Introduction",
        *introduction,
        *sections,
        "## Key Takeaways",
        "\n".join(_takeaways(topic, cited, "\n".join(introduction))),
        "## Sources",
        "\n".join(_listed(number, source) for number, source in enumerate(used, 1)),
        CONFESSION,
    ]
    return "\n\n".join(blocks) + "\n"


def short_answer(question: str, source: Source) -> str:
    """Return the list item or the beginning of the paragraph of a source that fits a question best."""
    said = [*items(source.text), *(_beginning(one) for one in paragraphs(source.text))]
    scores = Index.of(said).scores(question)
    best = said[scores.index(max(scores))]
    return f"{best}\n\nFrom [{source.title}]({source.url}).\n\n{CONFESSION}\n"


def _cited(topic: str, sources: Sequence[Source]) -> list[_Cited]:
    """Return every paragraph of the sources with how well it fits the topic."""
    found = [
        (number, source, paragraph)
        for number, source in enumerate(sources, 1)
        for paragraph in paragraphs(source.text)
        if len(sentences(paragraph.text)) > 1  # a lone sentence is a standfirst or a caption
    ]
    scores = Index.of([f"{paragraph.heading} {paragraph.text}" for _, _, paragraph in found]).scores(topic)
    return [_Cited(*one, score) for one, score in zip(found, scores, strict=True)]


def _first_of(cited: Sequence[_Cited], number: int) -> _Cited:
    """Return the first paragraph of a source."""
    return next(one for one in cited if one.number == number)


def _sections(cited: Sequence[_Cited]) -> list[str]:
    """Return the best sections of each source, in the source's own order."""
    chosen: list[list[_Cited]] = []
    for number in sorted({one.number for one in cited}):
        mine = [one for one in cited if one.number == number and one.paragraph.heading]
        best = sorted(mine, key=lambda one: -one.score)
        headings = list(dict.fromkeys(one.paragraph.heading for one in best))[:_SECTIONS_EACH]
        chosen.append([one for one in mine if one.paragraph.heading in headings])
    return [block for mine in chosen for block in _section_blocks(mine)]


def _section_blocks(cited: Sequence[_Cited]) -> Iterator[str]:
    """Yield the headings of some paragraphs, each with the best two paragraphs under it."""
    for heading in dict.fromkeys(one.paragraph.heading for one in cited):
        under = [one for one in cited if one.paragraph.heading == heading]
        best = sorted(under, key=lambda one: -one.score)[:2]
        yield f"## {heading}"
        yield from (_quoted(one) for one in under if one in best)


def _quoted(one: _Cited) -> str:
    """Return the beginning of a paragraph, with where it is from."""
    return f"{_beginning(one.paragraph)} [[{one.number}]]({one.source.url})"


def _beginning(paragraph: Paragraph) -> str:
    """Return the first sentences of a paragraph."""
    return " ".join(sentences(paragraph.text)[:_SENTENCES])


def _takeaways(topic: str, cited: Sequence[_Cited], introduction: str) -> Iterator[str]:
    """Yield the sentence of each source that fits the topic best and was not in the introduction."""
    for number in sorted({one.number for one in cited}):
        mine = [one for one in cited if one.number == number]
        said = [sentence for one in mine for sentence in sentences(one.paragraph.text) if _is_point(sentence)]
        fresh = [sentence for sentence in said if sentence not in introduction] or said
        if fresh:
            scores = Index.of(fresh).scores(topic)
            yield f"- {fresh[scores.index(max(scores))]} [[{number}]]({mine[0].source.url})"


def _is_point(sentence: str) -> bool:
    """Whether a sentence says something on its own, is short enough to be remembered, and is no question."""
    words = sentence.lower().split()
    return sentence.endswith(".") and len(words) in _POINT and _POINTING.isdisjoint(words[:4])


def _listed(number: int, source: Source) -> str:
    """Return a source as an entry of the list."""
    about = ", ".join(detail for detail in (source.author, source.date) if detail)
    return f"{number}. [{source.title or source.url}]({source.url})" + (f", {about}" if about else "")
