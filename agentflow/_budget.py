"""What a run may spend, and whether it has. Pure: what was spent and the time are passed in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow.exceptions import BudgetExceeded, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentflow._usage import Usage

__all__ = ["Budget", "checked_budget", "least"]


def _seconds(duration: float | timedelta | None) -> float | None:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


@attrs.frozen(kw_only=True)
class Budget:
    """What a run may spend, with all its attempts, its agents and the runs that it calls.

    It is checked before each model request and by `ctx.check()`: requests that are under way at once may go beyond it together.
    Answers that are replayed cost nothing and are given also when it is spent.

    ```python
    from agentflow import Agent, Budget, workflow
    from agentflow.exceptions import BudgetExceeded
    from agentflow.testing import ScriptedModel

    poet = Agent(ScriptedModel(["one", "two", "three"]))

    @workflow(budget=Budget(requests=2))
    def poems() -> list[str]:
        return [poet.run("A poem").output for _ in range(3)]

    try:
        poems()
    except BudgetExceeded as error:
        print(error)

    assert poems.with_options(budget=Budget(requests=3))() == ["one", "two", "three"]     # goes on; two answers are replayed
    ```

    Args:
        tokens: Input and output tokens together.
        cost: US dollars. Needs the price of every model that is asked: see the extra `cost`.
        requests: Model requests that are answered.
        seconds: Seconds (or a `timedelta`) of being executed, over all attempts.

    Raises:
        UsageError: If a limit is no number, or below zero.
    """

    tokens: int | None = None
    cost: float | None = None
    requests: int | None = None
    seconds: float | None = attrs.field(default=None, converter=_seconds)

    def __attrs_post_init__(self) -> None:
        for name, limit in attrs.asdict(self).items():
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0):
                raise UsageError(f"Budget({name}={limit!r}): write a number from 0, or None for no limit")

    def check(self, spent: Usage, seconds: float, *, asking: bool) -> None:
        """Raise if it is exceeded.

        Args:
            spent: What was used.
            seconds: How long it took.
            asking: Whether a model is to be asked, so that something must be left.

        Raises:
            BudgetExceeded: If it is.
            UsageError: If it limits a cost that is not known.
        """
        if self.cost is not None and spent.requests and spent.cost is None:
            raise UsageError(
                f"Budget(cost={self.cost:g}) cannot be held: what the models asked so far cost is not known. "
                "Install agentflow-workflows[cost], which knows the prices of the large providers, or limit the tokens instead"
            )
        for name, limit, used in self._limits(spent, seconds):
            if used > limit or (asking and used >= limit):
                raise BudgetExceeded(
                    f"the budget of {limit:g} {_UNITS[name]} is spent ({used:g} used), so no further model request is made. "
                    "What was answered is kept: call again with a larger budget (with_options(budget=...)) to go on",
                    limit=name,
                    allowed=limit,
                    used=used,
                )

    def left(self, spent: Usage, seconds: float) -> Budget:
        """Return what is left of it; of a cost that is not known, nothing is known to be left."""
        left: dict[str, Any] = {name: max(0, limit - used) for name, limit, used in self._limits(spent, seconds)}
        return Budget(**left)

    def _limits(self, spent: Usage, seconds: float) -> list[tuple[str, float, float]]:
        """Return the name of each limit, the limit, and what was used of it."""
        cost = (spent.cost or 0) if not spent.requests or spent.cost is not None else float("inf")
        used = {"tokens": spent.total_tokens, "cost": cost, "requests": spent.requests, "seconds": seconds}
        return [(name, limit, used[name]) for name, limit in attrs.asdict(self).items() if limit is not None]


def checked_budget(budget: Budget | None) -> Budget | None:
    """Return a budget, or refuse what is none."""
    if not (budget is None or isinstance(budget, Budget)):
        raise UsageError(f"budget={budget!r}: write a Budget, such as Budget(cost=0.5, requests=100)")
    return budget


_UNITS: Final = {"tokens": "tokens", "cost": "US dollars", "requests": "requests", "seconds": "seconds"}


def least(budgets: Iterable[Budget]) -> Budget | None:
    """Return the tightest limits of several budgets, or None if there is no budget."""
    limits: dict[str, Any] = {}
    found = list(budgets)
    for budget in found:
        for name, limit in attrs.asdict(budget).items():
            if limit is not None:
                limits[name] = min(limit, limits.get(name, limit))
    return Budget(**limits) if found else None
