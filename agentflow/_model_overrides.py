"""Which model is in force for an agent: its own, or one that was put in its place for a block."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from agentflow.models import Model

__all__ = ["model_in_force", "overridden", "replaced_everywhere"]

_OVERRIDES: Final[ContextVar[Mapping[object, Model]]] = ContextVar("agentflow_models", default={})  # noqa: B039 - never changed, only replaced
"""The models in force in place of the agents' own; that of None is for every agent."""


_EVERYWHERE: Final[list[Callable[[Model], Model]]] = []
"""Give the model to use in place of an agent's own in the whole process, where it has no override; the last one counts."""


@contextmanager
def replaced_everywhere(replace: Callable[[Model], Model]) -> Generator[None]:
    """Put models in force in every thread and task, for agents that have no override.

    Args:
        replace: Given an agent's own model, returns the one to use.
    """
    _EVERYWHERE.append(replace)
    try:
        yield
    finally:
        _EVERYWHERE.remove(replace)


@contextmanager
def overridden(chosen: Mapping[object, Model]) -> Generator[None]:
    """Put models in force in this thread or task and what it starts.

    Args:
        chosen: The models by agent. The one of None is for every agent, also for those overridden before.
    """
    token = _OVERRIDES.set({**({} if None in chosen else _OVERRIDES.get()), **chosen})
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


def model_in_force(agents: Iterable[object], own: Callable[[], Model]) -> Model:
    """Return the model in force for an agent.

    Args:
        agents: The agent and those whose override is its own too, the nearest first.
        own: Gives its own model.
    """
    overrides = _OVERRIDES.get()
    for known in (*agents, None):
        if known in overrides:
            return overrides[known]
    return _EVERYWHERE[-1](own()) if _EVERYWHERE else own()
