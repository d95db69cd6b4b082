"""Never executed: what type checkers see of `agentflow.testing` (mypy --strict and pyright strict)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from agentflow import Context, cached_step
from agentflow.events import Event
from agentflow.stores import Store
from agentflow.testing import (
    VirtualClock,
    assert_hit,
    assert_ran,
    capture_events,
    fresh_store,
    replace_step,
)


@cached_step
def fetch(ctx: Context, url: str) -> str:
    return url


@cached_step
async def afetch(url: str, *, limit: int = 3) -> list[str]:
    return [url]


def kit() -> None:
    with fresh_store() as store, capture_events() as events, VirtualClock(datetime(2030, 1, 1, tzinfo=UTC)) as clock:
        assert_type(store, Store)
        assert_type(events, list[Event])
        assert_type(clock, VirtualClock)
        clock.advance(60)
        clock.advance(timedelta(hours=1))
        assert_type(clock.pauses, list[float])
    with replace_step(fetch, lambda url: url):
        assert_ran(fetch, "a", times=2)
    assert_hit(afetch, url="a", limit=2)
