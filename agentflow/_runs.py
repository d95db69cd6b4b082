"""Runs as they are recorded, seen from any process that can open their store."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pydantic_core
from pydantic import TypeAdapter

from agentflow._execution import run_lock
from agentflow._settings import default_store, store_at
from agentflow.events import Event
from agentflow.exceptions import RunNotFound, UsageError
from agentflow.stores._base import RunFilter
from agentflow.types import RunStatus

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from agentflow.stores._base import RunRecord, Store

__all__ = ["Run", "get_run", "list_runs"]


class Run:
    """One run: what the store knows of it, read at each access.

    ```python
    from agentflow import list_runs, workflow

    @workflow
    def greet(name: str) -> str:
        return f"hello {name}"

    greet("Ada")
    newest = list_runs(workflow=greet.name)[0]
    assert newest.status == "completed"
    ```
    """

    def __init__(self, run_id: str, store: Store) -> None:
        self.id = run_id
        self._store = store

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.workflow} {self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and (self.id, self._store.identity) == (other.id, other._store.identity)

    def __hash__(self) -> int:
        return hash((self.id, self._store.identity))

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._record().workflow

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._record().session_id

    @property
    def status(self) -> RunStatus:
        """Where it stands. A run that was being executed when its process died is `interrupted` for whoever looks."""
        record = self._record()
        if record.status is RunStatus.RUNNING and not self._store.is_locked(run_lock(self.id)):
            # It may have ended between the two looks; then its row says so by now.
            record = self._record()
            return RunStatus.INTERRUPTED if record.status is RunStatus.RUNNING else record.status
        return record.status

    @property
    def attempt(self) -> int:
        """Its latest attempt, from 1."""
        return self._record().attempt

    @property
    def error(self) -> str | None:
        """The type and message of the exception that it failed with, or None."""
        return self._record().error or None

    @property
    def started_at(self) -> datetime:
        """When its first attempt began, in UTC."""
        return datetime.fromtimestamp(self._record().started_at, UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When its latest attempt ended, in UTC; None while it runs, or if its process died."""
        finished = self._record().finished_at
        return None if finished is None else datetime.fromtimestamp(finished, UTC)

    def children(self) -> list[Run]:
        """List the runs of the workflows that it called, oldest first."""
        records = self._store.runs(RunFilter(parent_id=self.id))
        return [Run(record.id, self._store) for record in reversed(records)]

    def events(self, after: int = 0) -> list[Event]:
        """List what has happened in it and is recorded, in order; only what came after that number, if one is given."""
        return [_event(record.data, record.run_id, record.seq) for record in self._store.events(self.id, after)]

    def _record(self) -> RunRecord:
        record = self._store.run(self.id)
        if record is None:
            raise _not_found(self.id, self._store)
        return record


def _event(data: bytes, run_id: str, seq: int) -> Event:
    fields: dict[str, Any] = pydantic_core.from_json(data)
    return _adapter().validate_python({**fields, "run_id": run_id, "seq": seq})


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Event)


def _not_found(run_id: str, store: Store) -> RunNotFound:
    return RunNotFound(
        f"there is no run {run_id!r} in the store at {store.location}: check the id, and that this process uses the same store "
        "(configure(store=...) or AGENTFLOW_STORE)",
        run_id=run_id,
    )


def get_run(run_id: str, *, store: str | os.PathLike[str] | Store | None = None) -> Run:
    """Return a run by its id.

    Raises:
        RunNotFound: If the store has no such run; the message names the store.
    """
    place = default_store() if store is None else store_at(store)
    if place.run(run_id) is None:
        raise _not_found(run_id, place)
    return Run(run_id, place)


def list_runs(
    *,
    workflow: str | None = None,
    session_id: str | None = None,
    status: RunStatus | str | Iterable[RunStatus | str] | None = None,
    limit: int | None = 100,
    store: str | os.PathLike[str] | Store | None = None,
) -> list[Run]:
    """List runs, newest first.

    Args:
        workflow: Only those of the workflow of this name.
        session_id: Only those of this session.
        status: Only those of this status, or of one of these.
        limit: At most so many; None for all.
        store: Where to look, instead of the default store.
    """
    place = default_store() if store is None else store_at(store)
    found = place.runs(RunFilter(workflow=workflow, session_id=session_id), None if status is not None else limit)
    runs = [Run(record.id, place) for record in found]
    if status is None:
        return runs
    # By the status as it is, not as it was last written: a dead process writes no more.
    try:
        wanted = {RunStatus(one) for one in ([status] if isinstance(status, str) else status)}
    except ValueError as error:
        raise UsageError(f"status={status!r}: {error}; a status is one of: {', '.join(RunStatus)}") from None
    return [run for run in runs if run.status in wanted][:limit]
