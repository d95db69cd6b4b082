"""One thread of the process writes down what runs have said and no commit of theirs has carried yet.

It wakes up every few milliseconds as long as somebody has something to say, and ends when nobody had for a second.
Nobody wakes it: that would cost each event more than the event itself.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final, Protocol

__all__ = ["FLUSHER", "Flusher", "Tended"]

_TICK: Final = 0.01  # seconds
_IDLE_TICKS: Final = 100


class Tended(Protocol):
    """What has something to write down now and then."""

    def tend(self, now: float) -> bool:
        """Write down what has waited long enough, by the monotonic clock, without blocking; False if nothing waits."""
        ...


class Flusher:
    """Tends whatever asks for it.

    Attributes:
        generation: Grows in a forked child, where nobody is tended who was in the parent.
    """

    def __init__(self) -> None:
        self.generation = 0
        # A finalizer may ask for it while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()
        self._tended: set[Tended] = set()
        self._thread: threading.Thread | None = None

    def add(self, tended: Tended) -> None:
        """Tend it until it says that nothing waits any more."""
        with self._mutex:
            self._tended.add(tended)
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="agentflow-flusher", daemon=True)
        try:
            thread.start()
        except (
            RuntimeError
        ):  # the interpreter is ending, or the system gives no more threads: the next commit carries it
            return
        self._thread = thread

    def _run(self) -> None:
        idle = 0
        while idle < _IDLE_TICKS or not self._may_end():
            time.sleep(_TICK)
            idle = 0 if self._tend_all() else idle + 1

    def _tend_all(self) -> bool:
        now = time.monotonic()
        with self._mutex:
            waiting = list(self._tended)
        for tended in waiting:
            with self._mutex:
                self._tended.discard(tended)
            if tended.tend(now):
                self.add(tended)
        return bool(waiting)

    def _may_end(self) -> bool:
        with self._mutex:
            if not self._tended:
                self._thread = None  # under the lock: whoever asks from now on starts another
            return self._thread is None

    def forget(self) -> None:
        """Begin anew in a forked child, which has none of the parent's threads."""
        self.generation += 1
        self._mutex = threading.RLock()
        self._tended = set()
        self._thread = None


FLUSHER: Final = Flusher()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FLUSHER.forget)
