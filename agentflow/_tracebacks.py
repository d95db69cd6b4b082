"""What the user reads when an exception is the user's to mend: the user's frames, and none of ours in between."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["keep_our_frames", "without_our_frames"]

_OURS = __name__.partition(".")[0]
_BINDS = f"{_OURS}._signature"
"""The module that raises Python's own TypeError of arguments that do not fit."""

_keeping: list[Callable[[], bool]] = []


def keep_our_frames(when: Callable[[], bool]) -> None:
    """Leave tracebacks as they are whenever this says so: the settings stand some floors above."""
    _keeping[:] = [when]


def without_our_frames(error: BaseException) -> BaseException:
    """Take agentflow's frames out of the traceback of an exception that other code has raised, or that says how agentflow was used wrongly.

    What else agentflow itself raises keeps them all: there they may be what somebody needs to see.
    """
    parts = list(_parts(error.__traceback__))
    if not parts or any(keeps() for keeps in _keeping) or not _is_theirs(error, parts[-1].tb_frame):
        return error
    shorter: TracebackType | None = None
    for part in reversed(parts):
        if not _is_ours(part.tb_frame):
            shorter = TracebackType(shorter, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return error.with_traceback(shorter)


def _parts(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_theirs(error: BaseException, innermost: FrameType) -> bool:
    """Whether other code has to change for this error not to come again."""
    return isinstance(error, UsageError) or not _is_ours(innermost) or innermost.f_globals.get("__name__") == _BINDS


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _OURS
