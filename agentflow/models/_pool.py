"""The HTTP clients that a process shares: one for blocking requests, and one for each running event loop.

An async client cannot be used from another loop than its first, and its idle connections can only be closed while that
loop still runs. Nothing here knows which library the clients are of.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import threading
import warnings
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Pool"]


class _Closable(Protocol):
    def close(self) -> None: ...


class _AsyncClosable(Protocol):
    @property
    def is_closed(self) -> bool: ...

    async def aclose(self) -> None: ...


C = TypeVar("C", bound=_Closable)
A = TypeVar("A", bound=_AsyncClosable)


@attrs.frozen(eq=False)
class _Kept(Generic[A]):
    """The client of a loop, and what closes it."""

    client: A
    keeper: AsyncGenerator[A, None]


class Pool(Generic[C, A]):
    """Makes each client when it is first asked for, and closes it when nobody can ask any more.

    Args:
        make: Makes a client for blocking requests.
        make_async: Makes a client for the running loop.
    """

    def __init__(self, make: Callable[[], C], make_async: Callable[[], A]) -> None:
        self._make, self._make_async = make, make_async
        self._abandoned: list[object] = []
        self._begin()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._abandon)

    def _begin(self) -> None:
        """Begin without clients."""
        self._lock = threading.Lock()
        self._client: C | None = None
        self._kept: dict[AbstractEventLoop, _Kept[A]] = {}

    def client(self) -> C:
        """Return the client for blocking requests; it is safe to share between threads."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    async def async_client(self) -> A:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        if (kept := self._kept.get(loop)) is not None:
            return kept.client
        self._forget_closed_loops()
        client = self._make_async()
        keeper = _closes_with_loop(client)
        await anext(keeper)  # does not wait, so no other task of this loop comes in between
        with self._lock:
            self._kept[loop] = _Kept(client, keeper)
        return client

    def _forget_closed_loops(self) -> None:
        """Drop the clients of loops that are closed."""
        with self._lock:
            dropped = [self._kept.pop(loop) for loop in list(self._kept) if loop.is_closed()]
        if any(not kept.client.is_closed for kept in dropped):
            _collect(dropped)

    def close(self) -> None:
        """Close what can be closed, at the end of the process."""
        if self._client is not None:
            self._client.close()
        self._forget_closed_loops()

    def _abandon(self) -> None:
        """Begin anew in a forked child: the connections are the parent's, and their locks may be held for ever.

        The clients are kept and never touched: closing one could wait for such a lock, or end the parent's connection.
        """
        self._abandoned.append((self._client, self._kept))
        self._begin()


async def _closes_with_loop(client: A) -> AsyncGenerator[A, None]:
    """Close a client when its loop shuts down.

    A loop finishes the async generators that began in it before it closes: `asyncio.run` and `asyncio.Runner` see to
    it, by `loop.shutdown_asyncgens`. Later the client's connections could no longer be closed.
    """
    try:
        yield client
    finally:
        await client.aclose()


def _collect(dropped: list[_Kept[A]]) -> None:
    """Free the connections of loops that were closed by hand, without `shutdown_asyncgens`.

    Being collected is the only way left to close them, and warns of each, in a program that could do nothing about it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        dropped.clear()
        gc.collect()
