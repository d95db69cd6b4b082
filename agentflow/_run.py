"""The life of a run: which call continues which run, and which way of ending leaves which status. Pure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import attrs

from agentflow.types import RunStatus

if TYPE_CHECKING:
    from agentflow.stores._base import RunRecord

__all__ = ["CONTINUABLE", "Continuation", "annotate", "status_after", "storable", "told", "typed"]

_LONGEST_TOLD: Final = 2000

CONTINUABLE: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.INTERRUPTED)
"""What a call may continue. A run that is `pending` or `running` and whose lock nobody holds has lost its process."""


@attrs.frozen
class Continuation:
    """Under which conditions a call continues an earlier run instead of beginning a new one.

    Attributes:
        within: How old the run's last event may be, in seconds; None: no run is ever continued by a call.
        max_attempts: How often one run is tried.
    """

    within: float | None
    max_attempts: int

    def accepts(self, run: RunRecord, last_event_at: float, now: float) -> bool:
        """Whether a run, if it has no live owner, is continued."""
        return (
            run.status in CONTINUABLE
            and run.attempt < self.max_attempts
            and self.within is not None
            and now - last_event_at < self.within
        )


def status_after(error: BaseException, *, task_cancelled: bool) -> RunStatus:
    """Return the status of a run that ended with this exception.

    Args:
        error: The exception.
        task_cancelled: Whether it is the cancellation of the awaiting task.
    """
    if task_cancelled or isinstance(error, KeyboardInterrupt):
        return RunStatus.CANCELLED
    return RunStatus.FAILED if isinstance(error, Exception) else RunStatus.INTERRUPTED


def told(error: BaseException) -> str:
    """Return the type and message of an exception as text that can be stored, whatever its class makes of `str()`."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the class is the user's, and its mistake must not hide the error
        message = "(it has no text)"
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return storable(typed(name, message)[:_LONGEST_TOLD])


def typed(kind: str, message: str) -> str:
    """Return the type of an exception before its message, alone if there is none."""
    return f"{kind}: {message}" if message else kind


def storable(text: str) -> str:
    """Return text without lone surrogates, which no store and no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()


_TOO_DEEP: Final = (
    "a step or workflow inside another takes six of Python's frames, a streamed one eleven, so that the usual limit of 1000 holds some 150 of them: "
    "call them in a loop, or raise the limit with sys.setrecursionlimit()"
)


def annotate(error: BaseException, text: str) -> None:
    """Add a note to an exception, if its class lets us."""
    if isinstance(error, RecursionError) and not hasattr(error, "__notes__"):
        text = f"{text}; {_TOO_DEEP}"
    with contextlib.suppress(AttributeError, TypeError):  # one of the user's may be frozen
        error.add_note(f"agentflow: {text}")
