"""Keeps what is secret in the address of a server of tools out of the log lines of the packages that speak to it.

They write whole addresses, with user, password and query, which is where many servers want their key.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["discreet", "discreetly"]

_LOGGERS: Final = ("httpx2", "mcp.client.streamable_http")
_ADDRESS: Final = re.compile(r"(https?://)(?:[^\s/@\"']*@)?([^\s?#\"']*)(?:[?#][^\s\"']*)?")


def discreet(text: str) -> str:
    """Return a text with nothing left of its addresses but host and path, and with unprintable characters as escapes."""
    plain = _ADDRESS.sub(r"\1\2", text)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in plain)


@contextmanager
def discreetly() -> Iterator[None]:
    """Have the packages write discreet lines in this thread for a block."""
    filtered = _InThread(threading.get_ident())
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(filtered)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(filtered)


class _InThread(logging.Filter):
    """Lets every record pass; those of one thread only when they are discreet."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread == self._thread:
            record.msg, record.args = discreet(record.getMessage()), ()
        return True
