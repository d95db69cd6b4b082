"""The one door to diskcache: its directory and its file, with everything off that could lose or run something.

What its defaults would do here, and what stands against it:

* It unpickles what it finds (CVE-2025-69872, unfixed in 5.6.3), and reads and deletes files that a row names.
  `SafeDisk` knows only `str` keys and `bytes` values inside the row, on every path.
* It evicts the oldest results beyond 1 GiB: eviction is `"none"` and `cull_limit` 0.
* It takes its settings from the file, where another handle may have changed them: here they are ours whatever stands there,
  and the PRAGMAs are set by us on each connection.
* `retry=True`, `cache[key] = value` and `memoize` wait for ever on a locked file: not used; we wait ourselves, with an end.
* It opens a connection in each thread and leaves it to the garbage collector: here one connection serves all writes.
* It writes its settings at each opening, in some forty transactions: here only a new store is written, in one transaction
  together with our tables, or not at all.
* Its `set` looks for a row, then inserts or updates it, and the row's id has to be asked for: here one statement writes the same row.
* It counts its rows by triggers and indexes their time of expiry: left out, since each costs a page in every commit.

It relies on names of diskcache with an underscore, which is why `pyproject.toml` holds its version below 5.7.
"""

# diskcache has no types, and what pyright guesses for it is narrower than what it says.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportIncompatibleMethodOverride=false
# pyright: reportArgumentType=false

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import diskcache
from diskcache.core import ENOVAL, MODE_RAW

from agentflow.stores._errors import damaged
from agentflow.stores._schema import VALUE_ID, from_text, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

__all__ = ["Cache", "SafeDisk", "connect"]

# A value as diskcache's `set` writes it, in one statement instead of a look and a write. The name of a file in a row that is
# written over is not kept, and the file is not touched.
_PUT: Final = """INSERT INTO Cache (key, raw, store_time, access_time, access_count, size, mode, value)
    VALUES (?, 1, ?, ?, 0, ?, ?, {})
    ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, expire_time = NULL,
    access_time = excluded.access_time, access_count = 0, tag = NULL, size = excluded.size, mode = excluded.mode,
    filename = NULL, value = excluded.value"""

# From this size on a value is written into room made for it: bound to a statement it would be copied twice in memory.
_HUGE: Final = 4 * 1024 * 1024

_NO_FILES: Final = 2**62  # bytes; a value is never so large that it would become a file of its own

_SETTINGS: Final = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "statistics": 0,
    "tag_index": 0,
    "size_limit": _NO_FILES,
    "disk_min_file_size": _NO_FILES,
    "sqlite_auto_vacuum": 0,
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 2,
}


# Pages that change in every commit (the last of each table) are copied into the file once in so many pages of the log, not in SQLite's 1000.
_MOST_PAGES: Final = 4000
_FEWEST_PAGES: Final = 100
_SHARE: Final = 32  # of the room on the disk is what the log may take before it is copied


class SafeDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text keys and bytes inside the row; anything else is refused, when writing and when reading."""

    def __init__(self, directory: str, **settings: object) -> None:  # noqa: ARG002 - they come from the file
        super().__init__(directory, min_file_size=_NO_FILES)

    def put(self, key: object) -> tuple[str, bool]:
        """Return a key as it is stored."""
        if type(key) is not str:
            raise TypeError(f"a store's keys are str, not {type(key).__name__}")
        return to_text(key), True

    def get(self, key: object, raw: object) -> str:
        """Return a stored key."""
        if type(key) is not str or not raw:
            raise damaged(self._directory, "a key that agentflow did not write")
        return from_text(key)

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, None, bytes]:
        """Return a value as it is stored."""
        if read or type(value) is not bytes:
            raise TypeError(f"a store's values are bytes, not {type(value).__name__} ({key!r})")
        return len(value), MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Return a stored value."""
        if read or mode != MODE_RAW or filename is not None or type(value) is not bytes:
            raise damaged(self._directory, "a row that agentflow did not write: somebody else writes there")
        return value

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:  # noqa: ARG002 - theirs
        """Refuse: no value is ever a file."""
        raise damaged(self._directory, "a value in a file of its own")

    def remove(self, file_path: object) -> None:
        """Refuse: a name found in a row deletes nothing."""
        raise damaged(self._directory, f"a row that names the file {file_path!r}")


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """Open a connection whose file is not trusted: `mode` is SQLite's `ro` or `rw`."""
    con = sqlite3.connect(
        f"file://{_quoted(path)}?mode={mode}", uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        con.execute("PRAGMA trusted_schema = OFF")
        con.execute("PRAGMA cell_size_check = ON")
        # A file that is cut short under a memory map kills the process with SIGBUS; read() gives an error.
        con.execute("PRAGMA mmap_size = 0")
    except BaseException:  # Ctrl-C, too: nobody else has the connection yet
        con.close()
        raise
    return con


def _pages_of_log(directory: Path) -> int:
    """Return how many pages the log may have before it is copied into the file: few where the disk has no room for many.

    A full disk has none for the copying either, so what is then in the log stays there.
    """
    try:
        disk = os.statvfs(directory)
    except (
        OSError,
        AttributeError,
    ):  # the second where there is no POSIX; what is wrong with the disk, SQLite will meet
        return _MOST_PAGES
    return min(_MOST_PAGES, max(_FEWEST_PAGES, disk.f_bavail * disk.f_frsize // _SHARE // _PAGE))


_PAGE: Final = 4096  # bytes, which is SQLite's default


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


class Cache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """A diskcache directory behind one connection, written in flat transactions.

    Args:
        file: The database: a store, or an empty file.
        synchronous: SQLite's setting, 2 for FULL and 1 for NORMAL.
        create: Makes the tables beside diskcache's in an empty file; a store is not written by being opened.
    """

    def __init__(
        self, file: Path, *, synchronous: int, create: Callable[[Callable[..., Any]], None] | None = None
    ) -> None:
        self._file = file
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._opening = True
        self._creating = create is not None
        try:
            if create is None:
                self._prepare()
            else:
                self._con.execute("BEGIN IMMEDIATE")
                self._prepare()
                create(self._con.execute)
                self._con.execute("COMMIT")
        except BaseException:  # Ctrl-C, too: a cache that is half open is none, and would be found to be one
            self._opening = False
            self.close()
            raise
        self._opening = False

    def _prepare(self) -> None:
        # diskcache expands "~" and "$NAME" in the directory it is given, and makes what is not there; we need it for neither.
        super().__init__(os.sep, disk=SafeDisk, **_SETTINGS)
        self._directory = self._disk._directory = str(self._file.parent)  # noqa: SLF001 - our own

    @property
    def _con(self) -> sqlite3.Connection:
        if self._connection is None:
            con = connect(self._file, mode="rw")
            try:
                con.execute("PRAGMA journal_mode = WAL")
                con.execute(f"PRAGMA synchronous = {self._synchronous:d}")
                con.execute(f"PRAGMA wal_autocheckpoint = {_pages_of_log(self._file.parent):d}")
                con.execute("PRAGMA journal_size_limit = 67108864")  # one huge value should not keep its room for ever
            except BaseException:  # Ctrl-C, too: nobody else has the connection yet
                con.close()
                raise
            self._connection = con
        return self._connection

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        return self._execute_theirs  # the lock is ours already: there is nothing to retry

    def _execute_theirs(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if "FROM Settings" in statement:
            return self._con.execute("SELECT 1 WHERE 0")  # ours hold whatever stands there, and it may be no text
        reads = statement.startswith(("SELECT", "PRAGMA"))
        wanted = not statement.startswith("CREATE TRIGGER") and "Cache_expire_time" not in statement
        if reads or (wanted and self._creating):
            return self._con.execute(statement, *values)
        return self._con.cursor()

    def drop_tag_index(self) -> None:
        """Do nothing: it was never made."""

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002 - theirs
        """Set one of diskcache's settings on this object; what the file says is not asked."""
        if key in _SETTINGS:
            setattr(self, key, _SETTINGS[key])
        return value

    @contextmanager
    def _transact(self, retry: bool = False, filename: object = None) -> Generator[tuple[Any, Any]]:  # noqa: ARG002, FBT001, FBT002 - theirs
        # diskcache's own methods come through here, always inside a transaction of ours.
        if not self.in_transaction:
            raise RuntimeError("a store is written inside a transaction of its own only")
        yield self._con.execute, self._ignore_file

    def _ignore_file(self, filename: object) -> None:
        if filename is not None:
            self._disk.remove(filename)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection is not None and self._connection.in_transaction

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute one of our own statements."""
        return self._con.execute(statement, values)

    def put(self, key: str, value: bytes) -> None:
        """Set a value, as part of the open transaction."""
        now, name = time.time(), to_text(key)
        if len(value) < _HUGE:
            self._con.execute(_PUT.format("?"), (name, now, now, len(value), MODE_RAW, value))
            return
        self._con.execute(_PUT.format("zeroblob(?)"), (name, now, now, len(value), MODE_RAW, len(value)))
        ((row,),) = self._con.execute(VALUE_ID, (name,))
        with self._con.blobopen("Cache", "value", row) as blob:
            blob.write(value)

    def executemany(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Execute one of our own statements for each row."""
        self._con.executemany(statement, rows)

    def close(self) -> None:
        """Close the connection, and with it an open transaction; the next use opens another."""
        if self._connection is not None and not self._opening:
            connection, self._connection = self._connection, None
            connection.close()
