"""What an extractive model works from: the pages that are spoken of in its conversation, as JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow.messages import Message, ToolReturn, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Brief", "Source", "brief"]

_OPENING: Final = re.compile(r"[{\[]")
_LABEL: Final = re.compile(r"^[#\s]*(?:(?:topic|question|query|task)\s*:)?\s*", re.IGNORECASE)
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "title": ("title", "headline", "name"),
    "summary": ("summary", "snippet", "description", "abstract"),
    "text": ("text", "content", "body", "markdown"),
    "author": ("author",),
    "date": ("date", "published"),
}


@attrs.frozen
class Source:
    """One page, as far as the conversation tells; what it does not tell is empty."""

    url: str
    title: str = ""
    summary: str = ""
    text: str = ""
    author: str = ""
    date: str = ""


@attrs.frozen
class Brief:
    """What is asked for and what there is to answer with.

    Attributes:
        question: The user's last message.
        topic: What it is about.
        sources: The pages, each once, in the order in which they came up.
        called: The tools that have answered since that message.
    """

    question: str
    topic: str
    sources: tuple[Source, ...]
    called: tuple[str, ...]


def brief(messages: tuple[Message, ...]) -> Brief:
    """Read a conversation from the user's last message on."""
    asked = [(place, message.content) for place, message in enumerate(messages) if isinstance(message, UserMessage)]
    last, question = asked[-1]
    answers = [message for message in messages[last + 1 :] if isinstance(message, ToolReturn)]
    values = _values(question)
    for answer in answers:
        values += [] if answer.is_error else _values(answer.content)
    found = tuple(_merged(source for value in values for source in _sources(value)))
    return Brief(question, _topic(question, values), found, tuple(answer.tool_name for answer in answers))


def _values(text: str) -> list[Any]:
    """Return every JSON object and array that a text holds, also in the middle of prose."""
    decoder, values, place = json.JSONDecoder(), [], 0
    while opening := _OPENING.search(text, place):
        try:
            value, place = decoder.raw_decode(text, opening.start())
        except ValueError:
            place = opening.end()
        else:
            values.append(value)
    return values


def _sources(value: Any) -> Iterator[Source]:
    """Yield what has a URL, however deep inside a value."""
    if isinstance(value, dict):
        if isinstance(value.get("url"), str):
            yield Source(value["url"], **{field: _first(value, names) for field, names in _NAMES.items()})
        else:
            yield from _sources(list(value.values()))
    elif isinstance(value, list):
        for inner in value:
            yield from _sources(inner)


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first of some fields that says something."""
    return next((said for name in names if isinstance(said := value.get(name), str) and said), "")


def _merged(sources: Iterator[Source]) -> Iterator[Source]:
    """Join what is said of one URL in several places."""
    pages: dict[str, Source] = {}
    for source in sources:
        before = pages.get(source.url, Source(source.url))
        pages[source.url] = Source(
            **{name: value or getattr(before, name) for name, value in attrs.asdict(source).items()}
        )
    yield from pages.values()


def _topic(question: str, values: list[Any]) -> str:
    """Return what a message is about: its `topic` field, or else its first line of prose."""
    for value in values:
        if isinstance(value, dict) and isinstance(value.get("topic"), str):
            return str(value["topic"])
    prose = _OPENING.split(question, maxsplit=1)[0] if values else question
    return _LABEL.sub("", prose.strip().partition("\n")[0]).strip()
