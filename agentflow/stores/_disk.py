"""A store in a directory: one SQLite file, written through diskcache, that any number of processes share.

Reads go over plain read-only connections and wait for nobody; the file is opened for writing at the first write.
All writes of this process go through one connection, batch by batch (`_commits`).
"""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from agentflow._options import path as a_path, whole
from agentflow._retry import seconds
from agentflow.exceptions import PayloadTooLarge, UsageError
from agentflow.stores import _schema
from agentflow.stores._applying import apply, drop_session
from agentflow.stores._base import StateRow
from agentflow.stores._commits import CommitQueue
from agentflow.stores._diskcache import connect
from agentflow.stores._errors import damaged, store_error, store_errors
from agentflow.stores._forks import GATE, survive_forks
from agentflow.stores._locks import LockFile
from agentflow.stores._memory import check_sizes, failed
from agentflow.stores._migrations import CURRENT, Migrations
from agentflow.stores._place import Place
from agentflow.stores._reading import Readers
from agentflow.stores._schema import bound, to_text
from agentflow.stores._writing import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from agentflow.stores._base import Entry, EntryFilter, EventRecord, RunFilter, RunRecord, Transaction
    from agentflow.stores._reports import Finding, Pruned, StoreSize
    from agentflow.stores._writing import Writing
    from agentflow.types import Duration

__all__ = ["DiskStore"]

_SYNCHRONOUS: Final = {"power": 2, "process": 1}
_MOST_BYTES: Final = 900_000_000  # SQLite's own limit of a row is 1 000 000 000
_WORTH_IT: Final = 4  # the part of a file that must be free for it to be made smaller: a quarter
_PATIENCE_AT_EXIT: Final = 1.0  # seconds that the end of the interpreter waits for what other threads are writing

# What a forked child must neither use nor close, if the fork could not wait for it: kept here, untouched to its end.
_INHERITED: Final[list[object]] = []


