"""Opening a store's file: what it is, and making it where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentflow.exceptions import IncompatibleStore
from agentflow.stores import _schema
from agentflow.stores._diskcache import Cache, connect

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from agentflow.stores._place import Place

__all__ = ["check_file", "open_cache"]


def open_cache(place: Place, *, synchronous: int) -> Cache:
    """Open a store for writing, and make it if there is none; the caller has the lock `OPENING`.

    Raises:
        StoreError: If it is damaged, gone, foreign or newer.
    """
    place.make()
    place.now()
    place.make_file()
    made = _is_store(place)
    cache = Cache(place.file, synchronous=synchronous, create=None if made else _create)
    try:
        place.mark()
    except BaseException:
        cache.close()
        raise
    return cache


def _is_store(place: Place) -> bool:
    con = connect(place.file, mode="ro")
    try:
        return check_file(con, place)
    finally:
        con.close()


def _create(sql: Callable[..., Any]) -> None:
    for statement in _schema.CREATE:
        sql(statement)


def check_file(con: sqlite3.Connection, place: Place) -> bool:
    """Whether the file is a store (else it is empty), and none that this version must not touch.

    Raises:
        IncompatibleStore: If it is a database of somebody else, or of a newer agentflow.
        StoreCorrupt: If it was a store and is empty.
    """
    application = con.execute("PRAGMA application_id").fetchone()[0]
    version = con.execute("PRAGMA user_version").fetchone()[0]
    where = str(place.directory)
    if application != _schema.APPLICATION_ID:
        if con.execute("SELECT 1 FROM sqlite_master").fetchone() or application or version:
            raise IncompatibleStore(
                f"{place.file} is a database, but not one of agentflow: "
                "choose another directory with configure(store=...) or AGENTFLOW_STORE",
                path=where,
                hint="choose another directory",
            )
        if place.is_made():
            raise place.emptied()
        return False
    if version > _schema.SCHEMA_VERSION:
        raise IncompatibleStore(
            f"the store at {where} was written by a newer agentflow (schema {version}, this one knows "
            f"{_schema.SCHEMA_VERSION}): upgrade agentflow, or choose another directory",
            path=where,
            hint="upgrade agentflow",
        )
    return True
