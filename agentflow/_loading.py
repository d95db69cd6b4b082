"""The workflows that this process has imported: only those can go on here, and only their results come back with their types."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow.exceptions import UsageError, WorkflowNotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentflow._execution import Execution
    from agentflow._workflow_spec import WorkflowSpec
    from agentflow.stores._base import RunRecord, Store

__all__ = ["Loaded", "find_workflow", "loading_program", "note_workflow", "refuse_while_loading", "workflow_of"]


@attrs.frozen(eq=False)
class Loaded:
    """A workflow as those need it who do not call it.

    Attributes:
        spec: What its decorator was told.
        decode: Makes the value of a recorded result.
        execution: Makes the execution of a recorded run.
        perform: Executes one in this thread, to its end.
    """

    spec: WorkflowSpec
    decode: Callable[[bytes], Any]
    execution: Callable[[RunRecord, Store], Execution]
    perform: Callable[[Execution], None]


_workflows: Final[dict[str, Loaded]] = {}
_loading: Final[list[str]] = []


def note_workflow(workflow: Loaded) -> None:
    """Note a workflow; one that is defined again replaces the older one."""
    _workflows[workflow.spec.name] = workflow


def find_workflow(name: str) -> Loaded | None:
    """Return the workflow of a name, or None if this process has not imported it."""
    return _workflows.get(name)


def workflow_of(record: RunRecord) -> Loaded:
    """Return the workflow of a run.

    Raises:
        WorkflowNotLoaded: If this process has not imported it. A name that stands in a store is never imported by itself.
    """
    workflow = find_workflow(record.workflow)
    if workflow is None:
        module = record.workflow.partition(":")[0]
        raise WorkflowNotLoaded(
            f"run {record.id} is one of workflow {record.workflow!r}, which this process has not imported: "
            f"import the module that defines it first ({module!r}, by its name)"
        )
    return workflow


@contextmanager
def loading_program(module: str) -> Iterator[None]:
    """Refuse workflow calls in this thread's process for a block, which imports the program of a background run."""
    _loading.append(module)
    try:
        yield
    finally:
        _loading.pop()


def refuse_while_loading(workflow: str) -> None:
    """Raise if a program is being imported only to find a workflow in it.

    Raises:
        UsageError: If so. Else each background process would start the program anew, and so another one, without end.
    """
    if _loading:
        raise UsageError(
            f"workflow {workflow!r} was called while module {_loading[-1]!r} was imported for a background run: put what a script does "
            'when it is run itself below `if __name__ == "__main__":`'
        )
