"""A transaction as statements of SQLite: its conditions, then what it writes."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from agentflow.stores import _schema
from agentflow.stores._base import ANY_REVISION, StateChanged, StateRow
from agentflow.stores._errors import damaged
from agentflow.stores._memory import lost_run
from agentflow.stores._schema import bound, to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agentflow.stores._base import EventRecord, Fence, Transaction
    from agentflow.stores._writing import Writing

__all__ = ["apply", "drop_session"]


def apply(transaction: Transaction, writing: Writing) -> None:
    """Check a transaction's conditions, then write all of it."""
    numbers = _check_fence(writing, transaction.fence) if transaction.fence else {}
    _check_revisions(writing, transaction)
    for key in transaction.forget:
        _forget(writing, key)
    for entry in transaction.entries:
        writing.put(entry.key, entry.payload)
        writing.execute(_schema.PUT_ENTRY, _schema.entry_row(entry))
        if entry.pieces is not None:
            _put_pieces(writing, entry.step, entry.version, entry.pieces)
    for write in transaction.state:
        writing.execute(_schema.PUT_STATE, bound((write.workflow, write.session_id, write.key, write.value)))
    _put_events(writing, transaction.events, numbers)
    if transaction.run:
        writing.execute(_schema.PUT_RUN, _schema.run_row(transaction.run))


def _put_pieces(writing: Writing, step: str, version: str, pieces: Mapping[str, str]) -> None:
    names = bound((step, version))
    if not writing.execute(_schema.PIECES, names).fetchone():
        writing.execute(_schema.PUT_PIECES, (*names, json.dumps(dict(pieces))))


def _forget(writing: Writing, key: str) -> None:
    found = writing.execute(_schema.VALUE_ID, (to_text(key),)).fetchone()
    if found:
        for statement in _schema.FORGET:
            writing.execute(statement, found)


def _put_events(writing: Writing, events: Iterable[EventRecord], numbers: dict[str, int]) -> None:
    """Write events, numbered from what stands there: `numbers` has the last one of some runs."""
    rows: list[tuple[Any, ...]] = []
    for event in events:
        run_id = event.run_id
        if run_id not in numbers:
            numbers[run_id] = _run_now(writing, run_id)[1]
        numbers[run_id] += 1
        rows.append((to_text(run_id), numbers[run_id], event.at, event.data))
    if rows:
        try:
            writing.executemany(_schema.PUT_EVENT, rows)
        except sqlite3.IntegrityError as error:
            raise damaged(str(writing.directory), f"events that no program has numbered so: {error}") from error


def _check_fence(writing: Writing, fence: Fence) -> dict[str, int]:
    """Refuse a run that is not its owner's any more; return the number of its last event."""
    owner, last = _run_now(writing, fence.run_id)
    if owner != fence.owner:
        raise lost_run(fence.run_id)
    return {fence.run_id: last}


def _run_now(writing: Writing, run_id: str) -> tuple[str, int]:
    return _schema.run_now_of(writing.execute(_schema.RUN_NOW, (to_text(run_id),) * 2).fetchone())


def _check_revisions(writing: Writing, transaction: Transaction) -> None:
    changed: dict[str, StateRow] = {}
    for write in transaction.state:
        if write.expected is ANY_REVISION:
            continue
        names = bound((write.workflow, write.session_id, write.key))
        row = writing.execute(_schema.STATE_ROW, names * 2).fetchone()
        try:
            now = _schema.state_of(row) if row else StateRow(None, 0)
        except (ValueError, TypeError) as error:
            raise damaged(str(writing.directory), error) from error
        if now.revision != write.expected:
            changed[write.key] = now
    if changed:
        raise StateChanged(changed)


def drop_session(names: tuple[str, ...], writing: Writing) -> None:
    """Remove everything a session of a workflow has."""
    for statement in _schema.DROP_SESSION:
        writing.execute(statement, names)
