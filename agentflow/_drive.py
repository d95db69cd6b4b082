"""The two drivers: what colourless code asks for, done by a thread or by a task.

A procedure that is the same in both colours is a generator of `Ask`s. It says what to wait for; a driver waits
and goes on, or throws in what went wrong. Replies lie in the `Ask`, so that each has its own type.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from agentflow._waiting import wait, wait_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow.stores._base import Store, Transaction

__all__ = ["Ask", "Commit", "Pause", "Perform", "Until", "adrive", "call_in_thread", "commit", "commit_here", "drive"]

R = TypeVar("R")

PATIENCE: Final = 0.03  # seconds that an assignment may hold up a loop


@attrs.define
class Pause:
    """Let time pass."""

    seconds: float


@attrs.define
class Until:
    """Wait until a future is done or a time is over; `reached` tells which."""

    future: Future[Any]
    timeout: float | None = None
    reached: bool = False


@attrs.define
class Commit:
    """Make a transaction durable."""

    store: Store
    transaction: Transaction


@attrs.define
class Perform:
    """Run the user's code; its value comes back in `result`.

    Attributes:
        call: Calls it: what it returns is awaited by a task.
        limit: Seconds it may take, None for as long as it likes.
        abandon: Called once if it is left before it ended: at the limit, before `TimeoutError` is raised, or by Ctrl-C.
    """

    call: Callable[[], Any]
    limit: float | None = None
    abandon: Callable[[], None] = lambda: None
    result: Any = None


Ask = Pause | Until | Commit | Perform


def drive(procedure: Generator[Ask, None, R]) -> R:
    """Go through a procedure in this thread."""
    error: BaseException | None = None
    while True:
        try:
            ask = next(procedure) if error is None else procedure.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        error = None
        try:
            _do(ask)
        except BaseException as raised:  # noqa: BLE001 - the procedure decides what it means
            error = raised


async def adrive(procedure: Generator[Ask, None, R]) -> R:
    """Go through a procedure in this task."""
    error: BaseException | None = None
    while True:
        try:
            ask = next(procedure) if error is None else procedure.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        error = None
        try:
            await _ado(ask)
        except BaseException as raised:  # noqa: BLE001 - the procedure decides what it means
            error = raised


def _do(ask: Ask) -> None:
    match ask:
        case Pause(seconds):
            time.sleep(seconds)
        case Until(future, timeout):
            ask.reached = wait(future, timeout)
        case Commit(store, transaction):
            store.commit(transaction)
        case Perform(call, limit, abandon):
            ask.result = call() if limit is None else call_in_thread(call, limit, abandon)


async def _ado(ask: Ask) -> None:
    match ask:
        case Pause(seconds):
            await asyncio.sleep(seconds)
        case Until(future, timeout):
            ask.reached = await wait_async(future, timeout)
        case Commit(store, transaction):
            await commit(store, transaction)
        case Perform(call, limit, abandon):
            ask.result = await (call() if limit is None else _within(call, limit, abandon))


async def commit(store: Store, transaction: Transaction) -> None:
    """Make a transaction durable without blocking the loop.

    A commit that has begun is not called back: cancelled meanwhile, the task first learns how it ended.
    """
    future = store.commit_soon(transaction)
    cancelled: BaseException | None = None
    while not future.done():
        try:
            await wait_async(future, None)
        except asyncio.CancelledError as error:
            cancelled = error
    future.result()
    if cancelled is not None:
        raise cancelled


async def _within(call: Callable[[], Any], limit: float, abandon: Callable[[], None]) -> Any:
    try:
        async with asyncio.timeout(limit) as clock:
            return await call()
    except TimeoutError:
        if clock.expired():
            abandon()
        raise


def call_in_thread(call: Callable[[], Any], limit: float, abandon: Callable[[], None]) -> Any:
    """Run sync code in a thread of its own with the caller's context, and wait for it so long and no longer.

    A thread cannot be stopped from outside: at the limit it is left alone, and `abandon` takes its rights away.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is asked
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="agentflow-step", daemon=True).start()
    try:
        if not wait(outcome, limit):
            raise TimeoutError  # noqa: TRY301 - left like every other way out
    except BaseException:
        abandon()
        raise
    return outcome.result()


def commit_here(store: Store, transaction: Transaction) -> Future[None] | None:
    """Make a transaction durable from a statement that cannot be awaited, such as an assignment.

    In a thread without a running loop it is durable when this returns.
    On a loop it is handed to the writer thread and waited for briefly, so that a store that another process has locked
    does not stop the loop; then the unfinished commit is returned, for the next boundary to wait for.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        store.commit(transaction)
        return None
    future = store.commit_soon(transaction)
    if wait(future, PATIENCE):
        future.result()
        return None
    return future
