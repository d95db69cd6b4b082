"""One loaded key of a state: what code holds of it, what was stored, and what is on its way."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._merge import ABSENT, Absent

if TYPE_CHECKING:
    from agentflow.stores._base import StateRow, StateWrite

__all__ = ["IMMUTABLE", "NOTHING", "UNREADABLE", "Cell", "Sent", "as_number", "expected_revision"]

IMMUTABLE: Final = frozenset({str, int, float, bool, bytes, NoneType, Absent})
"""The types whose values stay as they are."""
NOTHING: Final = object()
"""Stands for a value that somebody may have changed since it was encoded."""
UNREADABLE: Final = object()
"""Stands for a value that cannot be read back, where it is about to go."""


def as_number(value: object) -> int | float | None:
    """Return a value to which something can be added; what is absent counts as 0."""
    if value is ABSENT:
        return 0
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@attrs.define
class Cell:
    """One loaded key: the value that code holds, its encoding when last known equal to what was committed, and the stored row."""

    value: object
    before: bytes | None
    row: StateRow
    read: bool = False
    """Whether code has seen the value: only then can a change made elsewhere meanwhile be lost on it."""
    blind: bool = False
    """Whether it was assigned without having been read: then it is written whatever stands there."""
    added: int | float = 0
    """What was added since `before`, if adding is all that was done: it can be added to any other number as well."""
    kept: object = NOTHING
    """The value that `before` encodes, if nobody can have changed it since: then it need not be encoded again."""
    sent: list[Sent] = attrs.field(factory=list)
    """What is on its way to the store."""


@attrs.frozen(eq=False)
class Sent:
    """A write that is on its way, the encoding of the value that it was made of, and what of it was added."""

    write: StateWrite
    after: bytes | None
    added: int | float


def expected_revision(write: StateWrite) -> int:
    """Return the revision on which a write was made; one of a view always was made on one."""
    assert isinstance(write.expected, int)
    return write.expected
