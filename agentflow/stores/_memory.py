"""A store in this process's memory: the reference implementation of the protocol, and the one for tests."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from itertools import count, islice
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._options import whole
from agentflow.exceptions import PayloadTooLarge, RunConflict
from agentflow.stores._base import (
    ANY_REVISION,
    Entry,
    EntryFilter,
    EventRecord,
    Fence,
    RunFilter,
    RunRecord,
    StateChanged,
    StateRow,
    StateWrite,
    Transaction,
)
from agentflow.stores._forks import survive_forks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal

    from agentflow.stores._reports import Kind, Pruned, StoreSize
    from agentflow.types import Duration

__all__ = ["MemoryStore", "check_sizes", "failed", "lost_run"]

NOTHING: Final = StateRow(None, 0)
_numbers: Final = count(1)


class MemoryStore:
    """Keeps everything in memory, until the object is gone.

    Semantics are those of `DiskStore`, encoding included, so that a test sees the refusals that production would.

    ```python
    from agentflow.stores import MemoryStore

    store = MemoryStore()
    assert store.read("nothing here") is None
    ```

    Args:
        max_value_bytes: The largest value accepted.
    """

    def __init__(self, *, max_value_bytes: int = 256 * 1024 * 1024) -> None:
        self._number = next(_numbers)
        self._max_value_bytes = whole(max_value_bytes, "max_value_bytes", least=0)
        self._mutex = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._pieces: dict[tuple[str, str], Mapping[str, str]] = {}
        self._state: dict[tuple[str, str], dict[str, StateRow]] = {}
        self._runs: dict[str, RunRecord] = {}
        self._calls: dict[tuple[str, str, str], dict[str, None]] = {}  # the runs of each call
        self._events: dict[str, list[EventRecord]] = {}
        self._locks: set[str] = set()
        survive_forks(self)

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._entries)} entries)"

    @property
    def identity(self) -> str:
        """Equal only for the same object."""
        return f"memory:{self._number}"

    @property
    def location(self) -> str:
        """Where it is, for messages."""
        return "memory:"

    def read(self, key: str) -> bytes | None:
        """Return the sealed result under a key, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.payload

    def commit(self, transaction: Transaction) -> None:
        """Apply a transaction whole, or raise and apply nothing."""
        check_sizes(transaction, self._max_value_bytes, self.location)
        with self._mutex:
            self._check_fence(transaction.fence)
            self._check_revisions(transaction.state)
            self._apply(transaction)

    def commit_soon(self, transaction: Transaction) -> Future[None]:
        """Apply a transaction; memory never blocks, so the future is done."""
        try:
            self.commit(transaction)
        except Exception as error:  # noqa: BLE001 - it is raised where the future is asked
            return failed(error)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _check_fence(self, fence: Fence | None) -> None:
        if fence is None:
            return
        run = self._runs.get(fence.run_id)
        if (run.owner if run else "") != fence.owner:
            raise lost_run(fence.run_id)

    def _check_revisions(self, writes: Sequence[StateWrite]) -> None:
        changed: dict[str, StateRow] = {}
        for write in writes:
            row = self.state_row(write.workflow, write.session_id, write.key)
            if write.expected is not ANY_REVISION and write.expected != row.revision:
                changed[write.key] = row
        if changed:
            raise StateChanged(changed)

    def _apply(self, transaction: Transaction) -> None:
        for key in transaction.forget:
            self._entries.pop(key, None)
        for entry in transaction.entries:
            self._entries.pop(entry.key, None)  # so that it stands last again
            size = len(entry.payload)
            self._entries[entry.key] = entry if entry.size == size else attrs.evolve(entry, size=size)
            if entry.pieces is not None:
                self._pieces.setdefault((entry.step, entry.version), entry.pieces)
        for write in transaction.state:
            rows = self._state.setdefault((write.workflow, write.session_id), {})
            rows[write.key] = StateRow(write.value, rows.get(write.key, NOTHING).revision + 1)
        for event in transaction.events:
            events = self._events.setdefault(event.run_id, [])
            events.append(EventRecord(event.run_id, len(events) + 1, event.at, event.data))
        if transaction.run:
            self._put_run(transaction.run)

    def _put_run(self, run: RunRecord) -> None:
        known = self._runs.get(run.id)
        if known is None:
            self._calls.setdefault((run.workflow, run.session_id, run.call), {})[run.id] = None
        elif _lasting(known) != _lasting(run):
            workflow, session_id, call, parent_id, started_at = _lasting(known)
            run = attrs.evolve(
                run,
                workflow=workflow,
                session_id=session_id,
                call=call,
                parent_id=parent_id,
                started_at=started_at,
            )
        self._runs[run.id] = run

    def _drop_run(self, run: RunRecord) -> None:
        del self._runs[run.id]
        self._events.pop(run.id, None)
        call = run.workflow, run.session_id, run.call
        same = self._calls[call]
        del same[run.id]
        if not same:
            del self._calls[call]

    def entries(self, which: EntryFilter) -> Sequence[Entry]:
        """List entries without their payloads, oldest first."""
        with self._mutex:
            found = [
                attrs.evolve(entry, payload=b"", detail="", pieces=None)
                for entry in self._entries.values()
                if which.accepts(entry)
            ]
        return sorted(found, key=lambda entry: entry.created_at)

    def recent(self, which: EntryFilter, limit: int) -> Sequence[Entry]:
        """List so many of the newest entries, with their `detail`."""
        which = attrs.evolve(which, tag=None)
        with self._mutex:
            found = list(islice(filter(which.accepts, reversed(self._entries.values())), limit))
        return [attrs.evolve(entry, payload=b"", pieces=None) for entry in found]

    def pieces(self, step: str, version: str) -> Mapping[str, str] | None:
        """Return what a version of a step is made of."""
        return self._pieces.get((step, version))

    def state_row(self, workflow: str, session_id: str, key: str) -> StateRow:
        """Return one key of a session's state."""
        return self._state.get((workflow, session_id), {}).get(key, NOTHING)

    def state_keys(self, workflow: str, session_id: str) -> Sequence[str]:
        """Return the keys that have a value."""
        with self._mutex:
            rows = self._state.get((workflow, session_id), {})
            return [key for key, row in rows.items() if row.value is not None]

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None."""
        return self._runs.get(run_id)

    def runs(self, which: RunFilter, limit: int | None = None) -> Sequence[RunRecord]:
        """List runs, newest first."""
        with self._mutex:
            newest_first = [self._runs[run_id] for run_id in reversed(self._candidates(which))]
        return list(islice((run for run in newest_first if which.accepts(run)), limit))

    def _candidates(self, which: RunFilter) -> dict[str, None] | dict[str, RunRecord]:
        """Return the ids of all runs that may be meant: each beginning of a run asks for those of its own call, however many others there are."""
        if which.workflow is None or which.session_id is None or which.call is None:
            return self._runs
        return self._calls.get((which.workflow, which.session_id, which.call), {})

    def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRecord]:
        """List events of a run with a greater number, in order."""
        with self._mutex:
            events = self._events.get(run_id, [])  # numbered from 1, without a gap
            return events[max(after, 0) : None if limit is None else max(after, 0) + limit]

    def last_event(self, run_id: str) -> EventRecord | None:
        """Return the newest event of a run, or None."""
        events = self._events.get(run_id)
        return events[-1] if events else None

    def sessions(self, workflow: str, limit: int | None = None) -> Sequence[str]:
        """List the sessions of a workflow."""
        with self._mutex:
            found = {
                session
                for (owner, session), rows in self._state.items()
                if owner == workflow and any(row.value is not None for row in rows.values())
            }
            found.update(run.session_id for run in self._runs.values() if run.workflow == workflow)
            found.update(
                entry.session_id
                for entry in self._entries.values()
                if entry.workflow == workflow and entry.scope != "global"
            )
        return sorted(found)[:limit]

    def delete_session(self, workflow: str, session_id: str) -> None:
        """Remove everything a session of a workflow has."""
        with self._mutex:
            # Revisions go on, so that a change made on a value from before is not taken for one made on a value from after.
            rows = self._state.get((workflow, session_id), {})
            rows.update({key: StateRow(None, row.revision + 1) for key, row in rows.items()})
            for run in self.runs(RunFilter(workflow=workflow, session_id=session_id)):
                self._drop_run(run)
            for entry in self.entries(EntryFilter(workflow=workflow, session_id=session_id)):
                if entry.scope != "global":
                    del self._entries[entry.key]

    def size(self) -> StoreSize:
        """Return what it holds, by workflow and kind."""
        from agentflow.stores._reports import StoreSize  # noqa: PLC0415 - only who looks after a store pays for it
        from agentflow.stores._size import parts  # noqa: PLC0415 - only who looks after a store pays for it

        with self._mutex:
            values: list[tuple[str, Kind, bytes | int]] = [
                *((entry.workflow, entry.kind, entry.size) for entry in self._entries.values()),
                *(
                    (workflow, "state", row.value)
                    for (workflow, _), rows in self._state.items()
                    for row in rows.values()
                    if row.value
                ),
                *(
                    (run.workflow, "run", len(run.arguments or b"") + len(run.result or b""))
                    for run in self._runs.values()
                ),
                *(
                    (self._runs[run_id].workflow, "event", event.data)
                    for run_id, events in self._events.items()
                    if run_id in self._runs
                    for event in events
                ),
            ]
        return StoreSize(location=self.location, parts=tuple(parts(values)))

    def prune(
        self,
        *,
        older_than: Duration | None = None,
        versions: Sequence[str] | Literal["old"] | None = None,
        workflow: str | None = None,
        dry_run: bool = True,
    ) -> Pruned:
        """Remove what is old, or count what would be; see `DiskStore.prune`."""
        from agentflow.stores._prune import Live, conditions, superseded  # noqa: PLC0415 - only who looks after a store pays for it
        from agentflow.stores._reports import Pruned  # noqa: PLC0415 - only who looks after a store pays for it

        asked = conditions(older_than, versions, workflow, dry_run=dry_run)
        with self._mutex:
            rows = [
                (run.id, run.parent_id, run.workflow, run.session_id, run.status, run.owner)
                for run in self._runs.values()
            ]
            live = Live(rows, self.is_locked)
            steps = [entry for entry in self._entries.values() if entry.kind == "step"]
            old = superseded(
                [(each.workflow, each.step, each.version, each.created_at) for each in steps], asked.versions
            )
            fitting = [entry for entry in self._entries.values() if asked.takes(entry, old)]
            taken = [entry for entry in fitting if not live.keeps_entry(entry)]
            ended = {run.id: run.finished_at or self._last_heard(run) for run in self._runs.values()}
            gone = [
                run for run in self._runs.values() if asked.takes_run(run, ended[run.id]) and not live.keeps_run(run.id)
            ]
            events = [event for run in gone for event in self._events.get(run.id, ())]
            if not dry_run:
                for entry in taken:
                    del self._entries[entry.key]
                left = {(entry.step, entry.version) for entry in self._entries.values()}
                self._pieces = {name: pieces for name, pieces in self._pieces.items() if name in left}
                for run in gone:
                    self._drop_run(run)
        return Pruned(
            dry_run=dry_run,
            entries=len(taken),
            entry_bytes=sum(entry.size for entry in taken),
            protected=len(fitting) - len(taken),
            runs=len(gone),
            events=len(events),
            run_bytes=sum(len(run.arguments or b"") + len(run.result or b"") for run in gone)
            + sum(len(event.data) for event in events),
        )

    def _last_heard(self, run: RunRecord) -> float:
        last = self.last_event(run.id)
        return last.at if last else run.started_at

    def try_lock(self, name: str) -> bool:
        """Take a named lock if nobody has it."""
        with self._mutex:
            if name in self._locks:
                return False
            self._locks.add(name)
            return True

    def unlock(self, name: str) -> None:
        """Give a named lock back."""
        self._locks.discard(name)

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a named lock."""
        return name in self._locks

    def close(self) -> None:
        """Do nothing: memory has nothing to release."""

    def before_fork(self) -> None:
        """Do nothing: there are no connections."""

    def after_fork_in_child(self) -> None:
        """Forget the locks, whose holders are threads of the parent."""
        self._mutex = threading.RLock()
        self._locks = set()


