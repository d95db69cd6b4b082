"""Cancelling a run from anywhere: the wish lies in the store, and whoever executes the run looks for it.

Code in threads looks at its boundaries, tasks by a timer of their loop. In the process that executes the run nobody needs to look.
"""

from __future__ import annotations

import time
import uuid
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._claims import run_not_found, status_of, wish_key
from agentflow._clock import wall_time
from agentflow._drive import Ask, Commit
from agentflow._outbox import event_record
from agentflow._serialization import seal
from agentflow.events import RunCancelled as RunCancelledEvent
from agentflow.exceptions import RunCancelled, RunConflict, StoreError
from agentflow.stores._base import Entry, Fence, RunFilter, Transaction
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from agentflow._tokens import Token
    from agentflow.stores._base import RunRecord, Store

__all__ = ["cancelling", "heeding"]

_BETWEEN_LOOKS: Final = 0.05  # seconds

# Weak: a task whose loop was closed without it is thrown away, and ends its run then, only if nobody else holds it.
_executed: Final[weakref.WeakValueDictionary[tuple[str, str], Token]] = weakref.WeakValueDictionary()


class _Listener:
    """Looks now and then whether a run is to be cancelled."""

    def __init__(self, store: Store, run_id: str, token: Token) -> None:
        self._store = store
        self._run_id = run_id
        self._token = token
        self._key = wish_key(run_id)
        self._next = time.monotonic() + _BETWEEN_LOOKS

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _BETWEEN_LOOKS
        with suppress(StoreError):  # the next commit says so
            if self._store.read(self._key) is not None:
                self._token.revoke(_cancelled(self._run_id))


def _cancelled(run_id: str) -> RunCancelled:
    return RunCancelled(f"run {run_id} was cancelled: Run.resume() goes on where it stopped", run_id=run_id)


@contextmanager
def heeding(store: Store, run_id: str, token: Token) -> Iterator[None]:
    """Have the code under a token learn, for a block, that its run is to be cancelled."""
    place = store.identity, run_id
    _executed[place] = token
    token.look = _Listener(store, run_id, token)
    try:
        yield
    finally:
        token.look = None
        if _executed.get(place) is token:
            del _executed[place]


def cancelling(store: Store, run_id: str) -> Generator[Ask, None, bool]:
    """Cancel a run and those that it has called; return whether there was anything to cancel.

    Raises:
        RunNotFound: If there is no such run.
    """
    while True:
        record = store.run(run_id)
        if record is None:
            raise run_not_found(run_id, store)
        status = status_of(record, store)
        if status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED):
            return False
        try:
            if status is RunStatus.RUNNING:
                yield Commit(store, _wish(record))
                if token := _executed.get((store.identity, run_id)):
                    token.revoke(_cancelled(run_id))
            else:
                yield Commit(store, _ending(record))
                for child in store.runs(RunFilter(parent_id=run_id)):
                    yield from cancelling(store, child.id)
        except RunConflict:
            continue  # somebody took it, or it ended, between the look and the commit
        return True


def _wish(record: RunRecord) -> Transaction:
    entry = Entry(
        key=wish_key(record.id),
        payload=seal(b""),
        kind="wish",
        workflow=record.workflow,
        session_id=record.session_id,
        scope="run",
        run_id=record.id,
        created_at=wall_time(),
    )
    return Transaction(entries=(entry,), fence=Fence(record.id, record.owner))


def _ending(record: RunRecord) -> Transaction:
    """Return the end of a run that nobody executes: who was about to begin it finds it in other hands."""
    now = wall_time()
    ended = attrs.evolve(record, status=RunStatus.CANCELLED, finished_at=now, owner=uuid.uuid4().hex)
    event = event_record(RunCancelledEvent(at=now), record.id, record.attempt)
    return Transaction(run=ended, events=(event,), fence=Fence(record.id, record.owner))
