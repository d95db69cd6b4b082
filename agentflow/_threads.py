"""The executor `"thread"`: background runs in threads of this process, so many at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections import Counter, deque
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentflow._jobs import EXECUTING
from agentflow._settings import max_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentflow._jobs import Job
    from agentflow.stores._base import Store

__all__ = ["THREADS", "ThreadExecutor"]

_PATIENCE_AT_EXIT: Final = 1.0  # seconds for runs to record that they were interrupted


class ThreadExecutor:
    """Executes runs in threads of this process, `max_runs` at once; the others wait as `pending`.

    A thread ends when nothing waits. When the interpreter ends, its runs are asked to stop and are left `interrupted`.
    """

    name = "thread"

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all runs: a forked child has none of its parent's threads."""
        self._mutex = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._running: dict[threading.Thread, Job | None] = {}
        self._blocked: Counter[threading.Thread] = (
            Counter()
        )  # how many things each waits for: tasks may wait for several
        self._closed = False

    def submit(self, job: Job) -> None:
        """Have a run executed in a thread."""
        _stop_at_exit()
        job.expect()
        with self._mutex:
            closed = self._closed
            if not closed:
                self._waiting.append(job)
        if closed:  # the interpreter is ending
            job.drop()
            return
        try:
            self._grow()
        except BaseException:  # Ctrl-C, too: the caller is told that nothing was begun, and so nothing may begin
            with contextlib.suppress(ValueError), self._mutex:  # unless another thread has it already
                self._waiting.remove(job)
            raise

    def _grow(self) -> None:
        with self._mutex:
            if self._closed or not self._waiting or len(self._running) - len(self._blocked) >= max_runs():
                return
            # A daemon: the end of the interpreter does not wait for a run that does not heed it. Its lock goes with the process.
            thread = threading.Thread(target=self._work, name="agentflow-run", daemon=True)
            self._running[thread] = None
        try:
            thread.start()
        except BaseException:  # Ctrl-C, too: a thread that never began would count as running for ever
            with self._mutex:
                del self._running[thread]
            raise

    def _work(self) -> None:
        thread = threading.current_thread()
        while job := self._next(thread):
            job.run()

    def _next(self, thread: threading.Thread) -> Job | None:
        with self._mutex:
            too_many = len(self._running) - len(self._blocked) > max_runs()
            if self._closed or not self._waiting or too_many:
                del self._running[thread]
                return None
            job = self._running[thread] = self._waiting.popleft()
            return job

    def withdraw(self, store: Store, run_id: str) -> None:
        """Drop a run that waits for a thread, since it is not wanted any more."""
        with self._mutex:
            unwanted = [job for job in self._waiting if job.run_id == run_id and job.store.identity == store.identity]
            for job in unwanted:
                self._waiting.remove(job)
        for job in unwanted:
            job.drop()

    @contextlib.contextmanager
    def waiting_for_another(self) -> Iterator[None]:
        """Let another run have the place of this one while it only waits, so that runs waiting for runs cannot use up all places."""
        thread = EXECUTING.get()
        if thread not in self._running:
            yield
            return
        with self._mutex:
            self._blocked[thread] += 1
        self._grow()
        try:
            yield
        finally:
            with self._mutex:
                self._blocked[thread] -= 1
                if self._blocked[thread] <= 0:
                    del self._blocked[thread]

    def stop(self) -> None:
        """Begin nothing more, ask what is under way to stop, and wait a moment for it."""
        with self._mutex:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            running = list(self._running.items())
        for left in waiting:
            left.drop()  # nobody will execute it, and a thread that the interpreter joins may wait for it
        deadline = time.monotonic() + _PATIENCE_AT_EXIT
        for _, job in running:
            if job is not None:
                job.stop()
        for thread, _ in running:
            thread.join(max(0.0, deadline - time.monotonic()))


THREADS: Final = ThreadExecutor()


@cache
def _stop_at_exit() -> None:
    # Before the interpreter joins other threads, which may be waiting for ours; concurrent.futures does it like this, and
    # what is registered last is called first.
    import_module("concurrent.futures.thread")  # so that its own is registered before

    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(THREADS.stop)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.begin_anew)
