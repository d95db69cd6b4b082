"""Which run a call executes: a new one, or one that was left. A claim on it holds the run's lock.

The lock says that somebody has the run, and the fence of the first write that nobody else took it in between.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._clock import wall_time
from agentflow._keys import entry_key
from agentflow._run import CONTINUABLE
from agentflow.exceptions import RunNotFound
from agentflow.stores._base import UNFINISHED, Fence, RunFilter, RunRecord, handover_lock, run_lock
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow._active_run import Home
    from agentflow._run import Continuation
    from agentflow.stores._base import Store

__all__ = ["Claim", "Claims", "following", "handover_lock", "run_lock", "run_not_found", "status_of", "wish_key"]

_MOST_CANDIDATES: Final = 50


def wish_key(run_id: str) -> str:
    """Return the key under which lies the wish that a run be cancelled."""
    return entry_key("cancel", run_id)


def status_of(record: RunRecord, store: Store) -> RunStatus:
    """Return where a run stands: what its row says, unless its process has died over it."""
    if record.status not in UNFINISHED or record.is_queued:
        return record.status
    # In the order in which a run changes hands, so that it is not missed between two looks.
    if store.is_locked(handover_lock(record.id)) or store.is_locked(run_lock(record.id)):
        return record.status
    now = store.run(record.id)
    if now is not None and (now.status, now.owner) != (record.status, record.owner):
        return status_of(now, store)  # between the looks it ended, went on, or left a queue
    return RunStatus.CANCELLED if _is_unwanted(record, store) else RunStatus.INTERRUPTED


def _is_unwanted(record: RunRecord, store: Store) -> bool:
    """Whether a run was to be cancelled when its process died over it; of one that has ended it means nothing any more."""
    return record.status is RunStatus.RUNNING and store.read(wish_key(record.id)) is not None


def run_not_found(run_id: str, store: Store) -> RunNotFound:
    """Return the error of a run that is not there."""
    return RunNotFound(
        f"there is no run {run_id!r} in the store at {store.location}: check the id, and that this process uses the same store "
        "(configure(store=...) or AGENTFLOW_STORE)",
        run_id=run_id,
    )


@attrs.frozen
class Claim:
    """The right to execute a run, as long as its row still belongs to whom it did.

    Attributes:
        record: The row that says that it is being executed.
        fence: Whose row it replaces.
    """

    record: RunRecord
    fence: Fence

    @property
    def forgotten(self) -> tuple[str, ...]:
        """The keys of what an earlier attempt has left behind."""
        return (wish_key(self.record.id),) if self.fence.owner else ()

    @property
    def waiting(self) -> RunRecord:
        """The row that says that it is to be executed."""
        return attrs.evolve(self.record, status=RunStatus.PENDING, attempt=self.record.attempt - 1)


@attrs.frozen
class Claims:
    """Claims runs of one session for one call.

    Attributes:
        home: The session.
        call: The digest of the call.
        continuation: When an earlier run is continued.
    """

    home: Home
    call: str
    continuation: Continuation

    def new(self, run_id: str, arguments: bytes | None, parent_id: str = "") -> Claim | None:
        """Claim a run that does not exist yet; None if somebody else is just about to begin it."""
        if not self.home.store.try_lock(run_lock(run_id)):
            return None
        record = RunRecord(
            id=run_id,
            workflow=self.home.workflow,
            session_id=self.home.session_id,
            call=self.call,
            owner=os.urandom(16).hex(),
            parent_id=parent_id,
            started_at=wall_time(),
            arguments=arguments,
        )
        return Claim(record, Fence(run_id, ""))

    def left(self) -> Iterator[Claim]:
        """Claim, one after the other, the runs that this call may continue, newest first."""
        which = RunFilter(
            workflow=self.home.workflow,
            session_id=self.home.session_id,
            call=self.call,
            parent_id="",
            statuses=CONTINUABLE,
        )
        for record in self.home.store.runs(which, _MOST_CANDIDATES):
            last = self.home.store.last_event(record.id)
            at = last.at if last else record.started_at
            accepted = self.continuation.accepts(record, at, wall_time()) and not _is_unwanted(record, self.home.store)
            if accepted and (claim := self.again(record)):
                yield claim

    def again(self, record: RunRecord) -> Claim | None:
        """Claim a run that nobody executes any more; None if somebody does after all."""
        store = self.home.store
        if record.is_queued or store.is_locked(handover_lock(record.id)) or not store.try_lock(run_lock(record.id)):
            return None
        now = store.run(record.id)
        if now is None or (now.status, now.owner) != (record.status, record.owner):
            # It went on, or ended, between the look and the lock.
            self.release(record.id)
            return None
        return following(record)

    def release(self, run_id: str) -> None:
        """Give a claim up."""
        self.home.store.unlock(run_lock(run_id))


def following(record: RunRecord) -> Claim:
    """Return the claim to the next attempt of a run whose lock is held."""
    return Claim(
        attrs.evolve(
            record,
            status=RunStatus.RUNNING,
            attempt=record.attempt + 1,
            owner=os.urandom(16).hex(),
            finished_at=None,
            error="",
        ),
        Fence(record.id, record.owner),
    )
