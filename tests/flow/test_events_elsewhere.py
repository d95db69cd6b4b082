"""Events of a run in another process: they come while it goes on, and its death is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentflow import Run, list_runs
from agentflow.events import RunCompleted, RunInterrupted, RunYielded

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, time, agentflow
from agentflow import workflow

agentflow.configure(store=sys.argv[1])

@workflow
def flow():
    for number in range(int(sys.argv[2])):
        yield number
        time.sleep(float(sys.argv[3]))

for _ in flow():
    print("x", flush=True)
"""


def items_of(events: list[Any]) -> list[Any]:
    return [item for event in events if isinstance(event, RunYielded) for item in event.items]


def a_run_elsewhere(tmp_path: Path, count: int, pause: float) -> tuple[subprocess.Popen[str], Run]:
    """Begin a run in another process; return that, and the run as this one sees it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    place = str(tmp_path / "elsewhere")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), place, str(count), str(pause)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    return process, list_runs(store=place)[0]


def test_another_process_is_followed(tmp_path):
    """Its events come while it goes on, and the stream ends when it does."""
    process, run = a_run_elsewhere(tmp_path, 60, 0.005)

    with process:
        events = list(run.events())

    assert items_of(events) == list(range(60))
    assert len(items_of(events[:2])) < 60  # they came bit by bit
    assert isinstance(events[-1], RunCompleted)


def test_death_ends_the_stream(tmp_path):
    """A killed process cannot say so: the reader is told by an event without a number, and only once it is true."""
    process, run = a_run_elsewhere(tmp_path, 10_000, 0.005)

    with process:
        stream = run.events()
        seen = [next(stream), next(stream)]
        process.kill()
        process.wait()
        seen += stream

    assert isinstance(seen[-1], RunInterrupted)
    assert [event.seq for event in seen] == [*range(1, len(seen)), 0]
    assert run.status == "interrupted"
    assert [event.seq for event in run.events(after=seen[-2].seq)] == [0]


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def followed_by_many(tmp_path: Path, *, readers: int, count: int) -> tuple[list[tuple[int, int, bool]], int]:
    """Follow a run that yields as fast as it can; return what each reader has seen, and by how much this process grew meanwhile."""
    process, run = a_run_elsewhere(tmp_path, count, 0.00005)
    seen: list[tuple[int, int, bool]] = []

    def read() -> None:
        items, last, in_order = 0, 0, True
        for event in run.events():
            in_order, last = in_order and event.seq == last + 1, event.seq
            if isinstance(event, RunYielded):
                in_order = in_order and event.items == tuple(range(items, items + len(event.items)))
                items += len(event.items)
        seen.append((items, last, in_order))

    threads = [threading.Thread(target=read) for _ in range(readers)]
    with process:
        assert process.stdout
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        before = resident()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        drain.join()
    return seen, resident() - before


@pytest.mark.parametrize(
    ("readers", "count"), [(3, 3_000), pytest.param(10, 100_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_many_readers_each_see_everything_once(tmp_path, readers, count):
    """A run that yields thousands of chunks a second is followed by several at once; each has all, in order, and memory stays flat."""
    seen, grown = followed_by_many(tmp_path, readers=readers, count=count)

    assert len(set(seen)) == 1
    assert len(seen) == readers
    assert seen[0][0] == count
    assert seen[0][2]
    assert grown < 40_000_000
