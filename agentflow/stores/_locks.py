"""Named locks between processes that die with their holder.

They are kernel byte-range locks on one file: a lock's name is hashed to an offset and one byte there is locked.
The kernel frees them on `kill -9`, forked children do not inherit them, and there is no clock and nothing to clean up.
Two facts of POSIX decide the shape: closing *any* descriptor of the file drops all locks of the process, so the file is opened
once per process and place and never closed while a lock is held; and the kernel does not see threads, so a table in this process stands before it.
Locks are only ever taken without blocking: blocking ones report false deadlocks between threads of two processes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, ClassVar, Final

try:
    import fcntl
except ImportError:  # pragma: no cover - not POSIX; DiskStore says so when it is opened
    fcntl = None  # type: ignore[assignment]

from agentflow.exceptions import StoreLocation

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LockFile"]

# struct flock, for F_GETLK, which tells who holds a lock without taking it.
_LINUX: Final = "hhqqi4x"
_DARWIN: Final = "qqihh"


class LockFile:
    """The locks of one directory in this process; use `LockFile.at(path)`."""

    _open: ClassVar[dict[str, LockFile]] = {}
    _registry: ClassVar = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._held: set[int] = set()
        self._descriptor: int | None = None
        self._pid = 0

    @classmethod
    def at(cls, path: Path) -> LockFile:
        """Return this process's one object for a path."""
        with cls._registry:
            return cls._open.setdefault(os.path.realpath(path), cls(path))

    def try_lock(self, name: str) -> bool:
        """Take a lock if neither a thread of this process nor another process has it."""
        offset = _offset(name)
        with self._mutex:
            descriptor = self._ready()
            if offset in self._held:
                return False
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except (BlockingIOError, PermissionError):
                return False
            self._held.add(offset)
            return True

    def unlock(self, name: str) -> None:
        """Give a lock back; nothing happens if it is not held here (after a fork, say)."""
        offset = _offset(name)
        with self._mutex:
            descriptor = self._ready()
            if offset in self._held:
                self._held.discard(offset)
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)

    def is_locked(self, name: str) -> bool:
        """Whether anybody holds a lock."""
        offset = _offset(name)
        with self._mutex:
            if self._pid != os.getpid() and not self._path.exists():
                return False
            descriptor = self._ready()
            return offset in self._held or _held_elsewhere(descriptor, offset)

    def close(self) -> None:
        """Close the file if no lock is held."""
        with self._mutex:
            if self._descriptor is not None and not self._held and self._pid == os.getpid():
                os.close(self._descriptor)
                self._descriptor = None

    def _ready(self) -> int:
        if self._pid == os.getpid() and self._descriptor is not None:
            return self._descriptor
        if fcntl is None:  # pragma: no cover - not POSIX
            raise StoreLocation(
                f"a store on disk needs POSIX file locks, which {sys.platform} does not have: use memory: instead",
                path=str(self._path.parent),
            )
        # A forked child has none of its parent's locks, so closing the inherited descriptor drops nothing.
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._held.clear()
        self._descriptor = _open(self._path)
        self._pid = os.getpid()
        return self._descriptor


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except PermissionError:
        # Whoever may only read the store may still see who is alive.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _offset(name: str) -> int:
    # Seven bytes: offsets are signed 64-bit numbers, and two of a million names meet with a chance of one in 70 000.
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")


def _held_elsewhere(descriptor: int, offset: int) -> bool:
    if sys.platform == "darwin":  # pragma: no cover - the order of the struct's fields differs
        asked = struct.pack(_DARWIN, offset, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        return bool(struct.unpack(_DARWIN, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[3] != fcntl.F_UNLCK)
    asked = struct.pack(_LINUX, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    return bool(struct.unpack(_LINUX, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)


def _after_fork() -> None:
    # Whoever held these in the parent is a thread that does not exist in the child.
    LockFile._registry = threading.Lock()
    for locks in LockFile._open.values():
        locks._mutex = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
