"""Transactions that are ready together share one commit, and so one fsync.

Whoever comes while a commit is under way queues up; the first of them then commits for all.
A thread commits for itself and the others (no hop, no extra thread); a task hands its transaction to one writer thread,
so that no event loop waits for a disk.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agentflow.stores._base import Transaction

__all__ = ["CommitQueue", "Pending"]

# Bounds of one commit: large enough to share an fsync, small enough to keep a single one quick.
MOST_TRANSACTIONS: Final = 64
MOST_BYTES: Final = 4 * 1024 * 1024
# The writer thread ends after this many idle seconds, so that closing a program has nothing to wait for.
IDLE_SECONDS: Final = 1.0


@attrs.define
class Pending:
    """A transaction that waits for its commit, and the future that tells how it went."""

    transaction: Transaction
    future: Future[None] = attrs.field(factory=Future)


class CommitQueue:
    """Collects transactions and commits them in batches.

    Args:
        apply: Commits a batch, and settles the future of each of its members or raises for all of them.
    """

    def __init__(self, apply: Callable[[Sequence[Pending]], None]) -> None:
        self._apply = apply
        self._queue: deque[Pending] = deque()
        self._leader = threading.Lock()
        self._wake = threading.Condition()
        self._writer: threading.Thread | None = None

    def commit(self, transaction: Transaction) -> None:
        """Commit a transaction in this thread, together with whatever else is ready."""
        pending = Pending(transaction)
        self._queue.append(pending)
        self._settle(pending)
        pending.future.result()

    def commit_soon(self, transaction: Transaction) -> Future[None]:
        """Hand a transaction to the writer thread."""
        pending = Pending(transaction)
        with self._wake:
            self._queue.append(pending)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="agentflow-writer", daemon=True)
                self._writer.start()
            self._wake.notify()
        return pending.future

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every commit out for a block."""
        with self._leader:
            yield

    def _settle(self, pending: Pending) -> None:
        while not pending.future.done():
            with self._leader:
                if not pending.future.done():
                    self._commit_batch()

    def _commit_batch(self) -> None:
        batch: list[Pending] = []
        size = 0
        while self._queue and len(batch) < MOST_TRANSACTIONS and size < MOST_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].transaction.size
        try:
            self._apply(batch)
        except BaseException as error:
            for pending in batch:
                if not pending.future.done():
                    pending.future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    def _write(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._wake.wait_for(lambda: bool(self._queue), IDLE_SECONDS):
                    self._writer = None
                    return
            with self._leader:
                if self._queue:
                    self._commit_batch()
