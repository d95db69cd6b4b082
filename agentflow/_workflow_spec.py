"""What a workflow is, apart from any call of it: what its decorator was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentflow._budget import Budget
    from agentflow._run import Continuation
    from agentflow._signature import Shape
    from agentflow._state_values import Values

__all__ = ["WorkflowSpec"]


@attrs.define(eq=False)
class WorkflowSpec:
    """What a decorator was told about its workflow."""

    name: str
    shape: Shape
    session: str | Callable[..., str] | None
    ignore: frozenset[str]
    key: Callable[..., object] | None
    continuation: Continuation
    description: str
    values: Values | None = None
    budget: Budget | None = None
    call_budget: Budget | None = None
    """The budget that a call has brought with it, in place of the workflow's."""
