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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["FLIGHTS", "Failed", "Flight", "GivenUp", "Landed", "Outcome", "own_copy", "waiting_for"]


@attrs.frozen
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
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - an exception of the user's that cannot be copied is shared as it is
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


class Flight:
    """One execution of one key that is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: Future[Outcome] = Future()
        self.blocked_on: list[Flight] = []

    def end(self, outcome: Outcome) -> None:
        """Tell everyone who waits; the first word counts."""
        if not self.done.done():
            self.done.set_result(outcome)


FlightT = TypeVar("FlightT", bound=Flight)


class _Flights:
    """The executions under way in this process, by store and key."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
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


@contextmanager
def waiting_for(flight: Flight, within: Sequence[Flight]) -> Iterator[None]:
    """Say for a block that everything the caller is part of waits for a flight.

    Raises:
        UsageError: If that flight, in the end, waits for the caller.
    """
    with FLIGHTS.mutex:
        if _reaches(flight, within):
            raise UsageError(
                f"steps wait for each other in a circle: {' -> '.join(own.name for own in within)} -> {flight.name}: "
                "give the inner calls other arguments, or call the bare functions with .fn"
            )
        for own in within:
            own.blocked_on.append(flight)
    try:
        yield
    finally:
        with FLIGHTS.mutex:
            for own in within:
                own.blocked_on.remove(flight)


def _reaches(flight: Flight, within: Sequence[Flight]) -> bool:
    if not within:
        return False
    seen: set[int] = set()
    ahead = [flight]
    while ahead:
        current = ahead.pop()
        if any(current is own for own in within):
            return True
        if id(current) not in seen:
            seen.add(id(current))
            ahead += current.blocked_on
    return False


def _after_fork() -> None:
    # A forked child has none of its parent's threads, so nothing of theirs is under way in it.
    FLIGHTS.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
