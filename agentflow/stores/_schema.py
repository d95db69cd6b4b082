"""Our tables, which live beside diskcache's in one SQLite file, and the statements over them.

All SQL text of the package is made of constants that stand here; values and names are always bound.
"""

from __future__ import annotations

import json
import re
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from agentflow.stores._base import Entry, EventRecord, RunRecord, StateRow
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentflow.stores._base import EntryFilter, RunFilter

__all__ = [
    "APPLICATION_ID",
    "CREATE",
    "SCHEMA_VERSION",
    "Query",
    "bound",
    "detailed_entry_of",
    "entries_query",
    "entry_of",
    "entry_row",
    "event_of",
    "from_text",
    "name_of",
    "pieces_of",
    "recent_query",
    "run_now_of",
    "run_of",
    "run_row",
    "runs_query",
    "state_of",
    "to_text",
]

Query: TypeAlias = tuple[str, tuple[Any, ...]]
"""A statement and its values."""

APPLICATION_ID: Final = 0x41464C57  # "AFLW", so that a foreign database is not taken for a store
SCHEMA_VERSION: Final = 1

# Plain rowid tables: WITHOUT ROWID with kilobyte blobs was measured slower (82 against 52 us a row).
CREATE: Final = (
    # An entry has the rowid of its value in diskcache's table, whose index of keys serves both: a page less in every commit.
    """CREATE TABLE af_entries (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, workflow TEXT NOT NULL, session_id TEXT NOT NULL,
        scope TEXT NOT NULL, step TEXT NOT NULL, version TEXT NOT NULL, arguments TEXT NOT NULL, run_id TEXT NOT NULL,
        created_at REAL NOT NULL, size INTEGER NOT NULL, tags TEXT NOT NULL, detail TEXT NOT NULL)""",
    "CREATE INDEX af_entries_owner ON af_entries (workflow, session_id, step)",
    # What a version is made of, once for each: in every entry it would be most of the entry.
    """CREATE TABLE af_versions (
        id INTEGER PRIMARY KEY, step TEXT NOT NULL, version TEXT NOT NULL, pieces TEXT NOT NULL, UNIQUE (step, version))""",
    """CREATE TABLE af_state (
        id INTEGER PRIMARY KEY, workflow TEXT NOT NULL, session_id TEXT NOT NULL, key TEXT NOT NULL,
        value BLOB, revision INTEGER NOT NULL, UNIQUE (workflow, session_id, key))""",
    """CREATE TABLE af_runs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, session_id TEXT NOT NULL,
        call TEXT NOT NULL, status TEXT NOT NULL, attempt INTEGER NOT NULL, owner TEXT NOT NULL, parent_id TEXT NOT NULL,
        started_at REAL NOT NULL, finished_at REAL, arguments BLOB, result BLOB, error TEXT NOT NULL)""",
    "CREATE INDEX af_runs_owner ON af_runs (workflow, session_id, call)",
    "CREATE INDEX af_runs_parent ON af_runs (parent_id) WHERE parent_id <> ''",
    """CREATE TABLE af_events (
        id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL,
        UNIQUE (run_id, seq))""",
    f"PRAGMA application_id = {APPLICATION_ID:d}",
    f"PRAGMA user_version = {SCHEMA_VERSION:d}",
)

# Without numbered placeholders, which Python 3.12 takes for named ones: what stands twice is bound twice.
# A row that an index names is asked for its own name: a damaged index must not give the value of one key for another.
READ: Final = """SELECT key = ?, mode, filename, value FROM Cache
    WHERE rowid = (SELECT rowid FROM Cache WHERE key = ? AND raw = 1)"""
VALUE_ID: Final = "SELECT rowid FROM Cache WHERE key = ? AND raw = 1"

_ENTRY_COLUMNS: Final = (
    "key, kind, workflow, session_id, scope, step, version, arguments, run_id, created_at, size, tags"
)
_ENTRY_TYPES: Final = (str,) * 9 + (float, int, str)
# With the rowid of its value, which was written just before.
PUT_ENTRY: Final = f"""INSERT OR REPLACE INTO af_entries (id, {_ENTRY_COLUMNS}, detail)
    VALUES (({VALUE_ID}),?,?,?,?,?,?,?,?,?,?,?,?,?)"""
PIECES: Final = "SELECT pieces FROM af_versions WHERE step = ? AND version = ?"
PUT_PIECES: Final = "INSERT INTO af_versions (step, version, pieces) VALUES (?, ?, ?)"
FORGET: Final = ("DELETE FROM af_entries WHERE id = ?", "DELETE FROM Cache WHERE rowid = ?")

STATE_ROW: Final = """SELECT value, revision, workflow = ? AND session_id = ? AND key = ? FROM af_state
    WHERE id = (SELECT id FROM af_state WHERE workflow = ? AND session_id = ? AND key = ?)"""
