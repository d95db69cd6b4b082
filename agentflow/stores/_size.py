"""How large a store is, by workflow and kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from agentflow.stores._reports import SizeOfKind, StoreSize
from agentflow.stores._schema import from_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from agentflow.stores._reports import Kind

__all__ = ["disk_size", "parts"]

_PARTS: Final = (
    "SELECT workflow, kind, COUNT(*), SUM(size) FROM af_entries GROUP BY 1, 2",
    "SELECT workflow, 'state', COUNT(*), SUM(LENGTH(value)) FROM af_state WHERE value IS NOT NULL GROUP BY 1",
    """SELECT workflow, 'run', COUNT(*), SUM(COALESCE(LENGTH(arguments), 0) + COALESCE(LENGTH(result), 0))
       FROM af_runs GROUP BY 1""",
    """SELECT workflow, 'event', COUNT(*), SUM(LENGTH(data)) FROM af_events JOIN af_runs ON af_runs.id = run_id
       GROUP BY 1""",
)
_FREE: Final = "SELECT freelist_count * page_size FROM pragma_freelist_count(), pragma_page_size()"


def disk_size(file: Path, fetch: Callable[[str, tuple[Any, ...]], list[Any]]) -> StoreSize:
    """Return the sizes of a store in a file."""
    rows = [row for statement in _PARTS for row in fetch(statement, ())]
    free = fetch(_FREE, ())
    return StoreSize(
        location=str(file.parent),
        parts=_sorted(
            SizeOfKind(workflow=from_text(workflow), kind=kind, count=count, size=size or 0)
            for workflow, kind, count, size in rows
        ),
        file_bytes=_bytes(file),
        log_bytes=_bytes(file.with_name(file.name + "-wal")),
        free_bytes=free[0][0] if free else 0,
    )


def parts(values: Iterable[tuple[str, Kind, bytes | int]]) -> Sequence[SizeOfKind]:
    """Return the sums of values, each named by its workflow and kind."""
    counts: Counter[tuple[str, Kind]] = Counter()
    sizes: Counter[tuple[str, Kind]] = Counter()
    for workflow, kind, value in values:
        counts[workflow, kind] += 1
        sizes[workflow, kind] += value if isinstance(value, int) else len(value)
    return _sorted(
        SizeOfKind(workflow=workflow, kind=kind, count=count, size=sizes[workflow, kind])
        for (workflow, kind), count in counts.items()
    )


def _sorted(found: Iterable[SizeOfKind]) -> tuple[SizeOfKind, ...]:
    return tuple(sorted(found, key=lambda part: (part.workflow, part.kind)))


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
