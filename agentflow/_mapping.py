"""`ctx.map`: one function over many items at once, in order, with the results of a list comprehension."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from agentflow._at_once import THREADS, work_off
from agentflow._frames import FRAME
from agentflow._options import function, several, whole
from agentflow._tracebacks import without_our_frames
from agentflow.events import MapProgressed
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agentflow._frames import Frame

__all__ = ["map_over"]

# So many items begin before the loop gets round to others: each takes a key and a look into the store.
_IN_A_TURN: Final = 16
_BETWEEN_NEWS: Final = 0.1  # seconds between two events that tell how far it is


def map_over(
    frame: Frame,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    *,
    max_concurrency: int | None,
    return_exceptions: bool,
) -> list[Any] | Awaitable[list[Any]]:
    """Call a function for each tuple of items; see `Context.map`."""
    function(fn, "fn")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"map() calls functions that return, and {_name(fn)} yields: iterate it instead")
    if not iterables:
        raise UsageError(f"map({_name(fn)}) was given nothing to go over")
    if max_concurrency is not None:
        whole(max_concurrency, "max_concurrency")
    going = [several(each, "iterable", "a list, or whatever else can be gone over") for each in iterables]
    mapping = _Mapping(frame, fn, list(zip(*going, strict=False)), collect=return_exceptions)
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
        mapped = _in_tasks(mapping, max_concurrency)
        cast("Any", mapped).__qualname__ = f"map({_name(fn)})"  # which Python tells who forgets to await it
        return mapped
    work_off(mapping, max_concurrency or THREADS, "agentflow-map")
    return mapping.outcome()


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__qualname__", fn))


class _Mapping:
    """The items of one call, and what has become of them.

    Attributes:
        waiting: The indexes of the items that have not begun.
        results: What the finished ones gave, by index.
        errors: What the failed ones raised, by index.
        over: Whether the outcome is decided; what is raised from now on answers the cancellation.
    """

    def __init__(self, frame: Frame, fn: Callable[..., Any], calls: list[tuple[Any, ...]], *, collect: bool) -> None:
        self.waiting = deque(range(len(calls)))
        self.results: list[Any] = [None] * len(calls)
        self.errors: dict[int, BaseException] = {}
        self.over = False
        self._frame = frame
        self._fn = fn
        self._calls = calls
        self._collect = collect
        self._mutex = threading.Lock()
        self._done = 0
        self._told = time.monotonic()
        if calls:
            self._tell(0)

    def stop(self) -> None:
        """Let nothing more begin."""
        self.waiting.clear()

    def begin(self, index: int) -> Any:
        """Call the function for an item, in a context of its own already, so that its frame may be set for good."""
        current = FRAME.get() or self._frame
        current.at_item(index).install()
        return self._fn(*self._calls[index])

    def returned(self, index: int, result: Any) -> None:
        """Take in what an item gave."""
        if inspect.iscoroutine(result):
            result.close()
            self.raised(
                index,
                UsageError(
                    f"map() called {_name(self._fn)}, a plain function that gives coroutines: give it the `async def` itself, "
                    "or write one"
                ),
            )
            return
        self.results[index] = result
        self._finished()

    def raised(self, index: int, error: BaseException) -> None:
        """Take in what an item raised: after the first error nothing new begins."""
        if self._collect and isinstance(error, Exception):
            self.results[index] = error
            self._finished()
        elif not self.over:
            self.errors[index] = error
            self.stop()

    def _finished(self) -> None:
        now = time.monotonic()
        with self._mutex:
            self._done += 1
            done, total = self._done, len(self.results)
            if done == total or now - self._told >= _BETWEEN_NEWS:
                self._told = now
                self._tell(done)  # in here, so that what was counted last is also told last

    def _tell(self, done: int) -> None:
        if self._frame.run is not None:
            self._frame.run.note(MapProgressed(name=_name(self._fn), done=done, total=len(self.results)))

    def outcome(self) -> list[Any]:
        """Return the results, or raise the error of the lowest index."""
        if not self.errors:
            return self.results
        error = self.errors[min(self.errors)]
        try:
            raise without_our_frames(error)
        finally:
            del error, self.errors  # else the error, by its traceback, would hold what holds the error


async def _in_tasks(mapping: _Mapping, at_once: int | None) -> list[Any]:
    places = asyncio.Semaphore(at_once or len(mapping.results) or 1)
    tasks: list[asyncio.Task[None]] = []
    try:
        for index in range(len(mapping.results)):
            if mapping.errors:
                break
            tasks.append(asyncio.create_task(_one(mapping, index, places)))
            if len(tasks) % _IN_A_TURN == 0:
                await asyncio.sleep(0)
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        mapping.over = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return mapping.outcome()


class _ItemCancelledError(Exception):
    """An item was cancelled by itself; who waits for the first exception would not see a cancellation."""


async def _one(mapping: _Mapping, index: int, places: asyncio.Semaphore) -> None:
    async with places:
        if mapping.errors:
            return
        try:
            mapping.returned(index, await mapping.begin(index))
        except (
            BaseException
        ) as error:  # an item may raise anything: it is counted among the errors, and raised where the map was called
            mapping.raised(index, error)
            if index in mapping.errors:
                if isinstance(error, asyncio.CancelledError):
                    raise _ItemCancelledError from error
                raise
