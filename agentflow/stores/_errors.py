"""What SQLite and the operating system say, as errors that say what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from agentflow.exceptions import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocation,
    StoreReadOnly,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_busy", "store_errors"]

_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY_ERRNOS: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way, so that trying again helps."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the operating system into typed ones that name the store."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise _from_os(error, path) from error


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _from_sqlite(error: sqlite3.Error, path: Path) -> StoreError:
    code = _primary(error)
    where = str(path)
    if is_busy(error):
        return StoreBusy(
            f"the store at {where} is locked by another process: it may be stopped in a debugger, or hold a long transaction; "
            "end it, or raise busy_timeout",
            path=where,
            hint="end the process that holds the lock, or raise busy_timeout",
        )
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(path)):
        return _full(where)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return _read_only(where)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(
            f"the store at {where} is damaged ({error}): put a backup in its place, or move the directory away to begin anew",
            path=where,
            hint="restore a backup, or move the directory away",
        )
    if code == sqlite3.SQLITE_CANTOPEN and not os.access(path.parent, os.W_OK):
        return _read_only(where)
    return StoreError(
        f"the store at {where} failed: {error}: check the disk and its permissions, then call again",
        path=where,
        hint="check the disk and its permissions",
    )


def _from_os(error: OSError, path: Path) -> StoreError:
    where = str(path)
    if error.errno in _FULL_ERRNOS:
        return _full(where, error.errno)
    if error.errno in _READ_ONLY_ERRNOS:
        return _read_only(where, error.errno)
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return StoreLocation(
            f"no store can be kept at {where} ({error.strerror}): choose a directory with configure(store=...) or AGENTFLOW_STORE",
            path=where,
            hint="choose another directory",
            errno=error.errno,
        )
    return StoreError(
        f"the store at {where} failed: {error.strerror or error}: check the disk and its permissions, then call again",
        path=where,
        hint="check the disk and its permissions",
        errno=error.errno,
    )


def _full(where: str, number: int | None = errno.ENOSPC) -> StoreFull:
    return StoreFull(
        f"the store at {where} has no room left: free some space and call again, nothing stored so far is lost",
        path=where,
        hint="free some space and call again",
        errno=number,
    )


def _read_only(where: str, number: int | None = None) -> StoreReadOnly:
    return StoreReadOnly(
        f"the store at {where} cannot be written: give this user the right to write there, "
        "or choose another directory with configure(store=...) or AGENTFLOW_STORE",
        path=where,
        hint="give this user the right to write there, or choose another directory",
        errno=number,
    )


def _no_room(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 64 * 1024
    except OSError:
        return False
