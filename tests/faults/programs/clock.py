"""Steps while the clock jumps: clock.py DIRECTORY. Prints what it saw as JSON; `time.time` is what jumps, for all code of the process."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

SHIFT = [0.0]
_real = time.time
time.time = lambda: _real() + SHIFT[0]

import agentflow  # noqa: E402 - it must find the clock that jumps
from agentflow import cached_step, workflow  # noqa: E402
from agentflow.stores import DiskStore  # noqa: E402

DAY = 86_400.0
executed: list[str] = []


@cached_step
def for_ever(n: int) -> int:
    executed.append(f"for_ever {n}")
    return n


@cached_step(ttl=3600)
def for_an_hour(n: int) -> int:
    executed.append(f"for_an_hour {n}")
    return n


@workflow
def jumping(n: int) -> int:
    for_ever(n)
    SHIFT[0] -= DAY
    for_ever(n + 1)
    SHIFT[0] += 3 * DAY
    return for_ever(n + 2)


def at(days: float, call: object) -> bool:
    """Call when the clock is so many days off, and return whether it was a hit."""
    SHIFT[0] = days * DAY
    before = len(executed)
    call()  # type: ignore[operator]
    return len(executed) == before


if __name__ == "__main__":
    store = DiskStore(Path(sys.argv[1]) / "store")
    agentflow.configure(store=store)
    told: dict[str, object] = {
        "made": at(0, lambda: for_ever(0)),
        "hits": [at(days, lambda: for_ever(0)) for days in (-1, 3650, -3650, 0)],
        "made an hour": at(0, lambda: for_an_hour(0)),
        "within the hour": at(0.5 / 24, lambda: for_an_hour(0)),
        "after it": at(1.5 / 24, lambda: for_an_hour(0)),
        "made while it was a day ahead": at(1, lambda: for_an_hour(1)),
        "a day and an hour later by a true clock": at(1 + 1.1 / 24, lambda: for_an_hour(1)),
    }
    SHIFT[0] = 0.0
    jumping(10)
    run = jumping.session("default").runs()[0]
    SHIFT[0] = 0.0
    events = list(run.events(follow=False))
    told["seconds of steps"] = [event.seconds for event in events if event.type == "step_completed"]
    told["order"] = [event.seq for event in events] == list(range(1, len(events) + 1))
    told["status"] = run.status.value
    told["utc"] = run.started_at.utcoffset() is not None
    print(json.dumps(told))
    store.close()
