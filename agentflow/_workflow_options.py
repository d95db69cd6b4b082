"""What `with_options` of a workflow may say, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from agentflow._active_run import Refresh
from agentflow._named_runs import checked_run_id
from agentflow._options import yes_or_no
from agentflow._settings import checked_executor, store_at
from agentflow._step import Step
from agentflow._step_options import checked_session
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from agentflow._jobs import Executor
    from agentflow.stores._base import Store

__all__ = ["Asked", "WorkflowOptions", "refresh_of"]

Asked: TypeAlias = "bool | str | Step[Any, Any] | Iterable[str | Step[Any, Any]]"
"""What a call may ask to run again: everything, or steps or their names."""


@attrs.frozen(kw_only=True)
class WorkflowOptions:
    """What `with_options` said of where and how calls run."""

    session_id: str | None = None
    store: Store | None = None
    refresh: Refresh = attrs.field(factory=Refresh)
    executor: str | Executor | None = None
    run_id: str | None = None
    debug: bool | None = None

    def changed(
        self,
        *,
        session_id: str | None,
        run_id: str | None,
        refresh: Asked | None,
        store: str | os.PathLike[str] | Store | None,
        executor: str | Executor | None,
        debug: bool | None,
    ) -> WorkflowOptions:
        """Return them with others in place of those that are not None.

        Raises:
            UsageError: If one cannot be what it is.
        """
        return WorkflowOptions(
            session_id=self.session_id if session_id is None else checked_session(session_id),
            store=self.store if store is None else store_at(store),
            refresh=self.refresh if refresh is None else refresh_of(refresh),
            run_id=self.run_id if run_id is None else checked_run_id(run_id),
            executor=self.executor if executor is None else checked_executor(executor),
            debug=self.debug if debug is None else yes_or_no(debug, "debug"),
        )


def refresh_of(asked: Asked) -> Refresh:
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