STATE_KEYS: Final = "SELECT key FROM af_state WHERE workflow = ? AND session_id = ? AND value IS NOT NULL ORDER BY id"
PUT_STATE: Final = """INSERT INTO af_state (workflow, session_id, key, value, revision) VALUES (?, ?, ?, ?, 1)
    ON CONFLICT (workflow, session_id, key) DO UPDATE SET value = excluded.value, revision = revision + 1"""

_RUN_COLUMNS: Final = "id, workflow, session_id, call, status, attempt, owner, parent_id, started_at, finished_at, arguments, result, error"
# What a run is does not change, and a column that an index has is not set again: that would write the index again.
PUT_RUN: Final = f"""INSERT INTO af_runs ({_RUN_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, owner = excluded.owner,
    finished_at = excluded.finished_at, arguments = excluded.arguments, result = excluded.result, error = excluded.error"""
_END_OF_TIME: Final = 253_402_300_800.0  # the year 10 000, which no datetime holds
_OPTIONAL_BYTES: Final = (bytes, NoneType)
_RUN_TYPES: Final = (*(str,) * 5, int, str, str, float, (float, NoneType), _OPTIONAL_BYTES, _OPTIONAL_BYTES, str)
RUN: Final = f"SELECT {_RUN_COLUMNS} FROM af_runs WHERE number = (SELECT number FROM af_runs WHERE id = ?)"
# Whose a run is and how many events it has, in one look: a commit wants to know both. Events are numbered in the transaction
# that writes them, so that the order of numbers is the order in which readers see them: no gap, ever.
RUN_NOW: Final = """SELECT coalesce((SELECT owner FROM af_runs WHERE id = ?), ''),
    coalesce((SELECT max(seq) FROM af_events WHERE run_id = ?), 0)"""
PUT_EVENT: Final = "INSERT INTO af_events (run_id, seq, at, data) VALUES (?, ?, ?, ?)"
EVENTS: Final = "SELECT run_id, seq, at, data FROM af_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
LAST_EVENT: Final = "SELECT run_id, seq, at, data FROM af_events WHERE run_id = ? ORDER BY seq DESC LIMIT 1"

SESSIONS: Final = """SELECT session_id FROM af_runs WHERE workflow = ?
    UNION SELECT session_id FROM af_state WHERE workflow = ? AND value IS NOT NULL
    UNION SELECT session_id FROM af_entries WHERE workflow = ? AND scope <> 'global' ORDER BY 1 LIMIT ?"""
_SESSION_ENTRIES: Final = "workflow = ? AND session_id = ? AND scope <> 'global'"
DROP_SESSION: Final = (
    "DELETE FROM af_events WHERE run_id IN (SELECT id FROM af_runs WHERE workflow = ? AND session_id = ?)",
    "DELETE FROM af_runs WHERE workflow = ? AND session_id = ?",
    # Revisions go on, so that a change made on a value from before is not taken for one made on a value from after.
    "UPDATE af_state SET value = NULL, revision = revision + 1 WHERE workflow = ? AND session_id = ?",
    f"DELETE FROM Cache WHERE rowid IN (SELECT id FROM af_entries WHERE {_SESSION_ENTRIES})",
    f"DELETE FROM af_entries WHERE {_SESSION_ENTRIES}",
)

# Every str is a legal id here, but SQLite's text is UTF-8, which has no lone surrogates. Each becomes two characters, the first
# of them U+E000, and so does U+E000 itself; chosen so that texts sort as the ids do, between U+D7FF and U+E001.
_ESCAPE: Final = "\ue000"
_TO_TEXT: Final = {0xE000: _ESCAPE + "\U0010ffff"} | {0xD800 + low: _ESCAPE + chr(1 + low) for low in range(0x800)}
_FROM_TEXT: Final = {text: chr(code) for code, text in _TO_TEXT.items()}
_ESCAPED: Final = re.compile(_ESCAPE + "(?s:.)")


def to_text(value: str) -> str:
    """Return a string as text that SQLite can hold; different strings give different texts, in the same order."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.translate(_TO_TEXT)
    return value.translate(_TO_TEXT) if _ESCAPE in value else value


def from_text(text: str) -> str:
    """Return the string that a text stands for."""
    return _ESCAPED.sub(lambda found: _FROM_TEXT[found[0]], text) if _ESCAPE in text else text


def bound(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return values as they are bound to a statement."""
    return tuple([to_text(value) if type(value) is str else value for value in values])


def _checked(row: Sequence[Any], types: Sequence[Any]) -> list[Any]:
    """Return the values of a row, which is not trusted to be one that was written here."""
    if not all(map(isinstance, row, types)):
        raise TypeError("a row with values of other types than agentflow writes")
    if not all(abs(value) < _END_OF_TIME for value in row if type(value) is float):
        raise ValueError("a row with a time that is none")
    return [from_text(value) if type(value) is str else value for value in row]


def name_of(row: Sequence[Any]) -> str:
    """Return the one string of a row."""
    return str(_checked(row, (str,))[0])


