"""What the events of a run say about its step calls and its model requests. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from agentflow._usage import Usage
from agentflow.events import ModelAnswered, StepCompleted, StepFailed, StepHit, StepRetried, StepStarted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentflow.events import Event

__all__ = ["RunStep", "steps_of"]

StepStatus: TypeAlias = Literal["running", "completed", "failed", "interrupted"]
_Call: TypeAlias = tuple[int, str, str]


@attrs.frozen(kw_only=True)
class RunStep:
    """One step call of a run.

    Attributes:
        step: The step's name.
        key: The key of the call, as `Step.key()` gives it; empty for a call that is not remembered.
        status: How far it came; `interrupted` if its attempt of the run ended before it did.
        hit: Whether it was answered from the store, or by another call of the same key.
        attempts: How often its function was tried; 0 for a hit.
        seconds: How long it took, 0 for a hit; None while it runs, or if nobody saw its end.
        error: The type and message of the latest exception, or None.
        run_attempt: The attempt of the run that it belongs to, from 1.
        started_at: When it was called, in UTC.
        usage: What the model requests made in it have used, less those of steps that it called; nothing for a hit.
    """

    step: str
    key: str
    status: StepStatus
    hit: bool = False
    attempts: int = 1
    seconds: float | None = None
    error: str | None = None
    run_attempt: int
    started_at: datetime
    usage: Usage = attrs.field(factory=Usage)


def steps_of(events: Iterable[Event], *, is_over: bool) -> list[RunStep]:
    """Return the step calls that events tell of.

    Args:
        events: The events of one run, in order.
        is_over: Whether the run is over, so that no step is still running.
    """
    steps: list[RunStep] = []
    # Equal calls that are not remembered may run at once; which of them ends first makes no difference to the reader.
    open_calls: defaultdict[_Call, deque[int]] = defaultdict(deque)
    latest = 0
    for event in events:
        latest = max(latest, event.attempt)
        if isinstance(event, StepStarted | StepHit):
            if isinstance(event, StepStarted):
                open_calls[_call(event)].append(len(steps))
            steps.append(_begun(event))
        elif isinstance(event, StepRetried | StepCompleted | StepFailed) and (waiting := open_calls[_call(event)]):
            index = waiting[0] if isinstance(event, StepRetried) else waiting.popleft()
            steps[index] = _gone_on(steps[index], event)
        elif isinstance(event, ModelAnswered) and (waiting := open_calls[_call(event)]):
            steps[waiting[0]] = attrs.evolve(steps[waiting[0]], usage=steps[waiting[0]].usage + event.usage)
    return [
        _left(step) if step.status == "running" and (is_over or step.run_attempt < latest) else step for step in steps
    ]


def _call(event: StepStarted | StepRetried | StepCompleted | StepFailed | ModelAnswered) -> _Call:
    return event.attempt, event.step, event.key


def _begun(event: StepStarted | StepHit) -> RunStep:
    is_hit = isinstance(event, StepHit)
    return RunStep(
        step=event.step,
        key=event.key,
        status="completed" if is_hit else "running",
        hit=is_hit,
        attempts=0 if is_hit else 1,
        seconds=0.0 if is_hit else None,
        run_attempt=event.attempt,
        started_at=datetime.fromtimestamp(event.at, UTC),
    )


def _gone_on(step: RunStep, event: StepRetried | StepCompleted | StepFailed) -> RunStep:
    match event:
        case StepRetried():
            return attrs.evolve(step, attempts=step.attempts + 1, error=event.error)
        case StepCompleted():
            return attrs.evolve(step, status="completed", seconds=event.seconds, attempts=event.attempts, error=None)
        case StepFailed():
            seconds = event.at - step.started_at.timestamp()
            return attrs.evolve(step, status="failed", seconds=seconds, attempts=event.attempts, error=event.error)


def _left(step: RunStep) -> RunStep:
    return attrs.evolve(step, status="interrupted")
