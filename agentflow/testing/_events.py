"""The events of every run, for a test to look at."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentflow._listening import HEARERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow.events import Event

__all__ = ["capture_events"]


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """Collect the events of every run that begins in this process during a block: in any thread or task, in the background, child runs too.

    They come as they happen, so those of runs that go on at once are mixed (each has its `run_id`), and they have no number yet (`seq` is 0).
    Streamed items come one by one. What other processes say is not among them: `Run.events()` has it.

    ```python
    from agentflow import cached_step, workflow
    from agentflow.events import StepCompleted
    from agentflow.testing import capture_events

    @cached_step
    def double(number: int) -> int:
        return 2 * number

    @workflow
    def sum_up(numbers: list[int]) -> int:
        return sum(double(number) for number in numbers)

    with capture_events() as events:
        sum_up([1, 2])
    assert [event.type for event in events][0] == "run_started"
    assert len([event for event in events if isinstance(event, StepCompleted)]) == 2
    ```
    """
    events: list[Event] = []
    is_open = True

    def hear(event: Event) -> None:
        if is_open:  # a run that goes on after the block is not heard any more
            events.append(event)

    HEARERS.append(hear)
    try:
        yield events
    finally:
        is_open = False
        HEARERS.remove(hear)
