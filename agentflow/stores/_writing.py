"""Writing a store: one connection, one flat transaction at a time."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from agentflow.stores._errors import FAULTS, busy, is_busy, store_error
from agentflow.stores._forks import GATE
from agentflow.stores._locks import OPENING
from agentflow.stores._migrations import migrate
from agentflow.stores._opening import create_store, open_cache
from agentflow.stores._patience import wait_while_busy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agentflow.stores._diskcache import Cache
    from agentflow.stores._locks import LockFile
    from agentflow.stores._migrations import Migrations
    from agentflow.stores._place import FileId, Place

__all__ = ["Writer", "Writing"]


class Writer:
    """The connection through which a store object writes, for one thread at a time.

    Args:
        place: Where the store is.
        locks: Its locks, for opening.
        synchronous: SQLite's setting, 2 for FULL and 1 for NORMAL.
        migrations: The schema that it writes.
    """

    def __init__(self, place: Place, locks: LockFile, synchronous: int, migrations: Migrations) -> None:
        self.place = place
        self._migrations = migrations
        self._locks = locks
        self._synchronous = synchronous
        self._cache: Cache | None = None
        self._file: FileId | None = None

    def transaction(self, deadline: float) -> Writing:
        """Return a transaction to be entered; it waits for other processes until a deadline at most."""
        return Writing(self, deadline)

    def begin(self) -> Cache:
        """Open a transaction, and the store if need be."""
        file = self.place.now()
        if self._cache is None or file is None or file != self._file:
            self.close()
            self._cache = self._open()
        self._cache.execute("BEGIN IMMEDIATE")
        if self._cache.execute("PRAGMA user_version").fetchone()[0] != self._migrations.version:
            # A newer agentflow has changed the tables since this was opened: opening it again says so.
            self.close()
            self._cache = self._open()
            self._cache.execute("BEGIN IMMEDIATE")
        return self._cache

    def _open(self) -> Cache:
        if self.place.now() is None:
            self._create()
        while (cache := open_cache(self.place, synchronous=self._synchronous, newest=self._migrations.version)) is None:
            self.upgrade()
        self._file = self.place.now()
        return cache

    def _create(self) -> None:
        self._alone(lambda: create_store(self.place))

    def upgrade(self) -> None:
        """Bring the store to the version of schema that is written here, if it is of an older one."""
        self.place.check_location()
        self._alone(lambda: migrate(self.place, self._migrations))

    def shrink(self, deadline: float) -> None:
        """Give the file's free room back to the disk; if others are in the way until the deadline, it stays for later writes.

        Raises:
            StoreError: If there is no room for it, or the store is damaged.
        """

        def attempt() -> None:
            if self._cache is None:
                self._cache = self._open()
            self._cache.execute("VACUUM")
            self._cache.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        try:
            wait_while_busy(attempt, deadline)
        except (sqlite3.Error, OSError) as error:
            self.close()
            if not is_busy(error):
                raise store_error(error, self.place.directory) from error

    def checkpoint(self) -> None:
        """Copy the log into the file, as far as nobody is in the way."""
        if self._cache is not None:
            self._cache.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _alone(self, work: Callable[[], None]) -> None:
        if not self._locks.try_lock(OPENING):
            raise busy(self.place.directory)
        try:
            work()
        finally:
            self._locks.unlock(OPENING)

    def close(self) -> None:
        """Close the connection, and roll back what was open; the next transaction opens another."""
        if self._cache is not None:
            cache, self._cache = self._cache, None
            cache.close()


class Writing:
    """A transaction: committed at the end of its block, rolled back if that raises.

    A class, not a generator, and `settle` may be called again: Ctrl-C may come before any line, those of the cleaning up included,
    and must leave neither a transaction open for good nor a doubt whether it was committed.
    """

    def __init__(self, writer: Writer, deadline: float) -> None:
        self._writer = writer
        self._deadline = deadline
        self._thread: int | None = None
        self._cache: Cache | None = None
        self._refused = False
        self._ending = False
        self._ended: bool | None = None

    def __enter__(self) -> Self:
        try:
            self._thread = threading.get_ident()
            GATE.__enter__()
            self._cache = wait_while_busy(self._writer.begin, self._deadline)
        except FAULTS as error:
            self.settle()
            raise store_error(error, self._writer.place.directory) from error
        except BaseException:  # Ctrl-C, too: the write lock may be held by now, and every process would wait for it
            self.settle()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end()
        except FAULTS as failure:
            error = failure
        finally:
            self.settle()
        if isinstance(error, FAULTS):
            raise store_error(error, self._writer.place.directory) from error

    @property
    def directory(self) -> Path:
        """The directory of the store, for messages."""
        return self._writer.place.directory

    def settle(self) -> bool:
        """Leave nothing open, and return whether it is over as it was meant to be."""
        if self._ended is None:  # SQLite itself knows how far it got
            self._ended = self._ending and self._cache is not None and not self._cache.in_transaction
        if self._thread is not None:
            if not self._ended:
                self._writer.close()  # rolls back; and after a failed write a connection's own view may be stale
            GATE.leave(self._thread)
            self._thread = None
        return self._ended

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute a statement; strings among the values must be `bound` already."""
        assert self._cache is not None
        return self._cache.execute(statement, values)

    def executemany(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Execute a statement for each row; strings in them must be `bound` already."""
        assert self._cache is not None
        self._cache.executemany(statement, rows)

    def put(self, key: str, value: bytes) -> None:
        """Set a value in diskcache's table."""
        assert self._cache is not None
        self._cache.put(key, value)

    def attempt(self, work: Callable[[Writing], None], *, alone: bool) -> Exception | None:
        """Do a piece of work and return its error, which takes back this piece and no other.

        Args:
            work: The piece.
            alone: Whether it is the only one of this transaction: then it needs no savepoint, which costs some 10 us.

        Raises:
            sqlite3.Error: If the store is at fault, which takes back everything.
        """
        if not alone:
            self.execute("SAVEPOINT piece")
        try:
            work(self)
        except Exception as error:  # whatever one transaction raises is its caller's, and the others of the batch go on
            if _is_of_the_store(error):
                raise
            self._refused = alone
            if not alone:
                self.execute("ROLLBACK TO piece")
                self.execute("RELEASE piece")
            return error
        if not alone:
            self.execute("RELEASE piece")
        return None

    def _end(self) -> None:
        self._ending = True
        try:
            self.execute("ROLLBACK" if self._refused else "COMMIT")
        except sqlite3.Error:
            self._ended = False
            raise


def _is_of_the_store(error: Exception) -> bool:
    # A constraint or a value of the wrong kind is the work's own fault; a full disk or a damaged page is everybody's trouble.
    return (
        isinstance(error, OSError | UnicodeDecodeError | MemoryError | sqlite3.OperationalError)
        or type(error) is sqlite3.DatabaseError
    )
