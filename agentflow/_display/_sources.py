"""What `print_run` takes, made into one stream of events that ends with a result: a thread's way and a task's, next to each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

from agentflow._display._family import family_events
from agentflow._event_streams import AsyncEventStream, stream_events
from agentflow._following import follow
from agentflow._listening import LISTENER
from agentflow._outbox import as_json
from agentflow._runs import Run
from agentflow._shared_stream import stream_result
from agentflow.events import RunYielded, _Event
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from agentflow.events import Event

__all__ = ["aevents_of", "events_of", "is_awaited"]

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


def events_of(stream: Run | Iterator[Any]) -> Generator[Event, None, Any]:
    """Return the events of a stream; the generator returns its result."""
    if isinstance(stream, Run):
        return family_events(stream)
    if getattr(stream, "gi_code", None) in _OF_EVENTS:
        return cast("Generator[Event, None, Any]", stream)
    return _own(stream_events(lambda: _consumed(stream)))


def _own(told: Generator[Event, None, Any]) -> Generator[Event, None, Any]:
    """Leave out what the run says of its items: they were said as they came out of the stream, which may have changed them."""
    try:
        while True:
            try:
                event = next(told)
            except StopIteration as stop:
                return stop.value
            if not _is_repeated(event):
                yield event
    except KeyboardInterrupt as ctrl_c:
        told.throw(ctrl_c)
    finally:
        told.close()


def _is_repeated(event: Event) -> bool:
    return isinstance(event, RunYielded) and bool(event.run_id)


def _consumed(stream: Iterator[Any]) -> Any:
    """Consume a stream of items in a worker thread, and say them to who listens there."""
    items: list[Any] = []
    while True:
        try:
            item = next(stream)
        except StopIteration as stop:
            return stream_result(items, stop.value)
        if _said(item):
            items.append(item)
        if _is_left():
            close = getattr(stream, "close", None)
            return close() if close else None


def _said(item: Any) -> bool:
    """Say an item to who listens here; False if it is an event itself."""
    listener = LISTENER.get()
    assert listener
    if not isinstance(item, _Event):
        listener.put(RunYielded.model_construct(items=(as_json(item),)))
        return True
    listener.put(item.model_copy(update={"run_id": ""}) if isinstance(item, RunYielded) else cast("Event", item))
    return False


def _is_left() -> bool:
    listener = LISTENER.get()
    return listener is not None and listener.has_left


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
    items: list[Any] = []
    async with aclosing(_closable(stream)) as closable:
        async for item in closable:
            if _said(item):
                items.append(item)  # noqa: PERF401 - it is said before the next one is waited for
    return stream_result(items, getattr(stream, "result", None))  # the text of an agent has one


async def _closable(stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    try:
        async for item in stream:
            yield item
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
