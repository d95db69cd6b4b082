"""What SQLite and the operating system say, as errors that say what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from agentflow.exceptions import (
    PayloadTooLarge,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocation,
    StoreReadOnly,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["busy", "damaged", "is_busy", "store_error", "store_errors"]

_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY_ERRNOS: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_LOCATION_ERRNOS: Final = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_READ_ONLY: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What Python's sqlite3 and SQLite say of damage without a code of its own.
_CORRUPT_TEXTS: Final = ("Could not decode", "no such table", "no such column", "has no column")


def is_busy(error: Exception) -> bool:
    """Whether somebody else is in the way, so that trying again helps."""
    return isinstance(error, StoreBusy) or (isinstance(error, sqlite3.Error) and _primary(error) in _BUSY)


@contextmanager
def store_errors(directory: Path) -> Generator[None]:
    """Turn errors of SQLite and of the operating system into typed ones that name the store."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, directory) from error


def store_error(error: sqlite3.Error | OSError, directory: Path) -> StoreError:
    """Return the typed error for one of SQLite or of the operating system."""
    return _from_os(error, str(directory)) if isinstance(error, OSError) else _from_sqlite(error, directory)


def damaged(where: str, what: object) -> StoreCorrupt:
    """Return the error of a store with something in it that was not written so."""
    return StoreCorrupt(
        f"the store at {where} is damaged ({what}): put a backup in its place, or move the directory away to begin anew",
        path=where,
        hint="restore a backup, or move the directory away",
    )


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _from_sqlite(error: sqlite3.Error, directory: Path) -> StoreError:
    code, where = _primary(error), str(directory)
    if code in _BUSY:
        return busy(directory)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(directory)):
        return _full(where, errno.ENOSPC)
    if code in _READ_ONLY or (code == sqlite3.SQLITE_CANTOPEN and not os.access(directory, os.W_OK)):
        return _read_only(where, None)
    if code in _CORRUPT or any(text in str(error) for text in _CORRUPT_TEXTS):
        return damaged(where, error)
    if code == sqlite3.SQLITE_TOOBIG:
        return PayloadTooLarge(
            f"a value is larger than the store at {where} can hold: keep large data in a file and remember its path",
            path=where,
            hint="remember a path",
        )
    return _failed(where, str(error), None)


def _from_os(error: OSError, where: str) -> StoreError:
    if error.errno in _FULL_ERRNOS:
        return _full(where, error.errno)
    if error.errno in _READ_ONLY_ERRNOS and not _is_closed_to_us(where):
        return _read_only(where, error.errno)
    if error.errno in _LOCATION_ERRNOS:
        return StoreLocation(
            f"no store can be kept at {where} ({error.strerror}): choose a directory with configure(store=...) or AGENTFLOW_STORE",
            path=where,
            hint="choose another directory",
            errno=error.errno,
        )
    return _failed(where, error.strerror or str(error), error.errno)


def busy(directory: Path) -> StoreBusy:
    """Return the error of a store that somebody else is using for too long."""
    return StoreBusy(
        f"the store at {directory} is locked by another process: it may be stopped in a debugger, or hold a long transaction; "
        "end it, or raise busy_timeout",
        path=str(directory),
        hint="end the process that holds the lock, or raise busy_timeout",
    )


def _failed(where: str, what: str, number: int | None) -> StoreError:
    return StoreError(
        f"the store at {where} failed: {what}: check the disk and its permissions, then call again",
        path=where,
        hint="check the disk and its permissions",
        errno=number,
    )


def _full(where: str, number: int | None) -> StoreFull:
    return StoreFull(
        f"the store at {where} has no room left: free some space and call again, nothing stored so far is lost",
        path=where,
        hint="free some space and call again",
        errno=number,
    )


def _read_only(where: str, number: int | None) -> StoreReadOnly:
    return StoreReadOnly(
        f"the store at {where} cannot be written by this user: give it the right to write there, "
        "or choose another directory with configure(store=...) or AGENTFLOW_STORE",
        path=where,
        hint="give this user the right to write there, or choose another directory",
        errno=number,
    )


def _is_closed_to_us(where: str) -> bool:
    return os.path.isdir(where) and not os.access(where, os.R_OK | os.X_OK)  # noqa: PTH112


def _no_room(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free < 64 * 1024
    except OSError:
        return False
