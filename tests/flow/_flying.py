"""What tests of calls at once share: threads that begin together, waiting for what will come, and nothing that is left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentflow._flights import FLIGHTS


@contextmanager
def nothing_left(patience: float = 0) -> Iterator[None]:
    """Fail if a block leaves a flight or a thread behind, after so many seconds in which a loop may end its tasks."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    deadline = time.monotonic() + patience
    while FLIGHTS._under_way and time.monotonic() < deadline:
        time.sleep(0.01)
    left = dict(FLIGHTS._under_way)
    FLIGHTS._under_way.clear()
    assert left == {}
    for thread in set(threading.enumerate()) - before:
        if "agentflow-writer" not in thread.name and "asyncio" not in thread.name:
            thread.join(5)
            assert not thread.is_alive(), thread


class Crowd:
    """Counts who is inside of a block at once.

    Attributes:
        most: The most that there were.
    """

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        with self._mutex:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._now -= 1


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Call functions at once, each in a thread, and return what they return or raise."""
    results: list[Any] = [None] * len(functions)
    barrier = threading.Barrier(len(functions))

    def work(number: int) -> None:
        barrier.wait(10)
        try:
            results[number] = functions[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "it hangs"
    return results


def waiters_of(name: str) -> int:
    """How many wait for the flight of a step."""
    flights = [flight for flight in list(FLIGHTS._under_way.values()) if flight.name.endswith(name)]
    return sum(len(flight.done._done_callbacks) + flight.done._condition._waiters.__len__() for flight in flights)


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)


async def auntil(condition: Callable[[], Any]) -> None:
    """Wait until something holds, letting the loop run."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.002)
