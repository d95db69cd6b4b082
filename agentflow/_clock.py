"""The time by which results expire, retries rest and steps are timed out: the system's, unless a test has put a clock of its own in force.

How long something took is measured without it, and whatever polls (locks, other processes) sleeps for real.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = [
    "Clock",
    "Deadline",
    "Limit",
    "asleep",
    "in_force",
    "put_in_force",
    "rest",
    "sleep",
    "taken_away",
    "wall_time",
]


class Clock(Protocol):
    """A clock that a test moves."""

    def time(self) -> float:
        """Return the time in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return the time in seconds, for differences."""
        ...

    def rest(self, seconds: float) -> None:
        """Let time pass, at once."""
        ...

    def call_at(self, when: float, then: Callable[[], None]) -> Callable[[], None]:
        """Have something called when it is so late by `monotonic`, or when the clock is no more in force; return what calls that off."""
        ...


_clocks: Final[list[Clock]] = []
# Of each clock that was taken away: by which one its deadlines go on, and how much later that one was.
_heirs: Final[weakref.WeakKeyDictionary[Clock, tuple[Clock | None, float]]] = weakref.WeakKeyDictionary()
_ROUNDING: Final = (
    1e-6  # seconds that are nothing: a clock that is moved to a deadline may miss it by the rounding of floats
)


def put_in_force(clock: Clock) -> None:
    """Have the whole process go by a clock."""
    _clocks.append(clock)


def taken_away(clock: Clock) -> None:
    """Have it go by the clock before, or by the system's."""
    heir = next((each for each in reversed(_clocks) if each is not clock), None)
    _heirs[clock] = heir, _now(heir) - clock.monotonic()
    _clocks.remove(clock)


def in_force() -> Clock | None:
    """Return the clock that a test has put in force, None for the system's."""
    return _clocks[-1] if _clocks else None


def wall_time() -> float:
    """Return the time in seconds since the epoch."""
    return _clocks[-1].time() if _clocks else time.time()


def _now(clock: Clock | None) -> float:
    return time.monotonic() if clock is None else clock.monotonic()


def rest(seconds: float) -> bool:
    """Let time pass at once where a test has a clock of its own; False if there is none."""
    clock = in_force()
    if clock is None:
        return False
    clock.rest(seconds)
    return True


def sleep(seconds: float) -> None:
    """Let time pass in this thread."""
    if not rest(seconds):
        time.sleep(seconds)


async def asleep(seconds: float) -> None:
    """Let time pass in this task."""
    await asyncio.sleep(0 if rest(seconds) else seconds)


class Deadline:
    """A moment by a clock. Once that is in force no more, what was left then is left by the clock in force after it.

    Args:
        seconds: How far away it is.
        clock: The clock; None for the system's.

    Attributes:
        when: The moment, by the `monotonic` of the clock.
    """

    def __init__(self, seconds: float, clock: Clock | None) -> None:
        self._clock = clock
        self.when = _now(clock) + seconds

    @property
    def left(self) -> float:
        """The seconds to it; zero or less if it is past."""
        clock, when = self._clock, self.when
        while clock is not None and clock not in _clocks:
            clock, later = _heirs[clock]
            when += later
        left = when - _now(clock)
        return 0.0 if abs(left) < _ROUNDING else left


class Limit:
    """Lets the code of a block take only so long, as `asyncio.timeout` does, by the clock in force.

    Args:
        seconds: How long; None for as long as it likes.
    """

    def __init__(self, seconds: float | None) -> None:
        self._clock = None if seconds is None else in_force()
        self._scope = asyncio.timeout(seconds if self._clock is None else None)
        self._deadline = Deadline(seconds or 0.0, self._clock)
        self._is_over = self._is_late = False
        self._call_off: Callable[[], None] = lambda: None

    def expired(self) -> bool:
        """Whether it took longer."""
        return self._is_late or self._scope.expired()

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        if self._clock is not None:
            loop = asyncio.get_running_loop()
            self._call_off = self._clock.call_at(self._deadline.when, lambda: self._reached(loop))

    def _reached(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take in, in whatever thread, that the clock has come to the deadline, or is in force no more."""
        left = self._deadline.left
        self._is_late = left <= 0
        loop.call_soon_threadsafe(self._end_in, max(0.0, left))

    def _end_in(self, seconds: float) -> None:
        if not self._is_over:
            self._scope.reschedule(asyncio.get_running_loop().time() + seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call_off()
        self._is_over = True
        await self._scope.__aexit__(kind, error, traceback)
