"""Whoever waits in this process for news of a run is woken at once; other processes look now and then."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NEWS", "News"]


class News:
    """Who waits for which run."""

    def __init__(self) -> None:
        # A finalizer may announce something while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()
        self._waiting: dict[tuple[str, str], set[Future[None]]] = {}

    def announce(self, store: str, run_id: str) -> None:
        """Say that something of a run has been committed.

        Args:
            store: The store's identity.
            run_id: The run's id.
        """
        if not self._waiting:  # as nearly always
            return
        with self._mutex:
            told = self._waiting.pop((store, run_id), ())
        for future in told:
            future.set_result(None)

    @contextmanager
    def awaited(self, store: str, run_id: str) -> Iterator[Future[None]]:
        """Give a future that is done once something of a run is committed while the block goes on."""
        future: Future[None] = Future()
        with self._mutex:
            self._waiting.setdefault((store, run_id), set()).add(future)
        try:
            yield future
        finally:
            self._leave((store, run_id), future)

    def _leave(self, run: tuple[str, str], future: Future[None]) -> None:
        with self._mutex:
            others = self._waiting.get(run, set())
            others.discard(future)
            if not others:
                self._waiting.pop(run, None)


NEWS: Final = News()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=NEWS.__init__)  # type: ignore[misc]
