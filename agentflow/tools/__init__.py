"""Tools: what an agent's model may call, made of typed functions.

`web_search` and `read_article` need the `web` extra; their modules are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.tools._base import Tool, tool

if TYPE_CHECKING:
    from agentflow.tools._article import read_article
    from agentflow.tools._search import web_search

__all__ = ["Tool", "read_article", "tool", "web_search"]


def __getattr__(name: str) -> object:
    # Lazily, because they import httpx and optional packages, which most programs never need.
    if name == "web_search":
        from agentflow.tools._search import web_search  # noqa: PLC0415

        return web_search
    if name == "read_article":
        from agentflow.tools._article import read_article  # noqa: PLC0415

        return read_article
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
