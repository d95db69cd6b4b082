"""How a run failed, as text that any process can read: the exception's type, its message and its traceback."""

from __future__ import annotations

import traceback as tracebacks
from typing import TYPE_CHECKING, Final

import attrs
import pydantic_core

from agentflow._run import storable, told, typed
from agentflow.exceptions import RunCancelled, RunError, RunFailed, RunInterrupted, TooManyAttempts
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from agentflow.stores._base import RunRecord

__all__ = ["Failure", "ending_error", "too_many_attempts"]

_LONGEST_TRACEBACK: Final = 32_000
_LEFT_OUT: Final = "\n  [...]\n"


@attrs.frozen
class Failure:
    """What is kept of an exception that ended a run.

    Attributes:
        type: The qualified name of its type; without the module, if that is `builtins`.
        message: Its message.
        traceback: Its traceback with all causes and notes, without local variables; the middle of a very long one is left out.
    """

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Take down an exception."""
        kind, _, message = told(error).partition(": ")
        text = storable("".join(tracebacks.format_exception(error)))
        if len(text) > _LONGEST_TRACEBACK:
            half = _LONGEST_TRACEBACK // 2
            text = text[:half] + _LEFT_OUT + text[-half:]
        return cls(kind, message, text)

    def to_text(self) -> str:
        """Return it as a run's row keeps it."""
        return pydantic_core.to_json(attrs.asdict(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> Failure:
        """Read what a run's row keeps; of a damaged row, the text as it is."""
        try:
            fields = pydantic_core.from_json(text)
            return cls(**{name: str(value) for name, value in fields.items()})
        except (ValueError, TypeError, AttributeError):
            return cls("unreadable", text, "")

    def __str__(self) -> str:
        return typed(self.type, self.message)


def ending_error(record: RunRecord, status: RunStatus) -> RunError | None:
    """Return the error for whoever asks a run for its result that ended without one, None for one that has completed or goes on."""
    what = f"run {record.id} of workflow {record.workflow!r}"
    match status:
        case RunStatus.FAILED:
            return _run_failed(record, what)
        case RunStatus.CANCELLED:
            return RunCancelled(f"{what} was cancelled: Run.resume() goes on where it stopped", run_id=record.id)
        case RunStatus.INTERRUPTED:
            return RunInterrupted(
                f"{what} was interrupted in attempt {record.attempt}, since its process is gone or its stream was closed: "
                "call the workflow again, or Run.resume(), to go on where it stopped",
                run_id=record.id,
            )
        case _:
            return None


def _run_failed(record: RunRecord, what: str) -> RunFailed:
    failure = Failure.from_text(record.error)
    return RunFailed(
        f"{what} failed in attempt {record.attempt} with {failure}: .traceback says where; call the workflow again, or "
        "Run.resume(), to go on after its last finished step",
        run_id=record.id,
        error_type=failure.type,
        error_message=failure.message,
        traceback=failure.traceback,
        attempts=record.attempt,
    )


def too_many_attempts(record: RunRecord, most: int) -> TooManyAttempts:
    """Return the error of a run that was tried as often as it may be."""
    return TooManyAttempts(
        f"run {record.id} of workflow {record.workflow!r} was tried {record.attempt} times, and max_attempts is {most}: "
        "call the workflow again, without run_id=, to begin a new run",
        run_id=record.id,
    )
