"""A streamed step in flight: one execution, a buffer of what it has yielded, and any number of consumers of both.

Whichever consumer needs the next item takes its turn and advances the source; the others find the item in the buffer.
Nothing is remembered unless the source is exhausted; it is closed when its last consumer leaves.

Here stands what threads and tasks do alike: who is there, whose turn it is, and the procedures without colour (see `_drive`)
that open the stream and end it. Advancing the source, item by item, is `_streams`.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from agentflow._attempts import Attempts
from agentflow._drive import Ask, Perform, Until
from agentflow._flights import FLIGHTS, Failed, Flight, GivenUp, own_copy
from agentflow._generators import AsyncSource, Item, Source
from agentflow._interventions import kept
from agentflow.exceptions import RunInterrupted, StateConflict, StoreError, UnserializableValue

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow._calls import StepCall
    from agentflow._frames import Frame
    from agentflow._generators import End
    from agentflow._memo import Hit, StreamCodec
    from agentflow._serialization import Codec

__all__ = ["Exhausted", "SharedStream", "decode_stream", "finding", "stream_result"]

SourceT = TypeVar("SourceT", Source, AsyncSource)
_SHARED_AS_THEY_ARE: Final = frozenset((str, int, float, bool, bytes, complex, type(None)))


@attrs.frozen
class _Encoded:
    """A value of which every consumer gets a copy of its own."""

    body: bytes


@attrs.frozen
class Exhausted:
    """The source has returned."""

    value: Any


def stream_result(items: list[Any], value: Any) -> Any:
    """Return what a finished stream gives: what it returned, else its items, joined if all are text."""
    if value is not None:
        return value
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


def decode_stream(codec: StreamCodec, body: bytes) -> tuple[list[Any], Any]:
    """Return the items and the value of a remembered stream."""
    items, value = codec.split(body)
    return [codec.items.loads(item) for item in items], codec.value.loads(value)


class SharedStream(Flight, Generic[SourceT]):
    """One execution of a streamed step.

    Args:
        call: The call that began it; its result lands where this call belongs, whoever exhausts it.
        codec: Encodes items and value.
        open_source: Makes the generator of a frame.

    Attributes:
        ending: How it ended, None while it goes on.
        consumers: How many read it.
        source: The generator, None before the first item was asked for.
    """

    def __init__(self, call: StepCall, codec: StreamCodec, open_source: Callable[[Frame], SourceT]) -> None:
        super().__init__(call.spec.name)
        self.call = call
        self.ending: Exhausted | Failed | GivenUp | None = None
        self.consumers = 0
        self.source: SourceT | None = None
        self._codec = codec
        self._open_source: Callable[[Frame], SourceT] = open_source
        self._items: list[Any] = []
        # Of its code only: whoever consumes it is not part of it, and says so while he waits.
        self._execution = Attempts(call, self, (self,))
        # A finalizer may leave while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()
        self._busy = False
        self._turn_over: Future[None] | None = None
        self._running = False
        self._closed = False
        self._error: Exception | None = None

    # Consumers

    def attach(self) -> bool:
        """Count one more consumer; False if the stream is over without a value."""
        with self._mutex:
            if isinstance(self.ending, GivenUp | Failed):
                return False
            self.consumers += 1
            return True

    def detach(self) -> bool:
        """Count one consumer less; True if it was the last, so that what is not over must be closed."""
        with self._mutex:
            self.consumers -= 1
            if self.consumers or self._closed:
                return False
            self.ending = self.ending or GivenUp()
            self._closed = True
            return True

    @property
    def length(self) -> int:
        """How many items there are until now."""
        return len(self._items)

    def offers(self, at: int) -> bool:
        """Whether a consumer finds an item at a position; one who has seen none begins no stream that was given up."""
        return at < len(self._items) and (at > 0 or not isinstance(self.ending, GivenUp))

    def item(self, at: int) -> Any:
        """Return a consumer's own copy of an item."""
        return self._own(self._items[at], self._codec.items)

    def ended(self, call: StepCall, at: int) -> Exhausted | None:
        """Return the ending for a consumer who has seen all `at` items, or None if it must be begun anew."""
        match self.ending:
            case Exhausted(value):
                if self.call is not call:
                    call.note_hit()
                return Exhausted(self._own(value, self._codec.value))
            case Failed(error):
                raise own_copy(error)
            case _:
                call.caller.check()
                if self._error and call is self.call:
                    raise own_copy(self._error)
                if not at:
                    return None
                raise RunInterrupted(
                    f"the stream of step {self.name!r} was interrupted for whoever began it, when {at} of its items had been seen "
                    "here: call the step again"
                )

    def is_too_old_for(self, call: StepCall) -> bool:
        """Whether a call asks for a new execution, and this one was under way before."""
        return call.refresh and self.call is not call

    # Turns

    def take_turn(self) -> Future[None] | None:
        """Take the turn to advance it; if somebody has it, return what is done when it is over."""
        with self._mutex:
            if self._busy:
                return self.turn_over()
            self._busy = True
        if self._execution.place:
            self._execution.place.idle_since = None
        return None

    def turn_over(self) -> Future[None]:
        """Return what is done when the turn that is under way is over."""
        with self._mutex:
            self._turn_over = self._turn_over or Future()
            return self._turn_over

    def end_turn(self) -> None:
        """End the turn."""
        if self._execution.place:
            self._execution.place.idle_since = time.monotonic()
        with self._mutex:
            self._busy = False
            over, self._turn_over = self._turn_over, None
        if over is not None:
            over.set_result(None)

    @property
    def is_busy(self) -> bool:
        """Whether somebody has the turn."""
        return self._busy

    def waited(self, turn: Future[None], call: StepCall) -> Generator[Ask, None, None]:
        """Wait until a turn is over, as long as a consumer may."""
        with call.waiting(self):
            until = Until(turn, self.patience(call), call.caller.check)
            yield until
        if not until.reached:
            self.patience(call)

    def patience(self, call: StepCall) -> float | None:
        """Return the seconds that a consumer may wait for the next item, or None for as long as it likes.

        Raises:
            StepTimeout: If there are none.
        """
        if call.spec.timeout is None and not self._execution.has_attempt_limit:
            return None
        own, whole = self._execution.attempt_remaining(), call.remaining()
        return own if whole is None else whole if own is None else min(own, whole)

    # Procedures

    def opening(self, first: Callable[[Frame], Any]) -> Generator[Ask, None, None]:
        """Claim the key, take a place, and execute until there is a first item; or replay what was made meanwhile."""
        if self.call.key:
            self.call.on_revoke(self._revoked)
            if hit := (yield from self.call.claim(lambda body: decode_stream(self._codec, body))):
                self._replay(hit)
                return
        yield from self._execution.enter()
        # Opening and the first item are one attempt: until then nobody has seen anything, so that it can be tried again.
        moment = yield from self._execution.run(first)
        self._running = True
        yield from self.moved(moment)

    def opened(self, frame: Frame) -> SourceT:
        """Open the source of an attempt."""
        with self._mutex:
            frame.check()  # a thread that was left alone before it came here opens nothing
            self.source = self._open_source(frame)
            return self.source

    def moved(self, moment: Item | End) -> Generator[Ask, None, None]:
        """Take in what an advance gave."""
        if isinstance(moment, Item):
            if self.add(moment.value):
                yield from self.call.relieved()
        else:
            yield from self._finishing(moment.value)

    def add(self, item: Any) -> bool:
        """Take in an item; True if whoever advances the stream should let those who write its events keep up."""
        self._keep(item)
        return self.call.yields(item)

    def _keep(self, item: Any) -> None:
        if type(item) in _SHARED_AS_THEY_ARE or not self.call.key:
            self._items.append(item)
            return
        try:
            self._items.append(_Encoded(self._codec.items.dumps(item, owner=f"an item of step {self.name!r}")))
        except UnserializableValue as error:
            error.result = [*map(self.item, range(self.length)), item]
            raise

    def _finishing(self, value: Any) -> Generator[Ask, None, None]:
        items = [self.item(at) for at in range(self.length)] if self.call.spec.cache_if else self._items
        result = stream_result(items, value)
        try:
            body = yield from self._execution.keep(result, lambda: self._encoded(value))
        except (UnserializableValue, StoreError, StateConflict) as error:
            error.result = stream_result([self.item(at) for at in range(self.length)], value)
            raise
        self._over(Exhausted(self._shared(value, is_kept=body is not None)))
        if body is not None:
            kept(self.name)

    @property
    def _value_name(self) -> str:
        return f"what step {self.name!r} returns"

    def _shared(self, value: Any, *, is_kept: bool) -> Any:
        if type(value) in _SHARED_AS_THEY_ARE or not self.call.key:
            return value
        try:
            return _Encoded(self._codec.value.dumps(value, owner=self._value_name))
        except UnserializableValue:
            if is_kept:
                raise
            return value  # `cache_if` has refused it, so it need not be one that can be stored

    def _encoded(self, value: Any) -> bytes:
        encode, owner = self._codec.items.dumps, f"an item of step {self.name!r}"
        bodies = [item.body if type(item) is _Encoded else encode(item, owner=owner) for item in self._items]
        return self._codec.dumps(bodies, value, owner=self._value_name)

    def _replay(self, hit: Hit) -> None:
        self.call.note_hit()
        items, value = self._codec.split(hit.body)
        self._items += map(_Encoded, items)
        self._over(Exhausted(_Encoded(value)))

    def broken(self, error: BaseException) -> Generator[Ask, None, None]:
        """Take in that advancing it raised."""
        ending: Failed | GivenUp = GivenUp()
        if isinstance(error, Exception):
            self._error = error
            if not self.call.is_own_fate(error):
                ending = Failed(error)
        yield from self._closing(self.ending or ending, error)

    def is_raised_by(self, call: StepCall, error: BaseException) -> bool:
        """Whether a consumer who has advanced it raises what that raised; else it tells of whoever began it, and not of him."""
        return not isinstance(error, Exception) or call is self.call or isinstance(self.ending, Failed)

    def closing(self, call: StepCall) -> Generator[Ask, None, None]:
        """Close it: its last consumer has left."""
        yield from self._closing(GivenUp(), call.own_timeout or GeneratorExit("closed before its end"))

    def _closing(self, ending: Exhausted | Failed | GivenUp, error: BaseException) -> Generator[Ask, None, None]:
        self.ending = ending
        self._closed = True
        try:
            if self.source is not None:
                yield Perform(self.source.close)
        finally:
            if self._running:
                yield from self._execution.failed(error)
            self._over(ending)

    def _over(self, ending: Exhausted | Failed | GivenUp) -> None:
        """Take in that nothing more comes, and free what the execution has held: its name, its place and its lock."""
        self.ending = ending
        self._closed, self._running = True, False
        self.call.off_revoke(self._revoked)
        self._free()

    def _free(self) -> None:
        FLIGHTS.leave(self.call.flight_name, self)
        self._execution.leave()
        try:
            self.call.release()
        finally:
            self.end(GivenUp())

    def _revoked(self) -> None:
        """Give it up at once, for those who wait: whoever advances it now may never come back."""
        with self._mutex:
            self.ending = self.ending or GivenUp()
            over, self._turn_over = self._turn_over, None
        self._free()
        if over is not None:
            over.set_result(None)

    def give_up(self) -> None:
        """Leave the source as it is: its loop has ended or stands still, so that nobody can close it."""
        self._over(GivenUp())

    def let_go(self, call: StepCall) -> None:
        """Take all rights from code that its last consumer leaves behind, since it cannot be stopped."""
        if self._execution.frame is not None:
            left = RunInterrupted(
                f"the stream of step {self.name!r} was left by all who read it, so nothing of it is kept"
            )
            self._execution.frame.token.revoke(call.own_timeout or left)

    def _own(self, value: Any, codec: Codec) -> Any:
        return codec.loads(value.body) if type(value) is _Encoded else value


StreamT = TypeVar("StreamT", bound=SharedStream[Any])


def finding(call: StepCall, codec: StreamCodec, make: Callable[[], StreamT]) -> Generator[Ask, None, Hit | StreamT]:
    """Return the remembered stream, or the one under way with this call as one more consumer, or a new one."""
    while True:
        if call.key and (hit := call.look(lambda body: decode_stream(codec, body))):
            call.note_hit()
            return hit
        stream = FLIGHTS.join(call.flight_name, make, call.caller.flights)[0] if call.key else make()
        if stream.attach():
            return stream
        with call.waiting(stream):
            until = Until(stream.done, call.remaining(), call.caller.check)
            yield until
        if not until.reached:
            raise call.too_late()
