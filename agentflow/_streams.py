"""Consuming a streamed step, in threads and in tasks: replay it, join it, or begin it.

Taking turns at its source is what a thread and a task do differently, and stands here twice, in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from agentflow._drive import adrive, begin_in_thread, drive
from agentflow._generators import AsyncSource, Item, Source, refuse_sent
from agentflow._memo import Hit
from agentflow._shared_stream import SharedStream, finding
from agentflow._turns import later_turn
from agentflow._waiting import wait_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from agentflow._calls import StepCall
    from agentflow._frames import Frame
    from agentflow._generators import End
    from agentflow._memo import StreamCodec

__all__ = ["aplay", "context_of", "play"]


def context_of(frame: Frame) -> Any:
    """Return a context in which a frame is in force: the consumer's, less its frame."""
    context = copy_context()
    context.run(frame.install)
    return context


# Threads


class SyncStream(SharedStream[Source]):
    """A stream advanced by threads, one at a time."""

    _pulled: Future[Item | End] | None = None

    def available(self, at: int, call: StepCall) -> bool:
        """Wait until there is an item at a position, advancing the source for it; False if there is none."""
        while at >= len(self._items) and self.ending is None:
            call.caller.check()
            limited = self.patience(call) is not None
            turn = self.take_turn()
            if turn is None and limited and self.source and not self._pulled:
                turn = self._pull_in_thread(self.source)
            if turn is None:
                self._take(call)
            else:
                drive(self.waited(turn, call))
        return self.offers(at)

    def _pull_in_thread(self, source: Source) -> Future[None]:
        # Whoever comes to its limit leaves; the others still get the item. It is taken in by a consumer, in a turn of its own.
        over = self.turn_over()
        try:
            self._pulled = begin_in_thread(source.pull)
        except BaseException:  # Ctrl-C, too: the turn is for the next consumer
            self.end_turn()
            raise
        self._pulled.add_done_callback(lambda _: self.end_turn())
        return over

    def _take(self, call: StepCall) -> None:
        """Use the turn: advance the source and take in what it gives."""
        try:
            with call.waiting(self):
                self._advance(call)
        finally:
            self.end_turn()

    def _advance(self, call: StepCall) -> None:
        try:
            if self.source is None:
                drive(self.opening(self._first))
                return
            moment = self.source.pull() if self._pulled is None else self._taken_over(self._pulled)
            if type(moment) is Item:
                if self.add(moment.value):
                    drive(self.call.relieved())
            else:
                drive(self.moved(moment))
        except BaseException as error:  # whatever a step raises is every consumer's, and each raises it for itself
            drive(self.broken(error))
            if self.is_raised_by(call, error):
                raise

    def _first(self, frame: Frame) -> Item | End:
        if self.source is not None:  # of an attempt that was left
            self.source.close()
        return self.opened(frame).pull()

    def _taken_over(self, pulled: Future[Item | End]) -> Item | End:
        self._pulled = None
        return pulled.result()

    def leave(self, call: StepCall) -> None:
        """Leave; the last one closes the source."""
        if self.detach():
            if self.is_busy:
                self.let_go(call)
            drive(self.closing(call))


def play(call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], Source]) -> Generator[Any, Any, Any]:
    """Consume a streamed step."""
    what = f"step {call.spec.name!r}"
    drive(call.begin())
    while True:
        found = drive(finding(call, codec, lambda: SyncStream(call, codec, open_source)))
        if isinstance(found, Hit):
            items, value = found.value
            for item in items:
                refuse_sent((yield item), what)
            return value
        at = 0
        try:
            if found.is_too_old_for(call):
                _run_out(found, call)
                continue
            while (at and at < found.length) or found.available(at, call):
                refuse_sent((yield found.item(at)), what)
                at += 1
            if ended := found.ended(call, at):
                return ended.value
        finally:
            found.leave(call)


def _run_out(stream: SyncStream, call: StepCall) -> None:
    """Let a stream come to its end, for a call that wants a new one; what it raises is for those who read it."""
    try:
        while stream.available(stream.length, call):
            pass
    except Exception as error:  # whatever a step raises is for those who read it
        if call.is_own_fate(error):
            raise


# Tasks

_PATIENCE: Final = 5.0  # seconds for another loop to begin or to end something, before it counts as standing still


