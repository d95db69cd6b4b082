"""Waiting that threads and tasks of any loop can do for the same thing.

A `concurrent.futures.Future` is that thing; awaiting it here never cancels it, since others wait for it too.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

__all__ = ["Limiter", "wait", "wait_async"]


def wait(future: Future[Any], timeout: float | None) -> bool:
    """Block until the future is done or the time is over; return whether it is done."""
    if future.done():
        return True
    finished = threading.Event()
    future.add_done_callback(lambda _: finished.set())
    return finished.wait(timeout)


async def wait_async(future: Future[Any], timeout: float | None) -> bool:  # noqa: ASYNC109 - the twin of wait()
    """Suspend until the future is done or the time is over; return whether it is done."""
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()

    def wake(_: Future[Any]) -> None:
        if not loop.is_closed():  # a waiter whose loop is gone waits no more
            loop.call_soon_threadsafe(finished.set)

    future.add_done_callback(wake)
    try:
        async with asyncio.timeout(timeout):
            await finished.wait()
    except TimeoutError:
        return future.done()
    return True


class Limiter:
    """So many at once in this process, threads and tasks alike, first come first served."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._queue: deque[Future[None]] = deque()

    def enter(self) -> Future[None]:
        """Ask for a place; it is had when the future is done."""
        place: Future[None] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
                place.set_result(None)
            else:
                self._queue.append(place)
        return place

    def leave(self, place: Future[None]) -> None:
        """Give a place back, or give up waiting for it."""
        with self._lock:
            if not place.done():
                self._queue.remove(place)
                return
            if self._queue:
                following = self._queue.popleft()
            else:
                self._free += 1
                return
        following.set_result(None)
