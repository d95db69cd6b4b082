"""How a run failed, as text that any process can read: the exception's type, its message and its traceback."""

from __future__ import annotations

import traceback as tracebacks
from typing import TYPE_CHECKING, Final

import attrs
import pydantic_core

from agentflow._run import storable, told
from agentflow.exceptions import RunFailed

if TYPE_CHECKING:
    from agentflow.stores._base import RunRecord

__all__ = ["Failure", "run_failed"]

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
        """Read what a run's row keeps."""
        return cls(**pydantic_core.from_json(text))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def run_failed(record: RunRecord) -> RunFailed:
    """Return the error for whoever asks a failed run for its result."""
    failure = Failure.from_text(record.error)
    return RunFailed(
        f"run {record.id} of workflow {record.workflow!r} failed in attempt {record.attempt} with {failure}: "
        ".traceback says where; call the workflow again, or Run.resume(), to go on after its last finished step",
        run_id=record.id,
        error_type=failure.type,
        error_message=failure.message,
        traceback=failure.traceback,
        attempts=record.attempt,
    )
