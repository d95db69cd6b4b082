"""What `with_options` of a workflow may say, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from agentflow._active_run import Refresh
from agentflow._step import Step
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentflow._jobs import Executor
    from agentflow.stores._base import Store

__all__ = ["WorkflowOptions", "refresh_of"]


@attrs.frozen(kw_only=True)
class WorkflowOptions:
    """What `with_options` said of where and how calls run."""

    session_id: str | None = None
    store: Store | None = None
    refresh: Refresh = attrs.field(factory=Refresh)
    executor: str | Executor | None = None
    run_id: str | None = None
    debug: bool | None = None


def refresh_of(asked: bool | str | Step[Any, Any] | Iterable[str | Step[Any, Any]]) -> Refresh:  # noqa: FBT001 - as it was asked for
    """Return what is to be run again.

    Raises:
        UsageError: If it is neither True nor steps.
    """
    if isinstance(asked, bool):
        return Refresh(everything=asked)
    steps: list[Any] = [asked] if isinstance(asked, str | Step) or not hasattr(asked, "__iter__") else list(asked)
    for step in steps:
        if not isinstance(step, str | Step):
            raise UsageError(f"refresh={asked!r}: write True, or steps or their names")
    return Refresh(steps=frozenset(step if isinstance(step, str) else step.name for step in steps))
