"""Calls that are made at once by threads: each in a copy of the caller's context, so many at a time, none left behind.

After the first error, or Ctrl-C, nothing new begins; what is under way cannot be stopped from outside, so it is awaited.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LOT", "THREADS", "GivenUp", "Work", "check_wanted", "in_threads", "work_off"]

R = TypeVar("R")

THREADS: Final = 32
"""So many of one lot work at once."""


class GivenUp(BaseException):
    """Nobody wants the outcome of a call any more that has not begun.

    Like a cancellation it concerns the caller alone, and not what is called: no `Exception`, so that nobody else is told of it.
    """


class Work(Protocol):
    """Things to be done, by index.

    Attributes:
        waiting: The indexes of what has not begun.
    """

    waiting: deque[int]

    def stop(self) -> None:
        """Let nothing more begin."""
        ...

    def begin(self, index: int) -> Any:
        """Do one of them; called in a context of its own."""
        ...

    def returned(self, index: int, result: Any) -> None:
        """Take in what one gave."""
        ...

    def raised(self, index: int, error: BaseException) -> None:
        """Take in what one raised."""
        ...


def work_off(work: Work, at_once: int, name: str) -> None:
    """Do all that waits, by threads of a name; returns when they have ended."""
    # Threads of its own for each lot: shared ones could fill up with parents that wait for children.
    context = contextvars.copy_context()
    workers: list[_Worker] = []
    try:
        while work.waiting and len(workers) < at_once:
            # Listed before it is started, so that Ctrl-C in between leaves none behind.
            workers.append(_Worker(work, context, name))
            try:
                workers[-1].start()
            except RuntimeError:  # the system gives no more of them: those that there are do it all
                break
        if not any(worker.has_begun for worker in workers):
            _work(work, context)
    except BaseException:  # Ctrl-C: nothing new begins
        work.stop()
        raise
    finally:
        _await(work, [worker for worker in workers if worker.has_begun])


def _await(work: Work, workers: Sequence[_Worker]) -> None:
    try:
        for worker in workers:
            worker.wait()
    except BaseException:  # Ctrl-C: nothing new begins, and what is under way is awaited all the same
        work.stop()
        for worker in workers:
            worker.wait()
        raise


class _Worker(threading.Thread):
    """A thread that does what waits."""

    def __init__(self, work: Work, context: contextvars.Context, name: str) -> None:
        super().__init__(name=name)
        self._ended: Future[None] = Future()
        self._work, self._context = work, context

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self.ident is not None

    def run(self) -> None:
        """Do what waits."""
        try:
            _work(self._work, self._context)
        finally:
            self._ended.set_result(None)

    def wait(self) -> None:
        """Wait until it has ended."""
        # Not by `join` alone: up to Python 3.12 that takes a thread for ended once Ctrl-C has interrupted it.
        self._ended.exception()
        self.join()


def _work(work: Work, context: contextvars.Context) -> None:
    while True:
        try:
            index = work.waiting.popleft()
        except IndexError:
            return
        try:
            work.returned(index, context.copy().run(work.begin, index))
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was given out
            work.raised(index, error)


LOT: Final[ContextVar[_Calls[Any] | None]] = ContextVar("agentflow_calls_at_once", default=None)
"""Which calls the running one is made with."""


def in_threads(calls: Sequence[Callable[[], R]], name: str) -> list[R]:
    """Make calls at once and return what they gave, in order; if any fail, the error of the first of them is raised.

    A single one is made by the caller's own thread.
    """
    if len(calls) == 1:
        return [calls[0]()]
    lot = _Calls(calls)
    work_off(lot, THREADS, name)
    return lot.outcome()


def check_wanted() -> None:
    """Raise if the outcome is decided of the calls that the running one is made with: what has not begun need not begin.

    Raises:
        GivenUp: If it is.
    """
    lot = LOT.get()
    while lot is not None:
        if not lot.is_wanted:
            raise GivenUp
        lot = lot.around


class _Calls(Generic[R]):
    """Calls, and what has become of them."""

    def __init__(self, calls: Sequence[Callable[[], R]]) -> None:
        self.waiting = deque(range(len(calls)))
        self.is_wanted = True
        self.around = LOT.get()
        self._calls = calls
        self._results: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}

    def stop(self) -> None:
        self.is_wanted = False
        self.waiting.clear()

    def begin(self, index: int) -> R:
        LOT.set(self)
        return self._calls[index]()

    def returned(self, index: int, result: R) -> None:
        self._results[index] = result

    def raised(self, index: int, error: BaseException) -> None:
        self.stop()
        if not isinstance(error, GivenUp):
            self._errors[index] = error

    def outcome(self) -> list[R]:
        if not self._errors:
            if len(self._results) < len(self._calls):
                raise GivenUp  # as a part of another lot, whose outcome is decided
            return [self._results[index] for index in range(len(self._calls))]
        error = self._errors[min(self._errors)]
        try:
            raise error
        finally:
            del error, self._errors  # else the error, by its traceback, would hold what holds the error
