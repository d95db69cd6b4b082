"""From the tables of an older agentflow to those of this one: version by version, each in one transaction.

A released schema is never changed in place. A change is a new version and a step that makes it of the one before;
a store of every released version is kept in the tests, and must open for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from agentflow.exceptions import IncompatibleStore
from agentflow.stores import _schema
from agentflow.stores._diskcache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentflow.stores._place import Place

__all__ = ["CURRENT", "Migrations", "migrate"]

Step: TypeAlias = "Callable[[Callable[..., Any]], None]"
"""Changes the tables of one version into those of the next; it gets what executes a statement."""

_FULL = 2  # SQLite's `synchronous`


@attrs.frozen
class Migrations:
    """What this agentflow writes, and how older stores become that.

    Attributes:
        version: The version of the schema.
        steps: For each older version the step to the next.
    """

    version: int
    steps: Mapping[int, Step]


CURRENT: Final = Migrations(_schema.SCHEMA_VERSION, {})


def migrate(place: Place, migrations: Migrations) -> None:
    """Bring a store to the version that this agentflow writes; the caller has the lock `OPENING`.

    Raises:
        IncompatibleStore: If there is no way from its version.
    """
    cache = Cache(place.file, synchronous=_FULL)
    try:
        while _step_up(cache, place, migrations):
            pass
    finally:
        cache.close()  # and with it an open transaction: it is as it was before the step


def _step_up(cache: Cache, place: Place, migrations: Migrations) -> bool:
    cache.execute("BEGIN IMMEDIATE")
    version = int(cache.execute("PRAGMA user_version").fetchone()[0])
    if version >= migrations.version:
        cache.execute("ROLLBACK")
        return False
    if version not in migrations.steps:
        raise IncompatibleStore(
            f"the store at {place.directory} has schema {version}, and this agentflow knows no way from there to "
            f"{migrations.version}: open it with an older agentflow, or choose another directory",
            path=str(place.directory),
            hint="open it with an older agentflow, or choose another directory",
        )
    migrations.steps[version](cache.execute)
    cache.execute(f"PRAGMA user_version = {version + 1:d}")
    cache.execute("COMMIT")
    return True
