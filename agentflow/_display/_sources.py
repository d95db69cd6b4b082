"""What `print_run` takes, made into one stream of events that ends with a result: a thread's way and a task's, next to each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

from agentflow._display._family import family_events
from agentflow._event_streams import AsyncEventStream, stream_events
from agentflow._following import follow
from agentflow._listening import LISTENER, Teller
from agentflow._outbox import as_json
from agentflow._runs import Run
from agentflow._shared_stream import stream_result
from agentflow.events import RunYielded, _Event
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow.events import Event

__all__ = ["aevents_of", "is_awaited", "tell"]

_OF_EVENTS: Final = frozenset({stream_events.__code__, follow.__code__})
"""The generators whose items are events already: what `wf.stream_events(...)` and `run.events()` give."""


def is_awaited(stream: object) -> bool:
    """Whether the stream is consumed by a task; raise if it is none at all.

    Raises:
        UsageError: If it is no stream.
    """
    if isinstance(stream, AsyncIterator | Awaitable):
        return True
    if isinstance(stream, Run | Iterator):
        return False
    raise UsageError(
        f"print_run() was given a {type(stream).__qualname__}, which is no stream: give it wf.stream_events(...), a Run, "
        "the iterator that a generator workflow returns, or the coroutine of an async one"
    )


# Threads


def tell(stream: Run | Iterator[Any], take: Callable[[Event], None]) -> Any:
    """Consume a stream, tell each of its events, and return its result.

    Ctrl-C is thrown into the stream wherever it comes, so that the run learns of it.
    """
    events = _events_of(stream)
    if events is None:
        events = _items_told(cast("Iterator[Any]", stream), take)
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                return stop.value
            take(event)
    except KeyboardInterrupt as ctrl_c:
        events.throw(ctrl_c)
    finally:
        events.close()


def _events_of(stream: Run | Iterator[Any]) -> Generator[Event, None, Any] | None:
    if isinstance(stream, Run):
        return family_events(stream)
    return cast("Generator[Event, None, Any]", stream) if getattr(stream, "gi_code", None) in _OF_EVENTS else None


def _items_told(stream: Iterator[Any], take: Callable[[Event], None]) -> Generator[Event, None, Any]:
    """Yield the items of a stream as events, while what its run says is told from wherever it happens.

    The stream is consumed in this very thread, which Ctrl-C comes to, so that also code is stopped that never comes to a boundary.
    """
    telling, items = _Telling(take), list[Any]()
    token = LISTENER.set(Teller(telling.hear))
    try:
        while True:
            try:
                item = next(stream)
            except StopIteration as stop:
                return stream_result(items, stop.value)
            telling.check()
            if not isinstance(item, _Event):
                items.append(item)
            yield _as_event(item)
    except KeyboardInterrupt as ctrl_c:
        if throw := getattr(stream, "throw", None):
            throw(ctrl_c)
        raise
    finally:
        LISTENER.reset(token)
        if close := getattr(stream, "close", None):
            close()


class _Telling:
    """Tells events out of the middle of a run, which does not fail because its screen does."""

    def __init__(self, take: Callable[[Event], None]) -> None:
        self._take = take
        self._broken: Exception | None = None

    def hear(self, event: Event) -> None:
        """Tell an event of the run."""
        if self._broken is not None or _is_repeated(event):
            return
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the stream is consumed
            self._broken = error

    def check(self) -> None:
        """Raise what went wrong with the screen."""
        if self._broken is not None:
            raise self._broken


def _is_repeated(event: Event) -> bool:
    """Whether it says of the run what it has yielded: that is said as it comes out of the stream, which may have changed it."""
    return isinstance(event, RunYielded) and bool(event.run_id)


def _as_event(item: Any) -> Event:
    """Return an item as an event; one that is an event already stays one."""
    if isinstance(item, RunYielded):
        return item.model_copy(update={"run_id": ""})
    return cast("Event", item) if isinstance(item, _Event) else RunYielded.model_construct(items=(as_json(item),))


# Tasks


def aevents_of(stream: AsyncIterator[Any] | Awaitable[Any]) -> AsyncEventStream[Any]:
    """Return the events of a stream; its result is then in `.result`."""
    if isinstance(stream, AsyncEventStream):
        return stream
    if isinstance(stream, AsyncIterator):
        return _AsyncOwn.of_task(lambda: _aconsumed(stream))
    return AsyncEventStream.of_task(lambda: _awaited(stream))


class _AsyncOwn(AsyncEventStream[Any]):
    """As `_own`."""

    async def __anext__(self) -> Event:
        while _is_repeated(event := await super().__anext__()):
            pass
        return event


async def _awaited(stream: Awaitable[Any]) -> Any:
    return await stream


async def _aconsumed(stream: AsyncIterator[Any]) -> Any:
    """Consume a stream of items in a task, and say them to who listens there."""
    items, listener = list[Any](), LISTENER.get()
    assert listener
    async with aclosing(_closable(stream)) as closable:
        async for item in closable:
            if not isinstance(item, _Event):
                items.append(item)
            listener.put(_as_event(item))
    return stream_result(items, getattr(stream, "result", None))  # the text of an agent has one


async def _closable(stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    try:
        async for item in stream:
            yield item
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
