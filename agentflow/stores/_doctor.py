"""Examining a store: each check looks at one thing, changes nothing, and says what is wrong and what to do.

A check that fails is a finding itself, so that one piece of damage does not hide the others.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from agentflow._serialization import unseal
from agentflow.exceptions import IncompatibleStore, StoreCorrupt, StoreError
from agentflow.stores import _schema
from agentflow.stores._base import QUEUED, UNFINISHED, handover_lock, run_lock
from agentflow.stores._diskcache import connect
from agentflow.stores._errors import store_error
from agentflow.stores._mounts import file_system, is_network
from agentflow.stores._opening import check_file
from agentflow.stores._reports import Finding
from agentflow.stores._schema import from_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agentflow.stores._place import Place

__all__ = ["examine"]

_SHOWN: Final = 5  # findings of one kind, and then how many more
_LARGE_LOG: Final = 128 * 2**20
_LITTLE_ROOM: Final = 256 * 2**20
_RESTORE: Final = "put a backup in its place, or move the directory away to begin anew"
_FORGET: Final = "forget it (step.forget(), session.delete()), or open the store with on_corrupt='recompute'"

_COLUMNS_OF_DISKCACHE: Final = frozenset({"rowid", "key", "raw", "mode", "filename", "value"})
_VALUES: Final = """SELECT e.step, substr(c.key, 1, 12), c.mode, c.filename, c.value FROM Cache c
    LEFT JOIN af_entries e ON e.id = c.rowid AND e.key = c.key"""
_LOST: Final = "SELECT step, substr(key, 1, 12) FROM af_entries e WHERE NOT EXISTS (SELECT 1 FROM Cache c WHERE c.rowid = e.id AND c.key = e.key)"
_STATE: Final = "SELECT workflow, session_id, key, value FROM af_state WHERE value IS NOT NULL"
_RUN_VALUES: Final = "SELECT id, arguments, result FROM af_runs"
_UNFINISHED_RUNS: Final = f"""SELECT id, workflow, session_id, status FROM af_runs
    WHERE status IN (SELECT value FROM json_each(?)) AND owner NOT GLOB '{QUEUED}*'"""  # noqa: S608 - a constant of ours


@attrs.frozen
class Examined:
    """What the checks look at.

    Attributes:
        place: The store's directory.
        newest: The version of schema that this agentflow writes.
        is_locked: Whether a named lock is held.
    """

    place: Place
    newest: int
    is_locked: Callable[[str], bool]


Found: TypeAlias = "Iterator[Finding]"


def examine(place: Place, newest: int, is_locked: Callable[[str], bool]) -> tuple[Finding, ...]:
    """Return everything that is wrong with a store."""
    store = Examined(place, newest, is_locked)
    if not os.path.lexists(place.directory):
        return (
            _note("directory", f"there is no store at {place.directory} yet", "nothing: it is made by the first write"),
        )
    findings = [finding for check in (_directory, _files, _location, _room) for finding in _safely(check, store)]
    if place.file.exists():
        findings += _safely(_file, store)
    elif place.is_made():
        findings.append(
            _problem("files", f"{place.file} is gone, and there was a store in {place.directory}", _RESTORE)
        )
    return tuple(findings)


def _safely(check: Callable[..., Found], *arguments: Any) -> list[Finding]:
    findings: list[Finding] = []
    name = check.__name__.strip("_")
    try:
        findings += check(*arguments)
    except (sqlite3.Error, OSError) as error:
        store = arguments[0]
        typed = store_error(error, store.place.directory)
        findings.append(_problem(name, f"it could not be examined whole: {error}", typed.hint or _RESTORE))
    except StoreError as error:
        findings.append(_problem(name, str(error), error.hint or _RESTORE))
    except (ValueError, TypeError, KeyError) as error:  # what stands in a row is none of what agentflow writes
        findings.append(_problem(name, f"it holds something that agentflow did not write: {error}", _RESTORE))
    return findings


# The directory


def _directory(store: Examined) -> Found:
    status = store.place.directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        yield _problem("directory", f"{store.place.directory} is no directory", "choose another one for the store")
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield _problem(
            "permissions",
            f"other users can write to {store.place.directory}, so it is refused",
            f"chmod go-w {store.place.directory}",
        )
    elif status.st_mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IXGRP | stat.S_IXOTH):
        yield _warning(
            "permissions", f"other users can look into {store.place.directory}", f"chmod 700 {store.place.directory}"
        )
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        yield _warning(
            "owner",
            f"{store.place.directory} belongs to user {status.st_uid}, and you are {os.geteuid()}",
            "run as its owner, or choose a directory of your own",
        )


def _files(store: Examined) -> Found:
    if not store.place.directory.is_dir():
        return
    for file in sorted(store.place.directory.iterdir()):
        status = file.lstat()
        if file.name.startswith("cache.db") and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield _warning("permissions", f"other users may open {file}", f"chmod 600 {file}")
        if file.name.startswith("cache.db.new"):
            yield _note("files", f"{file} was left by a process that died while it made the store", "delete it")
    log = store.place.file.with_name(store.place.file.name + "-wal")
    if log.exists() and log.stat().st_size > _LARGE_LOG:
        yield _warning(
            "log",
            f"SQLite's log {log} has {log.stat().st_size:,} bytes: a process that reads for long keeps it from being emptied",
            "end the process that has the store open for long; the next writes empty the log",
        )


def _location(store: Examined) -> Found:
    kind = file_system(store.place.directory, store.place.mountinfo)
    if is_network(kind):
        yield _problem(
            "location",
            f"{store.place.directory} is on a network file system ({kind}), where data is lost without a word",
            "move it to a disk of this machine",
        )


def _room(store: Examined) -> Found:
    free = shutil.disk_usage(store.place.directory).free
    if free < _LITTLE_ROOM:
        yield _warning(
            "room", f"there are {free:,} bytes left on the disk of {store.place.directory}", "free some space"
        )
    if not os.access(store.place.directory, os.W_OK):
        yield _warning(
            "permissions",
            f"you may read {store.place.directory} and not write there",
            "give this user the right to write, if that is not meant",
        )


# The file


def _file(store: Examined) -> Found:
    if not store.place.file.stat().st_size:
        yield _problem("files", f"{store.place.file} is empty", _RESTORE)
        return
    con = _open(store.place.directory, store.place.file)
    try:
        version = check_file(con, store.place, store.newest)
        if version < store.newest:
            yield _note(
                "schema",
                f"the store has schema {version}, and this agentflow writes {store.newest}",
                "nothing: it is brought up to date by the next use",
            )
        for check in (_schema_of, _integrity, _results, _state, _run_values, _unfinished):
            yield from _safely(check, store, con)
    finally:
        con.close()


def _open(directory: Path, file: Path) -> sqlite3.Connection:
    # Without a log beside it, in a directory that is not ours to write, SQLite cannot make the one it reads by.
    still = not os.access(directory, os.W_OK) and not file.with_name(file.name + "-wal").exists()
    return connect(file, mode="ro&immutable=1" if still else "ro")


def _schema_of(store: Examined, con: sqlite3.Connection) -> Found:
    found = _columns(con)
    for table, columns in {"Cache": _COLUMNS_OF_DISKCACHE, **_columns_made_today()}.items():
        if missing := sorted(columns - found.get(table, frozenset())):
            yield _problem("schema", f"table {table} of {store.place.file} has no {', '.join(missing)}", _RESTORE)
    for kind, name in con.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"):
        yield _warning(
            "schema", f"{store.place.file} has a {kind} {name!r}, which agentflow did not make", "find out who did"
        )


def _columns(con: sqlite3.Connection) -> dict[str, frozenset[str]]:
    tables = [str(row[0]) for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        table: frozenset(str(row[0]) for row in con.execute("SELECT name FROM pragma_table_info(?)", (table,)))
        for table in tables
    }


def _columns_made_today() -> dict[str, frozenset[str]]:
    con = sqlite3.connect(":memory:")
    try:
        for statement in _schema.CREATE:
            con.execute(statement)
        return _columns(con)
    finally:
        con.close()


def _integrity(store: Examined, con: sqlite3.Connection) -> Found:
    told = [str(row[0]) for row in con.execute("PRAGMA integrity_check(20)")]
    for line in told[:_SHOWN] if told != ["ok"] else ():
        yield _problem("integrity", f"SQLite says of {store.place.file}: {line}", _RESTORE)
    if len(told) > _SHOWN:
        yield _problem("integrity", f"and {len(told) - _SHOWN} more of that kind", _RESTORE)


def _results(store: Examined, con: sqlite3.Connection) -> Found:  # noqa: ARG001 - one signature for all checks
    def bad() -> Iterator[str]:
        for step, key, mode, filename, value in con.execute(_VALUES):
            what = f"the result of step {_name(step)} (key {_name(key)})"
            if step is None:
                yield f"a value that belongs to no result (key {_name(key)})"
            elif mode != 1 or filename is not None or type(value) is not bytes:
                yield f"{what} is a row that agentflow did not write"
            elif why := _damage(value):
                yield f"{what}: {why}"
        for step, key in con.execute(_LOST):
            yield f"the result of step {_name(step)} (key {_name(key)}) has no value"

    yield from _first("results", bad(), _FORGET)


def _state(store: Examined, con: sqlite3.Connection) -> Found:  # noqa: ARG001 - as above
    def bad() -> Iterator[str]:
        for workflow, session, key, value in con.execute(_STATE):
            if why := _damage(value):
                yield f"state[{_name(key)}] of session {_name(session)} of workflow {_name(workflow)}: {why}"

    yield from _first("state", bad(), "set it anew, or delete it: workflow.session(id).state")


def _run_values(store: Examined, con: sqlite3.Connection) -> Found:  # noqa: ARG001 - as above
    def bad() -> Iterator[str]:
        for run_id, *values in con.execute(_RUN_VALUES):
            for what, value in zip(("arguments", "result"), values, strict=True):
                if value is not None and (why := _damage(value)):
                    yield f"the {what} of run {_name(run_id)}: {why}"

    yield from _first("runs", bad(), "call its workflow again, or prune it")


def _unfinished(store: Examined, con: sqlite3.Connection) -> Found:
    def left() -> Iterator[str]:
        for run_id, workflow, session, status in con.execute(_UNFINISHED_RUNS, (json.dumps(UNFINISHED),)):
            name = from_text(run_id)
            if not store.is_locked(run_lock(name)) and not store.is_locked(handover_lock(name)):
                yield f"run {_name(run_id)} of workflow {_name(workflow)} (session {_name(session)}) is {status!r}, and nobody executes it"

    yield from _first("interrupted", left(), "call its workflow again or resume it, and it goes on; or prune it", _note)


def _damage(value: object) -> str:
    if type(value) is not bytes:
        return "it is no value that agentflow wrote"
    try:
        unseal(value)
    except StoreCorrupt:
        return "its checksum does not fit"
    except IncompatibleStore:
        return "it was written by a newer agentflow"
    return ""


def _name(text: object) -> str:
    return repr(from_text(text)) if isinstance(text, str) else repr(text)


def _first(check: str, found: Iterator[str], do: str, make: Callable[[str, str, str], Finding] | None = None) -> Found:
    make, more = make or _problem, 0
    for number, what in enumerate(found):
        if number < _SHOWN:
            yield make(check, what, do)
        else:
            more += 1
    if more:
        yield make(check, f"and {more:,} more of that kind", do)


def _problem(check: str, what: str, do: str) -> Finding:
    return Finding(check=check, severity="problem", what=what, do=do)


def _warning(check: str, what: str, do: str) -> Finding:
    return Finding(check=check, severity="warning", what=what, do=do)


def _note(check: str, what: str, do: str) -> Finding:
    return Finding(check=check, severity="note", what=what, do=do)
