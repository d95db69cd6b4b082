"""Transactions that are ready together share one commit, and so one fsync.

Whoever comes while a commit is under way queues up; the first of them then commits for all.
A thread commits for itself and the others (no hop, no extra thread); a task hands its transaction to one writer thread,
so that no event loop waits for a disk.

A job stays in the queue until it is settled. So whatever ends a leader half way, Ctrl-C included,
the others find their jobs there and go on.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import attrs

from agentflow.exceptions import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentflow.stores._writing import Writing

__all__ = ["CommitQueue"]

# Bounds of one commit: large enough to share an fsync, small enough to keep a single one quick.
MOST_JOBS: Final = 64
MOST_BYTES: Final = 4 * 1024 * 1024
# The writer thread ends after this many idle seconds, so that closing a program has nothing to wait for.
IDLE_SECONDS: Final = 1.0


@attrs.define(eq=False)
class Job:
    """A piece of work for one commit, and how it went.

    Attributes:
        work: Writes it; may raise to refuse it, which takes back nobody else's.
        size: The bytes it carries, roughly.
        deadline: Until when it waits for other processes, by the monotonic clock.
        future: Told how it went, for whoever does not wait in this queue.
        error: Why it failed.
        settled: Whether it was committed or has failed.
        withdrawn: Whether nobody wants it any more.
    """

    work: Callable[[Writing], None]
    size: int
    deadline: float
    future: Future[None] | None = None
    error: Exception | None = None
    settled: bool = False
    withdrawn: bool = False

    def is_wanted(self) -> bool:
        """Whether it still is to be done; from then on its future cannot be cancelled."""
        if self.future is not None and not self.future.running() and not self.settled:
            self.withdrawn = self.future.cancelled() or not self.future.set_running_or_notify_cancel()
        return not (self.settled or self.withdrawn)

    def tell(self) -> None:
        """Tell the future, once."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(self.error)


class CommitQueue:
    """Collects jobs and commits them in batches.

    Args:
        begin: Returns a transaction that waits for other processes until a deadline at most.
        patience: How long a job waits for other processes, in seconds.

    Attributes:
        leader: Held by whoever commits; taking it keeps every commit out.
    """

    def __init__(self, begin: Callable[[float], Writing], patience: float) -> None:
        self._begin = begin
        self._patience = patience
        self._queue: deque[Job] = deque()
        self.leader = threading.RLock()
        self._current: tuple[Writing, list[Job]] | None = None
        self._wake = threading.Condition()
        self._writer: threading.Thread | None = None
        self._stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be committed, or is being committed."""
        return not self._queue

    def run(self, work: Callable[[Writing], None], size: int = 0) -> None:
        """Commit a piece of work in this thread, together with whatever else is ready.

        A finalizer, a signal handler or the callback of a future may call this while its own thread is in the middle of a commit.
        It cannot wait for itself, so then the work is handed to the writer thread and is durable a moment later.
        """
        if self.is_leading():
            self.soon(work, size)
            return
        job = Job(work, size, time.monotonic() + self._patience)
        self._queue.append(job)
        self._settle(job)
        if job.error is not None:
            raise job.error

    def soon(self, work: Callable[[Writing], None], size: int = 0) -> Future[None]:
        """Hand a piece of work to the writer thread."""
        job = Job(work, size, time.monotonic() + self._patience, future=Future())
        assert job.future is not None
        with self._wake:
            self._queue.append(job)
            started = self._writer is not None or self._start_writer()
            self._wake.notify()
        if not started and not self.is_leading():
            self._settle(job)
        return job.future

    def is_leading(self) -> bool:
        """Whether this very thread is in the middle of a commit."""
        return self.leader._is_owned()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001 - Condition relies on it, too

    def stop(self, timeout: float | None = None) -> None:
        """Have the writer thread finish what it was handed, and end."""
        with self._wake:
            writer = self._writer
            self._stopping = True
            self._wake.notify()
        try:
            if writer is not None and writer is not threading.current_thread():
                writer.join(timeout)
        finally:
            self._stopping = False

    def _settle(self, job: Job) -> None:
        try:
            while not job.settled:
                with self.leader:
                    if not job.settled:
                        self._commit_next()
        except BaseException:  # whoever stops waiting, by Ctrl-C above all, takes back what nobody has begun to write
            job.withdrawn = True
            raise

    def _commit_next(self) -> None:
        self._conclude()
        self._clear()
        if self._queue:
            self._commit_batch()
            self._clear()

    def _commit_batch(self) -> None:
        batch: list[Job] = []
        writing = self._begin(self._queue[0].deadline)
        self._current = (writing, batch)
        try:
            with writing:
                batch += self._take()
                for job in batch:
                    job.error = writing.attempt(job.work, alone=len(batch) == 1)
        except Exception as error:  # noqa: BLE001 - each who waits raises it
            self._fail(batch or self._out_of_time(error), error)
        finally:
            self._conclude()

    def _conclude(self) -> None:
        """Tell a batch that it is committed; if Ctrl-C keeps a leader from it, the next one does."""
        if self._current is not None:
            writing, batch = self._current
            if writing.settle():
                _tell(batch)
            self._current = None

    def _take(self) -> list[Job]:
        # By index: others append meanwhile, and a deque refuses to be iterated then. Only a leader takes away.
        batch: list[Job] = []
        size = 0
        for number in range(min(len(self._queue), MOST_JOBS)):
            job = self._queue[number]
            if size < MOST_BYTES and job.is_wanted():
                batch.append(job)
                size += job.size
        return batch

    def _out_of_time(self, error: Exception) -> list[Job]:
        jobs = [self._queue[number] for number in range(len(self._queue))]
        if isinstance(error, StoreBusy):  # who came later may wait longer
            now = time.monotonic()
            jobs = [job for job in jobs if job.deadline <= now]
        return [job for job in jobs if job.is_wanted()]

    def _fail(self, batch: list[Job], error: Exception) -> None:
        for job in batch:
            job.error = _own_copy(error)
        _tell(batch)

    def _clear(self) -> None:
        while self._queue and (self._queue[0].settled or self._queue[0].withdrawn):
            self._queue[0].tell()  # if Ctrl-C came before it was told
            self._queue.popleft()

    def _start_writer(self) -> bool:
        self._writer = threading.Thread(target=self._write, name="agentflow-writer", daemon=True)
        try:
            self._writer.start()
        except RuntimeError:  # the interpreter is ending, or the system gives no more threads
            self._writer = None
        return self._writer is not None

    def _write(self) -> None:
        try:
            while self._has_work():
                with self.leader:
                    self._commit_next()
        finally:
            with self._wake:
                if self._writer is threading.current_thread():
                    self._writer = None

    def _has_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._stopping, IDLE_SECONDS)
            if not self._queue:
                self._writer = None  # under the lock: whoever hands over work from now on starts another
            return bool(self._queue)


def _tell(batch: list[Job]) -> None:
    for job in batch:
        job.settled = True
    # After all are settled: a callback of a future may use the store.
    for job in batch:
        job.tell()


def _own_copy(error: Exception) -> Exception:
    """Return a copy to raise in one of several threads, each of which adds its traceback and its notes."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin
