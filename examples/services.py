"""Which services an example uses: the real ones if there are a key and a network, else an offline set, and it says so.

Both are used through the same agents, tools, extraction and store.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

import attrs
import offline
from offline.library import urls

from agentflow.models import Model
from agentflow.tools import read_article, web_search

_PROVIDER: Final = ("api.openai.com", 443)
_DELAY: Final = float(os.environ.get("OFFLINE_DELAY", "0.01"))
"""Seconds between two words of the offline model, so that its streams can be watched."""


@attrs.frozen
class Services:
    """What an example's agents are made of.

    Attributes:
        small: The model for simple work.
        large: The model for writing.
        search: Finds pages for a `query`.
        read: Reads the article at a `url`.
        note: One line for the user, `""` if there is nothing to say.
    """

    small: str | Model
    large: str | Model
    search: Callable[..., object]
    read: Callable[..., object]
    note: str = ""


def choose() -> Services:
    """Return the real services, or the offline ones."""
    missing = _missing()
    if missing is None:
        return Services("openai:gpt-4o-mini", "openai:gpt-4o", web_search, read_article)
    model = offline.model(delay=_DELAY)
    note = f"({missing}: running offline, on {len(urls())} pages that come with the examples and a model that only extracts)"
    return Services(model, model, offline.search, offline.read_article, note)


def _missing() -> str | None:
    if not os.environ.get("OPENAI_API_KEY"):
        return "OPENAI_API_KEY is not set"
    if not os.environ.get("OPENAI_BASE_URL"):
        try:
            socket.create_connection(_PROVIDER, timeout=3).close()
        except OSError:
            return "no network"
    return None
