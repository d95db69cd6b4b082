"""Advancing a generator inside a context of its own.

A generator's context variables would leak into its consumer at every `yield`, and the consumer may advance it from another thread or
task at every item (web frameworks do). So its code runs in its own `contextvars.Context`, whoever advances it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
    from contextvars import Context
    from types import GeneratorType

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


def _nothing() -> None:
    pass


class Source:
    """A generator and the context that its code runs in.

    Args:
        generator: The generator.
        context: The context.
        ended: Called once its code will not run any more.
    """

    def __init__(
        self, generator: GeneratorType[Any, Any, Any], context: Context, ended: Callable[[], None] = _nothing
    ) -> None:
        self._generator = generator
        self._run = context.run
        self._ended = ended
        self._unwanted = False
        self._once = threading.Lock()

    def pull(self) -> Item | End:
        """Advance it."""
        return self._step(self._generator.__next__)

    def throw(self, error: BaseException) -> Item | End:
        """Advance it by an exception raised where it stands."""
        return self._step(self._generator.throw, error)

    def close(self) -> None:
        """Close it; if a thread that was left alone is still in its code, that one does it when it comes out."""
        self._unwanted = True
        if not self._generator.gi_running and self._once.acquire(blocking=False):
            try:
                self._run(self._generator.close)
            finally:
                self._ended()

    def _step(self, advance: Callable[..., Any], *args: Any) -> Item | End:
        try:
            item = self._run(advance, *args)
        except StopIteration as stop:
            self._ended()
            return End(stop.value)
        except BaseException:  # whatever it raises, a generator that raised has ended
            self._ended()
            raise
        if self._unwanted:
            self.close()
        return Item(item)


class AsyncSource:
    """An async generator and the context that its code runs in.

    Args:
        generator: The generator.
        context: The context.
        ended: Called once its code will not run any more.
    """

    def __init__(
        self, generator: AsyncGenerator[Any, Any], context: Context, ended: Callable[[], None] = _nothing
    ) -> None:
        self._generator = generator
        self._context = context
        self._ended = ended
        self._begun = False

    def pull(self) -> Awaitable[Item | End]:
        """Advance it."""
        if self._begun:
            return _Step(self._generator.__anext__(), self._context.run, self._ended)
        self._begun = True
        with _unknown_to_the_loop():
            return _Step(self._generator.__anext__(), self._context.run, self._ended)

    def throw(self, error: BaseException) -> Awaitable[Item | End]:
        """Advance it by an exception raised where it stands."""
        return _Step(self._generator.athrow(error), self._context.run, self._ended)

    async def close(self) -> None:
        """Close it."""
        with _unknown_to_the_loop():
            closing = self._generator.aclose()
        await _Step(closing, self._context.run, self._ended)
        self._ended()


@contextlib.contextmanager
def _unknown_to_the_loop() -> Iterator[None]:
    """Keep a generator from being closed by the loop it was begun in; whoever has the source closes it, once.

    At its end a loop closes all generators that it knows at the same time, the consumer's and the source inside it too.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


class _Step:
    """Awaits one advance of an async generator so that its code runs in a context, also after every suspension.

    The task keeps its own. One object and one generator for each item, since every token of every stream comes through here.
    """

    __slots__ = ("_advance", "_ended", "_run")

    def __init__(self, advance: Awaitable[Any], run: Callable[..., Any], ended: Callable[[], None]) -> None:
        self._advance = advance
        self._run = run
        self._ended = ended

    def __await__(self) -> Generator[Any, Any, Item | End]:
        run = self._run
        steps = self._advance.__await__()
        proceed: Callable[..., Any] = steps.__next__
        argument: tuple[Any, ...] = ()
        while True:
            try:
                waited_for = run(proceed, *argument)
            except StopIteration as stop:
                return Item(stop.value)
            except StopAsyncIteration:
                self._ended()
                return End()
            except BaseException:  # whatever it raises, a generator that raised has ended
                self._ended()
                raise
            try:
                reply = yield waited_for
            except BaseException as error:  # noqa: BLE001 - cancellation belongs to the code inside
                proceed, argument = steps.throw, (error,)
            else:
                proceed, argument = (steps.__next__, ()) if reply is None else (steps.send, (reply,))


def refuse_sent(sent: object, what: str) -> None:
    """Refuse a value that was sent into a stream.

    Raises:
        UsageError: If one was.
    """
    if sent is not None:
        raise UsageError(
            f"{what} was sent {sent!r}: a remembered stream cannot take values, since a replay would not ask for them"
        )
