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

from agentflow._clock import Limit, rest
from agentflow._tracebacks import without_our_frames
from agentflow._turns import later_turn, waited_out
from agentflow._waiting import wait, wait_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow.stores._base import Store, Transaction

__all__ = [
    "Ask",
    "Commit",
    "Pause",
    "Perform",
    "Rest",
    "Until",
    "adrive",
    "begin_in_thread",
    "commit_here",
    "commit_or_withdraw",
    "drive",
    "in_thread",
    "on_a_loop",
    "unwrapped",
]

R = TypeVar("R")

PATIENCE: Final = 0.03  # seconds that an assignment may hold up a loop


@attrs.define
class Pause:
    """Let real time pass, between two looks at something."""

    seconds: float


@attrs.define
class Rest:
    """Let time pass, by the clock in force.

    Attributes:
        check: Called now and then; what it raises ends the rest.
    """

    seconds: float
    check: Callable[[], object]


@attrs.define
class Until:
    """Wait until a future is done or a time is over; `reached` tells which.

    Attributes:
        check: Called now and then; what it raises ends the waiting.
        real: Whether the time is real time, whatever clock is in force.
    """

    future: Future[Any]
    timeout: float | None = None
    check: Callable[[], object] | None = None
    reached: bool = False
    real: bool = False


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


Ask = Pause | Rest | Until | Commit | Perform


class Stopped(Exception):  # noqa: N818 - no error of its own
    """Carries a `StopIteration` of the user's code through a procedure, since a generator cannot let one pass (PEP 479)."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


def unwrapped(error: BaseException) -> BaseException:
    """Return the error that the user's code raised."""
    return error.error if isinstance(error, Stopped) else error


def drive(procedure: Generator[Ask, None, R]) -> R:
    """Go through a procedure in this thread."""
    error: BaseException | None = None
    while True:
        try:
            ask = next(procedure) if error is None else procedure.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except Stopped as stopped:
            error = stopped.error
            break
        except BaseException as raised:  # noqa: BLE001 - raised again, for the user to read
            error = raised
            break
        error = None
        try:
            _do(ask)
        except StopIteration as stop:
            error = Stopped(stop)
        except BaseException as raised:  # noqa: BLE001 - the procedure decides what it means
            error = raised
    try:
        raise without_our_frames(error)
    finally:
        del error  # else it would hold this frame by its traceback, and the frame the error


async def adrive(procedure: Generator[Ask, None, R]) -> R:
    """Go through a procedure in this task.

    A commit that has begun is not called back. Cancelled meanwhile, the procedure first learns how it ended and does
    what belongs to it; the cancellation follows with the next thing that waits.
    """
    error: BaseException | None = None
    cancelled: BaseException | None = None
    while True:
        try:
            ask = next(procedure) if error is None else procedure.throw(error)
        except StopIteration as stop:
            if cancelled is not None:
                raise cancelled from None
            return stop.value  # type: ignore[no-any-return]
        except BaseException as raised:  # noqa: BLE001 - raised again, for the user to read
            error = raised
            break
        error = None
        try:
            if isinstance(ask, Commit):
                future = ask.store.commit_soon(ask.transaction)
                cancelled = await _settled(future) or cancelled
                future.result()
            elif cancelled is None:
                await _ado(ask)
                # Many may have ended in one moment; what was made is not lost if this one is cancelled while it lets others go first.
                if isinstance(ask, Perform) and (later := later_turn()):
                    cancelled = await waited_out(later)
            else:
                error, cancelled = cancelled, None
        except BaseException as raised:  # noqa: BLE001 - the procedure decides what it means
            error = raised
    try:
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            raise cancelled from error  # else whoever catches the error would go on uncancelled
        raise without_our_frames(error)
    finally:
        del error  # else it would hold this frame by its traceback, and the frame the error


