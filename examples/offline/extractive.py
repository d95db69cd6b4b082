"""A model that plays searcher, reader and writer by extraction, so that the examples run without a network or a key.

It does what the request allows: it calls a tool that takes a `query` or a `url`, then fills the form that is asked for,
or writes. It understands the sources that stand as JSON in a message or in a tool's answer, and nothing else.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from agentflow.messages import ToolCall
from agentflow.testing import FunctionModel
from agentflow.tools import NothingFound

from .library import read_article, search
from .schema import filled
from .sources import Brief, Source, brief
from .writer import NOTHING_QUOTED, post, short_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow.messages import Message, ToolDefinition
    from agentflow.models._scripted import FunctionInfo

__all__ = ["model"]

_URL: Final = re.compile(r"https?://[^\s\"'<>)\]}]+")
_DELTA: Final = re.compile(r"\S+\s*|\s+")
_READ_AT_ONCE: Final = 4


def model(*, delay: float = 0.0) -> FunctionModel:
    """Return the model.

    Args:
        delay: Seconds between the words of a stream, so that it can be watched; a model on a network has them anyway.
    """

    def answer(messages: tuple[Message, ...], info: FunctionInfo) -> Iterator[str] | list[ToolCall]:
        work = brief(messages)
        calls = _calls(work, info)
        return calls or _words(_text(work, info), delay)

    return FunctionModel(answer, name="offline:extractive")


def _calls(work: Brief, info: FunctionInfo) -> list[ToolCall]:
    """Return the tools to call next: read what is named, else search, then read what was found; each once."""
    if info.request.tool_choice == "none":
        return []
    searcher, reader = _taking(info, "query"), _taking(info, "url")
    named = _URL.findall(work.question)
    if reader and reader.name not in work.called:
        wanted = named or [source.url for source in work.sources if not source.text]
        if wanted:
            return [ToolCall.of(reader.name, url=url) for url in wanted[:_READ_AT_ONCE]]
    if searcher and searcher.name not in work.called and not named:
        return [ToolCall.of(searcher.name, query=work.topic)]
    return []


def _taking(info: FunctionInfo, parameter: str) -> ToolDefinition | None:
    """Return the first tool that takes a parameter of this name."""
    return next((tool for tool in info.tools if parameter in tool.parameters.get("properties", {})), None)


def _text(work: Brief, info: FunctionInfo) -> str:
    """Return the answer: the form that was asked for, a post from the sources, or a line from the library."""
    if info.output is not None:
        value: Any = filled(info.output.json_schema, work.topic, work.sources)
        return json.dumps(value, ensure_ascii=False)
    if work.sources or work.called:
        return post(work.topic, work.sources)
    return _looked_up(work.topic)


def _looked_up(question: str) -> str:
    """Answer a question that came without sources from the offline pages."""
    try:
        found = read_article(search(question, 1)[0].url)
    except NothingFound:
        return f"The offline pages say nothing about this.\n\n{NOTHING_QUOTED}\n"
    return short_answer(question, Source(found.url, title=found.title, text=found.text))


def _words(text: str, delay: float) -> Iterator[str]:
    """Yield a text word by word."""
    for word in _DELTA.findall(text):
        if delay:
            time.sleep(delay)
        yield word
