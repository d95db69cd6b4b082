"""The one door to diskcache: its directory and its file, with everything off that could lose or run something.

What its defaults would do here, and what stands against it:

* It unpickles what it finds (CVE-2025-69872, unfixed in 5.6.3), and reads and deletes files that a row names.
  `SafeDisk` knows only `str` keys and `bytes` values inside the row, on every path.
* It evicts the oldest results beyond 1 GiB: eviction is `"none"` and `cull_limit` 0.
* It takes its settings from the file, where another handle may have changed them: ours are passed at each opening,
  and the PRAGMAs set again on each connection.
* `retry=True`, `cache[key] = value` and `memoize` wait for ever on a locked file: not used; we wait ourselves, with an end.
* It opens a connection in each thread and leaves it to the garbage collector: here one connection serves all writes.

It relies on names of diskcache with an underscore, which is why `pyproject.toml` holds its version below 5.7.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import diskcache
from diskcache.core import MODE_RAW

from agentflow.exceptions import StoreCorrupt
from agentflow.stores._errors import is_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["FILE_NAME", "Cache", "SafeDisk", "connect", "wait_while_busy"]

FILE_NAME: Final = diskcache.core.DBNAME
_NO_FILES: Final = 2**62  # bytes; a value is never so large that it would become a file of its own

_SETTINGS: Final = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "statistics": 0,
    "tag_index": 0,
    "disk_min_file_size": _NO_FILES,
    "sqlite_auto_vacuum": 0,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
}


class SafeDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text keys and bytes inside the row; anything else is refused, when writing and when reading."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return a key as it is stored."""
        if type(key) is not str:
            raise TypeError(f"a store's keys are str, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return a stored key."""
        if type(key) is not str or not raw:
            raise StoreCorrupt(
                f"a key in the store at {self._directory} is not one that agentflow wrote", path=self._directory
            )
        return key

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, None, sqlite3.Binary]:
        """Return a value as it is stored."""
        if read or type(value) is not bytes:
            raise TypeError(f"a store's values are bytes, not {type(value).__name__} ({key!r})")
        return len(value), MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Return a stored value."""
        if read or mode != MODE_RAW or filename is not None or type(value) is not bytes:
            raise StoreCorrupt(
                f"a row of the store at {self._directory} is not one that agentflow wrote: somebody else writes there; "
                "move the directory away, and look who",
                path=self._directory,
            )
        return value

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:  # noqa: ARG002 - theirs
        """Refuse: no value is ever a file."""
        raise StoreCorrupt(f"the store at {self._directory} keeps no values in files", path=self._directory)

    def remove(self, file_path: object) -> None:
        """Refuse: a name found in a row deletes nothing."""
        raise StoreCorrupt(f"a row of the store at {self._directory} names a file: {file_path!r}", path=self._directory)


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """Open a connection whose file is not trusted: `mode` is SQLite's `ro` or `rwc`."""
    con = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}", uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    con.execute("PRAGMA trusted_schema = OFF")
    con.execute("PRAGMA cell_size_check = ON")
    return con


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def wait_while_busy(attempt: Callable[[], Any], limit: float) -> Any:
    """Try until nobody else is in the way, for at most `limit` seconds.

    Short sleeps of our own: SQLite's busy handler sleeps up to 100 ms at a time (tails of 185 ms were measured, 9 ms with these),
    and is not asked at all for the switch to WAL.
    """
    deadline = time.monotonic() + limit
    pause = 0.0005
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter
        pause = min(pause * 1.5, 0.02)


class Cache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """A diskcache directory behind one connection, written in flat transactions.

    Args:
        directory: Where it is; it must exist.
        synchronous: SQLite's setting, 2 for FULL and 1 for NORMAL.
        busy_timeout: How long to wait for another process's transaction, in seconds.
    """

    def __init__(self, directory: Path, *, synchronous: int, busy_timeout: float) -> None:
        self._file = directory / FILE_NAME
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        super().__init__(str(directory), disk=SafeDisk, sqlite_synchronous=synchronous, **_SETTINGS)

    @property
    def _con(self) -> sqlite3.Connection:
        if self._connection is None:
            con = connect(self._file, mode="rwc")
            con.execute(f"PRAGMA synchronous = {self._synchronous:d}")
            con.execute("PRAGMA mmap_size = 67108864")
            self._connection = con
        return self._connection

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        def execute(*statement: Any) -> sqlite3.Cursor:
            cursor: sqlite3.Cursor = wait_while_busy(lambda: self._con.execute(*statement), self._busy_timeout)
            return cursor

        return execute

    @contextmanager
    def _transact(self, retry: bool = False, filename: object = None) -> Iterator[tuple[Any, Any]]:  # noqa: ARG002, FBT001, FBT002 - theirs
        # diskcache's own methods come through here, always inside a transaction of ours.
        if self._txn_id != threading.get_ident():
            raise RuntimeError("a store is written inside DiskStore's transaction only")
        yield self._con.execute, _ignore_file

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """One flat transaction: committed at the end of the block, rolled back if it raises."""
        sql = self._con.execute
        wait_while_busy(lambda: sql("BEGIN IMMEDIATE"), self._busy_timeout)
        self._txn_id = threading.get_ident()
        try:
            yield sql
            sql("COMMIT")
        except BaseException:
            if self._con.in_transaction:
                sql("ROLLBACK")
            raise
        finally:
            self._txn_id = None  # type: ignore[assignment]  # as theirs

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abandon(self) -> sqlite3.Connection | None:
        """Give up the connection without touching its file, as a forked child must; keep what this returns alive."""
        connection, self._connection = self._connection, None
        return connection


def _ignore_file(filename: object) -> None:
    if filename is not None:
        raise StoreCorrupt(f"a row of the store names a file: {filename!r}")
