"""What a run gives to those who ask for it: its result, or the one of five errors that says why there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from agentflow._claims import status_of
from agentflow._drive import Ask, Pause, Until
from agentflow._failures import ending_error
from agentflow._jobs import present
from agentflow._loading import find_workflow
from agentflow._memo import Remembered, split_stream
from agentflow._serialization import StaleValue, codec_for, plain_json
from agentflow._shared_stream import stream_result
from agentflow.exceptions import (
    RunTimeout,
    UnserializableValue,
    UsageError,
    WorkflowNotLoaded,
)
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow.stores._base import RunRecord, Store

__all__ = ["answered", "checked_timeout", "result_json", "result_of"]

_LONGEST_PAUSE: Final = 0.05  # seconds between two looks at a run of another process
_SLICE: Final = 0.25  # and at one of this process, which tells of its end by itself
_CODEC: Final = codec_for(Any)


def answered(look: Callable[[], RunRecord], store: Store, timeout: float | None) -> Generator[Ask, None, RunRecord]:
    """Wait until a run has completed, and return its row.

    Raises:
        RunFailed: If it failed.
        RunCancelled: If it was cancelled.
        RunInterrupted: If its process is gone.
        RunTimeout: If it has not ended in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.001
    while True:
        record = look()
        status = status_of(record, store)
        if status not in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING):
            record = look()
            if error := ending_error(record, status):
                raise error
            return record
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise RunTimeout(
                f"run {record.id} of workflow {record.workflow!r} is {status} after {timeout} s: ask again later",
                run_id=record.id,
            )
        done = present(store, record.id)
        yield _waiting(done, pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _waiting(done: Any, pause: float, left: float | None) -> Ask:
    longest = pause if done is None else _SLICE
    seconds = longest if left is None else min(longest, left)
    return Pause(seconds) if done is None else Until(done, seconds, real=True)


def _body(record: RunRecord) -> bytes:
    if record.result is None:
        raise UnserializableValue(
            f"run {record.id} of workflow {record.workflow!r} completed, but its result cannot be stored: "
            "only a direct call returns it; make the workflow return plain data",
            owner=f"the result of workflow {record.workflow!r}",
        )
    return Remembered.unpack(record.result).body


def result_of(record: RunRecord) -> Any:
    """Return the result of a completed run.

    Raises:
        WorkflowNotLoaded: If it is of classes that this process has not imported.
        UnserializableValue: If it could not be stored, or no longer fits its classes.
    """
    body, workflow = _body(record), find_workflow(record.workflow)
    try:
        if workflow is not None:
            return workflow.decode(body)
        stream = split_stream(body)
        if stream is None:
            return _CODEC.loads(body)
        items, value = stream
        return stream_result([_CODEC.loads(item) for item in items], _CODEC.loads(value))
    except StaleValue as stale:
        if workflow is None:
            raise WorkflowNotLoaded(
                f"the result of run {record.id} has classes of workflow {record.workflow!r}, which this process has not imported ({stale}): "
                "import its module first, or look at Run.result_json()"
            ) from stale
        raise UnserializableValue(
            f"the result of run {record.id} no longer fits the classes of workflow {record.workflow!r} ({stale}): look at Run.result_json()",
            owner=f"the result of workflow {record.workflow!r}",
        ) from stale


def result_json(record: RunRecord) -> str:
    """Return the result of a completed run as ordinary JSON text, which needs none of its classes."""
    body = _body(record)
    stream = split_stream(body)
    if stream is None:
        return plain_json(body)
    items, value = stream
    shown = stream_result(
        [pydantic_core.from_json(plain_json(item)) for item in items], pydantic_core.from_json(plain_json(value))
    )
    return pydantic_core.to_json(shown).decode()


def checked_timeout(timeout: object) -> float | None:
    """Return a time limit in seconds.

    Raises:
        UsageError: If it is none.
    """
    if timeout is None:
        return None
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= 0:
        return float(timeout)
    raise UsageError(f"timeout={timeout!r}: write seconds, or None to wait for as long as it takes")
