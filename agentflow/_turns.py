"""A loop's time, shared: of many tasks that are ready in one moment, some go on at once and the others in the next turns of the loop.

A turn of a loop runs all that is ready before it looks at timers and sockets again. A thousand steps that begin or end together would
make it as long as the Python of a thousand steps, and everybody else on the loop would wait for that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Final

__all__ = ["later_turn", "waited_out"]

_LONGEST: Final = 0.01  # seconds of a turn after which whoever comes waits for another one
_FEW: Final = 32  # of those who wait, how many go on in one turn: a step and its like take about 0.1 ms each


class _Turns:
    """The turns of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._began: float | None = None
        self._queue: deque[asyncio.Future[None]] = deque()

    def later(self) -> asyncio.Future[None] | None:
        """Return what to wait for, if this turn has lasted long enough, or if others wait already."""
        if self._began is None:
            self._began = time.perf_counter()
            self.loop.call_soon(self._next)
        elif self._queue or time.perf_counter() - self._began > _LONGEST:
            future = self.loop.create_future()
            self._queue.append(future)
            return future
        return None

    def _next(self) -> None:
        self._began = None
        for _ in range(min(_FEW, len(self._queue))):
            future = self._queue.popleft()
            if not future.done():
                future.set_result(None)
        if self._queue:
            self._began = time.perf_counter()
            self.loop.call_soon(self._next)


class _Here(threading.local):
    turns: _Turns | None = None


_here: Final = _Here()


def later_turn() -> asyncio.Future[None] | None:
    """Return what to await before more is done in the running loop, or None if the loop has time: nearly always."""
    loop = asyncio.get_running_loop()
    turns = _here.turns
    if turns is None or turns.loop is not loop:
        turns = _here.turns = _Turns(loop)
    return turns.later()


async def waited_out(later: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Wait for a later turn after something that must not be lost; return the cancellation that came meanwhile."""
    try:
        await later
    except asyncio.CancelledError as cancelled:
        return cancelled
    return None
