"""A clock that a test moves: what would take hours is tested in no time."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

import attrs

from agentflow import _clock
from agentflow._retry import seconds
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from agentflow.types import Duration

__all__ = ["VirtualClock"]


@attrs.define(order=True)
class _Timer:
    """What is called when the clock comes to a time."""

    when: float
    number: int
    then: Callable[[], None] | None = attrs.field(order=False)


class VirtualClock:
    """A clock of the test's own, in force in the whole process for a block; it stands still unless it is moved.

    By it results expire (`ttl`), steps and tools are timed out, budgets of seconds are spent, and runs become too old to be continued.
    It moves by `advance`, and by the pauses between retries, of steps and of model requests, which take no time. It is not what user code reads (`time.time()`), sleeps or
    times out by; `Run.result(timeout=)` and whatever waits for other processes wait for real. Liveness of processes goes by no clock at all.

    ```python
    from agentflow import cached_step
    from agentflow.testing import VirtualClock, assert_ran, fresh_store

    @cached_step(ttl=3600)
    def rate(currency: str) -> float:
        return 1.1

    with fresh_store(), VirtualClock() as clock:
        rate("EUR")
        clock.advance(3599)
        assert rate.is_cached("EUR")
        clock.advance(1)
        assert not rate.is_cached("EUR")
    ```

    Args:
        start: When it begins, a `datetime` with its zone: now, if not given.

    Attributes:
        pauses: The seconds of each pause between attempts so far.

    Raises:
        UsageError: If `start` is no `datetime`, or has no time zone.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and (not isinstance(start, datetime) or start.tzinfo is None):
            raise UsageError(
                f"VirtualClock(start={start!r}): give a time with its zone, such as datetime(..., tzinfo=UTC)"
            )
        self.pauses: list[float] = []
        self._epoch = time.time() if start is None else start.timestamp()
        self._monotonic = time.monotonic()
        self._elapsed = 0.0
        self._timers: list[_Timer] = []
        self._numbers: Final = itertools.count()
        self._mutex = threading.RLock()

    def __enter__(self) -> Self:
        _clock.put_in_force(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _clock.taken_away(self)
        with self._mutex:
            left, self._timers = self._timers, []
        for timer in left:  # whoever waits goes on by the system's clock
            if timer.then is not None:
                timer.then()

    def time(self) -> float:
        """Return its time, in seconds since the epoch."""
        return self._epoch + self._elapsed

    def monotonic(self) -> float:
        """Return its time, in seconds, for differences."""
        return self._monotonic + self._elapsed

    def advance(self, duration: Duration) -> None:
        """Move it; what becomes due on the way happens in order, each at its time.

        A step whose timeout is passed is timed out before this returns, also if it is the step that moves the clock; what its caller does
        about it then happens in the caller's thread or task.

        Args:
            duration: Seconds or a `timedelta`.

        Raises:
            UsageError: If it is none, without an end, or negative: time does not go back.
        """
        by = seconds(duration, what="advance()")
        if math.isinf(by):
            raise UsageError(f"advance({by!r}): no clock comes to a time without an end; give a number of seconds")
        self._move_to(self.monotonic() + by)

    def rest(self, seconds: float) -> None:
        """Move it by a pause, which is noted in `pauses`."""
        self.pauses.append(seconds)
        self._move_to(self.monotonic() + seconds)

    def call_at(self, when: float, then: Callable[[], None]) -> Callable[[], None]:
        """Have something called when it comes to a time, or when the block ends; return what calls that off."""
        timer = _Timer(when, next(self._numbers), then)

        def call_off() -> None:
            timer.then = None

        with self._mutex:
            is_due = when <= self.monotonic()
            if not is_due:
                heapq.heappush(self._timers, timer)
        if is_due:
            then()
        return call_off

    def _move_to(self, when: float) -> None:
        while (timer := self._next_due(when)) is not None:
            if timer.then is not None:
                timer.then()

    def _next_due(self, when: float) -> _Timer | None:
        """Move it to the next timer that is due by a time, or, if there is none, to that time."""
        with self._mutex:
            is_due = bool(self._timers) and self._timers[0].when <= when
            timer = heapq.heappop(self._timers) if is_due else None
            self._elapsed = max(self._elapsed, (timer.when if timer else when) - self._monotonic)
            return timer
