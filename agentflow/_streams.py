"""A streamed step in flight: one execution, a buffer of what it has yielded, and any number of consumers of both.

Whichever consumer needs the next item advances the source; the others find it in the buffer. Nothing is remembered
unless the source is exhausted; it is closed when its last consumer leaves. How to open, advance and end it is a procedure without
colour (`SharedStream.advancing`); taking turns is what a thread and a task do differently, and stands here twice.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from agentflow._drive import adrive, drive
from agentflow._flights import FLIGHTS, Failed, Flight, GivenUp, own_copy
from agentflow._generators import AsyncSource, End, Item, Source, refuse_sent
from agentflow._waiting import wait_async
from agentflow.exceptions import RunInterrupted, StepTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from agentflow._calls import Hit, StepCall
    from agentflow._drive import Ask
    from agentflow._frames import Frame
    from agentflow._memo import StreamCodec
    from agentflow._serialization import Codec

__all__ = ["aplay", "play", "stream_result"]

SourceT = TypeVar("SourceT", Source, AsyncSource)
_SHARED_AS_THEY_ARE: Final = (str, int, float, bool, bytes, complex, type(None))


@attrs.frozen
class _Encoded:
    """A value of which every consumer gets a copy of its own."""

    body: bytes


@attrs.frozen
class _Exhausted:
    """The source has returned."""

    value: Any


def stream_result(items: list[Any], value: Any) -> Any:
    """Return what a finished stream gives: what it returned, else its items, joined if all are text."""
    if value is not None:
        return value
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


class SharedStream(Flight, Generic[SourceT]):
    """One execution of a streamed step.

    Args:
        call: The call of the consumer that began it.
        codec: Encodes items and value.
        open_source: Makes the generator of a frame.
    """

    def __init__(self, call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], SourceT]) -> None:
        super().__init__(call.spec.name)
        self.call = call
        self.codec = codec
        self.items: list[Any] = []
        self.ending: _Exhausted | Failed | GivenUp | None = None
        self.consumers = 0
        self.mutex = threading.Lock()
        self._open_source: Callable[[Frame], SourceT] = open_source
        self._source: SourceT | None = None
        self._frame: Frame | None = None
        self._leave: Callable[[], None] = lambda: None
        self._claimed = False

    # Consumers

    def attach(self) -> bool:
        """Count one more consumer; False if the stream is over without a value."""
        with self.mutex:
            if isinstance(self.ending, GivenUp | Failed):
                return False
            self.consumers += 1
            return True

    def detach(self) -> bool:
        """Count one consumer less; True if it was the last and the source must be closed."""
        with self.mutex:
            self.consumers -= 1
            if self.consumers or self.ending:
                return False
            self.ending = GivenUp()
            return True

    def give_back(self) -> None:
        """Free what the execution has held: its place, its locks and its name."""
        FLIGHTS.leave(self.call.flight_name, self)
        leave, self._leave = self._leave, lambda: None
        leave()
        if self._claimed:
            self._claimed = False
            self.call.release()
        self.end(GivenUp())

    def own(self, value: Any, codec: Codec) -> Any:
        """Return a consumer's own copy of something in the buffer."""
        return codec.loads(value.body) if isinstance(value, _Encoded) else value

    def share(self, value: Any, codec: Codec) -> Any:
        """Return a value as it is kept in the buffer."""
        if type(value) in _SHARED_AS_THEY_ARE or not self.call.key:
            return value
        return _Encoded(codec.dumps(value, owner=f"an item of step {self.name!r}"))

    # The execution

    def advancing(self) -> Generator[Ask, None, None]:
        """The procedure that makes one more item available, or ends the stream."""
        try:
            moment = yield from (self._opening() if self._frame is None else self._pulling())
            if isinstance(moment, Item):
                self.items.append(self.share(moment.value, self.codec.items))
            elif moment is not None:
                yield from self._keeping(moment.value)
        except StepTimeout:
            self.ending = GivenUp()
            raise
        except Exception as error:
            self.ending = Failed(error)
            raise
        except BaseException:
            self.ending = GivenUp()
            raise
        finally:
            if self.ending:
                self.give_back()

    def _opening(self) -> Generator[Ask, None, Item | End | None]:
        call = self.call
        if call.key:
            if hit := (yield from call.claim(self.decode)):
                self._replay(hit)
                return None
            self._claimed = True
        self._leave = yield from call.place_taken()
        self._frame, moment = yield from call.attempts(self, self._first)
        return moment  # type: ignore[no-any-return]

    def _first(self, frame: Frame) -> Any:
        # Opening and the first item are one attempt: until then nobody has seen anything, so that it can be tried again.
        self._source = self._open_source(frame)
        return self._source.pull()

    def _pulling(self) -> Generator[Ask, None, Item | End]:
        assert self._source is not None
        assert self._frame is not None
        return (yield from self.call.perform(self._frame, self._source.pull))  # type: ignore[no-any-return]

    def _keeping(self, value: Any) -> Generator[Ask, None, None]:
        assert self._frame is not None
        kept = self.share(value, self.codec.value)
        items = [self.own(item, self.codec.items) for item in self.items] if self.call.spec.cache_if else self.items
        yield from self.call.keep(self._frame, stream_result(items, value), lambda: self._encoded(value))
        self.ending = _Exhausted(kept)

    def _encoded(self, value: Any) -> bytes:
        owner = f"an item of step {self.name!r}"
        encode = self.codec.items.dumps
        bodies = [item.body if isinstance(item, _Encoded) else encode(item, owner=owner) for item in self.items]
        return self.codec.dumps(bodies, value, owner=f"the value of step {self.name!r}")

    def decode(self, body: bytes) -> tuple[list[Any], Any]:
        """Return the items and the value of a remembered stream."""
        return decode_stream(self.codec, body)

    def _replay(self, hit: Hit) -> None:
        self.call.note_hit()
        items, value = self.codec.split(hit.body)
        self.items += map(_Encoded, items)
        self.ending = _Exhausted(_Encoded(value))

    @property
    def source(self) -> SourceT | None:
        """The generator, None before the first item was asked for."""
        return self._source


