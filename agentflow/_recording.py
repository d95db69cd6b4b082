"""How a model request meets the run it is made in, without either tower knowing the other.

An agent asks the recording in force for a slot before each model request and saves the answer into it.
What a slot's key is made of (run, session, place, how many equal requests came before) is the run's business.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._usage import Usage
    from agentflow.types import Scope

__all__ = ["RECORDING", "RESERVED", "Recording", "Slot", "Turn"]


@attrs.frozen
class Slot:
    """The place of one model request among those its run remembers.

    Attributes:
        key: Where the answer is kept.
        answer: The remembered answer, or None if the request must be made.
        scope: How far the answer is shared; None if it is only counted, and kept nowhere.
        model: Who is asked.
        agent: The name of the agent that asks.
        calls: The tools that the answer calls, by name.
    """

    key: str
    answer: bytes | None
    scope: Scope | None = "run"
    model: str = ""
    agent: str = ""
    calls: tuple[str, ...] = ()


RESERVED: Final = "agentflow."
"""How those keys of a session's state begin that are agentflow's own."""


@attrs.frozen(eq=False)
class Turn:
    """One turn of an agent that remembers its conversation.

    Attributes:
        id: What it is known by; the same when its run goes on and takes it again.
        run_id: The run that it is a part of.
        state: The state of the session, as it is seen from here.
    """

    id: str
    run_id: str
    state: MutableMapping[str, Any]


class Recording(Protocol):
    """Remembers the model requests of the body or step call that is running."""

    def slot(self, request: bytes, scope: Scope | None, model: str) -> Slot:
        """Return the slot of a request, given in its canonical bytes; counts it among its equals.

        Args:
            request: The request.
            scope: How far its answer is shared; None: it is not remembered.
            model: Who is asked.

        Raises:
            AgentflowError: If the run may make no further request (cancelled, timed out, over its budget).
        """
        ...

    def save(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        """Keep an answer and what it used; both are durable when this returns."""
        ...

    def retried(self, model: str, error: str, *, pause: float = 0.0, next_model: str | None = None) -> None:
        """Say that an attempt of a request failed and another one follows.

        Args:
            model: The model that failed.
            error: How.
            pause: Seconds until the next attempt.
            next_model: The model that is asked next, if it is another one.
        """
        ...

    def spoil(self, slots: Sequence[Slot]) -> None:
        """Say that answers led to something that cannot be used: what goes on with the run asks anew."""
        ...

    def inside(self, place: str) -> AbstractContextManager[None]:
        """Count what is asked in a block in a place of its own, so that it does not matter what goes on beside it."""
        ...

    def turn(self, agent: str) -> Turn:
        """Return the turn that an agent takes now, and count it."""
        ...

    async def asave(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        """Keep an answer without blocking the running loop."""
        ...


RECORDING: Final[ContextVar[Recording | None]] = ContextVar("agentflow_recording", default=None)
"""The recording in force; None outside a run, where nothing is remembered."""
