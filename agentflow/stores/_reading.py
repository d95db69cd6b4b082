"""Reading a store: plain read-only connections, which wait for no writer and write nothing."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agentflow.exceptions import StoreBusy
from agentflow.stores._diskcache import connect
from agentflow.stores._errors import FAULTS, busy, damaged, is_busy, store_error
from agentflow.stores._forks import GATE
from agentflow.stores._opening import check_file, version_of
from agentflow.stores._patience import wait_while_busy
from agentflow.stores._schema import bound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow.stores._place import FileId, Place

__all__ = ["Readers"]

T = TypeVar("T")

_KEPT: Final = 8  # connections; more threads than that read at once only now and then
# For so many seconds a connection takes the tables to be those that it has seen; looking each time would be a fifteenth of a hit.
_SURE: Final = 0.1


class Readers:
    """The read-only connections of one store object, each used by one thread at a time.

    Args:
        place: Where the store is.
        patience: How long to wait for whoever is in the way, in seconds.
        newest: The version of schema that it reads.
        upgrade: Brings an older store to that version.
    """

    def __init__(self, place: Place, patience: float, newest: int, upgrade: Callable[[], None]) -> None:
        self._place = place
        self._newest = newest
        self._upgrade = upgrade
        self._patience = patience
        self._idle: deque[tuple[FileId, float, sqlite3.Connection]] = deque()

    def records(self, statement: str, values: Sequence[Any], decode: Callable[[Sequence[Any]], T]) -> list[T]:
        """Return the decoded rows of a query; none if there is no store yet.

        Raises:
            StoreError: As `rows`, or if a row is none that agentflow wrote.
        """
        rows = self.rows(statement, bound(values))
        try:
            return [decode(row) for row in rows]
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(str(self._place.directory), error) from error

    def rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """Return the rows of a query as they are; strings among the values must be `bound` already.

        Raises:
            StoreError: If the store is damaged, gone, or in use for longer than `patience`.
        """
        try:
            with GATE:
                try:
                    return self._fetch(statement, values)  # as nearly always: a reader waits for no writer
                except (sqlite3.Error, StoreBusy) as error:
                    if not is_busy(error):
                        raise
                return wait_while_busy(lambda: self._fetch(statement, values), time.monotonic() + self._patience)
        except FAULTS as error:
            raise store_error(error, self._place.directory) from error

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        while self._idle:
            self._idle.pop()[2].close()

    def _fetch(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        file = self._place.now()
        if file is None:
            return []
        try:
            sure_until, con = self._connection(file)
        except sqlite3.OperationalError as error:
            return self._fetch_still(statement, values, error)
        try:
            rows = con.execute(statement, values).fetchall()
        except (
            BaseException
        ) as error:  # an interrupted read, too, leaves a statement half done, which nobody may take up
            con.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:  # a statement that no longer fits
                self._open("ro").close()  # says so if the tables are those of a newer agentflow by now
            raise
        if len(self._idle) < _KEPT:
            self._idle.append((file, sure_until, con))
        else:
            con.close()
        return rows

    def _connection(self, file: FileId) -> tuple[float, sqlite3.Connection]:
        """Return a connection, and until when its tables are taken for those of this agentflow."""
        now = time.monotonic()
        while self._idle:
            opened, sure_until, con = self._idle.pop()
            if opened == file and now < sure_until:
                return sure_until, con
            if opened == file and self._fits(con):
                return now + _SURE, con
            con.close()
        return now + _SURE, self._open("ro")

    def _fits(self, con: sqlite3.Connection) -> bool:
        """Whether the tables are those of this agentflow."""
        try:
            return version_of(con) == self._newest
        except sqlite3.Error:  # opening anew meets it again, and is what tells of it
            return False

    def _open(self, mode: str) -> sqlite3.Connection:
        self._place.check_owner()
        while True:
            con = connect(self._place.file, mode=mode)
            try:
                if check_file(con, self._place, self._newest) == self._newest:
                    return con
            except BaseException:  # Ctrl-C, too: nobody else has the connection yet
                con.close()
                raise
            con.close()
            self._upgrade()

    def _fetch_still(self, statement: str, values: tuple[Any, ...], error: sqlite3.OperationalError) -> list[Any]:
        """Read a store in a directory that we cannot write, and that nobody has open.

        SQLite wants its `-wal` and `-shm` files even to read, and the last writer took them away.
        Without them all there is stands in the one file, which changes only while a `-wal` lies beside it:
        so it is read as if it never changed, and the answer counts only if it did not.
        """
        before = self._stillness()
        if before is None or error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise error
        con = self._open("ro&immutable=1")
        try:
            rows = con.execute(statement, values).fetchall()
        finally:
            con.close()
        if self._stillness() != before:
            raise busy(self._place.directory)
        return rows

    def _stillness(self) -> tuple[int, int, int] | None:
        """What tells whether the file has changed; None if it may be changing."""
        directory, file = self._place.directory, self._place.file
        if os.access(directory, os.W_OK) or file.with_name(file.name + "-wal").exists():
            return None
        status = file.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
