"""Starting background runs: a run is recorded as `pending` first, then an executor gets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from agentflow._claims import run_lock
from agentflow._drive import Ask, Commit
from agentflow._failures import Failure
from agentflow._jobs import Job
from agentflow._run import annotate
from agentflow._settings import checked_executor, default_executor
from agentflow._threads import THREADS
from agentflow.exceptions import AgentflowError, RunConflict
from agentflow.stores._base import Fence, Transaction
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow._execution import Execution
    from agentflow._jobs import Executor
    from agentflow.stores._base import RunRecord

__all__ = ["executor_of", "start", "submit"]


def executor_of(setting: str | Executor | None) -> Executor:
    """Return the executor that a setting means."""
    setting = checked_executor(default_executor() if setting is None else setting)
    return THREADS if isinstance(setting, str) else setting


def start(
    execution: Execution, perform: Callable[[Execution], None], setting: str | Executor | None
) -> Generator[Ask, None, str]:
    """Have a workflow's call executed in the background; return the id of the run that it begins or continues."""
    executor = executor_of(setting)
    record = yield from execution.queued(executor.name)
    yield from submit(record, execution, perform, executor)
    return record.id


def submit(
    record: RunRecord, execution: Execution, perform: Callable[[Execution], None], executor: Executor
) -> Generator[Ask, None, None]:
    """Hand a run that waits to an executor; what it refuses is recorded as failed."""
    try:
        executor.submit(Job.of(record, execution, perform))
    except BaseException as error:
        store = execution.home.store
        failed = attrs.evolve(
            record, status=RunStatus.FAILED, finished_at=time.time(), error=Failure.of(error).to_text()
        )
        try:
            yield Commit(store, Transaction(run=failed, fence=Fence(record.id, record.owner)))
        except RunConflict:
            pass  # somebody else has it already, and says how it ends
        except AgentflowError as also:
            annotate(error, f"and run {record.id} could not be recorded as failed: {also}")
        store.unlock(run_lock(record.id))
        raise