def run_now_of(row: Sequence[Any]) -> tuple[str, int]:
    """Return whose a run is, and the number of its last event."""
    owner, last = _checked(row, (str, int))
    return owner, last


def state_of(row: Sequence[Any]) -> StateRow:
    """Return the state of a row of `STATE_ROW`."""
    *state, is_its_own = _checked(row, (_OPTIONAL_BYTES, int, int))
    if not is_its_own:
        raise ValueError("an index that names the row of another key")
    return StateRow(*state)


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """Return an entry as the values that `PUT_ENTRY` binds."""
    key = entry.key
    call = (key, key, entry.kind, entry.workflow, entry.session_id, entry.scope, entry.step, entry.version)
    made = (
        entry.arguments,
        entry.run_id,
        entry.created_at,
        len(entry.payload),
        json.dumps(entry.tags) if entry.tags else "[]",
        entry.detail,
    )
    return bound(call + made)


def detailed_entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row that ends with its detail."""
    return entry_of(row[:-1], *_checked(row[-1:], (str,)))


def pieces_of(row: Sequence[Any]) -> Mapping[str, str]:
    """Return the pieces of a row."""
    pieces: object = json.loads(name_of(row))
    if not isinstance(pieces, dict):
        raise TypeError("a version whose pieces are no mapping")
    return {str(name): str(mark) for name, mark in pieces.items()}


def entry_of(row: Sequence[Any], detail: str = "") -> Entry:
    """Return the entry of a row, without its payload."""
    key, kind, workflow, session_id, scope, step, version, arguments, run_id, created_at, size, tags = _checked(
        row, _ENTRY_TYPES
    )
    return Entry(
        key=key,
        payload=b"",
        kind=kind,
        workflow=workflow,
        session_id=session_id,
        scope=scope,
        step=step,
        version=version,
        arguments=arguments,
        run_id=run_id,
        created_at=created_at,
        size=size,
        tags=tuple(json.loads(tags)),
        detail=detail,
    )


def entries_query(which: EntryFilter) -> Query:
    """Return the statement for a filter, less the tag, and its values."""
    conditions, values = _where(_wanted(which))
    return f"SELECT {_ENTRY_COLUMNS} FROM af_entries{conditions} ORDER BY created_at, id", values


def recent_query(which: EntryFilter, limit: int) -> Query:
    """Return the statement for the newest entries of a filter, less the tag, and its values."""
    conditions, values = _where(_wanted(which))
    # By id, which the index ends with: by the time of their making all of a session would have to be sorted.
    statement = f"SELECT {_ENTRY_COLUMNS}, detail FROM af_entries{conditions} ORDER BY id DESC LIMIT ?"
    return statement, (*values, limit)


def _wanted(which: EntryFilter) -> dict[str, Any]:
    return {
        "workflow = ?": which.workflow,
        "session_id = ?": which.session_id,
        "step = ?": which.step,
        "version = ?": which.version,
        "arguments = ?": which.arguments,
        "kind = ?": which.kind,
        "run_id = ?": which.run_id,
        "created_at < ?": which.before,
    }


def _where(wanted: dict[str, Any]) -> Query:
    # Only what is asked for, so that the indexes serve: `? IS NULL OR x = ?` reads every row.
    asked = {condition: value for condition, value in wanted.items() if value is not None}
    return (" WHERE " + " AND ".join(asked) if asked else ""), tuple(asked.values())


def run_row(run: RunRecord) -> tuple[Any, ...]:
    """Return a run as the values of its columns."""
    call = (run.id, run.workflow, run.session_id, run.call, run.status.value, run.attempt, run.owner, run.parent_id)
    return bound((*call, run.started_at, run.finished_at, run.arguments, run.result, run.error))


def run_of(row: Sequence[Any]) -> RunRecord:
    """Return the run of a row."""
    values: dict[str, Any] = dict(zip(_RUN_COLUMNS.split(", "), _checked(row, _RUN_TYPES), strict=True))
    values["status"] = RunStatus(values["status"])
    return RunRecord(**values)


def runs_query(which: RunFilter, limit: int | None) -> Query:
    """Return the statement for a filter and its values."""
    statuses = None if which.statuses is None else json.dumps(which.statuses)
    wanted = {
        "workflow = ?": which.workflow,
        "session_id = ?": which.session_id,
        "call = ?": which.call,
        # Said again as the index says it: few runs have a parent, and those that have none are not in it.
        ("parent_id = ? AND parent_id <> ''" if which.parent_id else "parent_id = ?"): which.parent_id,
        "status IN (SELECT value FROM json_each(?))": statuses,
    }
    conditions, values = _where(wanted)
    statement = f"SELECT {_RUN_COLUMNS} FROM af_runs{conditions} ORDER BY number DESC LIMIT ?"
    return statement, (*values, -1 if limit is None else limit)


def event_of(row: Sequence[Any]) -> EventRecord:
    """Return the event of a row."""
    return EventRecord(*_checked(row, (str, int, float, bytes)))
