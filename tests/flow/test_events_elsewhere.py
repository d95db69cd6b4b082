"""Events of a run in another process: they come while it goes on, and its death is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
