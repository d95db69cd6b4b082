"""Waiting that threads and tasks of any loop can do for the same thing.

A `concurrent.futures.Future` is that thing; awaiting it here never cancels it, since others wait for it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Final, Self, cast

import attrs

from agentflow._clock import Deadline, in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from agentflow._clock import Clock

__all__ = ["Limiter", "Place", "wait", "wait_async"]

# Seconds after which whoever waits looks whether it should go on waiting; tasks are many, and are cancelled by other means.
_SLICE: Final = 0.25
_SLICE_OF_TASKS: Final = 1.0
_IDLE: Final = 1.0  # seconds after which a holder that stands still has lost its place to whoever waits


def wait(
    future: Future[Any],
    timeout: float | None,
    check: Callable[[], object] | None = None,
    *,
    real: bool = False,
    begin: Callable[[], object] = lambda: None,
) -> bool:
    """Block until the future is done or the time is over; return whether it is done.

    Args:
        future: What to wait for.
        timeout: For how many seconds at most.
        check: Called now and then; what it raises ends the waiting.
        real: Whether the seconds are real ones, also where a test has a clock of its own.
        begin: Called once the time runs: begins what fulfils the future.
    """
    with contextlib.closing(_looks(future, timeout, check, real=real, begin=begin, longest=_SLICE)) as looks:
        while True:
            try:
                awaited, seconds = next(looks)
            except StopIteration as stop:
                return cast("bool", stop.value)
            _block(awaited, seconds)


def _block(future: Future[Any], seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError, CancelledError):
        future.exception(seconds)


async def wait_async(
    future: Future[Any],
    timeout: float | None,  # noqa: ASYNC109 - the twin of wait()
    check: Callable[[], object] | None = None,
    *,
    real: bool = False,
    begin: Callable[[], object] = lambda: None,
) -> bool:
    """Suspend until the future is done or the time is over; return whether it is done; see `wait`."""
    if future.done():
        return True
    woken: asyncio.Future[None] | None = None
    woken_by = None
    with contextlib.closing(_looks(future, timeout, check, real=real, begin=begin, longest=_SLICE_OF_TASKS)) as looks:
        while True:
            try:
                awaited, seconds = next(looks)
            except StopIteration as stop:
                return cast("bool", stop.value)
            if woken is None or woken_by is not awaited:
                woken, woken_by = _woken_by(awaited), awaited
            if seconds is None:
                await woken  # nobody else has it, so a cancellation of it cancels nothing else
            else:
                await asyncio.wait([woken], timeout=seconds)


def _looks(
    future: Future[Any],
    timeout: float | None,
    check: Callable[[], object] | None,
    *,
    real: bool,
    begin: Callable[[], object],
    longest: float,
) -> Generator[tuple[Future[Any], float | None], None, bool]:
    """Say what to wait for next, and for how many seconds at most, until it is decided whether the future is done; see `wait`.

    `longest` are the seconds between two checks.
    """
    between = longest if check else None
    if timeout is not None and not real and (clock := in_force()) is not None:
        with _Race(future, clock, timeout) as race:
            begin()
            while not race.decided.done():
                yield race.decided, between
                if check is not None:
                    check()
        if race.is_lost:
            return False
        timeout = race.left
    else:
        begin()
    deadline = None if timeout is None else time.monotonic() + timeout
    while not future.done():
        seconds = _next_slice(deadline, between)
        if seconds is not None and seconds <= 0:
            return False
        yield future, seconds
        if check is not None:
            check()
    return True


class _Race:
    """Which comes first: a future is done, or a test's clock comes to a deadline. Decided at that moment, whoever looks later.

    Args:
        future: The future.
        clock: The clock.
        seconds: How far away the deadline is.

    Attributes:
        decided: Done when it is over, or when the clock is in force no more.
        is_lost: Whether the deadline was first.
    """

    def __init__(self, future: Future[Any], clock: Clock, seconds: float) -> None:
        self.decided: Future[None] = Future()
        self.is_lost = False
        self._deadline = Deadline(seconds, clock)
        self._mutex = threading.Lock()
        future.add_done_callback(lambda _: self._decide(lost=False))
        self._call_off = clock.call_at(self._deadline.when, lambda: self._decide(lost=self.left <= 0))

    @property
    def left(self) -> float:
        """The seconds to the deadline."""
        return self._deadline.left

    def _decide(self, *, lost: bool) -> None:
        with self._mutex:
            if not self.decided.done():
                self.is_lost = lost
                self.decided.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call_off()


def _next_slice(deadline: float | None, longest: float | None) -> float | None:
    left = None if deadline is None else deadline - time.monotonic()
    return left if longest is None else longest if left is None else min(left, longest)


def _woken_by(future: Future[Any]) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: then nobody waits in it any more
            loop.call_soon_threadsafe(tell)

    future.add_done_callback(wake)
    return woken


@attrs.define(eq=False)
class Place:
    """A place in a limiter, or in its queue.

    Attributes:
        holder: Who asked for it.
        granted: Done when it is had.
        idle_since: Since when its holder stands still, by the monotonic clock; None while it runs.
    """

    holder: object
    granted: Future[None] = attrs.field(factory=Future)
    idle_since: float | None = None


class Limiter:
    """So many at once in this process, threads and tasks alike, first come first served.

    A stream that nobody advances keeps its place, but not for ever while others wait: after a second it has lost it.
    Else a consumer that stopped reading would hold up everybody, and `zip(step("a"), step("b"))` would wait for itself.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        # A finalizer may leave while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()
        self._queue: deque[Place] = deque()
        self._held: set[Place] = set()

    def enter(self, holder: object) -> Place:
        """Ask for a place."""
        place = Place(holder)
        with self._mutex:
            self._queue.append(place)
            self._grant()
        return place

    def leave(self, place: Place) -> None:
        """Give a place back, or give up waiting for it."""
        with self._mutex:
            if place in self._held:
                self._held.remove(place)
                self._free += 1
                self._grant()
            elif place in self._queue:
                self._queue.remove(place)

    def let_pass(self, place: Place) -> None:
        """Let somebody who waits go on without a place."""
        with self._mutex:
            if place in self._queue:
                self._queue.remove(place)
                place.granted.set_result(None)

    def holders(self) -> Sequence[object]:
        """Return who has a place."""
        with self._mutex:
            return [place.holder for place in self._held]

    def take_back(self) -> None:
        """Take the places of those who have stood still for long, if somebody waits."""
        with self._mutex:
            late = time.monotonic() - _IDLE
            idle = [place for place in self._held if place.idle_since is not None and place.idle_since <= late]
            for place in idle[: len(self._queue)]:
                self.leave(place)

    def _grant(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            place = self._queue.popleft()
            self._held.add(place)
            place.granted.set_result(None)
