"""What a test does to steps: another function in place of theirs, a crash once their result is durable, or a witness of each call.

For the whole process, since steps run in threads and tasks of every kind. Nothing here costs a call more than looking whether
there is anything.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["AFTER", "INSTEAD", "WITNESSES", "StandIn", "called", "kept", "put_in_force"]


@attrs.frozen
class StandIn:
    """A function in place of a step's own.

    Attributes:
        fn: Called with the step's arguments, its context included if it takes one; of the step's colour.
        version: What its results are remembered under, so that neither they nor the step's own are taken for the others; None if they are the step's own.
    """

    fn: Callable[..., Any]
    version: str | None = None


INSTEAD: Final[dict[str, StandIn]] = {}
"""What is called in place of the functions of steps, by their names."""

AFTER: Final[dict[str, Callable[[], None]]] = {}
"""What is called when a result of a step has become durable, by their names."""

WITNESSES: Final[list[Callable[[str, Mapping[str, Any], bool], None]]] = []
"""What is told of each call of a step: its name, its arguments, and whether it was answered without executing it."""

_mutex: Final = threading.Lock()


@contextmanager
def put_in_force(table: dict[str, Any], step: str, what: object) -> Iterator[None]:
    """Have a step treated so for a block; what was in force before is in force again after it."""
    with _mutex:
        before = table.get(step)
        table[step] = what
    try:
        yield
    finally:
        with _mutex:
            if before is None:
                table.pop(step, None)
            else:
                table[step] = before


def kept(step: str) -> None:
    """Say that a result of a step has become durable; raises if a test wants a crash there."""
    if AFTER and (then := AFTER.get(step)) is not None:
        then()


def called(step: str, arguments: Mapping[str, Any], *, hit: bool) -> None:
    """Say that a step was called, to those who asked."""
    for witness in tuple(WITNESSES):
        witness(step, arguments, hit)
