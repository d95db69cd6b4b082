"""What SQLite and the operating system say, as errors that say what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final, TypeAlias

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

__all__ = ["FAULTS", "Fault", "busy", "damaged", "is_busy", "store_error", "store_errors"]

Fault: TypeAlias = sqlite3.Error | OSError | UnicodeDecodeError
FAULTS: Final = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What a store that does not answer raises. Of damaged text that would stand in its message, sqlite3 says only that it is no UTF-8."""

_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY_ERRNOS: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
# What is wrong is not the disk: the process has too little of something.
_HINTS: Final = {
    errno.EMFILE: "close files, or raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files: the whole system has too many open",
    errno.ENOMEM: "free some memory, or raise its limit",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
}
_LOCATION_ERRNOS: Final = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_READ_ONLY: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_AS_MUCH_AS_A_COMMIT: Final = 64 * 1024
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
    except FAULTS as error:
        raise store_error(error, directory) from error


def store_error(error: Fault, directory: Path) -> StoreError:
    """Return the typed error for one of SQLite or of the operating system."""
    if isinstance(error, UnicodeDecodeError):
        return damaged(str(directory), error)
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
    if cause := _of_the_system(error, directory):
        return _from_os(cause, where)
    if code in _CORRUPT or any(text in str(error) for text in _CORRUPT_TEXTS):
        return damaged(where, error)
    if code == sqlite3.SQLITE_TOOBIG:
        return PayloadTooLarge(
            f"a value is larger than the store at {where} can hold: keep large data in a file and remember its path",
            path=where,
            hint="remember a path",
        )
    return _failed(where, str(error), None)


def _of_the_system(error: sqlite3.Error, directory: Path) -> OSError | None:
    """Return the error of the operating system that is behind one of SQLite's, as far as can be told."""
    code = _primary(error)
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, str(error))
    if code in _READ_ONLY:
        return OSError(errno.EROFS if _is_mounted_read_only(directory) else errno.EACCES, str(error))
    if code == sqlite3.SQLITE_IOERR:
        return _asked(directory) or OSError(errno.EIO, str(error))
    if code == sqlite3.SQLITE_CANTOPEN:
        return _asked(directory)
    return None


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
    hint = _HINTS.get(number or 0, "check the disk and its permissions")
    return StoreError(
        f"the store at {where} failed: {what}: {hint}, then call again", path=where, hint=hint, errno=number
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


def _is_mounted_read_only(directory: Path) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _asked(directory: Path) -> OSError | None:
    """Ask the system what is wrong, since SQLite does not say: write a file without a name where the store is.

    A full disk, a quota, a lack of descriptors or of rights is met again; what has passed meanwhile, or a page of the disk
    that cannot be read, is not. Never by opening a file of the store: closing it would drop SQLite's locks on it.
    """
    try:
        with _nameless(directory) as file, _nameless(directory), _nameless(directory):  # as many as a connection has
            file.seek(_largest_size(directory))  # a hole takes no room, but may be beyond a limit
            file.write(bytes(_AS_MUCH_AS_A_COMMIT))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _nameless(directory: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory)


def _largest_size(directory: Path) -> int:
    sizes = [0]
    for each in directory.iterdir():
        with suppress(FileNotFoundError):
            sizes.append(each.stat().st_size)
    return max(sizes)
