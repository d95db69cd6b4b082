"""Our tables, which live beside diskcache's in one SQLite file, and the statements over them.

All SQL text of the package is constant and stands here; values and names are always bound.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agentflow.stores._base import Entry, EventRecord, RunRecord
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow.stores._base import EntryFilter, RunFilter

__all__ = [
    "APPLICATION_ID",
    "CREATE",
    "SCHEMA_VERSION",
    "entries_query",
    "entry_of",
    "entry_row",
    "event_of",
    "from_text",
    "run_of",
    "run_row",
    "runs_query",
    "to_text",
]

APPLICATION_ID: Final = 0x41464C57  # "AFLW", so that a foreign database is not taken for a store
SCHEMA_VERSION: Final = 1

# Plain rowid tables: WITHOUT ROWID with kilobyte blobs was measured slower (82 against 52 us a row).
CREATE: Final = (
    """CREATE TABLE IF NOT EXISTS af_entries (
        key TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, workflow TEXT NOT NULL, session_id TEXT NOT NULL,
        scope TEXT NOT NULL, step TEXT NOT NULL, version TEXT NOT NULL, arguments TEXT NOT NULL, run_id TEXT NOT NULL,
        created_at REAL NOT NULL, size INTEGER NOT NULL, tags TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS af_entries_owner ON af_entries (workflow, session_id, step)",
    """CREATE TABLE IF NOT EXISTS af_state (
        id INTEGER PRIMARY KEY, workflow TEXT NOT NULL, session_id TEXT NOT NULL, key TEXT NOT NULL,
        value BLOB, revision INTEGER NOT NULL, UNIQUE (workflow, session_id, key))""",
    """CREATE TABLE IF NOT EXISTS af_runs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, session_id TEXT NOT NULL,
        call TEXT NOT NULL, status TEXT NOT NULL, attempt INTEGER NOT NULL, owner TEXT NOT NULL, parent_id TEXT NOT NULL,
        started_at REAL NOT NULL, finished_at REAL, arguments BLOB, result BLOB, error TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS af_runs_owner ON af_runs (workflow, session_id, call)",
    "CREATE INDEX IF NOT EXISTS af_runs_parent ON af_runs (parent_id)",
    """CREATE TABLE IF NOT EXISTS af_events (
        id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL,
        UNIQUE (run_id, seq))""",
)

READ: Final = "SELECT mode, value FROM Cache WHERE key = ? AND raw = 1"

_ENTRY_COLUMNS: Final = (
    "key, kind, workflow, session_id, scope, step, version, arguments, run_id, created_at, size, tags"
)
PUT_ENTRY: Final = f"INSERT OR REPLACE INTO af_entries ({_ENTRY_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
DROP_ENTRY: Final = "DELETE FROM af_entries WHERE key = ?"
_ENTRIES: Final = f"""SELECT {_ENTRY_COLUMNS} FROM af_entries WHERE
    (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR session_id = ?2) AND (?3 IS NULL OR step = ?3)
    AND (?4 IS NULL OR version = ?4) AND (?5 IS NULL OR kind = ?5) AND (?6 IS NULL OR run_id = ?6)
    AND (?7 IS NULL OR created_at < ?7) ORDER BY created_at, rowid"""

STATE_ROW: Final = "SELECT value, revision FROM af_state WHERE workflow = ? AND session_id = ? AND key = ?"
STATE_KEYS: Final = "SELECT key FROM af_state WHERE workflow = ? AND session_id = ? AND value IS NOT NULL ORDER BY id"
PUT_STATE: Final = """INSERT INTO af_state (workflow, session_id, key, value, revision) VALUES (?, ?, ?, ?, 1)
    ON CONFLICT (workflow, session_id, key) DO UPDATE SET value = excluded.value, revision = revision + 1"""

_RUN_COLUMNS: Final = "id, workflow, session_id, call, status, attempt, owner, parent_id, started_at, finished_at, arguments, result, error"
PUT_RUN: Final = f"""INSERT INTO af_runs ({_RUN_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, owner = excluded.owner,
    finished_at = excluded.finished_at, arguments = excluded.arguments, result = excluded.result, error = excluded.error"""
RUN: Final = f"SELECT {_RUN_COLUMNS} FROM af_runs WHERE id = ?"
RUN_OWNER: Final = "SELECT owner FROM af_runs WHERE id = ?"
_RUNS: Final = f"""SELECT {_RUN_COLUMNS} FROM af_runs WHERE
    (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR session_id = ?2) AND (?3 IS NULL OR call = ?3)
    AND (?4 IS NULL OR parent_id = ?4) AND (?5 IS NULL OR status IN (SELECT value FROM json_each(?5)))
    ORDER BY number DESC LIMIT ?6"""

PUT_EVENT: Final = "INSERT INTO af_events (run_id, seq, at, data) VALUES (?, ?, ?, ?)"
EVENTS: Final = "SELECT run_id, seq, at, data FROM af_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
LAST_EVENT: Final = "SELECT run_id, seq, at, data FROM af_events WHERE run_id = ? ORDER BY seq DESC LIMIT 1"

SESSIONS: Final = """SELECT session_id FROM af_runs WHERE workflow = ?1
    UNION SELECT session_id FROM af_state WHERE workflow = ?1
    UNION SELECT session_id FROM af_entries WHERE workflow = ?1 AND scope = 'session' ORDER BY 1 LIMIT ?2"""
SESSION_ENTRIES: Final = "SELECT key FROM af_entries WHERE workflow = ? AND session_id = ?"
DROP_SESSION: Final = (
    "DELETE FROM af_events WHERE run_id IN (SELECT id FROM af_runs WHERE workflow = ? AND session_id = ?)",
    "DELETE FROM af_runs WHERE workflow = ? AND session_id = ?",
    "DELETE FROM af_state WHERE workflow = ? AND session_id = ?",
    "DELETE FROM af_entries WHERE workflow = ? AND session_id = ?",
)


# A str with lone surrogates is no UTF-8, and SQLite's TEXT takes nothing else; every str is a legal id here.
_ESCAPED: Final = "\x00json:"


def to_text(value: str) -> str:
    """Return an id as text that SQLite can hold; different ids give different texts."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _ESCAPED + json.dumps(value)
    return _ESCAPED + json.dumps(value) if value.startswith(_ESCAPED) else value


def from_text(text: str) -> str:
    """Return the id that a text stands for."""
    return str(json.loads(text.removeprefix(_ESCAPED))) if text.startswith(_ESCAPED) else text


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """Return an entry as the values of its columns."""
    owner = (entry.key, entry.kind, entry.workflow, to_text(entry.session_id), entry.scope, entry.step)
    return (
        *owner,
        entry.version,
        entry.arguments,
        entry.run_id,
        entry.created_at,
        len(entry.payload),
        json.dumps(entry.tags),
    )


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row, without its payload."""
    key, kind, workflow, session_id, scope, step, version, arguments, run_id, created_at, size, tags = row
    return Entry(
        key=key,
        payload=b"",
        kind=kind,
        workflow=workflow,
        session_id=from_text(session_id),
        scope=scope,
        step=step,
        version=version,
        arguments=arguments,
        run_id=run_id,
        created_at=created_at,
        size=size,
        tags=tuple(json.loads(tags)),
    )


def entries_query(which: EntryFilter) -> tuple[str, tuple[Any, ...]]:
    """Return the statement for a filter, less the tag, and its values."""
    session_id = None if which.session_id is None else to_text(which.session_id)
    wanted = (which.workflow, session_id, which.step, which.version, which.kind, which.run_id, which.before)
    return _ENTRIES, wanted


def run_row(run: RunRecord) -> tuple[Any, ...]:
    """Return a run as the values of its columns."""
    who = (
        run.id,
        run.workflow,
        to_text(run.session_id),
        run.call,
        run.status.value,
        run.attempt,
        run.owner,
        run.parent_id,
    )
    return (*who, run.started_at, run.finished_at, run.arguments, run.result, run.error)


def run_of(row: Sequence[Any]) -> RunRecord:
    """Return the run of a row."""
    (
        run_id,
        workflow,
        session_id,
        call,
        status,
        attempt,
        owner,
        parent_id,
        started,
        finished,
        arguments,
        result,
        error,
    ) = row
    return RunRecord(
        id=run_id,
        workflow=workflow,
        session_id=from_text(session_id),
        call=call,
        status=RunStatus(status),
        attempt=attempt,
        owner=owner,
        parent_id=parent_id,
        started_at=started,
        finished_at=finished,
        arguments=arguments,
        result=result,
        error=error,
    )


def runs_query(which: RunFilter, limit: int | None) -> tuple[str, tuple[Any, ...]]:
    """Return the statement for a filter and its values."""
    statuses = None if which.statuses is None else json.dumps([status.value for status in which.statuses])
    session_id = None if which.session_id is None else to_text(which.session_id)
    return _RUNS, (which.workflow, session_id, which.call, which.parent_id, statuses, -1 if limit is None else limit)


def event_of(row: Sequence[Any]) -> EventRecord:
    """Return the event of a row."""
    return EventRecord(*row)
