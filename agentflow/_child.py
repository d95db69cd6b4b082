"""What the process of a background run does: find the workflow, say that it has the run, execute it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentflow._drive import on_a_loop
from agentflow._loading import loading_program
from agentflow._run import told
from agentflow._settings import configure
from agentflow._starting import taken_up
from agentflow.exceptions import AgentflowError, UsageError
from agentflow.stores import DiskStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from agentflow._jobs import Job

__all__ = ["main"]

_jobs: list[Job] = []


def main(order: Mapping[str, Any]) -> None:
    """Do what the starting process has ordered.

    Args:
        order: The run, the store, where the workflow is found, and the descriptor to report to.
    """
    os.set_inheritable(order["report"], False)
    _leave_terminal()
    signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        job = _found(order)
    except BaseException as error:  # noqa: BLE001 - the starting process raises it
        _report(order, {"error": _said(error), "traceback": "".join(traceback.format_exception(error))})
        return
    _jobs.append(job)
    _report(order, {})
    job.run()


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _found(order: Mapping[str, Any]) -> Job:
    store = DiskStore(**order["store"])
    # What this run starts in turn must not end with its process.
    configure(store=store, executor="process")
    _load(**order["program"])
    return taken_up(order["run_id"], store)


def _load(module: str, file: str | None, *, is_script: bool) -> None:
    with loading_program(module):
        if not is_script:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                if file is None or error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise
            else:
                return
        _load_file(module, file)


def _load_file(module: str, file: str | None) -> None:
    """Import a file under a name that leads nowhere: a script's, or one that a tool has made up."""
    spec = importlib.util.spec_from_file_location(module, file) if file else None
    if spec is None or spec.loader is None:
        raise UsageError(f"module {module!r} cannot be imported from {file}")
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, AgentflowError) else f"importing it failed with {told(error)}"


def _report(order: Mapping[str, Any], answer: Mapping[str, str]) -> None:
    # Whoever started it may be gone by now, and the run goes on all the same.
    with suppress(BrokenPipeError), os.fdopen(order["report"], "wb") as report:
        report.write(json.dumps({"ready": True, **answer}).encode())


def _asked_to_end(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough, and must not keep the run from recording it
    is_task = bool(_jobs) and on_a_loop()
    for job in _jobs:
        job.stop(is_told=not is_task)
    if not is_task:
        # Other code than a task would learn of it at its next boundary only, and it may be waiting for something.
        raise SystemExit(128 + number)
