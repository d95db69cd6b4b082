"""What the user reads when the user's own code has raised: its frames, and none of ours in between."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["without_our_frames"]

_OURS = __name__.partition(".")[0]


def without_our_frames(error: BaseException) -> BaseException:
    """Take agentflow's frames out of the traceback of an exception that other code has raised.

    What agentflow itself raises keeps them all: there they may be what somebody needs to see.
    """
    kept: list[TracebackType] = []
    innermost_is_ours = True
    traceback = error.__traceback__
    while traceback is not None:
        innermost_is_ours = _is_ours(traceback.tb_frame)
        if not innermost_is_ours:
            kept.append(traceback)
        traceback = traceback.tb_next
    if innermost_is_ours:
        return error
    shorter: TracebackType | None = None
    for part in reversed(kept):
        shorter = TracebackType(shorter, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return error.with_traceback(shorter)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _OURS
