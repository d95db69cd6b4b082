"""Many at once: stampedes (F11), owners that die (F12), first openings (F13), one session for many writers (R14).

What else threads and tasks of one process do at once stands in `tests/flow/test_single_flight.py`, streams and exceptions between processes
in `tests/flow/test_processes.py`, locks in `tests/stores/test_locks.py`, forks in `tests/stores/test_processes.py`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentflow import cached_step
from agentflow._settings import using_store
from agentflow.stores import DiskStore

slow = pytest.mark.slow


@pytest.mark.parametrize("processes", [8, *[pytest.param(number, marks=slow) for number in (2, 16, 32)]])
def test_a_stampede_executes_once(program, tmp_path, figure, processes):
    """R4: so many processes ask for one step at the same moment, in a store that is not there yet: one execution, one value."""
    counts = program("meet.py", tmp_path, "processes", processes)

    assert counts == {"processes": processes, "executions": 1, "wrong": 0}
    figure("R4", **counts)


def test_a_stampede_of_threads_executes_once(tmp_path, figure):
    """R4: 64 threads ask at the same moment: one execution, one value."""
    executed: list[int] = []
    together = threading.Barrier(64)

    @cached_step(name="meet.threads")
    def answer() -> list[int]:
        executed.append(1)
        time.sleep(0.1)
        return [42]

    def ask(_: int) -> list[int]:
        together.wait(60)
        return answer()

    with using_store(DiskStore(tmp_path / "store")) as store, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(64)))
    store.close()

    assert (answers, executed) == ([[42]] * 64, [1])
    figure("R4", threads=64, executions=1, wrong=0)


async def test_a_stampede_of_tasks_executes_once(tmp_path, figure):
    """R4: 200 tasks ask in one turn of the loop: one execution, one value."""
    executed: list[int] = []

    @cached_step(name="meet.tasks")
    async def answer() -> list[int]:
        executed.append(1)
        await asyncio.sleep(0.1)
        return [42]

    with using_store(DiskStore(tmp_path / "store")) as store:
        answers = await asyncio.gather(*(answer() for _ in range(200)))
    store.close()

    assert (answers, executed) == ([[42]] * 200, [1])
    figure("R4", tasks=200, executions=1, wrong=0)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=slow)])
def test_a_waiter_takes_over(program, tmp_path, figure, kills):
    """R5: the owner of a running step is killed, and leaves a forked child alive: the waiter executes within a second."""
    counts = program("meet.py", tmp_path, "takeover", kills)

    assert counts["over_a_second"] == 0
    figure("R5", **counts)


def test_an_owner_that_stands_still(program, tmp_path, figure):
    """It keeps the key, since it may go on at any time: who waits obeys a timeout of its own, and there is one execution and one outcome."""
    counts = program("meet.py", tmp_path, "stop", 7)

    assert counts == {"owner": 0, "waiter_timed_out": True, "same": True, "executions": 1}
    figure("R5 stopped", executions=1, outcomes=1)


@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=slow)])
def test_first_openings(program, tmp_path, figure, rounds):
    """R6: 32 processes open and write a store that is not there, at the same moment: no error, and every write is there."""
    counts = program("meet.py", tmp_path, "open", rounds)

    assert (counts["errors"], counts["missing"]) == (0, 0)
    figure("R6", **counts)


@pytest.mark.parametrize("processes", [2, pytest.param(8, marks=slow)])
def test_no_update_is_lost(program, tmp_path, figure, processes):
    """R14: increments and transactions add up; who reads and writes without either gets a `StateConflict` instead of losing an update."""
    counts = program("meet.py", tmp_path, "updates", processes)

    for how in ("increment", "transaction", "plain"):
        assert (counts[how]["lost"], counts[how]["failed"]) == (0, 0)
    assert counts["increment"]["final"] == counts["transaction"]["final"] == counts["updates"]
    assert counts["plain"]["done"] + counts["plain"]["conflicts"] == counts["updates"]
    figure("R14", processes=processes, updates=counts["updates"], lost=0, conflicts_told=counts["plain"]["conflicts"])
