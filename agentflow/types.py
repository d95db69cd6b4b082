"""Names that users put into their own annotations; nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Final, Literal, TypeAlias, Union

__all__ = ["JSON", "UNSET", "Duration", "RunStatus", "Scope", "Unset"]

JSON: TypeAlias = Union[Mapping[str, "JSON"], Sequence["JSON"], str, int, float, bool, None]
"""A value that JSON can say."""

Duration: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a `timedelta`."""

Scope: TypeAlias = Literal["run", "session", "global"]
"""How far a remembered result is shared: one run, one session of one workflow, or everybody."""


class RunStatus(StrEnum):
    """Where a run stands.

    `pending → running → completed | failed | cancelled | interrupted`.
    A member equals its plain text: `run.status == "completed"`.
    """

    PENDING = "pending"
    """Recorded, not yet started."""
    RUNNING = "running"
    """Its function is being executed by a live process."""
    WAITING = "waiting"
    """Reserved: it waits for an answer from outside."""
    COMPLETED = "completed"
    """Its function returned."""
    FAILED = "failed"
    """Its function raised."""
    CANCELLED = "cancelled"
    """It was cancelled; only `resume()` continues it."""
    INTERRUPTED = "interrupted"
    """Its process is gone, or its stream was closed; the same call continues it."""


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""An option that was not given, where `None` would be an answer of its own."""
