"""A run whose id the caller chooses, as an idempotency key: what a call of that id does, by what stands under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from agentflow._claims import status_of
from agentflow._drive import Ask, Pause
from agentflow._failures import ending_error, too_many_attempts
from agentflow.exceptions import RunConflict, UnserializableValue, UsageError
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow._claims import Claim, Claims
    from agentflow.stores._base import RunRecord

__all__ = ["NamedRun", "checked_run_id"]

T = TypeVar("T")

_STOPPED: Final = (RunStatus.FAILED, RunStatus.INTERRUPTED)
_BETWEEN_LOOKS: Final = 0.02  # seconds, at a run that somebody else executes


def checked_run_id(run_id: object) -> str:
    """Return a run's id.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(run_id, str) and run_id:
        return run_id
    raise UsageError(f"run_id={run_id!r}: an id is a str with something in it")


@attrs.frozen
class NamedRun(Generic[T]):
    """The run of an id that a call has chosen.

    Attributes:
        run_id: The id.
        claims: Claims runs for the call.
        new: Claims it as a new run; None if somebody else is just about to begin it.
        take: Makes a claim durable; False if somebody else has it.
    """

    run_id: str
    claims: Claims
    new: Callable[[], Claim | None]
    take: Callable[[Claim], Generator[Ask, None, bool]]

    def opened(
        self, recorded: Callable[[RunRecord], T | None], check: Callable[[], object]
    ) -> Generator[Ask, None, T | None]:
        """Begin it, go on with it, or wait for it; return what it gave if it has completed.

        Args:
            recorded: Returns what the row of a completed run says that it gave, None if it cannot be read back.
            check: Raises if there is no reason to wait any more.
        """
        awaited = False
        while True:
            record = self._look()
            if record is not None:
                if (given := recorded(record)) is not None:
                    return given
                if error := self._stopped_error(record, awaited=awaited):
                    raise error
                awaited = True
            claim = self._claim(record)
            if claim is not None and (yield from self.take(claim)):
                return None
            yield Pause(_BETWEEN_LOOKS)
            check()

    def queued(self) -> Generator[Ask, None, Claim | None]:
        """Claim it for an executor; None if it has ended, or somebody has it."""
        while True:
            record = self._look()
            claim = self._claim(record)
            if claim is not None and (yield from self.take(claim)):
                return claim
            if record is not None and not self._may_go_on(record):
                return None
            yield Pause(_BETWEEN_LOOKS)

    def _claim(self, record: RunRecord | None) -> Claim | None:
        if record is None:
            return self.new()
        return self.claims.again(record) if self._may_go_on(record) else None

    def _may_go_on(self, record: RunRecord) -> bool:
        is_stopped = status_of(record, self.claims.home.store) in _STOPPED
        return is_stopped and record.attempt < self.claims.continuation.max_attempts

    def _look(self) -> RunRecord | None:
        """Return the run's row, None if there is none yet.

        Raises:
            RunConflict: If it is not a run of this very call.
        """
        record = self.claims.home.store.run(self.run_id)
        if record is None:
            return None
        home = self.claims.home
        for what, has, wanted in (
            ("another workflow", record.workflow, home.workflow),
            ("another session", record.session_id, home.session_id),
            ("other arguments (or refresh=)", record.call, self.claims.call),
        ):
            if has != wanted:
                raise RunConflict(
                    f"run_id={self.run_id!r} is the id of a run with {what}: an id stands for one call; "
                    "choose another id for this one",
                    run_id=self.run_id,
                )
        return record

    def _stopped_error(self, record: RunRecord, *, awaited: bool) -> Exception | None:
        """Return what the call raises because of how the run has ended, None if it may go on.

        Args:
            record: The run.
            awaited: Whether the call has waited for its end: then it gets what it waited for, also if that is a failure.
        """
        status = status_of(record, self.claims.home.store)
        if status is RunStatus.COMPLETED:
            # A row that was read before the run ended has no result yet: it is read again.
            return _unreadable_error(record) if record.status is status else None
        if status in _STOPPED and self._may_go_on(record) and not (awaited and status is RunStatus.FAILED):
            return None
        if status is RunStatus.INTERRUPTED:
            return too_many_attempts(record, self.claims.continuation.max_attempts)
        return ending_error(record, status)


def _unreadable_error(record: RunRecord) -> UnserializableValue:
    """Return the error of a call whose run has completed with a result that cannot be read back."""
    return UnserializableValue(
        f"run {record.id} of workflow {record.workflow!r} has completed, and its result cannot be had again, since it cannot be stored "
        "or no longer fits its classes: choose another run_id to run it anew",
        owner=f"the result of workflow {record.workflow!r}",
    )