def decode_stream(codec: StreamCodec, body: bytes) -> tuple[list[Any], Any]:
    """Return the items and the value of a remembered stream."""
    items, value = codec.split(body)
    return [codec.items.loads(item) for item in items], codec.value.loads(value)


def context_of(frame: Frame) -> Any:
    """Return a context in which a frame is in force: the consumer's, less its frame."""
    context = copy_context()
    context.run(frame.install)
    return context


def _left_over(stream: SharedStream[Any], at: int) -> bool:
    """Whether a stream that was given up can be begun anew for a consumer who has seen `at` items of it."""
    if at:
        raise RunInterrupted(
            f"the stream of step {stream.name!r} was interrupted by another of its consumers after {at} items: call it again"
        )
    return True


# Threads


class SyncStream(SharedStream[Source]):
    """A stream advanced by threads, one at a time."""

    def __init__(self, call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], Source]) -> None:
        super().__init__(call, codec, open_source)
        self._turn = threading.Lock()

    def available(self, at: int, call: StepCall) -> None:
        """Make the item at a position available, or the ending."""
        if at < len(self.items) or self.ending:
            return
        if not self._turn.acquire(blocking=False):
            self._wait_for_turn(call)
        try:
            if at >= len(self.items) and not self.ending:
                drive(self.advancing())
        finally:
            self._turn.release()

    def _wait_for_turn(self, call: StepCall) -> None:
        with call.waiting(self):
            left = call.remaining()
            if not self._turn.acquire(timeout=-1 if left is None else left):
                raise call.too_late()

    def leave(self) -> None:
        """Leave; the last one closes the source."""
        if self.detach():
            try:
                if self.source:
                    self.source.close()
            finally:
                self.give_back()


