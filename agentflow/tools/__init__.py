"""Tools: what an agent's model may call, made of typed functions.

`web_search` and `read_article` need the `web` extra, `MCPServer` the `mcp` extra; their modules are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentflow.tools._base import Tool, tool

if TYPE_CHECKING:
    from agentflow.tools._article import Article, article_reader, read_article
    from agentflow.tools._failures import (
        NothingFound,
        PageRefused,
        PageTimeout,
        PageUnavailable,
        SearchFailed,
        ServerUnreachable,
        WebError,
    )
    from agentflow.tools._mcp import MCPServer
    from agentflow.tools._search import SearchHit, web_search

__all__ = [
    "Article",
    "MCPServer",
    "NothingFound",
    "PageRefused",
    "PageTimeout",
    "PageUnavailable",
    "SearchFailed",
    "SearchHit",
    "ServerUnreachable",
    "Tool",
    "WebError",
    "article_reader",
    "read_article",
    "tool",
    "web_search",
]

# Lazily, because these modules import httpx, which most programs never need.
_HOMES: Final = {
    "_article": ("Article", "article_reader", "read_article"),
    "_failures": (
        "NothingFound",
        "PageRefused",
        "PageTimeout",
        "PageUnavailable",
        "SearchFailed",
        "ServerUnreachable",
        "WebError",
    ),
    "_mcp": ("MCPServer",),
    "_search": ("SearchHit", "web_search"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"agentflow.tools.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
