"""Listening to a run that is executed in this process: each event as it happens, before it is recorded.

Whoever executes the run puts in, one consumer takes out. The consumer is woken only if it sleeps; a run that is far ahead
of it waits at its next boundary. Tests hear every run, beside its listener.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentflow.events import Event

__all__ = ["FAMILY", "HEARERS", "LISTENER", "Audience", "Listener", "Note", "Teller", "audience", "claimed_listener"]

_FULL: Final = 1000  # notes that a run may be ahead


@attrs.define(eq=False)
class Note:
    """Something that happened, as it is held in the process: an event's class and fields, not yet an event.

    Attributes:
        kind: The class.
        fields: Its fields, less those that every event has.
        at: When, in seconds since the epoch.
        number: Its place among the notes of its run in this process.
    """

    kind: Callable[..., Any]
    fields: dict[str, Any]
    at: float
    number: int = 0

    def event(self, run_id: str, attempt: int) -> Event:
        """Return the event, without a number: it is not recorded yet."""
        build: Callable[..., Event] = self.kind.model_construct  # type: ignore[attr-defined]
        return build(**{**self.fields, "run_id": run_id, "attempt": attempt, "at": self.at})


class Listener:
    """What one consumer has not yet taken of one run."""

    def __init__(self) -> None:
        self._run_id = ""
        self._attempt = 0
        self._notes: deque[Note | Event] = deque()
        self._mutex = threading.RLock()  # a finalizer may leave while its own thread is in here
        self._is_claimed = False
        self._wake: Callable[[], None] | None = None
        self._room: Future[None] | None = None
        self._leave: Callable[[bool], None] | None = None
        self._left: bool | None = None  # else whether by Ctrl-C
        self._hears_family = FAMILY.get()

    # The run's side

    def claim(self) -> bool:
        """Whether nobody did before: only the first run that begins is the one listened to, not those that it calls."""
        with self._mutex:
            claimed, self._is_claimed = self._is_claimed, True
        return not claimed

    def child(self) -> Listener | None:
        """Return what hears a run that was called inside, if that is wanted."""
        return _ChildListener(self) if self._hears_family else None

    def attach(self, leave: Callable[[bool], None]) -> None:
        """Tell what to do should the consumer leave; it is told whether by Ctrl-C."""
        with self._mutex:
            self._leave = leave
            left = self._left
        if left is not None:
            leave(left)

    def begin(self, run_id: str, attempt: int) -> None:
        """Tell which run it is, before anything is put in."""
        self._run_id, self._attempt = run_id, attempt

    def put(self, note: Note | Event) -> None:
        """Hand over a note of this run, or an event of another; nobody wants it once the consumer has left."""
        if self._left is not None:
            return
        self._notes.append(note)
        if self._wake is not None:
            self.wake()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._notes

    @property
    def is_full(self) -> bool:
        """Whether the run should wait for the consumer."""
        return len(self._notes) >= _FULL and self._left is None

    def room(self) -> Future[None]:
        """Return what is done when the consumer has caught up, or has left."""
        with self._mutex:
            self._room = self._room or Future()
            room = self._room
        if not self.is_full:  # by now
            self._make_room()
        return room

    # The consumer's side

    def wake(self) -> None:
        """Wake the consumer, if it sleeps."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def sleep(self, wake: Callable[[], None]) -> bool:
        """Have this called when there is something to take; False if there is already."""
        self._wake = wake
        return not self._notes

    def take(self) -> list[Event]:
        """Return what has happened since the last look."""
        taken: list[Event] = []
        while self._notes and len(taken) < _FULL:
            note = self._notes.popleft()
            taken.append(note.event(self._run_id, self._attempt) if isinstance(note, Note) else note)
        if self._room is not None:
            self._make_room()
        return taken

    def leave(self, *, by_ctrl_c: bool = False) -> None:
        """Want no more: the run is left as a stream is that is closed, or cancelled if that was done by Ctrl-C; the first word counts."""
        with self._mutex:
            is_first = self._left is None
            self._left = by_ctrl_c if self._left is None else self._left
            leave = self._leave
        if leave is not None and is_first:
            leave(by_ctrl_c)
        self._make_room()

    def _make_room(self) -> None:
        with self._mutex:
            room, self._room = self._room, None
        if room is not None:
            room.set_result(None)


class _ChildListener(Listener):
    """Hears a run that another one called, for the listener of that one."""

    def __init__(self, parent: Listener) -> None:
        super().__init__()
        self._parent = parent

    def put(self, note: Note | Event) -> None:
        """Hand it over as an event, which says whose it is."""
        self._parent.put(note.event(self._run_id, self._attempt) if isinstance(note, Note) else note)

    @property
    def is_full(self) -> bool:
        """Whether the run should wait for the consumer."""
        return self._parent.is_full

    def room(self) -> Future[None]:
        """Return what is done when the consumer has caught up, or has left."""
        return self._parent.room()


class Teller(Listener):
    """Hears a run, and those that it calls, by a function that is called with each event at once, in the thread in which it happens.

    Args:
        hear: The function.
    """

    def __init__(self, hear: Callable[[Event], None]) -> None:
        super().__init__()
        self._hear = hear

    def child(self) -> Listener:
        """Return what hears a run that was called inside."""
        return _ChildListener(self)

    def put(self, note: Note | Event) -> None:
        """Tell it."""
        self._hear(note.event(self._run_id, self._attempt) if isinstance(note, Note) else note)

    @property
    def is_full(self) -> bool:
        """Nothing ever waits here."""
        return False


LISTENER: Final[ContextVar[Listener | None]] = ContextVar("agentflow_listener", default=None)

FAMILY: Final[ContextVar[bool]] = ContextVar("agentflow_listener_hears_family", default=False)
"""Whether who begins to listen here wants to hear the runs too that the one listened to calls."""


def claimed_listener(*, is_child: bool) -> Listener | None:
    """Return who listens to the run that begins now, if somebody does.

    Args:
        is_child: Whether it was called by the run that is being executed.
    """
    listener = LISTENER.get()
    if listener is None:
        return None
    if listener.claim():
        return listener
    return listener.child() if is_child else None


HEARERS: Final[list[Callable[[Event], None]]] = []
"""What is called with each event of every run that begins in this process, at once and in the thread in which it happens."""


class Audience:
    """Who hears a run at once: its listener, if somebody listens to it, and those who hear every run.

    Args:
        listener: The listener.
        hearers: What is called with each event.
    """

    def __init__(self, listener: Listener | None, hearers: tuple[Callable[[Event], None], ...]) -> None:
        self._listener = listener
        self._hearers = hearers
        self._run_id, self._attempt = "", 0

    def begin(self, run_id: str, attempt: int) -> None:
        """Tell which run it is, before anything is put in."""
        self._run_id, self._attempt = run_id, attempt
        if self._listener is not None:
            self._listener.begin(run_id, attempt)

    def put(self, note: Note) -> None:
        """Hand over a note."""
        event = note.event(self._run_id, self._attempt)
        for hear in self._hearers:
            hear(event)
        if self._listener is not None:
            self._listener.put(note)

    @property
    def is_full(self) -> bool:
        """Whether the run should wait for its listener."""
        return self._listener is not None and self._listener.is_full


def audience(listener: Listener | None) -> Listener | Audience | None:
    """Return who hears a run that begins now."""
    return Audience(listener, tuple(HEARERS)) if HEARERS else listener
