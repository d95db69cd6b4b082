"""Waiting for whoever is in the way, with an end."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from agentflow.exceptions import StoreBusy
from agentflow.stores._errors import is_busy
from agentflow.stores._forks import GATE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["wait_while_busy"]

T = TypeVar("T")


def wait_while_busy(attempt: Callable[[], T], deadline: float) -> T:
    """Try until nobody else is in the way, until a time of the monotonic clock at most; called inside `GATE`.

    Short sleeps of our own: SQLite's busy handler sleeps up to 100 ms at a time (tails of 185 ms were measured, 9 ms with these),
    and is not asked at all for the switch to WAL.
    A fork may happen during a sleep, so an attempt must ask for its connection anew.
    """
    pause = 0.0005
    while True:
        try:
            return attempt()
        except (sqlite3.Error, StoreBusy) as error:
            left = deadline - time.monotonic()
            if not is_busy(error) or left <= 0:
                raise
        GATE.rest(min(pause, left) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause = min(pause * 1.5, 0.02)