class _Errand:
    """Work in a task of a loop that no consumer's cancellation touches; it comes back if that loop does not begin it."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], loop: asyncio.AbstractEventLoop) -> None:
        here = asyncio.get_running_loop()
        self.done: Future[None] = Future()
        self._work = work
        self._loop = loop
        self._mutex = threading.Lock()
        self._begun = self._taken_back = False
        self._task: asyncio.Task[None] | None = None
        if loop is not here:
            here.call_later(_PATIENCE, self._move, here)
        try:
            loop.call_soon_threadsafe(self._begin, loop)
        except RuntimeError:  # closed this very moment
            self._move(here)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._mutex:
            if self._begun or self._taken_back or self._loop is not loop:
                return
            self._begun = True
        self._task = loop.create_task(self._work())
        self._task.add_done_callback(self._end)

    def _move(self, here: asyncio.AbstractEventLoop) -> None:
        with self._mutex:
            if not self._begun:
                self._loop = here
        self._begin(here)

    def _end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def take_back(self) -> bool:
        """Take it back; False if it has begun."""
        with self._mutex:
            self._taken_back = not self._begun
            return self._taken_back

    def cancel(self) -> None:
        """Cancel it."""
        with contextlib.suppress(RuntimeError):  # its loop is closed: then it runs no more
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class AsyncStream(SharedStream[AsyncSource]):
    """A stream advanced by tasks: by its only consumer directly, by a task of its own loop once there are several."""

    _home: asyncio.AbstractEventLoop | None = None
    _errand: _Errand | None = None
    _direct = False

    async def settled(self, call: StepCall) -> None:
        """Wait until no consumer advances it directly.

        A new consumer takes nothing before that, since the cancellation of its neighbour would take it back.
        """
        with self._mutex:
            turn = self.turn_over() if self._direct and self.is_busy else None
        if turn is not None:
            await adrive(self.waited(turn, call))

    async def available(self, at: int, call: StepCall) -> bool:
        """Wait until there is an item at a position, advancing the source for it; False if there is none."""
        while at >= len(self._items) and self.ending is None:
            call.caller.check()
            limited = self.patience(call) is not None
            turn = self.take_turn()
            if turn is None and not self._may_be_direct(limited=limited):
                turn = self.turn_over()
                self._errand = _Errand(lambda: self._take(call), self._home_now())
            if turn is None:
                await self._take(call)
            else:
                await adrive(self.waited(turn, call))
        return self.offers(at)

    def _may_be_direct(self, *, limited: bool) -> bool:
        # Said first and taken back, so that a consumer who comes from another thread meanwhile sees it (see `settled`).
        self._direct = True
        alone = self.consumers == 1 and not limited and self._home_now() is asyncio.get_running_loop()
        self._direct = self.source is None or alone
        return self._direct

    def _home_now(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the source belongs to: where it was advanced last, as long as that one runs."""
        if self._home is None or not self._home.is_running():
            self._home = asyncio.get_running_loop()
        return self._home

    async def _take(self, call: StepCall) -> None:
        """Use the turn: advance the source and take in what it gives."""
        self._home = asyncio.get_running_loop()
        try:
            with call.waiting(self):
                await self._advance(call)
        finally:
            self._direct = False
            self.end_turn()

    async def _advance(self, call: StepCall) -> None:
        try:
            if self.source is None:
                await adrive(self.opening(self._first))
                return
            moment = await self.source.pull()
            if type(moment) is Item:
                if self.add(moment.value):
                    await adrive(self.call.relieved())
            else:
                await adrive(self.moved(moment))
        except BaseException as error:  # whatever a step raises is every consumer's, and each raises it for itself
            await adrive(self.broken(error))
            if self.is_raised_by(call, error):
                raise

    async def _first(self, frame: Frame) -> Item | End:
        if self.source is not None:  # of an attempt that was left
            await self.source.close()
        return await self.opened(frame).pull()

    async def leave(self, call: StepCall) -> None:
        """Leave; the last one closes the source."""
        if not self.detach():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:  # the garbage collector closes a consumer that no loop knows
            self.give_up()
            return
        errand = self._errand
        if errand and self.is_busy and not errand.take_back():
            errand.cancel()
            try:
                await wait_async(errand.done, _PATIENCE, real=True)
            finally:
                if not errand.done.done():  # it stands still, or this task is cancelled for the second time
                    self.give_up()
        home = self._home_now()
        if home is here:
            await adrive(self.closing(call))
        else:
            errand = _Errand(lambda: adrive(self.closing(call)), home)
            try:
                await wait_async(errand.done, None)
            finally:
                if errand.take_back():  # this task is cancelled before the other loop came to it
                    self.give_up()
            errand.done.result()


class _Seat:
    """A consumer's place at a stream, which is free again also if a loop ends without closing its generators."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream: AsyncStream | None = stream

    async def leave(self, call: StepCall) -> None:
        """Leave the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.leave(call)

    def __del__(self) -> None:
        if self._stream is not None and self._stream.detach():
            self._stream.give_up()


async def aplay(
    call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], AsyncSource]
) -> AsyncGenerator[Any, Any]:
    """Consume a streamed step."""
    what = f"step {call.spec.name!r}"
    if later := later_turn():
        await later
    await adrive(call.begin())
    while True:
        found = await adrive(finding(call, codec, lambda: AsyncStream(call, codec, open_source)))
        if isinstance(found, Hit):
            for item in found.value[0]:
                refuse_sent((yield item), what)
            return
        at, seat = 0, _Seat(found)
        try:
            await found.settled(call)
            if found.is_too_old_for(call):
                await _arun_out(found, call)
                continue
            while (at and at < found.length) or await found.available(at, call):
                refuse_sent((yield found.item(at)), what)
                at += 1
            if found.ended(call, at):
                return
        finally:
            await seat.leave(call)


async def _arun_out(stream: AsyncStream, call: StepCall) -> None:
    """Let a stream come to its end, for a call that wants a new one; what it raises is for those who read it."""
    try:
        while await stream.available(stream.length, call):
            pass
    except Exception as error:  # whatever a step raises is for those who read it
        if call.is_own_fate(error):
            raise
