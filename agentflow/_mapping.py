"""`ctx.map`: one function over many items at once, in order, with the results of a list comprehension."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from agentflow._frames import FRAME
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agentflow._frames import Frame

__all__ = ["map_over"]

THREADS: Final = 32


def map_over(
    frame: Frame,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    *,
    max_concurrency: int | None,
    return_exceptions: bool,
) -> list[Any] | Awaitable[list[Any]]:
    """Call a function for each tuple of items; see `Context.map`."""
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"map() calls functions that return, and {_name(fn)} yields: iterate it instead")
    if not iterables:
        raise UsageError(f"map({_name(fn)}) was given nothing to go over")
    if max_concurrency is not None and max_concurrency < 1:
        raise UsageError(f"max_concurrency={max_concurrency!r}: at least one must be allowed to run")
    calls = list(zip(*iterables, strict=False))
    if inspect.iscoroutinefunction(fn):
        return _map_tasks(frame, fn, calls, max_concurrency, collect=return_exceptions)
    return _map_threads(frame, fn, calls, max_concurrency or THREADS, collect=return_exceptions)


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__qualname__", fn))


def _map_threads(
    frame: Frame, fn: Callable[..., Any], calls: list[tuple[Any, ...]], at_once: int, *, collect: bool
) -> list[Any]:
    if not calls:
        return []
    failed: list[int] = []

    def one(index: int) -> Any:
        if failed:
            return None  # after the first error nothing new starts
        try:
            return _in_place(frame, index, fn, calls[index])
        except Exception as error:
            if collect:
                return error
            failed.append(index)
            raise
        except BaseException:
            failed.append(index)
            raise

    # A pool of its own for each call: a shared one could fill up with parents that wait for children.
    with ThreadPoolExecutor(min(at_once, len(calls)), thread_name_prefix="agentflow-map") as pool:
        futures = [pool.submit(contextvars.copy_context().run, one, index) for index in range(len(calls))]
        try:
            pool.shutdown(wait=True)
        except BaseException:
            failed.append(len(calls))
            raise
    for future in futures:
        if error := future.exception():
            raise error
    return [future.result() for future in futures]


async def _map_tasks(
    frame: Frame, fn: Callable[..., Awaitable[Any]], calls: list[tuple[Any, ...]], at_once: int | None, *, collect: bool
) -> list[Any]:
    places = asyncio.Semaphore(at_once) if at_once else None
    failed: list[int] = []

    async def one(index: int) -> Any:
        if places is None:
            return await call(index)
        async with places:
            return await call(index)

    async def call(index: int) -> Any:
        try:
            return await _in_place(frame, index, fn, calls[index])
        except Exception as error:
            if collect:
                return error
            failed.append(index)
            raise

    tasks = [asyncio.create_task(one(index)) for index in range(len(calls))]
    try:
        await _all_or_first_error(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for index in sorted(failed):
        tasks[index].result()
    return [task.result() for task in tasks]


async def _all_or_first_error(tasks: list[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)


def _in_place(frame: Frame, index: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # Each item runs in a context of its own already (a thread's copy, a task's), so the frame may be set for good.
    current = FRAME.get() or frame
    current.at_item(index).install()
    return fn(*args)
