"""Starting background runs: a run is recorded as `pending` first, then an executor gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentflow._claims import run_lock, run_not_found
from agentflow._clock import wall_time
from agentflow._drive import Ask, Commit
from agentflow._failures import Failure
from agentflow._jobs import Job
from agentflow._loading import workflow_of
from agentflow._run import annotate
from agentflow._settings import checked_executor, default_executor, default_store, store_at
from agentflow._threads import THREADS
from agentflow.exceptions import AgentflowError, RunConflict
from agentflow.stores._base import Fence, Transaction
from agentflow.types import RunStatus

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator

    from agentflow._execution import Execution
    from agentflow._jobs import Executor
    from agentflow.stores._base import RunRecord, Store

__all__ = ["execute", "executor_of", "start", "submit", "taken_up"]


def executor_of(setting: str | Executor | None) -> Executor:
    """Return the executor that a setting means."""
    setting = checked_executor(default_executor() if setting is None else setting)
    if setting == "thread":
        return THREADS
    if isinstance(setting, str):
        from agentflow._processes import PROCESSES  # noqa: PLC0415 - only who uses it pays for it

        return PROCESSES
    return setting


def start(
    execution: Execution, perform: Callable[[Execution], None], setting: str | Executor | None
) -> Generator[Ask, None, str]:
    """Have a workflow's call executed in the background; return the id of the run that it begins or continues."""
    executor = executor_of(setting)
    record = yield from execution.queued(executor.name)
    if record is None:
        assert execution.run_id is not None
        return execution.run_id
    yield from submit(record, execution, perform, executor)
    return record.id


def taken_up(run_id: str, store: Store) -> Job:
    """Take a run that waits, to be executed in this process.

    Raises:
        RunNotFound: If there is none.
        WorkflowNotLoaded: If this process has not imported its workflow.
        UsageError: If its arguments are not stored.
        RunConflict: If it does not wait, or another process has it.
    """
    record = store.run(run_id)
    if record is None:
        raise run_not_found(run_id, store)
    workflow = workflow_of(record)
    execution = workflow.execution(record, store)
    if record.status is not RunStatus.PENDING or not store.try_lock(run_lock(run_id)):
        raise RunConflict(
            f"run {run_id} is not waiting for somebody to execute it: it is {record.status}", run_id=run_id
        )
    execution.take_up(record)
    return Job.of(record, execution, workflow.perform)


def execute(run_id: str, *, store: str | os.PathLike[str] | Store | None = None) -> None:
    """Execute a run that waits, in this thread, to its end: what a worker of an executor of your own calls.

    What the workflow raises is recorded with the run, and not raised here.

    Args:
        run_id: The run; its workflow must have been imported.
        store: Where it is, if not in the default store.

    Raises:
        RunNotFound: If there is none.
        WorkflowNotLoaded: If this process has not imported its workflow.
        UsageError: If its arguments are not stored.
        RunConflict: If it does not wait, or another process has it.
    """
    taken_up(run_id, default_store() if store is None else store_at(store)).run()


def submit(
    record: RunRecord, execution: Execution, perform: Callable[[Execution], None], executor: Executor
) -> Generator[Ask, None, None]:
    """Hand a run that waits to an executor; what it refuses is recorded as failed."""
    try:
        executor.submit(Job.of(record, execution, perform))
    except BaseException as error:  # whatever an executor raises, the user's own too: the run must not wait for ever
        store = execution.home.store
        failed = attrs.evolve(
            record, status=RunStatus.FAILED, finished_at=wall_time(), error=Failure.of(error).to_text()
        )
        is_begun = False
        try:
            yield Commit(store, Transaction(run=failed, fence=Fence(record.id, record.owner)))
        except RunConflict:  # somebody else has it already, and says how it ends
            now = store.run(record.id)
            is_begun = now is not None and now.status is RunStatus.RUNNING
        except AgentflowError as also:
            annotate(error, f"and run {record.id} could not be recorded as failed: {also}")
        if not is_begun:  # else the lock is of whoever executes it, perhaps in another thread of this process
            store.unlock(run_lock(record.id))
        raise
