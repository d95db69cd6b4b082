"""Waiting for whoever is in the way, with an end."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import TYPE_CHECKING, Final, TypeVar

from agentflow.exceptions import StoreBusy
from agentflow.stores._errors import is_busy
from agentflow.stores._forks import GATE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["wait_while_busy"]

T = TypeVar("T")

SHORT: Final = 0.001  # seconds between two attempts
LONG: Final = 0.02


def wait_while_busy(attempt: Callable[[], T], deadline: float) -> T:
    """Try until nobody else is in the way, until a time of the monotonic clock at most; called inside `GATE`.

    Sleeps of our own: SQLite's busy handler sleeps up to 100 ms at a time, and is not asked at all for some locks.
    They do not grow at once, since whoever sleeps longer loses every race against those who have just come: with eight processes that
    write all the time, the longest wait was 950 ms with growing sleeps, 220 ms with these. After a second they spare the CPU.
    A fork may happen during a sleep, so an attempt must ask for its connection anew.
    """
    begun = time.monotonic()
    while True:
        try:
            return attempt()
        except (sqlite3.Error, StoreBusy) as error:
            now = time.monotonic()
            if not is_busy(error) or now >= deadline:
                raise
        pause = SHORT if now < begun + 1 else LONG
        GATE.rest(min(pause, deadline - now) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
