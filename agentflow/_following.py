"""Reading a run's events while it goes on: in order, each once, from any process, without holding more than a page of them.

What to do next is decided once; a thread and a task each go through the answers in their own loop, next to each other.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import pydantic_core
from pydantic import TypeAdapter

from agentflow._clock import wall_time
from agentflow._news import NEWS
from agentflow._waiting import wait, wait_async
from agentflow.events import Event, RunCancelled, RunCompleted, RunFailed, RunInterrupted, RunYielded
from agentflow.exceptions import StoreCorrupt
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from agentflow.stores._base import EventRecord, Store

__all__ = ["Reading", "afollow", "follow", "recorded_items"]

_PAGE: Final = 64  # events that are held at once
_SHORTEST, _LONGEST, _GROWTH = 0.001, 0.05, 1.5  # seconds between two looks at what another process has written
_BETWEEN_STATUS: Final = 0.1  # seconds between two looks whether the run goes on
_ENDS: Final = (RunCompleted, RunFailed, RunCancelled, RunInterrupted)
_OVER: Final = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)

Waiting: TypeAlias = "Callable[[], AbstractContextManager[object]]"


@attrs.define(eq=False)
class Reading:
    """One reader of one run.

    Attributes:
        store: Where it is recorded.
        run_id: The run.
        status: Tells where the run stands now.
        after: The number of the last event that was read.
        follows: Whether to wait for what comes.
    """

    store: Store
    run_id: str
    status: Callable[[], RunStatus]
    after: int = 0
    follows: bool = True
    _pause: float = _SHORTEST
    _looked_at: float = 0.0
    _has_ended: bool = False

    def look(self) -> Sequence[Event] | float | None:
        """Return the next events, or for how many seconds to wait for them, or None if no more will come."""
        if page := self._page():
            return page
        if not self.follows:
            return None
        now = time.monotonic()
        if not self._has_ended and now - self._looked_at < _BETWEEN_STATUS:
            return self._rest()
        self._looked_at = now
        status = self.status()
        if status not in _OVER:
            self._has_ended = False
            return self._rest()
        self.follows = False
        # It may have said its last between the two looks.
        return self._page() or self._death()

    def _page(self) -> list[Event]:
        records = self.store.events(self.run_id, self.after, _PAGE)
        if not records:
            return []
        events = [_decoded(record, self.store) for record in records]
        self.after = records[-1].seq
        self._has_ended = isinstance(events[-1], _ENDS)
        self._pause = _SHORTEST
        return events

    def _rest(self) -> float:
        pause, self._pause = self._pause, min(self._pause * _GROWTH, _LONGEST)
        return pause

    def _death(self) -> list[Event] | None:
        """Return what a process that died could not say."""
        record = self.store.run(self.run_id)
        if record is None or record.status in _OVER:
            return None
        return [RunInterrupted(run_id=self.run_id, attempt=record.attempt, at=wall_time())]


def follow(reading: Reading, waiting: Waiting = nullcontext) -> Generator[Event, None, None]:
    """Yield events to a thread; `waiting` is entered while it only waits."""
    while True:
        with NEWS.awaited(reading.store.identity, reading.run_id) as news:
            found = reading.look()
            if isinstance(found, float | int):
                with waiting():
                    wait(news, found, real=True)
                continue
        if found is None:
            return
        yield from found


async def afollow(reading: Reading, waiting: Waiting = nullcontext) -> AsyncGenerator[Event, None]:
    """Yield events to a task; `waiting` is entered while it only waits."""
    while True:
        with NEWS.awaited(reading.store.identity, reading.run_id) as news:
            found = reading.look()
            if isinstance(found, float | int):
                with waiting():
                    await wait_async(news, found, real=True)
                continue
        if found is None:
            return
        for event in found:
            yield event


def recorded_items(reading: Reading, attempt: int) -> list[Any]:
    """Return what the run's function has yielded in an attempt."""
    told = follow(attrs.evolve(reading, follows=False))
    return [
        item for event in told if isinstance(event, RunYielded) and event.attempt == attempt for item in event.items
    ]


def _decoded(record: EventRecord, store: Store) -> Event:
    try:
        fields: dict[str, Any] = pydantic_core.from_json(record.data)
        return _adapter().validate_python({**fields, "run_id": record.run_id, "seq": record.seq})
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(
            f"event {record.seq} of run {record.run_id!r} in the store at {store.location} cannot be read ({error}): "
            "restore a backup, or upgrade agentflow if a newer one wrote it",
            path=store.location,
            hint="restore a backup, or upgrade agentflow",
        ) from error


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Event)
