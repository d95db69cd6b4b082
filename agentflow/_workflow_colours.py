"""The four colours of a workflow: how each is called, and how its run begins and ends with it."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from agentflow._drive import adrive, drive, in_thread
from agentflow._execution import Recorded
from agentflow._generators import AsyncSource, Item, Source, refuse_sent
from agentflow._interruption import Interruption
from agentflow._shared_stream import stream_result
from agentflow._streams import context_of
from agentflow._tracebacks import without_our_frames
from agentflow._turns import later_turn
from agentflow._workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import CoroutineType

    from agentflow._execution import Execution
    from agentflow._run_body import RunBody

__all__ = ["AsyncStreamWorkflow", "AsyncWorkflow", "PlainWorkflow", "StreamWorkflow"]

P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")


class PlainWorkflow(Workflow[P, T]):
    """A workflow that is a `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it to its end, and return what it returns."""
        arguments = self._spec.shape.bind(args, kwargs)
        return cast("T", drive(self._value_call(self._execution(arguments), self._code)))

    def _perform(self, execution: Execution) -> None:
        drive(self._value_call(execution, self._code))

    def _code(self, body: RunBody) -> Any:
        args, kwargs = self._arguments(body)
        with body.frame.entered():
            return self.fn(*args, **kwargs)

    def _whole(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self(*args, **kwargs)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result; the workflow runs in a thread."""
        return await in_thread(lambda: self(*args, **kwargs))


class AsyncWorkflow(Workflow[P, T]):
    """A workflow that is an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, T]:
        """Run it to its end, and return what it returns."""
        return self._named(self._awaited(args, kwargs))

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        if later := later_turn():
            await later
        arguments = self._spec.shape.bind(args, kwargs)
        return cast("T", await adrive(self._value_call(self._execution(arguments), self._code)))

    def _perform(self, execution: Execution) -> None:
        asyncio.run(adrive(self._value_call(execution, self._code)))

    async def _code(self, body: RunBody) -> Any:
        args, kwargs = self._arguments(body)
        interruption = Interruption(body.token)
        try:
            with body.frame.entered():
                return await interruption.during(self.fn(*args, **kwargs))
        finally:
            interruption.close()

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result."""
        return await self(*args, **kwargs)


class StreamWorkflow(Workflow[P, T], Generic[P, Y, T]):
    """A workflow that is a generator function: its run begins at the first `next()`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Generator[Y, None, T]:
        """Return the stream; closing it leaves the run `interrupted`, to be continued by the same call."""
        arguments = self._spec.shape.bind(args, kwargs)
        return self._play(lambda: self._execution(arguments))

    def _perform(self, execution: Execution) -> None:
        for _ in self._play(lambda: execution):
            pass

    def _play(self, begin: Callable[[], Execution]) -> Generator[Any, Any, Any]:
        body = self._opened(begin())
        if isinstance(body, Recorded):
            items, value = body.value
            yield from items
            return value
        args, kwargs = self._arguments(body)
        source = Source(self.fn(*args, **kwargs), context_of(body.frame))
        items, advance, yields = [], source.pull, body.yielding()
        try:
            while isinstance(moment := advance(), Item):
                if yields(moment.value):
                    drive(body.at_yield())
                items.append(moment.value)
                try:
                    refuse_sent((yield moment.value), f"workflow {self.name!r}")
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the body's to handle
                    advance = functools.partial(source.throw, thrown)
                else:
                    advance = _going_on(body, source)
        except BaseException as error:  # however the body ends, by Ctrl-C or its closing, its run is ended
            closing = isinstance(error, GeneratorExit)
            body.token.is_told = True  # the body learns by its closing that it may not go on
            try:
                source.close()
            finally:
                drive(body.failed(error, closed=closing))
            without_our_frames(error)
            raise
        drive(body.completed(moment.value, lambda: self._encoded_stream(items, moment.value)))
        return moment.value

    def _opened(self, execution: Execution) -> Recorded | RunBody:
        try:
            return drive(execution.opening(self._decode))
        except BaseException as error:  # however it ends, the run is told
            drive(execution.unopened(error))
            raise

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await what the finished stream gives; it is consumed in a thread."""
        return await in_thread(lambda: self._whole(*args, **kwargs))

    def _whole(self, *args: P.args, **kwargs: P.kwargs) -> T:
        items, stream = [], self(*args, **kwargs)
        while True:
            try:
                items.append(next(stream))
            except StopIteration as stop:
                return cast("T", stream_result(items, stop.value))


class AsyncStreamWorkflow(Workflow[P, list[Y]], Generic[P, Y]):
    """A workflow that is an async generator function: its run begins at the first item."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, None]:
        """Return the stream; closing it leaves the run `interrupted`, to be continued by the same call."""
        arguments = self._spec.shape.bind(args, kwargs)
        return self._play(lambda: self._execution(arguments))

    def _perform(self, execution: Execution) -> None:
        asyncio.run(self._exhaust(execution))

    async def _exhaust(self, execution: Execution) -> None:
        async for _ in self._play(lambda: execution):
            pass

    async def _play(self, begin: Callable[[], Execution]) -> AsyncGenerator[Any, Any]:
        if later := later_turn():
            await later
        body = await self._opened(begin())
        if isinstance(body, Recorded):
            for item in body.value[0]:
                yield item
            return
        args, kwargs = self._arguments(body)
        source = AsyncSource(self.fn(*args, **kwargs), context_of(body.frame))
        interruption, yields = Interruption(body.token), body.yielding()
        items, advance, closing = [], source.pull, False
        try:
            while isinstance(moment := await interruption.during(advance()), Item):
                if yields(moment.value):
                    await adrive(body.at_yield())
                items.append(moment.value)
                try:
                    refuse_sent((yield moment.value), f"workflow {self.name!r}")
                except (GeneratorExit, asyncio.CancelledError):
                    # Cancelled here it is the closing that is, as asyncio.run does at its end to a stream that was left.
                    closing = True
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the body's to handle
                    advance = functools.partial(source.throw, thrown)
                else:
                    advance = _going_on(body, source)
        except BaseException as error:  # however the body ends, by Ctrl-C or its closing, its run is ended
            body.token.is_told = True
            try:
                await source.close()
            finally:
                await adrive(body.failed(error, closed=closing))
            without_our_frames(error)
            raise
        finally:
            interruption.close()
        await adrive(body.completed(None, lambda: self._encoded_stream(items, None)))

    async def _opened(self, execution: Execution) -> Recorded | RunBody:
        try:
            return await adrive(execution.opening(self._decode))
        except BaseException as error:  # however it ends, the run is told
            await adrive(execution.unopened(error))
            raise

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> list[Y]:
        """Await what the finished stream gives: its items, joined if all are text."""
        return cast("list[Y]", stream_result([item async for item in self(*args, **kwargs)], None))


def _going_on(body: RunBody, source: Any) -> Callable[[], Any]:
    """Return what has a body go on after a yield: for its next item, or by raising why it may not."""
    stop = body.stop_to_tell()
    return functools.partial(source.throw, stop) if stop else source.pull
