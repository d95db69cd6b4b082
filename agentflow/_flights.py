"""Single flight inside one process: the same key is executed once at a time, and whoever else asks waits for it.

A flight ends in one of three ways. It lands: everyone gets the value. It fails: everyone gets the exception.
It is given up (its owner was cancelled, timed out or closed): one of those who wait starts another.
Waiting that could never end is refused: a call inside its own execution, and calls that wait for each other in a circle.
"""

from __future__ import annotations

import copy
import os
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agentflow._waiting import Limiter, Place

__all__ = ["FLIGHTS", "Failed", "Flight", "GivenUp", "Landed", "Outcome", "own_copy", "queueing", "waiting_for"]


@attrs.frozen(slots=False)  # made in half the time
class Landed:
    """The call returned: its encoded result."""

    body: bytes


@attrs.frozen
class Failed:
    """The call raised."""

    error: Exception


@attrs.frozen
class GivenUp:
    """The call was left without a result or an error to share."""


Outcome = Landed | Failed | GivenUp


def own_copy(error: Exception) -> Exception:
    """Return a shallow copy of an exception, so that two threads do not raise (and annotate) one object."""
    twin = _twin(error)
    if twin is None:
        return error
    twin.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        twin.__notes__ = list(notes)
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


def _twin(error: Exception) -> Exception | None:
    # Copying calls the class with the error's arguments, which is wrong where its __init__ takes others than it passes on.
    # Making it without __init__ is wrong where a builtin keeps fields outside __dict__. So the first that agrees is taken.
    for make in (copy.copy, _made_without_init):
        with suppress(Exception):  # whatever a class of the user's does here: what cannot be copied is shared as it is
            twin = make(error)
            if type(twin) is type(error) and _same(twin.args, error.args) and str(twin) == str(error):
                return twin
    return None


def _made_without_init(error: Exception) -> Exception:
    return type(error).__new__(type(error), *error.args)


def _same(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


class Flight:
    """One execution of one key that is under way.

    Attributes:
        name: The step's.
        done: Told how it ended.
        blocked_on: The flights that it waits for now.
        queued: The places that it waits for now.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: Future[Outcome] = Future()
        self.blocked_on: list[Flight] = []
        self.queued: list[tuple[Limiter, Place]] = []

    def end(self, outcome: Outcome) -> None:
        """Tell everyone who waits; the first word counts."""
        if not self.done.done():
            self.done.set_result(outcome)


FlightT = TypeVar("FlightT", bound=Flight)


class _Flights:
    """The executions under way in this process, by store and key."""

    def __init__(self) -> None:
        # A finalizer (of a stream that nobody holds any more) may end a flight while its own thread is in here: hence RLock.
        self.mutex = threading.RLock()
        self._under_way: dict[tuple[str, str], Flight] = {}

    def join(
        self, name: tuple[str, str], make: Callable[[], FlightT], within: Sequence[Flight]
    ) -> tuple[FlightT, bool]:
        """Return the flight of a name, and whether this call has made it.

        Raises:
            UsageError: If the caller is part of that flight.
        """
        with self.mutex:
            flight = self._under_way.get(name)
            if flight is None:
                made = self._under_way[name] = make()
                return made, True
        if flight in within:
            raise UsageError(
                f"step {flight.name!r} calls itself with the same arguments while it runs, and would wait for itself for ever: "
                "change the arguments of the inner call, or call the bare function with .fn"
            )
        return cast("FlightT", flight), False

    def leave(self, name: tuple[str, str], flight: Flight) -> None:
        """Take a flight off the table; who asks from now on begins another."""
        with self.mutex:
            if self._under_way.get(name) is flight:
                del self._under_way[name]


FLIGHTS: Final = _Flights()


class waiting_for:  # noqa: N801 - a context manager, not of contextlib's kind: that one changes the errors that pass through
    """Say for a block that everything the caller is part of waits for a flight.

    Raises:
        UsageError: If that flight, in the end, waits for the caller.
    """

    __slots__ = ("_flight", "_within")

    def __init__(self, flight: Flight, within: Sequence[Flight]) -> None:
        self._flight = flight
        self._within = within

    def __enter__(self) -> None:
        if not self._within:
            return
        with FLIGHTS.mutex:
            ahead = _ahead_of(self._flight)
            if any(own in ahead for own in self._within):
                raise _circle(self._flight, self._within)
            for own in self._within:
                own.blocked_on.append(self._flight)
            for waiter in ahead:
                _lend_place(waiter)

    def __exit__(self, *_: object) -> None:
        if self._within:
            with FLIGHTS.mutex:
                for own in self._within:
                    own.blocked_on.remove(self._flight)


def _circle(flight: Flight, within: Sequence[Flight]) -> UsageError:
    return UsageError(
        f"steps wait for each other in a circle: {' -> '.join(own.name for own in within)} -> {flight.name}: "
        "give the inner calls other arguments, or call the bare functions with .fn"
    )


@contextmanager
def queueing(within: Sequence[Flight], limiter: Limiter, place: Place) -> Iterator[None]:
    """Say for a block that everything the caller is part of waits for a place; it is lent one if a holder waits for the caller."""
    wanted = limiter, place
    with FLIGHTS.mutex:
        for own in within:
            own.queued.append(wanted)
            _lend_place(own)
    try:
        yield
    finally:
        with FLIGHTS.mutex:
            for own in within:
                own.queued.remove(wanted)


def _lend_place(flight: Flight) -> None:
    # A holder that waits for others does not use its place, and would wait for ever if they waited for that very place.
    for limiter, place in flight.queued:
        holders = (holder for holder in limiter.holders() if isinstance(holder, Flight))
        if any(holder.blocked_on and flight in _ahead_of(holder) for holder in holders):
            limiter.let_pass(place)


def _ahead_of(flight: Flight) -> list[Flight]:
    """Return a flight and all that it waits for, directly or not."""
    found, seen = [flight], {id(flight)}
    for current in found:  # grows meanwhile
        for other in current.blocked_on:
            if id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return found


def _after_fork() -> None:
    # A forked child has none of its parent's threads, so nothing of theirs is under way in it.
    FLIGHTS.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
