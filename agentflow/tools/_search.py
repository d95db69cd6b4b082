"""Searching the web through ddgs, a library that asks several search engines.

ddgs has a client of its own, which nothing here configures or intercepts; it needs no account.
It reads the engines' pages, so their terms of use are the user's concern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from agentflow.exceptions import UsageError
from agentflow.tools._failures import NothingFound, SearchFailed

__all__ = ["SearchHit", "web_search"]

Engine: TypeAlias = Callable[[str, int], Sequence[Mapping[str, Any]]]
"""Gives the raw results for a query, at most so many."""

_SECONDS: Final = 10  # for each engine that is asked
_QUERY_PART: Final = re.compile(r"\?\S*")


class SearchHit(BaseModel):
    """One page that a search found.

    ```python
    from agentflow.tools import SearchHit

    SearchHit(title="Cats", url="https://example.com/cats", snippet="Cats sleep a lot.")
    ```

    Attributes:
        title: The title of the page, as the search engine shows it.
        url: Where it is.
        snippet: A few words of it.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    url: str
    snippet: str


def web_search(
    query: Annotated[str, Field(min_length=1)], max_results: Annotated[int, Field(ge=1, le=50)] = 10
) -> list[SearchHit]:
    """Search the web and return the pages found, the best first.

    Args:
        query: The words to look for.
        max_results: The most pages to return.

    Raises:
        SearchFailed: If no engine answered; `NothingFound`, of which a model is told, if none had a result.
        UsageError: If the extra `web` is not installed, or `max_results` is not positive.

    Note:
        A search that fails is an error and never an empty list, so nothing is remembered of it.

    Example:
        ```python
        from agentflow import Agent
        from agentflow.tools import web_search

        searcher = Agent("openai:gpt-4o-mini", tools=[web_search])
        ```
    """
    return search_with(_ddgs, query, max_results)


def search_with(engine: Engine, query: str, max_results: int) -> list[SearchHit]:
    """Search with an engine; results without an http or https address, and repeated ones, are left out."""
    if max_results < 1:
        raise UsageError(f"web_search cannot return {max_results} results; give max_results=1 or more")
    hits: dict[str, SearchHit] = {}
    for result in engine(query, max_results):
        url = str(result.get("href") or "")
        if url.startswith(("http://", "https://")):
            hits.setdefault(url, SearchHit(title=_text(result, "title"), url=url, snippet=_text(result, "body")))
    if not hits:
        raise _nothing_found()
    return list(hits.values())[:max_results]


def _text(result: Mapping[str, Any], field: str) -> str:
    """Return a field as one line of text."""
    return " ".join(str(result.get(field) or "").split())


def _ddgs(query: str, max_results: int) -> Sequence[Mapping[str, Any]]:
    """Ask ddgs, and say in our words what went wrong."""
    try:
        from ddgs import DDGS  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType] - comes with an extra
        from ddgs.exceptions import DDGSException  # noqa: PLC0415 - comes with an extra
    except ImportError as error:
        raise UsageError(
            "web_search needs ddgs, which is not installed; it comes with the extra 'web': "
            "pip install 'agentflow-workflows[web]'"
        ) from error
    try:
        results: list[dict[str, Any]] = DDGS(timeout=_SECONDS).text(query, max_results=max_results)
    except DDGSException as error:
        raise failure(str(error)) from error
    return results


def failure(said: str) -> SearchFailed:
    """Return the error for what ddgs said; what it says when all engines answered with nothing is a fixed sentence."""
    if said == "No results found.":
        return _nothing_found()
    reason = _QUERY_PART.sub("?…", said)[:200]
    return SearchFailed(f"the web search failed: {reason}; try again later", reason=reason)


def _nothing_found() -> NothingFound:
    reason = "no search engine gave a result for these words"
    return NothingFound(f"the web search found nothing: {reason}; try other words", reason=reason)
