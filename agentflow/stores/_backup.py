"""Copying a store while it is in use, through SQLite: file by file a copy would miss what stands in the log only."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from agentflow.exceptions import StoreCorrupt, StoreLocation
from agentflow.stores._diskcache import connect
from agentflow.stores._errors import damaged
from agentflow.stores._place import Place, sync

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["copy_store"]


def copy_store(source: sqlite3.Connection, to: Path) -> None:
    """Make a store of what a connection reads at this moment.

    Raises:
        StoreLocation: If there is something at the target, or it is on a network file system.
        StoreCorrupt: If what was copied is damaged; nothing is left of the copy.
    """
    place = Place(to)
    place.check_location()
    try:
        to.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise StoreLocation(
            f"a backup is not written over anything, and there is something at {to}: choose another name",
            path=str(to),
            hint="choose another name",
        ) from None
    try:
        _copy(source, place)
    except BaseException:  # Ctrl-C, too: half a copy must not look like a backup
        shutil.rmtree(to)  # made here, a moment ago
        raise


def _copy(source: sqlite3.Connection, place: Place) -> None:
    place.make()
    new = place.file.with_name(place.file.name + ".new")
    place.make_file(new)
    target = connect(new, mode="rw")
    try:
        # In one step: it reads one moment of the source and keeps no writer out. In several it would begin anew at each commit.
        source.backup(target)
        told = [row[0] for row in target.execute("PRAGMA integrity_check(5)")]
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        target.close()
    if told != ["ok"]:
        raise _damaged_source(place, told)
    sync(new)
    new.replace(place.file)
    sync(place.directory)
    place.mark()


def _damaged_source(place: Place, told: list[str]) -> StoreCorrupt:
    return damaged(str(place.directory), f"what was to be backed up is damaged already: {'; '.join(told)}")
