"""Advancing a generator inside a context of its own.

A generator's context variables would leak into its consumer at every `yield`, and the consumer may advance it from another thread or
task at every item (web frameworks do). So its code runs in its own `contextvars.Context`, whoever advances it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from contextvars import Context

__all__ = ["AsyncSource", "End", "Item", "Source", "refuse_sent"]

T = TypeVar("T")


@attrs.frozen
class Item:
    """It yielded."""

    value: Any


@attrs.frozen
class End:
    """It returned."""

    value: Any = None


class Source:
    """A generator and the context that its code runs in."""

    def __init__(self, generator: Generator[Any, Any, Any], context: Context) -> None:
        self._generator = generator
        self._context = context

    def pull(self) -> Item | End:
        """Advance it."""
        return self._step(self._generator.__next__)

    def throw(self, error: BaseException) -> Item | End:
        """Advance it by an exception raised where it stands."""
        return self._step(self._generator.throw, error)

    def close(self) -> None:
        """Close it."""
        self._context.run(self._generator.close)

    def _step(self, advance: Callable[..., Any], *args: Any) -> Item | End:
        try:
            return Item(self._context.run(advance, *args))
        except StopIteration as stop:
            return End(stop.value)


class AsyncSource:
    """An async generator and the context that its code runs in."""

    def __init__(self, generator: AsyncGenerator[Any, Any], context: Context) -> None:
        self._generator = generator
        self._context = context

    async def pull(self) -> Item | End:
        """Advance it."""
        return await self._step(self._generator.__anext__)

    async def throw(self, error: BaseException) -> Item | End:
        """Advance it by an exception raised where it stands."""
        return await self._step(self._generator.athrow, error)

    async def close(self) -> None:
        """Close it."""
        await _InContext(self._generator.aclose(), self._context)

    async def _step(self, advance: Callable[..., Awaitable[Any]], *args: Any) -> Item | End:
        try:
            return Item(await _InContext(self._context.run(advance, *args), self._context))
        except StopAsyncIteration:
            return End()


class _InContext:
    """Awaits something so that its code runs in a context, also after every suspension, while the task keeps its own."""

    def __init__(self, awaitable: Awaitable[Any], context: Context) -> None:
        self._awaitable = awaitable
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._context.run
        steps = run(self._awaitable.__await__)
        advance: Callable[..., Any] = steps.__next__
        argument: tuple[Any, ...] = ()
        while True:
            try:
                waited_for = run(advance, *argument)
            except StopIteration as stop:
                return stop.value
            try:
                reply = yield waited_for
            except BaseException as error:  # noqa: BLE001 - cancellation belongs to the code inside
                advance, argument = steps.throw, (error,)
            else:
                advance, argument = (steps.__next__, ()) if reply is None else (steps.send, (reply,))


def refuse_sent(sent: object, what: str) -> None:
    """Refuse a value that was sent into a stream.

    Raises:
        UsageError: If one was.
    """
    if sent is not None:
        raise UsageError(
            f"{what} was sent {sent!r}: a remembered stream cannot take values, since a replay would not ask for them"
        )
