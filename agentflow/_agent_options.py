"""What an agent is made of, as type checkers check it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow._history import History
    from agentflow.messages import ModelSettings
    from agentflow.models import Model
    from agentflow.types import Scope

__all__ = ["AgentChanges", "AgentOptions"]


class AgentOptions(TypedDict, total=False):
    """What an agent is made of beside its model and its output type."""

    name: str | None
    description: str | None
    instructions: str | Sequence[str] | None
    expected_output: str | None
    markdown: bool
    tools: Sequence[Callable[..., Any]]
    output_retries: int
    max_turns: int
    history: bool | History
    settings: ModelSettings | None
    cache: Scope | None


class AgentChanges(AgentOptions, total=False):
    """What may change in a copy without changing its type."""

    model: str | Model
