"""What a run has spent: in this attempt as it happens, in earlier ones as its events tell."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import attrs
import pydantic_core

from agentflow._budget import Budget, least
from agentflow._clock import Deadline, in_force
from agentflow._drive import Ask, Pause, drive
from agentflow._usage import Usage
from agentflow.stores._base import RunFilter
from agentflow.stores._errors import damaged

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from agentflow.stores._base import EventRecord, Store

__all__ = ["Account", "Spent", "spending", "spent_by", "used_in"]

_ANSWERED: Final = b'"model_answered"'
_PAGE: Final = 250  # events that are looked at in one go: a few milliseconds


@attrs.frozen
class Spent:
    """What a run has spent.

    Attributes:
        usage: What its model requests used, those of the runs it called included.
        seconds: How long it was executed.
    """

    usage: Usage = attrs.field(factory=Usage)
    seconds: float = 0.0


class Account:
    """What a run spends while it is executed; what is added counts for the runs around it too.

    Args:
        budget: What it may spend.
        around: The account of the run that calls it.
        earlier: What its earlier attempts have spent.
    """

    def __init__(
        self, budget: Budget | None = None, around: Account | None = None, earlier: Spent | None = None
    ) -> None:
        self._budget = budget
        self._around = around
        self._usage = earlier.usage if earlier else None  # made when it is asked for: most runs ask no model
        self._began = Deadline(-earlier.seconds if earlier else 0.0, in_force())
        # A finalizer of a stream may be the one who adds, while its own thread is in here: hence RLock.
        self._mutex = threading.RLock()

    @property
    def usage(self) -> Usage:
        """What was used so far, in all attempts."""
        return self._usage or Usage()

    @property
    def left(self) -> Budget | None:
        """What is left of the budgets in force, or None if there is none."""
        return least(budget.left(account.usage, account.seconds) for account, budget in self.budgets())

    @property
    def seconds(self) -> float:
        """How long the run has been executed, in all attempts."""
        return -self._began.left

    def add(self, usage: Usage) -> None:
        """Count what a request has used."""
        with self._mutex:
            self._usage = self.usage + usage
        if self._around:
            self._around.add(usage)

    def check(self, *, asking: bool) -> None:
        """Raise if a budget in force is exceeded, or, if a model is to be asked, has nothing left.

        Raises:
            BudgetExceeded: If so.
            UsageError: If a budget limits a cost that is not known.
        """
        for account, budget in self.budgets():
            budget.check(account.usage, account.seconds, asking=asking)

    def budgets(self) -> Iterator[tuple[Account, Budget]]:
        """Yield the budgets in force, each with the account that it limits."""
        if self._budget:
            yield self, self._budget
        if self._around:
            yield from self._around.budgets()


def spent_by(store: Store, run_id: str) -> Spent:
    """Return what a run has spent by its recorded events, with the runs that it called; what was replayed counts nothing.

    Raises:
        StoreCorrupt: If an event of it is damaged.
    """
    return drive(spending(store, run_id))


def spending(store: Store, run_id: str) -> Generator[Ask, None, Spent]:
    """The procedure of `spent_by`, which lets others get on between two pages of events."""
    usage, spans, after = Usage(), dict[int, tuple[float, float]](), 0
    while events := store.events(run_id, after, _PAGE):
        try:
            usage += used_in(events)
            _extend(spans, events)
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(store.location, f"an event of run {run_id}: {error}") from error
        after = events[-1].seq
        yield Pause(0)
    for child in store.runs(RunFilter(parent_id=run_id)):
        usage += (yield from spending(store, child.id)).usage
    return Spent(usage, sum(last - first for first, last in spans.values()))


def used_in(events: Sequence[EventRecord]) -> Usage:
    """Return what the model requests among these events have used; what was replayed counts nothing."""
    return sum((_usage(event) for event in events if _ANSWERED in event.data), Usage())


def _usage(event: EventRecord) -> Usage:
    fields = pydantic_core.from_json(event.data)
    is_paid = fields["type"] == "model_answered" and not fields["replayed"]
    return Usage.model_validate(fields["usage"]) if is_paid else Usage()


def _extend(spans: dict[int, tuple[float, float]], events: Sequence[EventRecord]) -> None:
    """Extend for each attempt the span from its first to its last event."""
    for event in events:
        fields = pydantic_core.from_json(event.data)
        if fields["type"] == "run_cancelled":  # it may be said long after the attempt lost its process
            continue
        attempt = fields["attempt"]
        first, _ = spans.get(attempt, (event.at, event.at))
        spans[attempt] = first, event.at