def _do(ask: Ask) -> None:
    match ask:
        case Pause(seconds):
            time.sleep(seconds)
        case Rest(seconds, check):
            if not rest(seconds):
                wait(Future(), seconds, check)
            check()
        case Until(future, timeout, check):
            ask.reached = wait(future, timeout, check, real=ask.real)
        case Commit(store, transaction):
            store.commit(transaction)
        case Perform(call, limit, abandon):
            ask.result = call() if limit is None else _within_thread(call, limit, abandon)


async def _ado(ask: Pause | Rest | Until | Perform) -> None:
    match ask:
        case Pause(seconds):
            await asyncio.sleep(seconds)
        case Rest(seconds, check):
            await (asyncio.sleep(0) if rest(seconds) else wait_async(Future(), seconds, check))
            check()
        case Until(future, timeout, check):
            ask.reached = await wait_async(future, timeout, check, real=ask.real)
        case Perform(call, limit, abandon):
            ask.result = await (call() if limit is None else _within(call, limit, abandon))


async def _settled(future: Future[None]) -> BaseException | None:
    """Wait until a commit has ended, without blocking the loop; return the cancellation that came meanwhile."""
    cancelled: BaseException | None = None
    while not future.done():
        try:
            await wait_async(future, None)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def _within(call: Callable[[], Any], limit: float, abandon: Callable[[], None]) -> Any:
    clock = Limit(limit)
    try:
        async with clock:
            result = await call()
        if clock.expired():  # the code has caught the cancellation, and what it gives is what it had until then
            raise TimeoutError  # noqa: TRY301 - left like every other way out
    except TimeoutError:
        if clock.expired():
            abandon()
        raise
    return result


def _within_thread(call: Callable[[], Any], limit: float, abandon: Callable[[], None]) -> Any:
    # A thread cannot be stopped from outside: at the limit it is left alone, and `abandon` takes its rights away.
    outcome: Future[Any] = Future()
    try:
        if not wait(outcome, limit, begin=lambda: _fulfil_in_thread(outcome, call)):
            raise TimeoutError  # noqa: TRY301 - left like every other way out
    except BaseException:  # Ctrl-C, too: nobody waits for the thread any more
        abandon()
        raise
    return outcome.result()


def begin_in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Have sync code run in a thread of its own with the caller's context."""
    outcome: Future[Any] = Future()
    _fulfil_in_thread(outcome, call)
    return outcome


def _fulfil_in_thread(outcome: Future[Any], call: Callable[[], Any]) -> None:
    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is asked
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="agentflow-step", daemon=True).start()


async def in_thread(call: Callable[[], R]) -> R:
    """Await sync code that runs in a thread of the loop's pool with the caller's context."""

    def run() -> R:
        try:
            return call()
        except (
            StopIteration
        ) as stop:  # a future cannot carry one, and before Python 3.12 its waiter would wait for ever
            raise RuntimeError("a function that was called in a thread raised StopIteration") from stop

    return await asyncio.to_thread(run)


def commit_here(store: Store, transaction: Transaction) -> Future[None] | None:
    """Make a transaction durable from a statement that cannot be awaited, such as an assignment.

    In a thread without a running loop it is durable when this returns.
    On a loop it is handed to the writer thread and waited for briefly, so that a store that another process has locked
    does not stop the loop; then the unfinished commit is returned, for the next boundary to wait for.
    """
    if not on_a_loop():
        store.commit(transaction)
        return None
    future = store.commit_soon(transaction)
    if wait(future, PATIENCE, real=True):
        future.result()
        return None
    return future


def commit_or_withdraw(store: Store, transaction: Transaction) -> bool:
    """Make a transaction durable from a statement that cannot be awaited, and return whether it is.

    Like `commit_here`, but what would hold up a loop is called back, and is then not done at all.
    """
    if not on_a_loop():
        store.commit(transaction)
        return True
    future = store.commit_soon(transaction)
    if not wait(future, PATIENCE, real=True) and future.cancel():
        return False
    future.result()  # it has begun, so it is done in a moment
    return True


def on_a_loop() -> bool:
    """Whether this thread runs an event loop right now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
