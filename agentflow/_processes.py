"""The executor `"process"`: each background run in a process of its own, which outlives whoever started it.

The child is a new interpreter, in a session of its own, that imports the workflow's module under its real name. It answers
once it has the run, or says why it cannot have it; until then `submit` waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._canonical import module_name
from agentflow.exceptions import UsageError
from agentflow.stores import DiskStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentflow._jobs import Job

__all__ = ["PROCESSES", "ProcessExecutor"]

# Forked once more before anything is imported, so that it is nobody's child: no zombie, and no terminal to be had.
_LAUNCHER: Final = """\
import os
if os.fork():
    os._exit(0)
import json, sys
order = json.load(sys.stdin)
sys.path[:] = order["path"]
from agentflow._child import main
main(order)
"""


class ProcessExecutor:
    """Executes each run in a process of its own.

    The process survives the end of this one, its terminal, and a closed notebook. It has no terminal and no output:
    what a run has to say belongs into its result, its events or the log. SIGTERM leaves the run `interrupted`.
    """

    name = "process"

    def submit(self, job: Job) -> None:
        """Have a run executed in a process of its own; it has begun when this returns.

        Raises:
            UsageError: If the workflow cannot be found by importing a module, if its arguments cannot be stored, or if the
                store cannot be opened by another process.
        """
        order = {
            "run_id": job.run_id,
            "path": sys.path,
            "store": _store_options(job),
            "program": attrs.asdict(_program_of(job.function, job.workflow)),
        }
        job.check_stored()
        with job.handed_over():
            answer = _launched(order)
        if "error" in answer:
            error = UsageError(f"workflow {job.workflow!r} cannot run in a process of its own: {answer['error']}")
            if answer.get("traceback"):
                error.add_note(f"In that process:\n{answer['traceback']}")
            raise error


def _store_options(job: Job) -> Mapping[str, Any]:
    if isinstance(job.store, DiskStore):
        return job.store.options
    raise UsageError(
        f"workflow {job.workflow!r} cannot run in a process of its own, since no other process can open {job.store.location}: "
        'use a store on disk (configure(store="a directory")), or executor="thread"'
    )


@attrs.frozen
class Program:
    """How another process finds a workflow.

    Attributes:
        module: The name of its module, as everybody else would import it.
        file: The module's file, None for one without.
        is_script: Whether it was run directly here, so that its file may be nowhere on the path.
    """

    module: str
    file: str | None
    is_script: bool


def _program_of(fn: Callable[..., object], workflow: str) -> Program:
    if "<locals>" in fn.__qualname__:
        raise UsageError(
            f"workflow {workflow!r} cannot run in a process of its own, since it is defined inside a function, where no import finds it: "
            'move it to the top level of its module, or use executor="thread"'
        )
    module = sys.modules.get(fn.__module__)
    file = getattr(module, "__file__", None)
    is_script = fn.__module__ in {"__main__", "__mp_main__"} and getattr(module, "__spec__", None) is None
    if is_script and (file is None or not os.path.isfile(file)):  # noqa: PTH113 - it is a str
        raise UsageError(
            f"workflow {workflow!r} cannot run in a process of its own, since it is defined in a notebook or at a prompt: "
            'move it to a module and import it from there, or use executor="thread"'
        )
    return Program(module_name(fn.__module__), None if file is None else os.path.abspath(file), is_script)  # noqa: PTH100


def _launched(order: Mapping[str, Any]) -> dict[str, Any]:
    """Start the process, and return what it says once it has the run, or cannot have it."""
    reading, writing = os.pipe()
    try:
        launcher = subprocess.Popen(  # noqa: S603 - this interpreter, and a text of ours
            [sys.executable, "-c", _LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            start_new_session=True,
        )
        with launcher:
            text = json.dumps({**order, "report": writing})
            os.close(writing)
            writing = -1
            launcher.communicate(text.encode())
        with os.fdopen(reading, "rb") as report:
            reading = -1
            said = report.read()
    finally:
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)
    return json.loads(said) if said else {"error": "it ended without a word, before it had the run"}


PROCESSES: Final = ProcessExecutor()
