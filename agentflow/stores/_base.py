"""What a store keeps and what it promises: records, one transaction, and the protocol over both.

Everything above speaks of records in these terms; nothing above knows of files or SQL.
Most are made in every call, and so without slots: frozen, they are made in half the time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

__all__ = [
    "ANY_REVISION",
    "QUEUED",
    "UNFINISHED",
    "AnyRevision",
    "Entry",
    "EntryFilter",
    "EventRecord",
    "Fence",
    "RunFilter",
    "RunRecord",
    "StateChanged",
    "StateRow",
    "StateWrite",
    "Store",
    "Transaction",
    "handover_lock",
    "is_queued",
    "run_lock",
]


UNFINISHED: Final = (RunStatus.PENDING, RunStatus.RUNNING)
"""What a run's row says until its end is recorded, whether anybody executes it or not."""


QUEUED: Final = "queued:"
"""How the owner of a run begins that waits in a queue, where no process holds its lock."""


def run_lock(run_id: str) -> str:
    """Return the name of the lock that whoever executes a run holds, or has it waiting."""
    return f"run:{run_id}"


def handover_lock(run_id: str) -> str:
    """Return the name of the lock that is held while one process hands a run to another."""
    return f"handover:{run_id}"


def is_queued(status: str, owner: str) -> bool:
    """Whether a run of this status and owner waits in a queue."""
    return status == RunStatus.PENDING and owner.startswith(QUEUED)


@attrs.frozen(kw_only=True, slots=False)
class Entry:
    """One remembered result.

    Attributes:
        key: Where it is found: a digest of everything that identifies the call.
        payload: The sealed result, or `b""` in listings.
        kind: A step's result, a model's answer, or the wish that a run be cancelled.
        workflow: The workflow it belongs to, `""` for none.
        session_id: The session, `""` where the scope has none.
        scope: How far it is shared.
        step: The step's name, or the model's.
        version: The version of the step's code.
        arguments: The digest of the arguments.
        run_id: The run that made it, `""` outside one.
        created_at: When it was completed, in seconds since the epoch.
        size: The payload's length in bytes.
        tags: The step's tags.
        detail: What it was called with, in short, as JSON text; `""` in listings, but not in `recent`.
        pieces: What the version is made of: a mark for each piece of code. Kept once for each step and version; None in listings.
    """

    key: str
    payload: bytes = attrs.field(repr=False)
    kind: Literal["step", "request", "wish"] = "step"
    workflow: str = ""
    session_id: str = ""
    scope: str = "session"
    step: str = ""
    version: str = ""
    arguments: str = ""
    run_id: str = ""
    created_at: float = 0.0
    size: int = 0
    tags: tuple[str, ...] = ()
    detail: str = ""
    pieces: Mapping[str, str] | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class EntryFilter:
    """Which entries are meant; None means any."""

    workflow: str | None = None
    session_id: str | None = None
    step: str | None = None
    version: str | None = None
    arguments: str | None = None
    tag: str | None = None
    kind: str | None = None
    run_id: str | None = None
    before: float | None = None
    """Created before this time, in seconds since the epoch."""

    def accepts(self, entry: Entry) -> bool:
        """Whether an entry is meant."""
        wanted = (
            (self.workflow, entry.workflow),
            (self.session_id, entry.session_id),
            (self.step, entry.step),
            (self.version, entry.version),
            (self.arguments, entry.arguments),
            (self.kind, entry.kind),
            (self.run_id, entry.run_id),
        )
        return (
            all(value is None or value == actual for value, actual in wanted)
            and (self.tag is None or self.tag in entry.tags)
            and (self.before is None or entry.created_at < self.before)
        )


@attrs.frozen(slots=False)
class StateRow:
    """One key of a session's state as it is stored.

    Attributes:
        value: The sealed value, or None if the key was deleted or never set.
        revision: Grows with every change of the key; 0 if it was never set.
    """

    value: bytes | None
    revision: int


class AnyRevision(Enum):
    """The type of `ANY_REVISION`."""

    ANY_REVISION = "ANY_REVISION"


ANY_REVISION: Final = AnyRevision.ANY_REVISION
"""Write whatever stands there: the value was not read before."""


@attrs.frozen(kw_only=True, slots=False)
class StateWrite:
    """A change of one key of a session's state.

    Attributes:
        value: The new sealed value, or None to delete the key.
        expected: The revision on which the change was made; another one refuses the transaction.
    """

    workflow: str
    session_id: str
    key: str
    value: bytes | None = attrs.field(repr=False)
    expected: int | AnyRevision = ANY_REVISION


class StateChanged(Exception):  # noqa: N818 - an answer for the core, which merges and tries again; never a user's error
    """A transaction was refused whole, because state rows have another revision than it expects."""

    def __init__(self, rows: dict[str, StateRow]) -> None:
        super().__init__(f"state changed: {', '.join(rows)}")
        self.rows = rows


@attrs.frozen(slots=False)
class EventRecord:
    """One event of a run, encoded.

    Attributes:
        seq: Its number in the run, from 1. In a transaction it is 0: the store numbers events as it commits them.
    """

    run_id: str
    seq: int
    at: float
    data: bytes


