"""Letting a run go on that stopped: in the background, in the executor that it was started in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow._claims import run_not_found, status_of
from agentflow._drive import Ask, Pause
from agentflow._failures import too_many_attempts
from agentflow._loading import workflow_of
from agentflow._settings import EXECUTORS, default_executor
from agentflow._starting import executor_of, submit
from agentflow._stored_call import StoredCall
from agentflow.exceptions import RunConflict, UsageError
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Generator

    from agentflow._jobs import Executor
    from agentflow.stores._base import RunRecord, Store

__all__ = ["resuming"]

_GOES_ON = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.COMPLETED)


def resuming(store: Store, run_id: str) -> Generator[Ask, None, None]:
    """Let a run go on, unless somebody executes it or it has completed.

    Raises:
        RunNotFound: If there is no such run.
        TooManyAttempts: If it was tried as often as it may be.
        WorkflowNotLoaded: If this process has not imported its workflow.
        UsageError: If it is a child, or cannot go on without its caller.
    """
    while True:
        record = store.run(run_id)
        if record is None:
            raise run_not_found(run_id, store)
        if status_of(record, store) in _GOES_ON:
            return
        if (yield from _resumed(store, record)):
            return
        yield Pause(0.005)  # somebody else is about to have it


def _resumed(store: Store, record: RunRecord) -> Generator[Ask, None, bool]:
    if record.parent_id:
        raise UsageError(
            f"run {record.id} is part of run {record.parent_id}, which called it: resume that one, and it goes on with it"
        )
    workflow = workflow_of(record)
    most = workflow.spec.continuation.max_attempts
    if record.attempt >= most:
        raise too_many_attempts(record, most)
    execution = workflow.execution(record, store)
    try:
        waiting = yield from execution.queued_again(record)
    except RunConflict:
        return False
    yield from submit(waiting, execution, workflow.perform, _executor_of(record))
    return True


def _executor_of(record: RunRecord) -> Executor:
    """Return the executor that a run was started in, as far as this process has it; else its default."""
    default = default_executor()
    name = StoredCall.of(record).executor
    return executor_of(name if name in EXECUTORS and getattr(default, "name", default) != name else default)