class DiskStore:
    """Keeps everything in a directory, safe against crashes and shared by processes on one machine.

    Nothing is opened or created until the first use.
    The directory is made for this user alone (mode 0700) and holds a `.gitignore` of `*`.

    ```python
    import tempfile
    from agentflow.stores import DiskStore

    with tempfile.TemporaryDirectory() as directory:
        store = DiskStore(directory + "/flows")
        assert store.read("nothing here") is None
        store.close()
    ```

    Args:
        path: The directory; a relative one is fixed when the object is made.
        durability: `"power"`: what was committed survives a power cut, for one fsync a commit.
            `"process"`: it survives the death of the process; the last moments may be lost in a power cut. Several times faster.
        on_corrupt: What a damaged result does: `"raise"` a `StoreCorrupt`, or `"recompute"` it with a warning.
        busy_timeout: How long a write waits for another process's transaction, in seconds, before `StoreBusy`.
        max_value_bytes: The largest value accepted.
    """

    _migrations: ClassVar[Migrations] = CURRENT

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["power", "process"] = "power",
        on_corrupt: Literal["raise", "recompute"] = "raise",
        busy_timeout: float = 30,
        max_value_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            raise UsageError(f'durability={durability!r}: write "power" or "process"')
        if on_corrupt not in ("raise", "recompute"):
            raise UsageError(f'on_corrupt={on_corrupt!r}: write "raise" or "recompute"')
        seconds(busy_timeout, what="busy_timeout")
        if whole(max_value_bytes, "max_value_bytes", least=0) > _MOST_BYTES:
            raise UsageError(
                f"max_value_bytes={max_value_bytes:,}: a file of SQLite holds values up to {_MOST_BYTES:,}"
            )
        self.path = Path(os.path.abspath(os.path.expanduser(a_path(path, "path"))))  # noqa: PTH100, PTH111 - resolve() would follow links
        self.on_corrupt = on_corrupt
        self.options = {
            "path": str(self.path),
            "durability": durability,
            "on_corrupt": on_corrupt,
            "busy_timeout": busy_timeout,
            "max_value_bytes": max_value_bytes,
        }
        """What another process makes a store of that is the same."""
        self._identity = f"disk:{os.path.realpath(self.path)}"
        self._synchronous = _SYNCHRONOUS[durability]
        self._busy_timeout = busy_timeout
        self._max_value_bytes = max_value_bytes
        self._locks = LockFile.of(self.path)
        self._begin()
        survive_forks(self)

    def _begin(self) -> None:
        place = Place(self.path)
        self._writer = Writer(place, self._locks, self._synchronous, self._migrations)
        self._readers = Readers(place, self._busy_timeout, self._migrations.version, self._writer.upgrade)
        self._commits = CommitQueue(self._writer.transaction, self._busy_timeout)
        self._closer = weakref.finalize(self, _close, self._commits, self._readers, self._writer, self._locks)

    def __repr__(self) -> str:
        return f"DiskStore({str(self.path)!r})"

    @property
    def identity(self) -> str:
        """Equal for two objects over the same directory."""
        return self._identity

    @property
    def location(self) -> str:
        """The directory."""
        return str(self.path)

    # Reading

    def read(self, key: str) -> bytes | None:
        """Return the sealed result under a key, or None."""
        rows = self._readers.rows(_schema.READ, (to_text(key),) * 2)
        if not rows:
            return None
        is_its_own, mode, filename, value = rows[0]
        if not is_its_own:
            raise damaged(self.location, "an index that names the row of another key")
        if mode != 1 or filename is not None or type(value) is not bytes:
            raise damaged(self.location, "a row that agentflow did not write: somebody else writes there")
        return value

    def entries(self, which: EntryFilter) -> Sequence[Entry]:
        """List entries without their payloads, oldest first."""
        found = self._readers.records(*_schema.entries_query(which), _schema.entry_of)
        return [entry for entry in found if which.tag is None or which.tag in entry.tags]

    def recent(self, which: EntryFilter, limit: int) -> Sequence[Entry]:
        """List so many of the newest entries, with their `detail`."""
        return self._readers.records(*_schema.recent_query(which, limit), _schema.detailed_entry_of)

    def pieces(self, step: str, version: str) -> Mapping[str, str] | None:
        """Return what a version of a step is made of."""
        rows = self._readers.records(_schema.PIECES, (step, version), _schema.pieces_of)
        return rows[0] if rows else None

    def state_row(self, workflow: str, session_id: str, key: str) -> StateRow:
        """Return one key of a session's state."""
        rows = self._readers.records(_schema.STATE_ROW, (workflow, session_id, key) * 2, _schema.state_of)
        return rows[0] if rows else StateRow(None, 0)

    def state_keys(self, workflow: str, session_id: str) -> Sequence[str]:
        """Return the keys that have a value."""
        return self._readers.records(_schema.STATE_KEYS, (workflow, session_id), _schema.name_of)

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None."""
        rows = self._readers.records(_schema.RUN, (run_id,), _schema.run_of)
        if rows and rows[0].id != run_id:
            raise damaged(self.location, "an index that names another run")
        return rows[0] if rows else None

    def runs(self, which: RunFilter, limit: int | None = None) -> Sequence[RunRecord]:
        """List runs, newest first."""
        return self._readers.records(*_schema.runs_query(which, limit), _schema.run_of)

    def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRecord]:
        """List events of a run with a greater number, in order."""
        return self._readers.records(_schema.EVENTS, (run_id, after, _up_to(limit)), _schema.event_of)

    def last_event(self, run_id: str) -> EventRecord | None:
        """Return the newest event of a run, or None."""
        rows = self._readers.records(_schema.LAST_EVENT, (run_id,), _schema.event_of)
        return rows[0] if rows else None

    def sessions(self, workflow: str, limit: int | None = None) -> Sequence[str]:
        """List the sessions of a workflow."""
        return self._readers.records(_schema.SESSIONS, (*[workflow] * 3, _up_to(limit)), _schema.name_of)

    # Writing

    def commit(self, transaction: Transaction) -> None:
        """Make a transaction durable."""
        check_sizes(transaction, self._max_value_bytes, self.location)
        self._commits.run(partial(apply, transaction), transaction.size)

    def commit_soon(self, transaction: Transaction) -> Future[None]:
        """Make a transaction durable in the writer thread."""
        try:
            check_sizes(transaction, self._max_value_bytes, self.location)
        except PayloadTooLarge as error:
            return failed(error)
        return self._commits.soon(partial(apply, transaction), transaction.size)

    def delete_session(self, workflow: str, session_id: str) -> None:
        """Remove everything a session of a workflow has."""
        if self._commits.is_idle and self._writer.place.now() is None:  # nothing is made to remove nothing from it
            return
        self._commits.run(partial(drop_session, bound((workflow, session_id))))

    # Upkeep

    def doctor(self) -> tuple[Finding, ...]:
        """Examine the store, and return what is wrong with it and what to do; nothing, if all is well.

        It looks at the directory, its owner and its file system, at the room on the disk, at SQLite's own checks, at every checksum, and at runs
        whose process has died. It changes nothing, never raises for what it finds, and may be called while the store is in use.
        It reads the whole store, which takes some seconds for a hundred thousand results.
        """
        from agentflow.stores._doctor import examine  # noqa: PLC0415 - only who looks after a store pays for it

        with GATE:
            return examine(Place(self.path), self._migrations.version, self.is_locked)

    def size(self) -> StoreSize:
        """Return how large it is: by workflow and kind, its files, and the room inside that later writes will use."""
        from agentflow.stores._size import disk_size  # noqa: PLC0415 - only who looks after a store pays for it

        return disk_size(Place(self.path).file, self._readers.rows)

    def backup(self, to: str | os.PathLike[str]) -> Path:
        """Copy the store while it is in use, and return the directory of the copy, which is a store.

        The copy is of one moment, was checked by SQLite, and is on the disk when this returns. Writers are not kept out.
        It reads and writes the whole store: in async code call it in a thread.

        ```python
        import tempfile
        from agentflow.stores import DiskStore

        with tempfile.TemporaryDirectory() as directory:
            store = DiskStore(directory + "/flows")
            copy = DiskStore(store.backup(directory + "/flows-backup"))
            assert copy.size().parts == store.size().parts
            copy.close()
            store.close()
        ```

        Args:
            to: The directory to make; there must be nothing of that name.

        Raises:
            StoreLocation: If there is, or it is on a network file system.
            StoreCorrupt: If the store is damaged; no copy is left.
        """
        from agentflow.stores._backup import copy_store  # noqa: PLC0415 - only who looks after a store pays for it

        target = Path(os.path.abspath(os.path.expanduser(a_path(to, "to"))))  # noqa: PTH100, PTH111 - resolve() would follow links
        self._commits.run(lambda _: None)  # so that there is a store to copy, of this version
        with store_errors(self.path), GATE:
            source = connect(Place(self.path).file, mode="ro")
            try:
                copy_store(source, target)
            finally:
                source.close()
        return target

    def prune(
        self,
        *,
        older_than: Duration | None = None,
        versions: Sequence[str] | Literal["old"] | None = None,
        workflow: str | None = None,
        dry_run: bool = True,
    ) -> Pruned:
        """Remove what is old, or count what would be removed: by default nothing is.

        With an age alone, runs that ended before go with their events, as well as results. State is never removed.
        What a run that is being executed may need stays: the results of its session, shared ones, its child runs.
        It removes in small transactions, so that others can write in between. Room that becomes free is used by later writes; the file itself is made
        smaller (SQLite's VACUUM, which keeps writers out meanwhile and needs as much room again) if a quarter of it is free and nothing is being executed.

        ```python
        from datetime import timedelta
        from agentflow.stores import MemoryStore

        found = MemoryStore().prune(older_than=timedelta(days=90), versions="old")
        assert (found.dry_run, found.entries, found.entry_bytes) == (True, 0, 0)
        ```

        Args:
            older_than: Only what was completed longer ago than this.
            versions: `"old"`: only results of other versions of a step than the one that made its newest result (closures of one factory are
                versions of one step here). Or the versions by name, as `Session.steps()` shows them.
            workflow: Only what belongs to this workflow; `""` for results that all workflows share.
            dry_run: Whether to count only.

        Raises:
            UsageError: If neither an age nor versions are given.
            StoreError: If the store cannot be written.
        """
        from agentflow.stores._prune import DiskPruning, conditions  # noqa: PLC0415 - only who looks after a store pays for it

        pruning = DiskPruning(conditions(older_than, versions, workflow, dry_run=dry_run), self.is_locked)
        pruning.begin(self._readers.rows)
        counting = dry_run or self._writer.place.now() is None  # as in delete_session
        while not pruning.is_done:
            if counting:
                pruning.piece(self._readers.rows)
            else:
                self._commits.run(lambda writing: pruning.piece(partial(_rows, writing)))
        return pruning.result(0 if counting or pruning.has_live_runs else self._shrink())

    def _shrink(self) -> int:
        """Give room back to the disk if it is worth it; return how much."""
        with store_errors(self.path), self._commits.leader, GATE:
            self._writer.checkpoint()  # what was written last may stand in the log only
        before = self.size()
        if before.free_bytes * _WORTH_IT < before.file_bytes:
            return 0
        with self._commits.leader, GATE:
            self._writer.shrink(time.monotonic() + self._busy_timeout)
        return max(0, before.file_bytes - self.size().file_bytes)

    # Locks and life

    def try_lock(self, name: str) -> bool:
        """Take a named lock if nobody has it."""
        try:
            return self._locks.try_lock(f"lock:{name}")
        except OSError as error:
            raise store_error(error, self.path) from error

    def unlock(self, name: str) -> None:
        """Give a named lock back."""
        try:
            self._locks.unlock(f"lock:{name}")
        except OSError as error:
            raise store_error(error, self.path) from error

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a named lock."""
        with store_errors(self.path):
            return self._locks.is_locked(f"lock:{name}")

    def close(self) -> None:
        """Finish what was handed over, and close files and threads; using the store again opens them again."""
        if self._commits.is_leading():  # a finalizer in the middle of a commit: whoever commits goes on needing them
            return
        self._commits.stop()
        with self._commits.leader, GATE:
            self._readers.close()
            self._writer.close()
            self._writer.place.forget()
        self._locks.close()

    def before_fork(self) -> None:
        """Close every connection; both sides open their own at the next use."""
        self._readers.close()
        self._writer.close()

    def after_fork_in_child(self) -> None:
        """Begin anew, with nothing of the parent's."""
        self._closer.detach()
        _INHERITED.append((self._readers, self._writer))
        self._begin()


def _up_to(limit: int | None) -> int:
    return -1 if limit is None else limit


def _close(commits: CommitQueue, readers: Readers, writer: Writer, locks: LockFile) -> None:
    # Also at the end of the interpreter, where other threads may still be writing: then the system closes what we leave.
    commits.stop(_PATIENCE_AT_EXIT)
    if commits.leader.acquire(timeout=_PATIENCE_AT_EXIT):
        try:
            with GATE:
                readers.close()
                writer.close()
            locks.close()
        finally:
            commits.leader.release()


def _rows(writing: Writing, statement: str, values: tuple[Any, ...]) -> list[Any]:
    return writing.execute(statement, values).fetchall()
