"""What a run has said and no commit has carried yet.

Events are taken out while a transaction is being written, not when it is made: so the order in which they were said is the
order in which they are numbered, whoever commits. Chunks of one stream are put together until something else happens, and
whatever but hits waits is written after a moment by the flusher if nothing else carries it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import pydantic_core

from agentflow._clock import wall_time
from agentflow._flusher import FLUSHER
from agentflow._listening import Note
from agentflow._news import NEWS
from agentflow._run import storable
from agentflow.events import ModelAnswered, RunYielded, StepHit, StepYielded
from agentflow.exceptions import RunConflict, StoreError
from agentflow.stores._base import EventRecord, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from agentflow._listening import Audience, Listener
    from agentflow.events import Event
    from agentflow.stores._base import Fence, Store

__all__ = ["BODY", "MOST", "Batch", "Outbox", "as_json", "event_record", "run_note", "step_note"]

# How long an event waits for a commit that carries it, in seconds, and how many chunks and events go without waiting.
# Beyond the greatest weight the run waits at its next boundary until they are written.
_PATIENCE: Final = 0.02
_MANY: Final = 500
MOST: Final = 5000
_LARGEST_BATCH: Final = 64 * 1024  # characters of one event's chunks, roughly
_PAUSE_AFTER_FAILURE: Final = 1.0  # seconds

_STAMPED: Final = ("seq", "run_id", "attempt", "at")  # put into an event when it is written
_SIZE_OF_OTHERS: Final = 64
_LATELY: Final = 1000  # events that other threads may have written since a commit of ours

Stream: TypeAlias = tuple[str, str]
"""Whose chunks: a step's name and the key of its call."""

BODY: Final[Stream] = ("", "")
"""The run's own chunks."""


@attrs.define(eq=False)
class _Chunks:
    """What a stream has yielded in a row, and its size."""

    items: list[Any]
    size: int


class Outbox:
    """What one attempt of a run has to say.

    Args:
        store: Where it is recorded.
        fence: The run, and the owner that may write for it.
        attempt: The attempt.
        listener: Who hears it at once.

    Attributes:
        weight: How many chunks and events wait.
    """

    def __init__(self, store: Store, fence: Fence, attempt: int, listener: Listener | Audience | None = None) -> None:
        self.store = store
        self.fence = fence
        self.attempt = attempt
        self.listener = listener
        if listener is not None:
            listener.begin(fence.run_id, attempt)
        self.weight = 0
        # A finalizer (of a stream that nobody holds any more) may say something while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()
        self._notes: list[Note] = []
        self._open: dict[
            Stream, _Chunks
        ] = {}  # since anything else was said: a stream inside a stream takes turns with it
        self._number = 0
        self._is_urgent = False  # whether more than hits wait
        self._generation = -1  # of the flusher that tends it
        self._due = 0.0
        self._is_writing = False
        self._is_closed = False
        _living.add(self)

    def forget_threads(self) -> None:
        """Begin anew in a forked child: what waits is the parent's to write, and whoever held the lock is not here."""
        self._mutex = threading.RLock()
        self._notes, self._open, self.weight, self._is_urgent = [], {}, 0, False
        self._is_writing = False

    # Saying

    def say(self, event: Event | Note) -> None:
        """Say that something happened; it is written with the next commit, or a moment later."""
        note = noted(event)
        hit = note.kind is StepHit or (note.kind is ModelAnswered and bool(note.fields["replayed"]))
        with self._mutex:
            self._append(note, urgent=not hit)
            self._open.clear()
        if self.listener is not None:
            self.listener.put(note)

    def chunk(self, item: Any, stream: Stream) -> bool:
        """Say that a stream has yielded an item; True if the run should wait at its next boundary (see `is_pressed`)."""
        if type(item) is str and item.isascii():
            size = len(item)
        else:
            item, size = as_json(item), len(item) if type(item) is str else _SIZE_OF_OTHERS
        with self._mutex:
            batch = self._open.get(stream)
            if batch is not None and batch.size < _LARGEST_BATCH:
                batch.items.append(item)
                batch.size += size
                self.weight += 1
            else:
                batch = self._open[stream] = _Chunks([item], size)
                self._append(_yielded(batch.items, stream), urgent=True)
        if self.listener is None:
            return self.weight >= MOST
        self.listener.put(_yielded((item,), stream))
        return self.is_pressed

    def _append(self, note: Note, *, urgent: bool) -> None:
        self._number += 1
        note.number = self._number
        self._notes.append(note)
        self.weight += 1
        self._is_urgent |= urgent
        if self._needs_tending and self._generation != FLUSHER.generation and not self._is_closed:
            self._generation = FLUSHER.generation
            self._due = time.monotonic() + _PATIENCE
            FLUSHER.add(self)

    @property
    def _needs_tending(self) -> bool:
        return self._is_urgent or self.weight >= _MANY

    @property
    def is_pressed(self) -> bool:
        """Whether the run should wait at its next boundary."""
        return self.weight >= MOST or (self.listener is not None and self.listener.is_full)

    # Writing

    def batch(self, saying: Event | Note | None = None) -> Batch:
        """Return what a transaction carries.

        Args:
            saying: An event that is true only with this very commit.
        """
        return Batch(self, None if saying is None else noted(saying))

    def drain(self) -> list[Note]:
        """Take out everything."""
        with self._mutex:
            notes, self._notes = self._notes, []
            self._open, self.weight, self._is_urgent = {}, 0, False
        return notes

    def put_back(self, notes: list[Note]) -> None:
        """Take back what could not be written."""
        with self._mutex:
            self._notes = sorted([*notes, *self._notes], key=lambda note: note.number)
            self._open, self._is_urgent = {}, True
            self.weight = sum(map(_weight, self._notes))

    def tend(self, now: float) -> bool:
        """Write what has waited long enough, without blocking; False if nothing waits."""
        with self._mutex:
            if self._is_closed or not self._needs_tending:
                self._generation = -1
                return False
            if self._is_writing or (now < self._due and self.weight < _MANY):
                return True
            batch = self.batch()
            self._due = now + _PATIENCE
            self._is_writing = True
        # Outside the mutex: a store has locks of its own, and takes out notes while it holds them.
        self._write(batch)
        return True

    def _write(self, batch: Batch) -> None:
        def end(done: Future[None]) -> None:
            error = done.exception()
            if error is None:
                batch.written()
            elif isinstance(error, RunConflict):
                self.close()  # the run is somebody else's by now
            else:  # the next commit of the run carries it, or tells the user
                batch.put_back()
                self._due = time.monotonic() + _PAUSE_AFTER_FAILURE
            self._is_writing = False

        self.store.commit_soon(Transaction(events=batch, fence=self.fence)).add_done_callback(end)

    def close(self) -> None:
        """Write nothing more."""
        self._is_closed = True


