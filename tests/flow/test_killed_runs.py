"""Runs whose process is killed with kill -9, at any moment; and how each colour ends, in each way that it can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow import Run, list_runs
from agentflow.exceptions import RunInterrupted

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/programs/background.py"
STEPS = 30


def wait_for(value: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := value()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.001)
    return found


def lines_of(place: Path) -> list[list[str]]:
    """Return the words of each complete line."""
    return [line.split() for line in place.read_text().splitlines()] if place.exists() else []


def process_of(place: Path) -> int:
    """Return the process that writes the lines, once it has."""
    return int(wait_for(lambda: lines_of(place))[0][0])


def killed_within_its_work(run: Run, place: Path, chance: random.Random) -> bool:
    """Kill the process of a run after some of its steps, and some moments; False if it was faster."""
    pid, after, moments = process_of(place), chance.randrange(STEPS - 5), chance.random() * 0.01
    wait_for(lambda: len(lines_of(place)) > after)
    time.sleep(moments)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    died = time.monotonic()
    wait_for(lambda: run.status != "running")
    assert time.monotonic() - died < 2
    return run.status == "interrupted"


def kill_and_resume(background: ModuleType, tmp_path: Path, number: int) -> bool:
    """Kill a run's process while it works, and let it go on; return whether it was killed in time.

    Killed, it is `interrupted` within 2 s for whoever looks. Resumed, it gives the right result, and no step is repeated that was
    acknowledged, or durable, when its process died.
    """
    place, where = tmp_path / f"steps {number}", {"session_id": str(number)}
    run = background.numbered.with_options(executor="process", **where).start(str(place), STEPS)
    if not killed_within_its_work(run, place, random.Random(number)):
        return False
    step = background.numbered_work.with_options(workflow=background.numbered.name, **where)
    # Each step begins when the one before has returned, which is the acknowledgement.
    acknowledged = set(range(len(lines_of(place)) - 1))
    durable = {n for n in range(STEPS) if step.is_cached(str(place), n)}
    with pytest.raises(RunInterrupted):
        run.result()

    assert run.resume().result(timeout=30) == sum(range(STEPS))
    calls = Counter(int(n) for _, n in lines_of(place))
    assert (run.status, run.attempt, set(calls)) == ("completed", 2, set(range(STEPS)))
    assert acknowledged <= durable
    assert {n for n in durable if calls[n] > 1} == set()
    return True


def test_a_killed_run_is_interrupted_and_goes_on(disk, background, tmp_path):
    """A process that is killed at a random moment loses no step that was durable."""
    assert sum(kill_and_resume(background, tmp_path, number) for number in range(2))


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(4))
def test_200_killed_runs_are_interrupted_and_go_on(disk, background, tmp_path, quarter):
    """The same, 200 times; fifty in one test, which on a busy machine take minutes."""
    killed = number = 0
    while killed < 50:
        killed += kill_and_resume(background, tmp_path, 1000 * (quarter + 1) + number)
        number += 1
        assert number < 100


COLOURS = ["plain_ending", "async_ending", "stream_ending", "async_stream_ending"]
SAVED = {"assigned": {"a": 1, "b": 2, "c": 3}}
ENDINGS = [
    *[pytest.param(colour, "raise", "failed", SAVED, True) for colour in COLOURS],
    *[pytest.param(colour, "cancel", "cancelled", SAVED, True) for colour in COLOURS],
    *[pytest.param(colour, "kill", "interrupted", {"assigned": {"a": 1, "b": 2}}, False) for colour in COLOURS],
    *[pytest.param(colour, "break", "interrupted", SAVED, True) for colour in COLOURS[2:]],
]


@pytest.mark.parametrize(("colour", "way", "status", "state", "unwinds"), ENDINGS)
def test_each_way_to_end_leaves_the_true_status_and_state(
    disk, background, tmp_path, colour, way, status, state, unwinds
):
    """In four colours: what was set is kept up to the last boundary, or to the end where there was time for one."""
    flow, place = getattr(background, colour), tmp_path / "notes"
    if way == "break":
        leave(flow(str(place), way))
        run = list_runs()[0]
    else:
        run = flow.with_options(executor="process" if way == "kill" else "thread").start(str(place), way)
        wait_for(lambda: ["begun"] in [words[1:] for words in lines_of(place)])
        if way == "cancel":
            run.cancel()
        if way == "kill":
            os.kill(int(lines_of(place)[-1][0]), signal.SIGKILL)
    wait_for(lambda: run.status not in ("pending", "running"))

    assert run.status == status
    assert dict(flow.session("default").state) == state | ({"left": way} if unwinds else {})
    assert [event.type for event in run.events(follow=False)][-1] == (f"run_{status}" if unwinds else "step_completed")


def leave(stream: Any) -> None:
    """Take one item of a stream, and leave it."""
    if hasattr(stream, "close"):
        next(stream)
        stream.close()
        return

    async def leave_async() -> None:
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave_async())