def play(call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], Source]) -> Generator[Any, Any, Any]:
    """Consume a streamed step: replay it, join it, or begin it."""
    drive(call.save_caller())
    while True:
        if call.key and (hit := call.look(lambda body: decode_stream(codec, body))):
            call.note_hit()
            items, value = hit.value
            for item in items:
                refuse_sent((yield item), f"step {call.spec.name!r}")
            return value
        stream = _joined(call, lambda: SyncStream(call, codec, open_source))
        if not stream.attach():
            continue
        at = 0
        try:
            while True:
                call.caller.check()
                stream.available(at, call)
                if at < len(stream.items):
                    refuse_sent((yield stream.own(stream.items[at], codec.items)), f"step {call.spec.name!r}")
                    at += 1
                elif ended := _ended(stream, call, at):
                    return stream.own(ended.value, codec.value)
                else:
                    break
        finally:
            stream.leave()


# Tasks


class AsyncStream(SharedStream[AsyncSource]):
    """A stream advanced by tasks: by its only consumer directly, by a task of its own loop once there are several."""

    def __init__(self, call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], AsyncSource]) -> None:
        super().__init__(call, codec, open_source)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: Future[None] | None = None
        self._advance: Future[None] | None = None

    async def settled(self, call: StepCall) -> None:
        """Wait until nobody advances it: a new consumer takes nothing that its neighbour's cancellation could undo."""
        turn = self._turn
        if turn is not None:
            with call.waiting(self):
                await wait_async(turn, call.remaining())

    async def available(self, at: int, call: StepCall) -> None:
        """Make the item at a position available, or the ending."""
        while at >= len(self.items) and not self.ending:
            with self.mutex:
                theirs = self._turn
                mine: Future[None] = Future()
                if theirs is None:
                    self._turn = mine
            if theirs is None:
                await self._take(mine)
            else:
                with call.waiting(self):
                    await wait_async(theirs, call.remaining())

    async def _take(self, turn: Future[None]) -> None:
        here = asyncio.get_running_loop()
        self._loop = self._loop or here
        if self.consumers == 1 and self._loop is here:
            await self._advancing(turn)
            return
        if self._loop.is_closed():
            self.ending = GivenUp()
            self._turn = None
            turn.set_result(None)
            return
        self._advance = asyncio.run_coroutine_threadsafe(self._advancing(turn), self._loop)
        await wait_async(self._advance, None)

    async def _advancing(self, turn: Future[None]) -> None:
        try:
            await adrive(self.advancing())
        finally:
            self._turn = None
            turn.set_result(None)

    async def leave(self) -> None:
        """Leave; the last one closes the source."""
        if not self.detach():
            return
        try:
            if self._advance is not None and not self._advance.done():
                self._advance.cancel()
                if self._turn is not None:
                    await wait_async(self._turn, None)
            elif self.source:
                await self.source.close()
        finally:
            self.give_back()


async def aplay(
    call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], AsyncSource]
) -> AsyncGenerator[Any, Any]:
    """Consume a streamed step: replay it, join it, or begin it."""
    await adrive(call.save_caller())
    while True:
        if call.key and (hit := call.look(lambda body: decode_stream(codec, body))):
            call.note_hit()
            for item in hit.value[0]:
                refuse_sent((yield item), f"step {call.spec.name!r}")
            return
        stream = _joined(call, lambda: AsyncStream(call, codec, open_source))
        if not stream.attach():
            continue
        at = 0
        try:
            await stream.settled(call)
            while True:
                call.caller.check()
                await stream.available(at, call)
                if at < len(stream.items):
                    refuse_sent((yield stream.own(stream.items[at], codec.items)), f"step {call.spec.name!r}")
                    at += 1
                elif _ended(stream, call, at):
                    return
                else:
                    break
        finally:
            await stream.leave()


StreamT = TypeVar("StreamT", SyncStream, AsyncStream)


def _joined(call: StepCall, make: Callable[[], StreamT]) -> StreamT:
    if not call.key:
        return make()
    return FLIGHTS.join(call.flight_name, make, call.caller.flights)[0]


def _ended(stream: SharedStream[Any], call: StepCall, at: int) -> _Exhausted | None:
    """Return the ending of a stream that has no further item, or None if it must be begun anew."""
    match stream.ending:
        case _Exhausted() as exhausted:
            if stream.call is not call:
                call.note_hit()
            return exhausted
        case Failed(error):
            raise own_copy(error)
        case _:
            _left_over(stream, at)
            return None
