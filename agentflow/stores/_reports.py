"""What looking after a store finds out: frozen values that JSON can say, for people and for programs."""

from __future__ import annotations

from typing import Literal

import pydantic

__all__ = ["Finding", "Kind", "Pruned", "SizeOfKind", "StoreSize"]

Kind = Literal["step", "request", "wish", "state", "run", "event"]


class _Report(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Finding(_Report):
    """One thing that `DiskStore.doctor()` has noticed.

    Attributes:
        check: Which check found it, such as `"integrity"`.
        severity: `"problem"`: something is lost, or will not work. `"warning"`: it may become one. `"note"`: good to know.
        what: What is wrong, and with which thing.
        do: What to do about it.
    """

    check: str
    severity: Literal["problem", "warning", "note"]
    what: str
    do: str


class SizeOfKind(_Report):
    """What one workflow has of one kind.

    Attributes:
        workflow: The workflow's name, `""` for results that all share and for steps that no workflow calls.
        kind: A step's result, a model's answer, the wish that a run be cancelled, a key of a state, a run, or an event.
        count: How many.
        size: The bytes of their values, encoded.
    """

    workflow: str
    kind: Kind
    count: int
    size: int


class StoreSize(_Report):
    """How large a store is.

    Attributes:
        location: Where it is.
        parts: What it holds, by workflow and kind.
        file_bytes: The size of its file, 0 in memory.
        log_bytes: The size of SQLite's log beside it, which a checkpoint empties.
        free_bytes: Room inside the file that later writes will use.
    """

    location: str
    parts: tuple[SizeOfKind, ...]
    file_bytes: int = 0
    log_bytes: int = 0
    free_bytes: int = 0

    @property
    def count(self) -> int:
        """How many things it holds."""
        return sum(part.count for part in self.parts)

    @property
    def size(self) -> int:
        """The bytes of all values, encoded."""
        return sum(part.size for part in self.parts)


class Pruned(_Report):
    """What pruning has removed, or would remove.

    Attributes:
        dry_run: Whether nothing was removed.
        entries: How many results of steps and answers of models.
        entry_bytes: The bytes of their values.
        runs: How many runs.
        events: How many of their events.
        run_bytes: The bytes of arguments, results and events of those runs.
        protected: How many results fit the conditions and are kept, since a run that is being executed may need them.
        freed_bytes: By how much the file has become smaller; the rest of the room is used by later writes.
    """

    dry_run: bool
    entries: int = 0
    entry_bytes: int = 0
    runs: int = 0
    events: int = 0
    run_bytes: int = 0
    protected: int = 0
    freed_bytes: int = 0
