"""What stands before and around a tool's function: somebody's approval, a place among so many at once, a time limit.

What is refused or took too long is told to the model, as a `ModelRetry` is: it may try something else.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from agentflow._at_once import check_wanted
from agentflow._clock import Limit
from agentflow._retry import seconds
from agentflow._waiting import Limiter, wait, wait_async
from agentflow.exceptions import ModelRetry, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from agentflow.types import Duration

__all__ = ["Approval", "Limits", "limits"]

Approval: TypeAlias = "Callable[[str, Mapping[str, Any]], bool | str | Awaitable[bool | str]]"
"""Decides about a call by the tool's name and its checked arguments: True lets it be made, False or a reason does not."""


def limits(*, needs_approval: Approval | None, timeout: Duration | None, max_concurrency: int | None) -> Limits:
    """Return what stands around a tool.

    Raises:
        UsageError: If an option cannot be what it is.
    """
    if not (needs_approval is None or callable(needs_approval)):
        raise UsageError(f"needs_approval={needs_approval!r}: write a function of the tool's name and its arguments")
    if isinstance(max_concurrency, bool) or not (max_concurrency is None or max_concurrency >= 1):
        raise UsageError(f"max_concurrency={max_concurrency!r}: write how many calls may be made at once, 1 or more")
    limiter = None if max_concurrency is None else Limiter(max_concurrency)
    return Limits(needs_approval, None if timeout is None else seconds(timeout, what="timeout"), limiter)


@attrs.frozen
class Limits:
    """What stands around a tool's function.

    Attributes:
        approval: Who decides about each call.
        timeout: How many seconds a call may take.
        limiter: Gives out the places for calls at once.
    """

    approval: Approval | None = None
    timeout: float | None = None
    limiter: Limiter | None = None

    def approve(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Have a call approved.

        Raises:
            ModelRetry: If it is refused.
            UsageError: If who decides can only be awaited.
        """
        verdict = True if self.approval is None else self.approval(name, arguments)
        if inspect.isawaitable(verdict):
            if inspect.iscoroutine(verdict):
                verdict.close()  # else it warns that nobody awaited it
            raise UsageError(
                f"needs_approval= of tool {name!r} is async: use arun() or astream(), or give it a sync function"
            )
        _judge(name, verdict)

    async def aapprove(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Do what `approve` does; a function that is not async runs in a thread, where it may ask a person."""
        if self.approval is None:
            return
        verdict = await asyncio.to_thread(self.approval, name, arguments)
        _judge(name, await verdict if inspect.isawaitable(verdict) else verdict)

    def run(self, name: str, call: Callable[[], object]) -> object:
        """Make a call, in its turn and its time."""
        with self._place() as granted:
            wait(granted, None, check_wanted)
            check_wanted()
            if self.timeout is None:
                return call()
            outcome: Future[object] = Future()
            if not wait(outcome, self.timeout, begin=lambda: _begin(outcome, call, may_be_left=True)):
                raise self._late(name)
            return outcome.result()

    async def arun(self, name: str, call: Callable[[], Awaitable[object]]) -> object:
        """Do what `run` does."""
        with self._place() as granted:
            await wait_async(granted, None)
            clock = Limit(self.timeout)
            try:
                async with clock:
                    outcome = await call()
                if clock.expired():  # it has caught the cancellation
                    raise TimeoutError  # noqa: TRY301 - left like every other way out
            except TimeoutError:
                if clock.expired():
                    raise self._late(name) from None
                raise
            return outcome

    async def arun_in_thread(self, name: str, call: Callable[[], object]) -> object:
        """Do what `run` does for a function that blocks."""
        with self._place() as granted:
            await wait_async(granted, None)
            # Not in the loop's own pool: it has a handful of threads, and others need them.
            outcome: Future[object] = Future()
            is_limited = self.timeout is not None
            if not await wait_async(outcome, self.timeout, begin=lambda: _begin(outcome, call, may_be_left=is_limited)):
                raise self._late(name)
            return outcome.result()

    @contextmanager
    def _place(self) -> Iterator[Future[None]]:
        """Ask for a place for a block."""
        if self.limiter is None:
            granted: Future[None] = Future()
            granted.set_result(None)
            yield granted
            return
        place = self.limiter.enter(self)
        try:
            yield place.granted
        finally:
            self.limiter.leave(place)

    def _late(self, name: str) -> ModelRetry:
        return ModelRetry(
            f"{name} took longer than {self.timeout:g} s and was given up. Try less at once, or do without it."
        )


def _judge(name: str, verdict: object) -> None:
    if verdict is True:
        return
    if not isinstance(verdict, bool | str):
        raise UsageError(
            f"needs_approval= of tool {name!r} gave {verdict!r}: return True, False, or a reason for the model"
        )
    raise ModelRetry(f"The call of {name} was not approved, so it was not made. {verdict or ''}".strip())


def _begin(outcome: Future[object], call: Callable[[], object], *, may_be_left: bool) -> None:
    """Have a function run in a thread of its own, with the caller's context.

    Args:
        outcome: What it comes to.
        call: The function.
        may_be_left: Whether the end of the program need not wait for it: it is given up when it takes too long.
    """

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked
            outcome.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="agentflow-tool", daemon=may_be_left).start()
