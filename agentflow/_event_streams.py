"""Running something here while its events are handed out as they happen: a thread's way and a task's, next to each other."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentflow._async_stream import AsyncStream
from agentflow._drive import begin_in_thread
from agentflow._listening import FAMILY, LISTENER, Listener
from agentflow._waiting import wait, wait_async
from agentflow.exceptions import UsageError
from agentflow.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from concurrent.futures import Future
    from typing import Self

    from agentflow.events import Event

__all__ = ["AsyncEventStream", "stream_events"]

T = TypeVar("T")


def _listened(listener: Listener) -> contextvars.Context:
    """Return a context in which somebody listens to the run that begins next: the caller's otherwise."""
    context = contextvars.copy_context()
    context.run(LISTENER.set, listener)
    context.run(FAMILY.set, False)  # that was the caller's wish; what the run itself listens to is the run's business
    return context


def _in_thread(call: Callable[[], T], listener: Listener) -> Future[T]:
    outcome: Future[T] = _listened(listener).run(begin_in_thread, call)
    outcome.add_done_callback(lambda _: listener.wake())
    return outcome


def _in_task(call: Callable[[], Coroutine[Any, Any, T]], listener: Listener) -> asyncio.Task[T]:
    outcome = asyncio.create_task(call(), context=_listened(listener))
    outcome.add_done_callback(lambda _: listener.wake())
    return outcome


def stream_events(call: Callable[[], T]) -> Generator[Event, None, T]:
    """Run something in a worker thread, and yield the events of its run as they happen; closed early, the run is interrupted.

    Args:
        call: What runs; the first run that it begins is the one listened to.
    """
    listener, news = Listener(), threading.Event()
    outcome = _in_thread(call, listener)
    try:
        while not (outcome.done() and listener.is_empty):
            news.clear()
            if listener.sleep(news.set) and not outcome.done():
                news.wait()
            yield from listener.take()
    except KeyboardInterrupt:
        listener.leave(by_ctrl_c=True)  # so that the run is cancelled, as it is where Ctrl-C comes into its own code
        raise
    finally:
        if not outcome.done():
            listener.leave()
            if (
                LISTENER.get() is not listener
            ):  # else a finalizer closes it inside the very run, whose end it cannot await
                wait(outcome, None)
    return outcome.result()


class AsyncEventStream(AsyncStream["Event"], Generic[T]):
    """The events of a run that is executed here, as they happen, for `async for`; then `.result`.

    Closed before its end, it leaves the run `interrupted`.

    ```python
    import asyncio

    from agentflow import workflow

    @workflow
    async def greet(name: str) -> str:
        return f"hello {name}"

    async def main() -> str:
        async with greet.astream_events("Ada") as stream:
            async for event in stream:
                print(event.type)
        return stream.result

    assert asyncio.run(main()) == "hello Ada"
    ```
    """

    def __init__(self, begin: Callable[[Listener], Future[T] | asyncio.Task[T]]) -> None:
        self._result: T | Unset = UNSET
        self._source = self._events(begin)

    @classmethod
    def of_task(cls, call: Callable[[], Coroutine[Any, Any, T]]) -> Self:
        """Run async code in a task of this loop."""
        return cls(lambda listener: _in_task(call, listener))

    @classmethod
    def of_thread(cls, call: Callable[[], T]) -> Self:
        """Run sync code in a worker thread."""
        return cls(lambda listener: _in_thread(call, listener))

    @property
    def result(self) -> T:
        """What came of the run.

        Raises:
            UsageError: If the stream is not exhausted.
        """
        if isinstance(self._result, Unset):
            raise UsageError("a stream of events has its result when it is exhausted: iterate it to its end first")
        return self._result

    async def _events(self, begin: Callable[[Listener], Future[T] | asyncio.Task[T]]) -> AsyncGenerator[Event, None]:
        listener, news, loop = Listener(), asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits in it any more
                loop.call_soon_threadsafe(news.set)

        outcome = begin(listener)
        try:
            while not (outcome.done() and listener.is_empty):
                news.clear()
                if listener.sleep(wake) and not outcome.done():
                    await news.wait()
                for event in listener.take():
                    yield event
        except asyncio.CancelledError:
            if isinstance(outcome, asyncio.Task):
                outcome.cancel()  # so that the run is cancelled, as it is when its own task is
                await _ended(outcome)
            raise
        finally:
            if not outcome.done():
                listener.leave()
                await _ended(outcome)
        self._result = outcome.result()


async def _ended(outcome: Future[Any] | asyncio.Task[Any]) -> None:
    if isinstance(outcome, asyncio.Task):
        await asyncio.wait([outcome])
    else:
        await wait_async(outcome, None)