def _lasting(run: RunRecord) -> tuple[str, str, str, str, float]:
    """What stays as it was first committed."""
    return run.workflow, run.session_id, run.call, run.parent_id, run.started_at


def check_sizes(transaction: Transaction, limit: int, location: str) -> None:
    """Refuse values over the limit before anything is written.

    Raises:
        PayloadTooLarge: If one is.
    """
    for what, name, value in _values(transaction):
        if len(value) > limit:
            raise PayloadTooLarge(
                f"{what} {name!r} is {len(value):,} bytes encoded, and the store at {location} accepts {limit:,}: "
                "keep large data in a file and remember its path, or raise max_value_bytes",
                path=location,
                hint="remember a path, or raise max_value_bytes",
            )


def _values(transaction: Transaction) -> Iterator[tuple[str, str, bytes]]:
    for entry in transaction.entries:
        yield "the result of step", entry.step, entry.payload
    for write in transaction.state:
        yield "the state key", write.key, write.value or b""
    if transaction.run:
        yield "the arguments of run", transaction.run.id, transaction.run.arguments or b""
        yield "the result of run", transaction.run.id, transaction.run.result or b""


def failed(error: Exception) -> Future[None]:
    """Return a future that raises."""
    future: Future[None] = Future()
    future.set_exception(error)
    return future


def lost_run(run_id: str) -> RunConflict:
    """Return the error of a process that writes for a run it does not have any more."""
    return RunConflict(
        f"run {run_id} was taken over by another process, so nothing more of this attempt is kept: "
        "call its workflow again for the outcome",
        run_id=run_id,
    )
