"""Removing what is old: results by age and by superseded version, finished runs and their events by age.

What a run that is being executed may need is never removed: the results of its session, those that all sessions share, those it has
made, its own row and those of its child runs. Whether a run is being executed is asked inside the transaction that removes, and a run
takes its lock before it writes its row, so that none can begin unseen in between.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from agentflow._clock import wall_time
from agentflow._options import several, text
from agentflow._retry import seconds
from agentflow.exceptions import UsageError
from agentflow.stores._base import UNFINISHED, handover_lock, is_queued, run_lock
from agentflow.stores._reports import Pruned
from agentflow.stores._schema import bound, from_text, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agentflow.stores._base import Entry, RunRecord
    from agentflow.types import Duration

__all__ = ["Conditions", "DiskPruning", "Live", "conditions", "superseded"]

BATCH: Final = 500
"""How much one transaction removes, so that other writers get their turn."""

_RUNS: Final = "SELECT id, parent_id, workflow, session_id, status, owner FROM af_runs"
_ENDED: Final = "COALESCE(finished_at, (SELECT MAX(at) FROM af_events WHERE run_id = af_runs.id), started_at)"
_OLD_RUNS: Final = f"SELECT id FROM af_runs WHERE (? IS NULL OR workflow = ?) AND {_ENDED} < ?"
_VERSIONS: Final = (
    "SELECT workflow, step, version, MAX(created_at) FROM af_entries WHERE kind = 'step' GROUP BY 1, 2, 3"
)

# Each condition by itself, with None for "any": they are few rows out of many, found by one walk.
_PAGE: Final = """SELECT id, size, EXISTS (SELECT 1 FROM json_each(?) l WHERE e.scope = 'global'
        OR (json_extract(l.value, '$[1]') = e.workflow AND json_extract(l.value, '$[2]') = e.session_id)
        OR json_extract(l.value, '$[0]') = e.run_id)
    FROM af_entries e WHERE id > ? AND (? IS NULL OR workflow = ?) AND (? IS NULL OR created_at < ?)
    AND (? IS NULL OR (kind = 'step' AND EXISTS (SELECT 1 FROM json_each(?) o WHERE json_extract(o.value, '$[0]') = e.workflow
        AND json_extract(o.value, '$[1]') = e.step AND json_extract(o.value, '$[2]') = e.version)))
    ORDER BY id LIMIT ?"""
_AMONG: Final = "IN (SELECT value FROM json_each(?))"
_DROP_ENTRIES: Final = (f"DELETE FROM Cache WHERE rowid {_AMONG}", f"DELETE FROM af_entries WHERE id {_AMONG}")
_DROP_RUNS: Final = (f"DELETE FROM af_events WHERE run_id {_AMONG}", f"DELETE FROM af_runs WHERE id {_AMONG}")
_DROP_PIECES: Final = "DELETE FROM af_versions WHERE (step, version) NOT IN (SELECT step, version FROM af_entries)"
_RUN_SIZES: Final = f"""SELECT COUNT(*), COALESCE(SUM(COALESCE(LENGTH(arguments), 0) + COALESCE(LENGTH(result), 0)), 0)
    FROM af_runs WHERE id {_AMONG}"""
_EVENT_SIZES: Final = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM af_events WHERE run_id {_AMONG}"

Fetch: TypeAlias = "Callable[[str, tuple[Any, ...]], list[Any]]"
"""Executes a statement and returns its rows."""


@attrs.frozen(kw_only=True)
class Conditions:
    """What is to be removed.

    Attributes:
        before: Only what was completed before this time, in seconds since the epoch; None for any age.
        versions: `"old"`, for results of every version of a step but its newest; versions by name; None for any.
        workflow: Only what belongs to this workflow; None for any.
        dry_run: Whether to count only.
    """

    before: float | None = None
    versions: tuple[str, ...] | str | None = None
    workflow: str | None = None
    dry_run: bool = True

    @property
    def takes_runs(self) -> bool:
        """Whether runs are meant, too: versions are a matter of results."""
        return self.before is not None and self.versions is None

    def takes(self, entry: Entry, old: Sequence[tuple[str, str, str]] | None) -> bool:
        """Whether a result is meant, where `old` is what `superseded` gave."""
        return (
            (self.workflow is None or entry.workflow == self.workflow)
            and (self.before is None or entry.created_at < self.before)
            and (old is None or (entry.kind == "step" and (entry.workflow, entry.step, entry.version) in old))
        )

    def takes_run(self, run: RunRecord, ended_at: float) -> bool:
        """Whether a run that ended, or was last heard of, at a time is meant."""
        return (
            self.takes_runs
            and self.before is not None
            and ended_at < self.before
            and (self.workflow is None or run.workflow == self.workflow)
        )


class Live:
    """Which runs are being executed, or wait for it, and which therefore stay.

    Args:
        runs: All of them, as id, parent, workflow, session, status and owner.
        is_locked: Whether a named lock is held.
    """

    def __init__(self, runs: Iterable[Sequence[str]], is_locked: Callable[[str], bool]) -> None:
        self._parents: dict[str, str] = {}
        self.sessions: list[tuple[str, str, str]] = []
        for run_id, parent_id, workflow, session_id, status, owner in runs:
            self._parents[run_id] = parent_id
            if status not in UNFINISHED:
                continue
            if is_queued(status, owner) or is_locked(run_lock(run_id)) or is_locked(handover_lock(run_id)):
                self.sessions.append((run_id, workflow, session_id))
        self._live = {run_id for run_id, _, _ in self.sessions}

    def keeps_run(self, run_id: str) -> bool:
        """Whether a run is being executed, or is a part of one that is."""
        seen: set[str] = set()
        while run_id and run_id not in seen:
            if run_id in self._live:
                return True
            seen.add(run_id)
            run_id = self._parents.get(run_id, "")
        return False

    def keeps_entry(self, entry: Entry) -> bool:
        """Whether a run that is being executed may need a result."""
        return any(
            entry.scope == "global"
            or entry.run_id == run_id
            or (entry.workflow, entry.session_id) == (workflow, session_id)
            for run_id, workflow, session_id in self.sessions
        )


def superseded(
    versions: Iterable[tuple[str, str, str, float]], asked: tuple[str, ...] | str | None
) -> list[tuple[str, str, str]] | None:
    """Return which versions of which steps are meant, as workflow, step and version; None for any.

    Args:
        versions: Every version that has results: workflow, step, version, and when the newest result was made.
        asked: What the user has asked for.
    """
    if asked is None:
        return None
    found = sorted(versions, key=lambda each: each[3])
    newest = {(workflow, step): version for workflow, step, version, _ in found}
    return [
        (workflow, step, version)
        for workflow, step, version, _ in found
        if (newest[workflow, step] != version if asked == "old" else version in asked)
    ]


class DiskPruning:
    """One pruning of a store's file, piece by piece: each piece is one transaction, or in a dry run a reading.

    Args:
        conditions: What to remove.
        is_locked: Whether a named lock is held.
    """

    def __init__(self, conditions: Conditions, is_locked: Callable[[str], bool]) -> None:
        self._conditions = conditions
        self._is_locked = is_locked
        self._counts = dict.fromkeys(("entries", "entry_bytes", "protected", "runs", "events", "run_bytes"), 0)
        self._after = 0
        self._old: str | None = None
        self._runs: list[str] = []
        self.is_done = False
        self.has_live_runs = False

    def begin(self, fetch: Fetch) -> None:
        """Find out what is meant."""
        asked = self._conditions
        old = superseded(fetch(_VERSIONS, ()), asked.versions)
        self._old = None if old is None else json.dumps(old)
        if asked.takes_runs:
            self._runs = [
                name_of(row) for row in fetch(_OLD_RUNS, bound((asked.workflow, asked.workflow, asked.before)))
            ]

    def piece(self, fetch: Fetch) -> None:
        """Remove, or count, the next piece."""
        live = Live([[from_text(name) for name in row] for row in fetch(_RUNS, ())], self._is_locked)
        self.has_live_runs = bool(live.sessions)
        rows = fetch(_PAGE, self._values(live))
        if rows:
            self._take_entries(fetch, rows)
        elif self._runs:
            taken, self._runs = self._runs[:BATCH], self._runs[BATCH:]
            self._take_runs(fetch, [run_id for run_id in taken if not live.keeps_run(run_id)])
        else:
            if not self._conditions.dry_run:
                fetch(_DROP_PIECES, ())
            self.is_done = True

    def _values(self, live: Live) -> tuple[Any, ...]:
        asked = self._conditions
        sessions = json.dumps([bound(names) for names in live.sessions])
        which = bound((self._after, asked.workflow, asked.workflow, asked.before, asked.before))
        return (sessions, *which, self._old, self._old, BATCH)

    def _take_entries(self, fetch: Fetch, rows: Sequence[Sequence[int]]) -> None:
        self._after = rows[-1][0]
        taken = [(number, size) for number, size, is_protected in rows if not is_protected]
        self._counts["protected"] += len(rows) - len(taken)
        self._counts["entries"] += len(taken)
        self._counts["entry_bytes"] += sum(size for _, size in taken)
        if not self._conditions.dry_run:
            for statement in _DROP_ENTRIES:
                fetch(statement, (json.dumps([number for number, _ in taken]),))

    def _take_runs(self, fetch: Fetch, run_ids: list[str]) -> None:
        ids = (json.dumps(bound(run_ids)),)
        (runs, run_bytes), (events, event_bytes) = fetch(_RUN_SIZES, ids)[0], fetch(_EVENT_SIZES, ids)[0]
        self._counts["runs"] += runs
        self._counts["events"] += events
        self._counts["run_bytes"] += run_bytes + event_bytes
        if not self._conditions.dry_run:
            for statement in _DROP_RUNS:
                fetch(statement, ids)

    def result(self, freed_bytes: int) -> Pruned:
        """Return what came of it."""
        return Pruned(dry_run=self._conditions.dry_run, freed_bytes=freed_bytes, **self._counts)


def conditions(
    older_than: Duration | None, versions: Sequence[str] | str | None, workflow: str | None, *, dry_run: bool
) -> Conditions:
    """Return what a user asks to remove.

    Raises:
        UsageError: If neither an age nor versions are asked for, or what is asked for cannot be.
    """
    if older_than is None and versions is None:
        raise UsageError(
            'prune() removes what is old: write older_than=timedelta(days=30), versions="old", or both; '
            "to remove all of a session use workflow.session(id).delete()"
        )
    before = None if older_than is None else wall_time() - seconds(older_than, what="older_than")
    asked = (versions,) if isinstance(versions, str) and versions != "old" else versions
    named = (
        asked
        if asked is None or isinstance(asked, str)
        else tuple(several(asked, "versions", '"old", or versions by name'))
    )
    name = None if workflow is None else text(getattr(workflow, "name", workflow), "workflow")
    return Conditions(before=before, versions=named, workflow=name, dry_run=dry_run)
