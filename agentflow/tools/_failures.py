"""What can go wrong between a program and the web, told apart by what a caller would do about it.

`SearchFailed` and `PageUnavailable` may pass: trying again later can help, and nobody should take them for an answer.
`NothingFound` and `PageRefused` will not pass, so they are also a `ModelRetry`: a model that asked for this search or
this page is told so and can ask for another; a program that calls the function itself catches them as any `OSError`.
"""

# ruff: noqa: N818 - as in agentflow.exceptions, the names say what is wrong

from __future__ import annotations

import re
from typing import ClassVar, Final, Self

from agentflow.exceptions import AgentflowError, ModelRetry

__all__ = [
    "NothingFound",
    "PageRefused",
    "PageTimeout",
    "PageUnavailable",
    "SearchFailed",
    "ServerUnreachable",
    "WebError",
    "shown",
]

_USERINFO: Final = re.compile(r"^([a-zA-Z][\w+.-]*:)?[/\\]*[^/\\]*@")
_LONGEST_SHOWN: Final = 200


class WebError(AgentflowError, OSError):
    """Something on the web could not be had.

    Attributes:
        url: The page, without query, fragment and password; empty for a search.
        reason: Why, in a few words.
    """

    def __init__(self, message: str = "", *, url: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.url, self.reason = url, reason


class SearchFailed(WebError):
    """No search engine answered; this says nothing about whether there is something to find."""


class NothingFound(SearchFailed, ModelRetry):
    """The search engines gave no result for these words."""


class _PageError(WebError):
    """What concerns one page."""

    advice: ClassVar[str]

    @classmethod
    def about(cls, url: str, reason: str) -> Self:
        """Make the error for a URL, which is shown without what may be secret in it."""
        where = shown(url)
        return cls(f"cannot read {where}: {reason}. {cls.advice}", url=where, reason=reason)


class PageUnavailable(_PageError):
    """A page could not be fetched now: its name, its server or the network did not answer as they should."""

    advice = "Try again later"


class PageTimeout(PageUnavailable, TimeoutError):
    """A page did not come whole before the deadline."""

    advice = "Try again later, or wait longer with article_reader(timeout=...)"


class PageRefused(_PageError, ModelRetry):
    """This page is not read, now or later: its address, size or kind is not allowed, or it is not there."""

    advice = "Choose another page"


class ServerUnreachable(AgentflowError, ConnectionError):
    """A server of tools could not be reached, or has gone in the middle of things."""


def shown(url: str) -> str:
    """Return a URL as errors may show it: without query, fragment, password and unprintable characters."""
    plain = _USERINFO.sub(r"\1//", re.split(r"[?#]", url, maxsplit=1)[0])
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in plain[:_LONGEST_SHOWN])