class Batch:
    """The events of one transaction; which they are is settled when it is written."""

    def __init__(self, outbox: Outbox, saying: Note | None) -> None:
        self._outbox = outbox
        self._saying = saying
        self._taken: list[Note] = []
        self._last: EventRecord | None = None

    def __iter__(self) -> Iterator[EventRecord]:
        self._taken += self._outbox.drain()
        for note in [*self._taken, *([self._saying] if self._saying else [])]:
            self._last = _record(note, self._outbox.fence.run_id, self._outbox.attempt)
            yield self._last

    def settle(self) -> None:
        """Take in what came of it if Ctrl-C, or a signal that ends the process, came during the commit: it may be done all the same."""
        if self._is_recorded():
            self.written()
        else:
            self.put_back()

    def _is_recorded(self) -> bool:
        store, run_id = self._outbox.store, self._outbox.fence.run_id
        with suppress(StoreError):
            store.commit(Transaction())  # when it is done, nobody who has taken ours along is in the middle of it
            newest = store.last_event(run_id)
            if newest is not None and self._last is not None:
                wanted = self._last.at, self._last.data
                return any((event.at, event.data) == wanted for event in store.events(run_id, newest.seq - _LATELY))
        return False

    def put_back(self) -> None:
        """Take back what could not be written, less what is true only with this commit."""
        if self._taken:
            self._outbox.put_back(self._taken)

    def written(self) -> None:
        """Take in that it is durable, and tell those who wait."""
        outbox = self._outbox
        if self._saying is not None and outbox.listener is not None:
            outbox.listener.put(self._saying)
        if self._taken or self._saying is not None:
            NEWS.announce(outbox.store.identity, outbox.fence.run_id)


def event_record(event: Event, run_id: str, attempt: int) -> EventRecord:
    """Return an event of a run that this process does not execute, as it is recorded; the store numbers it."""
    return _record(noted(event), run_id, attempt)


def _record(note: Note, run_id: str, attempt: int) -> EventRecord:
    fields = {**note.fields, "attempt": attempt, "at": note.at}
    try:
        data = pydantic_core.to_json(fields)
    except pydantic_core.PydanticSerializationError:  # half a character, in a name or in what a provider has said
        texts = {name: storable(value) for name, value in fields.items() if isinstance(value, str)}
        data = pydantic_core.to_json({**fields, **texts})
    return EventRecord(run_id, 0, note.at, data)


def noted(event: Event | Note) -> Note:
    """Return an event as it is held until it is written."""
    if isinstance(event, Note):
        return event
    fields = dict(vars(event))
    for name in _STAMPED:
        del fields[name]
    return Note(type(event), fields, event.at or wall_time())


def run_note(kind: Callable[..., Any], said: str, **more: str) -> Note:
    """Return an event of a run as it is held: its `type`, and whatever other fields it has.

    Not made an event first: the first one that is made builds pydantic's schemas, for which a process that reads no events loads thirty modules.
    """
    return Note(kind, {"type": said, **more}, wall_time())


def step_note(kind: Callable[..., Any], said: str, step: str, key: str, **more: Any) -> Note:
    """Return an event of a step call as it is held; said of every call, so that it is not made an event first, of which this is a third.

    Args:
        kind: The event's class.
        said: Its `type`.
        step: The step's name.
        key: The key of the call.
        **more: Its other fields, all of them.
    """
    return Note(kind, {"type": said, "step": step, "key": key, **more}, wall_time())


def _yielded(items: Sequence[Any], stream: Stream) -> Note:
    step, key = stream
    if step:
        return Note(StepYielded, {"type": "step_yielded", "step": step, "key": key, "items": items}, wall_time())
    return Note(RunYielded, {"type": "run_yielded", "items": items}, wall_time())


def _weight(note: Note) -> int:
    return len(note.fields["items"]) if note.kind in (StepYielded, RunYielded) else 1


def as_json(item: Any) -> Any:
    """Return an item as JSON says it, taken now: whoever gets it may change it. What JSON cannot say is named only."""
    try:
        return pydantic_core.from_json(pydantic_core.to_json(item, fallback=_named, inf_nan_mode="strings"))
    except (
        ValueError,
        TypeError,
        RecursionError,
    ):  # a cycle, half a character, or an object that refuses to be looked at
        return item.encode("utf-8", "backslashreplace").decode() if isinstance(item, str) else _named(item)


def _named(value: object) -> str:
    return f"<{type(value).__qualname__}>"


_living: Final[weakref.WeakSet[Outbox]] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_living):
        outbox.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
