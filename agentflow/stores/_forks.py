"""Keeping SQLite and `fork` apart.

SQLite must not be carried across a fork (sqlite.org/howtocorrupt.html, 2.6), not even unused: the child inherits its account
of the file locks but not the locks, and a mutex that another thread held stays locked for ever.
So every use of a connection passes `GATE`. A fork waits until nobody is inside, closes every connection,
and parent and child each open their own at the next use.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["GATE", "ForkGate", "Forked", "survive_forks"]

LONGEST_WAIT: Final = 5.0  # seconds that a fork waits for a statement of another thread; then it goes ahead


class Forked(Protocol):
    """Something that has connections."""

    def before_fork(self) -> None:
        """Close every connection; nobody uses one now."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that shared this object are gone, and what they hold is not ours."""
        ...


class ForkGate:
    """Whom a fork has to wait for; a context manager around each use of SQLite.

    Entering costs two dictionary operations and takes no lock, so that a finalizer or a signal handler that uses a store
    while its own thread is inside does no harm.
    """

    def __init__(self) -> None:
        self._inside: dict[int, int] = {}
        self._forking: int | None = None
        self._open = threading.Event()
        self._open.set()

    def __enter__(self) -> None:
        me = threading.get_ident()
        while True:
            self._inside[me] = self._inside.get(me, 0) + 1
            if self._forking in (None, me):
                return
            self.__exit__(None, None, None)
            self._open.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(threading.get_ident())

    def leave(self, thread: int) -> None:
        """Let a thread out; nothing happens if it is not inside."""
        depth = self._inside.get(thread, 0)
        if depth > 1:
            self._inside[thread] = depth - 1
        else:
            self._inside.pop(thread, None)

    def rest(self, seconds: float) -> None:
        """Sleep outside; a fork may happen meanwhile."""
        self.__exit__(None, None, None)
        try:
            time.sleep(seconds)
        finally:
            self.__enter__()

    def shut(self) -> bool:
        """Let nobody in any more, wait until all others have left, and return whether they have."""
        me = threading.get_ident()
        self._open.clear()
        self._forking = me
        deadline = time.monotonic() + LONGEST_WAIT
        while self._inside.keys() - {me}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return me not in self._inside

    def reopen(self) -> None:
        """Let them in again."""
        self._forking = None
        self._open.set()


GATE: Final = ForkGate()
_survivors: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def survive_forks(thing: Forked) -> None:
    """Have an object's connections closed before each fork, and the object made anew in the child."""
    _survivors.add(thing)


def _before() -> None:
    if GATE.shut():
        for thing in list(_survivors):
            thing.before_fork()


def _in_child() -> None:
    GATE.__init__()  # type: ignore[misc]
    for thing in list(_survivors):
        thing.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=GATE.reopen, after_in_child=_in_child)
