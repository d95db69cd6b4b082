"""Names that users put into their own annotations, the base of their models of a state, and what describes a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, Union

from agentflow._explanation import Difference, Explanation

if TYPE_CHECKING:
    from agentflow._state_class import StateBlock, StateModel

__all__ = [
    "JSON",
    "UNSET",
    "Difference",
    "Duration",
    "Explanation",
    "RunStatus",
    "Scope",
    "StateBlock",
    "StateModel",
    "Unset",
]

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


def __getattr__(name: str) -> object:
    # pydantic's first model of a process loads some forty modules, and most workflows have no typed state.
    if name in __all__:
        from agentflow import _state_class  # noqa: PLC0415

        return getattr(_state_class, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
