"""Named locks between processes that die with their holder.

They are kernel byte-range locks on one file: a lock's name is hashed to an offset and one byte there is locked.
The kernel frees them on `kill -9`, forked children do not inherit them, and there is no clock and nothing to clean up.
Two facts of POSIX decide the shape: closing *any* descriptor of the file drops all locks of the process, so the file is opened
once per process and place and never closed while a lock is held; and the kernel does not see threads, so a table in this process stands before it.
Locks are only ever taken without blocking: blocking ones report false deadlocks between threads of two processes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

if sys.platform != "win32":  # there, DiskStore says so when it is opened
    import fcntl

from agentflow.exceptions import StoreGone, StoreLocation
from agentflow.stores._place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from agentflow.stores._place import FileId

__all__ = ["OPENING", "LockFile"]

OPENING: Final = "opening"
"""The lock of whoever makes the store; names of others' locks begin with `lock:`."""

# struct flock, for F_GETLK, which tells who holds a lock without taking it.
_LINUX: Final = "hhqqi4x"
_DARWIN: Final = "qqihh"


class LockFile:
    """The locks of one directory in this process; use `LockFile.of(directory)`."""

    _known: ClassVar[dict[str, LockFile]] = {}

    def __init__(self, directory: Path) -> None:
        self._place = Place(directory)
        self._path = str(directory / "locks")
        # A finalizer may use locks while its own thread is in here: hence RLock, and tables that are right at each line.
        self._mutex = threading.RLock()
        self._held: set[int] = set()
        self._descriptor: int | None = None
        self._opened: FileId | None = None  # which file the descriptor is of
        self._refusal: int | None = None  # why the file is open for reading only

    @classmethod
    def of(cls, directory: Path) -> LockFile:
        """Return this process's one object for a directory."""
        return cls._known.setdefault(os.path.realpath(directory), cls(directory))

    def try_lock(self, name: str) -> bool:
        """Take a lock if neither a thread of this process nor another process has it."""
        offset = _offset(name)
        with self._mutex:
            descriptor = self._ready()
            if offset in self._held:
                return False
            if self._refusal is not None:
                raise OSError(self._refusal, "the file of locks cannot be written", self._path)
            taken = False
            try:
                self._held.add(offset)
                taken = _lock(descriptor, offset)
            finally:
                if not taken:
                    self._held.discard(offset)
            return taken

    def unlock(self, name: str) -> None:
        """Give a lock back; nothing happens if it is not held here (after a fork, say)."""
        offset = _offset(name)
        with self._mutex:
            if offset in self._held and self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
                self._held.discard(offset)

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a lock."""
        offset = _offset(name)
        with self._mutex:
            try:
                descriptor = self._ready(make=False)
            except FileNotFoundError:
                return False
            return offset in self._held or _held_elsewhere(descriptor, offset)

    def close(self) -> None:
        """Close the file if no lock is held."""
        with self._mutex:
            if not self._held:
                self._drop()

    def _ready(self, *, make: bool = True) -> int:
        if self._descriptor is not None and not self._is_current():
            # The directory was deleted: locks on a file without a name exclude nobody.
            if self._held:
                raise StoreGone(
                    f"the store at {self._place.directory} was deleted or replaced while locks in it were held: "
                    "end what runs on it, then call again",
                    path=str(self._place.directory),
                    hint="end what runs on it",
                )
            self._drop()
        if self._descriptor is None:
            self._descriptor = self._open(make=make)
            status = os.fstat(self._descriptor)
            self._opened = status.st_dev, status.st_ino
        return self._descriptor

    def _is_current(self) -> bool:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - asked at each lock
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._opened

    def _open(self, *, make: bool) -> int:
        if sys.platform == "win32":  # pragma: no cover
            raise StoreLocation(
                "a store on disk needs POSIX file locks, which Windows does not have: use memory: instead, or WSL",
                path=str(self._place.directory),
            )
        if make:
            self._place.make()
        else:
            self._place.check_owner()
        self._refusal = None
        try:
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            refused = error
        # Whoever may only read the store may still see who is alive.
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise refused from None
        self._refusal = refused.errno
        return descriptor

    def _drop(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def after_fork_in_child(self) -> None:
        """Forget the parent's locks, which a child does not inherit; closing its descriptor drops nothing of theirs."""
        self._mutex = threading.RLock()
        self._held = set()
        self._drop()


def _lock(descriptor: int, offset: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


@lru_cache(maxsize=1024)  # asked when a lock is taken, and when it is given back
def _offset(name: str) -> int:
    # Seven bytes: offsets are signed 64-bit numbers, and two of a million names meet with a chance of one in 140 000.
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")


def _held_elsewhere(descriptor: int, offset: int) -> bool:
    if sys.platform == "darwin":  # pragma: no cover - the order of the struct's fields differs
        asked = struct.pack(_DARWIN, offset, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        return bool(struct.unpack(_DARWIN, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[3] != fcntl.F_UNLCK)
    asked = struct.pack(_LINUX, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    return bool(struct.unpack(_LINUX, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)


def _after_fork() -> None:
    for locks in LockFile._known.values():
        locks.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
