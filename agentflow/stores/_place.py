"""The directory of a store: whose it is, and what lies in it.

The mark is written once the tables stand. A directory without it is new, or one whose making was cut off; with it,
a file that is missing or empty is damage, and nothing is made anew over it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from agentflow.exceptions import StoreCorrupt, StoreGone, StoreLocation
from agentflow.stores._mounts import MOUNTINFO, file_system, is_network

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileId", "Place", "sync", "write_text"]

FileId: TypeAlias = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""

_FILE: Final = "cache.db"  # diskcache's name for it
_MARK: Final = "AGENTFLOW"
_OURS: Final = (_FILE, _MARK, "locks", ".gitignore")  # what the names of our files begin with
_MARK_TEXT: Final = "A store of agentflow. To copy it while it is in use, copy it through SQLite, never file by file.\n"


class Place:
    """A store's directory, and which file in it was the store's when it was last looked at."""

    mountinfo: ClassVar[Path] = MOUNTINFO

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / _FILE
        self._path = str(self.file)  # Path.stat() costs twice os.stat(), and this is asked before each read
        self._known: FileId | None = None

    def now(self) -> FileId | None:
        """Return which file the store is now, or None if there is none yet.

        Raises:
            StoreGone: Once, if it is not the file that it was: that one was deleted or replaced while it was in use.
            StoreCorrupt: If the file is empty, which it was not.
        """
        found = self._find()
        if found is not None and found == self._known:
            return found
        known, self._known = self._known, None
        if found is None and (known is not None or self.is_made()):
            found = self._find()  # the mark comes last, so another process may have made it between two looks
            if found is None:
                raise self.emptied() if self.file.exists() else self._gone()
        if known is not None and found != known:
            raise self._gone()
        self._known = found
        return found

    def _find(self) -> FileId | None:
        try:
            status = os.stat(self._path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino) if status.st_size else None

    def forget(self) -> None:
        """Take whatever is there from now on for the store: nothing of it is open any more."""
        self._known = None

    def _gone(self) -> StoreGone:
        return StoreGone(
            f"the store at {self.directory} was deleted or replaced while it was in use: put it back, "
            "or remove what is left of the directory and call again to begin a new one",
            path=str(self.directory),
            hint="put it back, or remove what is left of the directory",
        )

    def emptied(self) -> StoreCorrupt:
        """Return the error of a store that has lost its content."""
        return StoreCorrupt(
            f"the store at {self.directory} has lost its content: {self.file.name} is empty, which it was not; "
            "put a backup in its place, or move the directory away to begin anew",
            path=str(self.directory),
            hint="restore a backup, or move the directory away",
        )

    def is_made(self) -> bool:
        """Whether a store was made here."""
        return (self.directory / _MARK).exists()

    def mark(self) -> None:
        """Say that a store was made here."""
        if not self.is_made():
            write_text(self.directory / _MARK, _MARK_TEXT)

    def make(self) -> None:
        """Make the directory, for this user alone.

        Raises:
            StoreLocation: If it is there and others may write to it, or it is on another machine.
        """
        self.check_location()
        try:
            self.directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            self.check_owner()
        ignored = self.directory / ".gitignore"
        # A full disk may have left an empty one. In a directory of somebody's, such as `.`, it would hide their files.
        if (not ignored.exists() or not ignored.stat().st_size) and self._is_all_ours():
            write_text(ignored, "*\n")

    def _is_all_ours(self) -> bool:
        return all(path.name.startswith(_OURS) for path in self.directory.iterdir())

    def check_owner(self) -> None:
        """Refuse a directory that others can write to.

        Raises:
            StoreLocation: If it is one.
        """
        status = self.directory.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "there is a file of that name", str(self.directory))
        if not hasattr(os, "geteuid"):  # pragma: no cover - not POSIX
            return
        strangers = {0, os.geteuid()}
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or (status.st_uid not in strangers and os.geteuid() != 0):
            raise StoreLocation(
                f"other users can write to {self.directory}, and so into your workflows: "
                f"run `chmod go-w {self.directory}` if it is yours, or choose another directory",
                path=str(self.directory),
                hint="chmod go-w, or another directory",
            )

    def check_location(self) -> None:
        """Refuse a directory on a network file system; asked before anything is written.

        Raises:
            StoreLocation: If it is on one.
        """
        kind = file_system(self.directory, self.mountinfo)
        if is_network(kind):
            raise StoreLocation(
                f"{self.directory} is on a network file system ({kind}), where SQLite and file locks lose data without a word: "
                "choose a directory on a disk of this machine with configure(store=...) or AGENTFLOW_STORE",
                path=str(self.directory),
                hint="choose a directory on a disk of this machine",
            )

    def make_file(self, file: Path) -> None:
        """Make an empty file, for this user alone; SQLite would go by the umask. Its other files take after it."""
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def write_text(path: Path, text: str) -> None:
    """Write a small file, for this user alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
