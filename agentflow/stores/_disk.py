"""A store in a directory: one SQLite file, written through diskcache, that any number of processes share.

Reads go over plain read-only connections and wait for nobody; the file is opened for writing at the first write.
All writes of this process go through one connection, batch by batch (`_commits`).
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from agentflow.exceptions import AgentflowError, RunConflict, StoreCorrupt, UsageError
from agentflow.stores import _schema
from agentflow.stores._base import ANY_REVISION, StateChanged, StateRow
from agentflow.stores._commits import CommitQueue, Pending
from agentflow.stores._diskcache import FILE_NAME, Cache, connect, wait_while_busy
from agentflow.stores._errors import store_errors
from agentflow.stores._locks import LockFile
from agentflow.stores._memory import check_sizes, lost_run
from agentflow.stores._opening import check_file, gone, is_made, make_directory, open_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from agentflow.stores._base import Entry, EntryFilter, EventRecord, Fence, RunFilter, RunRecord, Transaction

__all__ = ["DiskStore"]

_SYNCHRONOUS: Final = {"power": 2, "process": 1}
_READERS_KEPT: Final = 8

# A forked child must neither use nor close its parent's connections (sqlite.org/howtocorrupt.html, 2.6): they stay here, untouched.
_INHERITED: Final[list[object]] = []
_STORES: Final[weakref.WeakSet[DiskStore]] = weakref.WeakSet()


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
        self.path = Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 - resolve() would follow links
        self.on_corrupt = on_corrupt
        self._file = self.path / FILE_NAME
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._max_value_bytes = max_value_bytes
        self._locks = LockFile.at(self.path / "locks")
        self._begin()
        _STORES.add(self)

    def _begin(self) -> None:
        self._commits = CommitQueue(self._apply)
        self._files = _Files()
        self._closer = weakref.finalize(self, self._files.close)

    def __repr__(self) -> str:
        return f"DiskStore({str(self.path)!r})"

    @property
    def identity(self) -> str:
        """Equal for two objects over the same directory."""
        return f"disk:{os.path.realpath(self.path)}"

    @property
    def location(self) -> str:
        """The directory."""
        return str(self.path)

    # Reading

    def read(self, key: str) -> bytes | None:
        """Return the sealed result under a key, or None."""
        row = self._one(_schema.READ, (key,))
        if row is None:
            return None
        mode, value = row
        if mode != 1 or type(value) is not bytes:
            raise StoreCorrupt(
                f"a row of the store at {self.path} is not one that agentflow wrote: somebody else writes there; "
                "move the directory away, and look who",
                path=self.location,
            )
        return value

    def entries(self, which: EntryFilter) -> Sequence[Entry]:
        """List entries without their payloads, oldest first."""
        found = map(_schema.entry_of, self._all(*_schema.entries_query(which)))
        return [entry for entry in found if which.tag is None or which.tag in entry.tags]

    def state_row(self, workflow: str, session_id: str, key: str) -> StateRow:
        """Return one key of a session's state."""
        row = self._one(_schema.STATE_ROW, (workflow, _schema.to_text(session_id), _schema.to_text(key)))
        return StateRow(*row) if row else StateRow(None, 0)

    def state_keys(self, workflow: str, session_id: str) -> Sequence[str]:
        """Return the keys that have a value."""
        rows = self._all(_schema.STATE_KEYS, (workflow, _schema.to_text(session_id)))
        return [_schema.from_text(key) for (key,) in rows]

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None."""
        row = self._one(_schema.RUN, (_schema.to_text(run_id),))
        return _schema.run_of(row) if row else None

    def runs(self, which: RunFilter, limit: int | None = None) -> Sequence[RunRecord]:
        """List runs, newest first."""
        return [_schema.run_of(row) for row in self._all(*_schema.runs_query(which, limit))]

    def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRecord]:
        """List events of a run with a greater number, in order."""
        rows = self._all(_schema.EVENTS, (_schema.to_text(run_id), after, -1 if limit is None else limit))
        return [_schema.event_of(row) for row in rows]

    def last_event(self, run_id: str) -> EventRecord | None:
        """Return the newest event of a run, or None."""
        row = self._one(_schema.LAST_EVENT, (_schema.to_text(run_id),))
        return _schema.event_of(row) if row else None

    def sessions(self, workflow: str, limit: int | None = None) -> Sequence[str]:
        """List the sessions of a workflow."""
        rows = self._all(_schema.SESSIONS, (workflow, -1 if limit is None else limit))
        return [_schema.from_text(session_id) for (session_id,) in rows]

    def _one(self, statement: str, values: tuple[Any, ...]) -> Any:
        rows = self._all(statement, values)
        return rows[0] if rows else None

    def _all(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with store_errors(self._file), self._reader() as reader:
            if reader is None:
                return []
            rows = wait_while_busy(lambda: reader.execute(statement, values).fetchall(), self._busy_timeout)
            return list(rows)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection | None]:
        readers = self._files.readers
        try:
            con = readers.pop()
        except IndexError:
            if not is_made(self.path):
                yield None
                return
            con = self._connect()
        try:
            yield con
        except BaseException:
            con.close()
            raise
        if len(readers) < _READERS_KEPT:
            readers.append(con)
        else:
            con.close()

    def _connect(self) -> sqlite3.Connection:
        if not self._file.exists():
            raise gone(self.path)
        con = connect(self._file, mode="ro")
        try:
            con.execute("PRAGMA mmap_size = 67108864")
            check_file(con, self._file)
        except BaseException:
            con.close()
            raise
        return con

    # Writing

    def commit(self, transaction: Transaction) -> None:
        """Make a transaction durable."""
        check_sizes(transaction, self._max_value_bytes, self.location)
        self._commits.commit(transaction)

    def commit_soon(self, transaction: Transaction) -> Future[None]:
        """Make a transaction durable in the writer thread."""
        check_sizes(transaction, self._max_value_bytes, self.location)
        return self._commits.commit_soon(transaction)

    def delete_session(self, workflow: str, session_id: str) -> None:
        """Remove everything a session of a workflow has."""
        names = (workflow, _schema.to_text(session_id))
        with self._commits.exclusive(), self._writing() as (sql, cache):
            for (key,) in sql(_schema.SESSION_ENTRIES, names).fetchall():
                cache.delete(key)
            for statement in _schema.DROP_SESSION:
                sql(statement, names)

    def _apply(self, batch: Sequence[Pending]) -> None:
        refused: list[tuple[Pending, AgentflowError | StateChanged]] = []
        with self._writing() as (sql, cache):
            for pending in batch:
                sql("SAVEPOINT item")
                try:
                    _write(sql, cache, pending.transaction)
                except (StateChanged, RunConflict) as refusal:
                    sql("ROLLBACK TO item")
                    refused.append((pending, refusal))
                sql("RELEASE item")
        for pending, reason in refused:
            pending.future.set_exception(reason)
        for pending in batch:
            if not pending.future.done():
                pending.future.set_result(None)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Callable[..., sqlite3.Cursor], Cache]]:
        with store_errors(self._file):
            cache = self._writer()
            try:
                with cache.transaction() as sql:
                    yield sql, cache
            except (sqlite3.Error, OSError):
                cache.close()  # after a failed write the connection's own view may be stale
                raise

    def _writer(self) -> Cache:
        if self._files.cache is not None:
            self._check_place()
            return self._files.cache
        cache = open_cache(
            self.path, self._locks, synchronous=_SYNCHRONOUS[self._durability], busy_timeout=self._busy_timeout
        )
        self._files.cache = cache
        self._files.inode = self._file.stat().st_ino
        return cache

    def _check_place(self) -> None:
        # An unlinked file would take writes and lose them.
        try:
            same = self._file.stat().st_ino == self._files.inode
        except FileNotFoundError:
            same = False
        if not same:
            raise gone(self.path)

    # Locks and life

    def try_lock(self, name: str) -> bool:
        """Take a named lock if nobody has it."""
        with store_errors(self._file):
            make_directory(self.path)
            return self._locks.try_lock(name)

    def unlock(self, name: str) -> None:
        """Give a named lock back."""
        with store_errors(self._file):
            self._locks.unlock(name)

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a named lock."""
        with store_errors(self._file):
            return self._locks.is_locked(name)

    def close(self) -> None:
        """Close files; using the store again opens them again."""
        with self._commits.exclusive():
            self._files.close()
        self._locks.close()

    def _after_fork(self) -> None:
        self._closer.detach()
        _INHERITED.append((self._files, self._files.cache and self._files.cache.abandon()))
        self._begin()


