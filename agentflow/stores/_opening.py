"""Opening a store's directory: whose it is, what lies in it, and making it where there is none.

The mark is written once the tables stand. A directory without it is new, or one whose making was cut off; with it,
a file that is missing or empty is damage, and nothing is made anew over it.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final

from agentflow.exceptions import IncompatibleStore, StoreBusy, StoreCorrupt, StoreGone, StoreLocation
from agentflow.stores import _schema
from agentflow.stores._diskcache import FILE_NAME, Cache, connect

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from agentflow.stores._locks import LockFile

__all__ = ["check_file", "gone", "is_made", "make_directory", "open_cache"]

_MARK: Final = "AGENTFLOW"
_MARK_TEXT: Final = "A store of agentflow. To copy it while it is in use, copy it through SQLite, never file by file.\n"


def is_made(directory: Path) -> bool:
    """Whether a store was made here."""
    return (directory / _MARK).exists()


def make_directory(directory: Path) -> None:
    """Make the directory, for this user alone.

    Raises:
        StoreLocation: If it is there and others may write to it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        _check_owner(directory)
    if not (directory / ".gitignore").exists():
        _write_text(directory / ".gitignore", "*\n")


def open_cache(directory: Path, locks: LockFile, *, synchronous: int, busy_timeout: float) -> Cache:
    """Open a store for writing, and make it if there is none.

    Raises:
        StoreError: If it is damaged, gone, foreign, newer, or not to be had within `busy_timeout`.
    """
    make_directory(directory)
    _wait_for_turn(directory, locks, busy_timeout)
    try:
        _check_existing(directory)
        cache = Cache(directory, synchronous=synchronous, busy_timeout=busy_timeout)
        with cache.transaction() as sql:
            for statement in _schema.CREATE:
                sql(statement)
            sql(f"PRAGMA application_id = {_schema.APPLICATION_ID:d}")
            sql(f"PRAGMA user_version = {_schema.SCHEMA_VERSION:d}")
        if not is_made(directory):
            _write_text(directory / _MARK, _MARK_TEXT)
        return cache
    finally:
        locks.unlock("open")


def _wait_for_turn(directory: Path, locks: LockFile, limit: float) -> None:
    # SQLite asks no busy handler for the switch to WAL, so that processes which open at once would fail: one at a time.
    deadline = time.monotonic() + limit
    while not locks.try_lock("open"):
        if time.monotonic() >= deadline:
            raise StoreBusy(
                f"another process is opening the store at {directory} for longer than {limit:g} s: "
                "end that process, or raise busy_timeout",
                path=str(directory),
                hint="end that process, or raise busy_timeout",
            )
        time.sleep(0.002)


def _check_existing(directory: Path) -> None:
    file = directory / FILE_NAME
    size = file.stat().st_size if file.exists() else None
    if size:
        con = connect(file, mode="ro")
        try:
            check_file(con, file)
        finally:
            con.close()
    elif is_made(directory):
        if size is None:
            raise gone(directory)
        raise StoreCorrupt(
            f"the store's file {file} is empty, which it was not: put a backup in its place, or move the directory away",
            path=str(directory),
            hint="restore a backup, or move the directory away",
        )


def check_file(con: sqlite3.Connection, file: Path) -> None:
    """Refuse a database that is no store, or one of a newer agentflow.

    Raises:
        IncompatibleStore: If it is.
    """
    application = con.execute("PRAGMA application_id").fetchone()[0]
    version = con.execute("PRAGMA user_version").fetchone()[0]
    if application == 0 and version == 0 and _is_beginning(con):
        return
    where = str(file.parent)
    if application != _schema.APPLICATION_ID:
        raise IncompatibleStore(
            f"{file} is a database, but not one of agentflow: "
            "choose another directory with configure(store=...) or AGENTFLOW_STORE",
            path=where,
            hint="choose another directory",
        )
    if version > _schema.SCHEMA_VERSION:
        raise IncompatibleStore(
            f"the store at {where} was written by a newer agentflow (schema {version}, this one knows "
            f"{_schema.SCHEMA_VERSION}): upgrade agentflow, or choose another directory",
            path=where,
            hint="upgrade agentflow",
        )


def _is_beginning(con: sqlite3.Connection) -> bool:
    # diskcache makes its tables before we make ours: a process that died in between leaves these and nothing else.
    tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return tables <= {"Settings", "Cache"}


def _check_owner(directory: Path) -> None:
    status = directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(20, "there is a file of that name", str(directory))
    if not hasattr(os, "geteuid"):  # pragma: no cover - not POSIX
        return
    if status.st_uid != os.geteuid() and os.geteuid() != 0 and status.st_uid != 0:
        _refuse_shared(directory)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _refuse_shared(directory)


def _refuse_shared(directory: Path) -> None:
    raise StoreLocation(
        f"other users can write to {directory}, and so into your workflows: "
        f"run `chmod go-w {directory}` if it is yours, or choose another directory",
        path=str(directory),
        hint="chmod go-w, or another directory",
    )


def gone(directory: Path) -> StoreGone:
    """Return the error of a store whose files were taken away while it was open."""
    return StoreGone(
        f"the store at {directory} was deleted or replaced while it was in use: "
        "put it back, or remove what is left of the directory to begin a new one",
        path=str(directory),
        hint="put it back, or remove what is left of the directory",
    )


def _write_text(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
