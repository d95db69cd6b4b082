"""Processes that the suite starts: `programs.py PROGRAM DIRECTORY [ARGUMENTS]`; each prints what it measured as JSON."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

import agentflow
from agentflow import cached_step, workflow
from agentflow.stores import DiskStore

PLACE = Path(sys.argv[2])
agentflow.configure(store=DiskStore(PLACE / "store", durability="process"))
VALUE = {f"key {n}": "x" * 50 for n in range(16)}
executed: list[int] = []


@cached_step(version="1")
def step(number: int) -> dict[str, str]:
    executed.append(number)
    return VALUE


@workflow(session="long")
def counted(steps: int) -> float:
    """Call steps in ten slices; return what a step takes in the quickest."""
    times: list[float] = []
    for number in range(steps):
        if number % max(1, steps // 10) == 0:
            times.append(time.perf_counter())
        step(number)
    times.append(time.perf_counter())
    return min(after - before for before, after in itertools.pairwise(times)) / max(1, steps // 10)


def killed(steps: int) -> object:
    @workflow(name="replayed")
    def flow(steps: int) -> float:
        counted.fn(steps)
        os._exit(9)

    return flow(steps)


def continued(steps: int) -> object:
    @workflow(name="replayed")
    def flow(steps: int) -> float:
        return counted.fn(steps)

    opened = time.perf_counter()
    loop = flow(steps)
    whole = time.perf_counter() - opened
    return {"loop": loop, "whole": whole, "select": select(), "executed": len(executed)}


def select() -> float:
    """Return what a SELECT of one such row costs here."""
    sys.path.insert(0, str(Path(__file__).parent))
    from measuring import quickest, raw, selecting

    con = raw(PLACE / "floor.db", "NORMAL")
    cost = quickest(selecting(con), 2000)
    con.close()
    return cost


def long(steps: int) -> object:
    """Call steps; compare the first hundred, after a warm-up, with the last, each by its quickest ten in a row."""
    times: list[float] = []

    @workflow(name="long run")
    def flow(steps: int) -> None:
        for number in range(steps):
            if number % 10 == 0:
                times.append(time.perf_counter())
            step(number)

    flow(steps)
    tens = [after - before for before, after in itertools.pairwise(times)]
    return {"first": min(tens[2:12]) / 10, "last": min(tens[-10:]) / 10, "memory": memory()}


def memory() -> float:
    """Return the most memory that this process has had, in MiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")) / 1024


def writing(times: int) -> object:
    longest, first = 0.0, int(sys.argv[4]) * times
    for number in range(first, first + times):
        began = time.perf_counter()
        step(number)
        longest = max(longest, time.perf_counter() - began)
    return {"longest": longest}


def ten(times: int) -> object:
    """Ten steps in a workflow, the whole process long."""
    counted(10)
    return {"executed": len(executed)}


if __name__ == "__main__":
    programs = {program.__name__: program for program in (killed, continued, long, writing, ten)}
    print(json.dumps(programs[sys.argv[1]](int(sys.argv[3]))))