def _write(sql: Callable[..., sqlite3.Cursor], cache: Cache, transaction: Transaction) -> None:
    _check_fence(sql, transaction.fence)
    _check_revisions(sql, transaction)
    for key in transaction.forget:
        cache.delete(key)
        sql(_schema.DROP_ENTRY, (key,))
    for entry in transaction.entries:
        cache.set(entry.key, entry.payload)
        sql(_schema.PUT_ENTRY, _schema.entry_row(entry))
    for write in transaction.state:
        names = (write.workflow, _schema.to_text(write.session_id), _schema.to_text(write.key))
        sql(_schema.PUT_STATE, (*names, write.value))
    for event in transaction.events:
        sql(_schema.PUT_EVENT, (_schema.to_text(event.run_id), event.seq, event.at, event.data))
    if transaction.run:
        sql(_schema.PUT_RUN, _schema.run_row(transaction.run))


def _check_fence(sql: Callable[..., sqlite3.Cursor], fence: Fence | None) -> None:
    if fence is None:
        return
    row = sql(_schema.RUN_OWNER, (_schema.to_text(fence.run_id),)).fetchone()
    if (row[0] if row else "") != fence.owner:
        raise lost_run(fence.run_id)


def _check_revisions(sql: Callable[..., sqlite3.Cursor], transaction: Transaction) -> None:
    changed = {}
    for write in transaction.state:
        if write.expected is ANY_REVISION:
            continue
        names = (write.workflow, _schema.to_text(write.session_id), _schema.to_text(write.key))
        row = sql(_schema.STATE_ROW, names).fetchone()
        if (row[1] if row else 0) != write.expected:
            changed[write.key] = StateRow(*row) if row else StateRow(None, 0)
    if changed:
        raise StateChanged(changed)


class _Files:
    """The connections of one store object; kept apart from it, so that they can be closed when it is gone."""

    def __init__(self) -> None:
        self.readers: deque[sqlite3.Connection] = deque()
        self.cache: Cache | None = None
        self.inode: int | None = None

    def close(self) -> None:
        while self.readers:
            self.readers.pop().close()
        if self.cache is not None:
            self.cache.close()
            self.cache = self.inode = None


def _after_fork() -> None:
    for store in list(_STORES):
        store._after_fork()  # noqa: SLF001 - the module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
