"""The events of a run and of the runs that it has called, read from its store as one stream, in the order of their times."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from agentflow._threads import THREADS

if TYPE_CHECKING:
    from collections.abc import Generator

    from agentflow._following import Reading
    from agentflow._runs import Run
    from agentflow.events import Event

__all__ = ["family_events"]


@attrs.define(eq=False)
class _Member:
    """A run, and what was read of it and not yet handed out."""

    run: Run
    reading: Reading
    waiting: deque[Event] = attrs.field(factory=deque)
    is_over: bool = False


class _Family:
    def __init__(self, run: Run) -> None:
        self._members: dict[str, _Member] = {}
        self._add(run)

    def _add(self, run: Run) -> None:
        if run.id not in self._members:
            self._members[run.id] = _Member(run, run._reading(0, follow=True))  # noqa: SLF001 - of this package

    def look(self) -> Event | float | None:
        """Return the next event, or for how many seconds to wait for one, or None if no more will come."""
        pauses: list[float] = []
        asked: set[str] = set()
        while unasked := [each for each in self._members.values() if each.run.id not in asked]:
            asked.update(each.run.id for each in unasked)
            pauses += [pause for each in unasked if (pause := self._filled(each)) is not None]
        speaking = [each for each in self._members.values() if each.waiting]
        if speaking:
            return min(speaking, key=lambda each: each.waiting[0].at).waiting.popleft()
        return min(pauses, default=None)

    def _filled(self, member: _Member) -> float | None:
        if member.waiting or member.is_over:
            return None
        found = member.reading.look()
        if isinstance(found, float | int):
            return found
        member.is_over = found is None
        member.waiting.extend(found or ())
        # A child's row is written before whatever its parent says later, so whoever is older than these events is found now.
        for child in member.run.children():
            self._add(child)
        return None


def family_events(run: Run) -> Generator[Event, None, Any]:
    """Yield what happens in a run and in those that it calls, until it ends; then return its result, or raise how it ended."""
    family = _Family(run)
    while (found := family.look()) is not None:
        if isinstance(found, float | int):
            with THREADS.waiting_for_another():
                time.sleep(found)
        else:
            yield found
    return run.result()
