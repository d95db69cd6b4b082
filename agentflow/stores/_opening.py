"""Opening a store's file, and making it where there is none.

It is made under another name and renamed when it is whole, so that a process which dies meanwhile leaves nothing half made,
and processes that begin at once never see each other's beginnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentflow.exceptions import IncompatibleStore
from agentflow.stores import _schema
from agentflow.stores._diskcache import Cache, connect
from agentflow.stores._place import sync

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from agentflow.stores._place import Place

__all__ = ["check_file", "create_store", "open_cache", "version_of"]

_FULL = 2  # SQLite's `synchronous`


def create_store(place: Place) -> None:
    """Make a store where there is none; the caller has the lock `OPENING`."""
    place.make()
    if place.now() is not None:
        return
    new = place.file.with_name(place.file.name + ".new")
    for rest in ("", "-journal", "-wal", "-shm"):  # of a process that died here
        new.with_name(new.name + rest).unlink(missing_ok=True)
    place.make_file(new)
    cache = Cache(new, synchronous=_FULL, create=_create)
    try:
        cache.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing would do it too, and say nothing if it fails
    finally:
        cache.close()
    new.replace(place.file)
    sync(place.directory)


def open_cache(place: Place, *, synchronous: int, newest: int) -> Cache | None:
    """Open a store for writing; None if it is of an older version, and has to be migrated first.

    Raises:
        StoreError: If it is damaged, foreign or newer.
    """
    place.check_owner()
    place.check_location()
    con = connect(place.file, mode="ro")
    try:
        version = check_file(con, place, newest)
    finally:
        con.close()
    if version < newest:
        return None
    cache = Cache(place.file, synchronous=synchronous)
    try:
        place.mark()
    except BaseException:  # Ctrl-C, too: nobody else has the cache yet
        cache.close()
        raise
    return cache


def _create(sql: Callable[..., Any]) -> None:
    for statement in _schema.CREATE:
        sql(statement)


def check_file(con: sqlite3.Connection, place: Place, newest: int) -> int:
    """Refuse a file that is no store which this version may touch; return the version of its schema.

    Args:
        con: A connection to it.
        place: Where it is.
        newest: The version that this agentflow writes.

    Raises:
        IncompatibleStore: If it is a database of somebody else, or of a newer agentflow.
        StoreCorrupt: If it was a store and is empty.
    """
    application = con.execute("PRAGMA application_id").fetchone()[0]
    version = version_of(con)
    where = str(place.directory)
    if application != _schema.APPLICATION_ID:
        if place.is_made() and not con.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise place.emptied()
        raise IncompatibleStore(
            f"{place.file} is a database, but not one of agentflow: "
            "choose another directory with configure(store=...) or AGENTFLOW_STORE",
            path=where,
            hint="choose another directory",
        )
    if version > newest:
        raise IncompatibleStore(
            f"the store at {where} was written by a newer agentflow (schema {version}, this one knows "
            f"{newest}): upgrade agentflow, or choose another directory",
            path=where,
            hint="upgrade agentflow",
        )
    return version


def version_of(con: sqlite3.Connection) -> int:
    """Return the version of a store's schema."""
    return int(con.execute("PRAGMA user_version").fetchone()[0])