@attrs.frozen(kw_only=True, slots=False)
class RunRecord:
    """One run. Which workflow, session and call it is of, its parent and its beginning stay as they were first committed.

    Attributes:
        call: Digest of the arguments (and of `refresh`): which call continues this run.
        owner: A token of the process and attempt that executes it; writes under another owner are refused. In a queue it begins with `QUEUED`.
        arguments: The sealed arguments, or None if they cannot be stored.
        result: The sealed result, or None.
        error: The failure as JSON text, or `""`.
        parent_id: The run that called it, or `""`.
    """

    id: str
    workflow: str
    session_id: str
    call: str
    status: RunStatus = RunStatus.RUNNING
    attempt: int = 1
    owner: str = ""
    parent_id: str = ""
    started_at: float = 0.0
    finished_at: float | None = None
    arguments: bytes | None = attrs.field(default=None, repr=False)
    result: bytes | None = attrs.field(default=None, repr=False)
    error: str = ""

    @property
    def is_queued(self) -> bool:
        """Whether it waits in a queue, where no process holds its lock."""
        return is_queued(self.status, self.owner)


@attrs.frozen(kw_only=True, slots=False)
class RunFilter:
    """Which runs are meant; None means any."""

    workflow: str | None = None
    session_id: str | None = None
    call: str | None = None
    parent_id: str | None = None
    statuses: tuple[RunStatus, ...] | None = None

    def accepts(self, run: RunRecord) -> bool:
        """Whether a run is meant."""
        wanted = (
            (self.workflow, run.workflow),
            (self.session_id, run.session_id),
            (self.call, run.call),
            (self.parent_id, run.parent_id),
        )
        return all(value is None or value == actual for value, actual in wanted) and (
            self.statuses is None or run.status in self.statuses
        )


@attrs.frozen(slots=False)
class Fence:
    """A condition of a transaction: this run still belongs to this owner (`""`: the run does not exist yet)."""

    run_id: str
    owner: str


@attrs.frozen(kw_only=True, slots=False)
class Transaction:
    """What becomes durable together or not at all.

    Attributes:
        events: Iterated once, while the transaction is written and after it can no longer be refused.
    """

    entries: tuple[Entry, ...] = ()
    forget: tuple[str, ...] = ()
    state: tuple[StateWrite, ...] = ()
    events: Iterable[EventRecord] = ()
    run: RunRecord | None = None
    fence: Fence | None = None

    @property
    def size(self) -> int:
        """The bytes it carries, roughly."""
        return sum(len(entry.payload) for entry in self.entries) + sum(len(write.value or b"") for write in self.state)


class Store(Protocol):
    """Where sessions, runs and results are kept; every method may be called from any thread.

    A method that returns has happened: what `commit` wrote survives the process.
    """

    @property
    def identity(self) -> str:
        """Equal for two objects over the same place in one process; single flight goes by it."""
        ...

    @property
    def location(self) -> str:
        """Where it is, for messages."""
        ...

    def read(self, key: str) -> bytes | None:
        """Return the sealed result under a key, or None."""
        ...

    def commit(self, transaction: Transaction) -> None:
        """Make a transaction durable.

        Raises:
            StateChanged: If a state row has another revision than expected; nothing is written.
            RunConflict: If the fence does not hold; nothing is written.
            StoreError: If the store cannot write.
        """
        ...

    def commit_soon(self, transaction: Transaction) -> Future[None]:
        """Make a transaction durable without blocking the caller; the future tells as `commit` would."""
        ...

    def entries(self, which: EntryFilter) -> Sequence[Entry]:
        """List entries without their payloads, oldest first."""
        ...

    def recent(self, which: EntryFilter, limit: int) -> Sequence[Entry]:
        """List so many of the newest entries, without their payloads but with their `detail`; a tag is not asked for.

        Newest is what came into the store last: a result that was made anew may still stand where it first stood.
        """
        ...

    def pieces(self, step: str, version: str) -> Mapping[str, str] | None:
        """Return what a version of a step is made of, as an entry of it said; None if none did."""
        ...

    def state_row(self, workflow: str, session_id: str, key: str) -> StateRow:
        """Return one key of a session's state."""
        ...

    def state_keys(self, workflow: str, session_id: str) -> Sequence[str]:
        """Return the keys of a session's state that have a value, in the order they were first set."""
        ...

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None."""
        ...

    def runs(self, which: RunFilter, limit: int | None = None) -> Sequence[RunRecord]:
        """List runs, newest first."""
        ...

    def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRecord]:
        """List events of a run with a greater number, in order."""
        ...

    def last_event(self, run_id: str) -> EventRecord | None:
        """Return the newest event of a run, or None."""
        ...

    def sessions(self, workflow: str, limit: int | None = None) -> Sequence[str]:
        """List the sessions of a workflow that have a run, a result or state, in order of their ids."""
        ...

    def delete_session(self, workflow: str, session_id: str) -> None:
        """Remove everything a session of a workflow has: state, results, runs and their events.

        Only the revisions of its state go on, so that no change made on an older value fits a newer one.
        """
        ...

    def try_lock(self, name: str) -> bool:
        """Take a named lock if nobody has it, in this process or another; never blocks.

        It is held until `unlock` or the death of this process, whichever comes first.
        """
        ...

    def unlock(self, name: str) -> None:
        """Give a named lock back."""
        ...

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a named lock; looking takes nothing."""
        ...

    def close(self) -> None:
        """Release files and threads; using the store again opens them again."""
        ...
