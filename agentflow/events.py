"""What happened in a run, as a closed family of values: `Event` is any of them.

Events are recorded in the run's store with a sequence number that grows by one inside a run, within a moment after they
happened. A hit is an event too, but never causes a commit of its own: it is written with the next thing that is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from agentflow._usage import Usage

__all__ = [
    "Emitted",
    "Event",
    "MapProgressed",
    "ModelAnswered",
    "ModelRetried",
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunInterrupted",
    "RunStarted",
    "RunYielded",
    "StepCompleted",
    "StepFailed",
    "StepHit",
    "StepRetried",
    "StepStarted",
    "StepYielded",
]


class _Event(BaseModel):
    # Built when first used: a dozen schemas would be a tenth of what `import agentflow` costs.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    seq: int = 0
    """The event's number in its run, from 1; 0 if it is not recorded (yet)."""
    run_id: str = ""
    attempt: int = 0
    """The run's attempt in which it happened, from 1."""
    at: float = 0.0
    """When, as seconds since the epoch (UTC)."""


class RunStarted(_Event):
    """An attempt of the run has begun."""

    type: Literal["run_started"] = "run_started"
    workflow: str = ""
    """The workflow's name."""
    session_id: str = ""
    parent_id: str = ""
    """The run that has called it, if one has."""


class RunYielded(_Event):
    """The run's function, a generator, yielded: one item as it comes, or several in a row once they are recorded together."""

    type: Literal["run_yielded"] = "run_yielded"
    items: tuple[Any, ...]
    """JSON values, in order. What JSON cannot say is named only: `"<Type>"`."""


class RunCompleted(_Event):
    """The run's function returned."""

    type: Literal["run_completed"] = "run_completed"


class RunFailed(_Event):
    """The run's function raised."""

    type: Literal["run_failed"] = "run_failed"
    error: str


class RunCancelled(_Event):
    """The run was cancelled."""

    type: Literal["run_cancelled"] = "run_cancelled"


class RunInterrupted(_Event):
    """The run's stream was closed before its end, or its process was asked to stop.

    If its process died, nobody could record that: then a reader is told so by an event without a number (`seq` is 0).
    """

    type: Literal["run_interrupted"] = "run_interrupted"


class _StepEvent(_Event):
    step: str
    key: str
    """The key of the call, as `Step.key()` gives it; empty for a call that is not remembered."""


class StepStarted(_StepEvent):
    """A step call missed and its function was entered."""

    type: Literal["step_started"] = "step_started"


class StepYielded(_StepEvent):
    """A streamed step that is being executed yielded: one item as it comes, or several in a row once they are recorded together."""

    type: Literal["step_yielded"] = "step_yielded"
    items: tuple[Any, ...]
    """JSON values, in order, as in `RunYielded`."""


class StepCompleted(_StepEvent):
    """A step's function returned, and its result is durable (if it is one to remember)."""

    type: Literal["step_completed"] = "step_completed"
    seconds: float
    attempts: int = 1
    remembered: bool = True
    """False if `cache_if` refused it, or if it has nowhere to be remembered."""


class StepHit(_StepEvent):
    """A step call was answered from the store, or by another call of the same key that was in flight."""

    type: Literal["step_hit"] = "step_hit"


class StepRetried(_StepEvent):
    """An attempt of a step failed and another one follows."""

    type: Literal["step_retried"] = "step_retried"
    error: str
    pause: float
    """Seconds until the next attempt."""


class StepFailed(_StepEvent):
    """A step call ended without a result."""

    type: Literal["step_failed"] = "step_failed"
    error: str
    attempts: int = 1


class ModelAnswered(_Event):
    """A model request was answered and the answer is durable."""

    type: Literal["model_answered"] = "model_answered"
    model: str
    usage: Usage = Field(default_factory=Usage)
    """What it used, with its cost where that is known; nothing if it was replayed."""
    replayed: bool = False
    """True if the answer came from the store and nothing was paid."""
    step: str = ""
    """The step that it was asked in, `""` for a body."""
    key: str = ""
    """The key of that step's call."""
    agent: str = ""
    """The name of the agent that asked, if it has one; empty for an answer that was replayed."""
    calls: tuple[str, ...] = ()
    """The tools that the answer calls, by name; empty for an answer that was replayed."""


class ModelRetried(_Event):
    """An attempt of a model request failed and another one follows, of the same model or of the next `FallbackModel` has."""

    type: Literal["model_retried"] = "model_retried"
    model: str
    error: str
    pause: float = 0.0
    """Seconds until the next attempt."""
    next_model: str | None = None
    """The model that is asked next, if it is another one."""


class MapProgressed(_Event):
    """So many of the items that `ctx.map` goes over are finished; said at its beginning, now and then, and at its end."""

    type: Literal["map_progressed"] = "map_progressed"
    name: str
    """The function that is called for each item."""
    done: int
    total: int


class Emitted(_Event):
    """Something the user's own code said through `ctx.emit(...)`."""

    type: Literal["emitted"] = "emitted"
    value: Any
    """A JSON value."""


Event: TypeAlias = Annotated[
    RunStarted
    | RunYielded
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunInterrupted
    | StepStarted
    | StepYielded
    | StepCompleted
    | StepHit
    | StepRetried
    | StepFailed
    | ModelAnswered
    | ModelRetried
    | MapProgressed
    | Emitted,
    Field(discriminator="type"),
]
"""Any event; a discriminated union on `type`."""
