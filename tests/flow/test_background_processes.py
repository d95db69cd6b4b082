"""Runs that other processes ask for, and what is left of runs when their process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from agentflow import list_runs, workflow
from agentflow.stores import DiskStore

ROOT = Path(__file__).parents[2]


@workflow
def plain(n: int) -> int:
    return 2 * n


@workflow
def streamed(n: int) -> Iterator[str]:
    yield "a"
    yield str(2 * n)


class Page(BaseModel):
    title: str


@workflow
def paged(n: int) -> Page:
    return Page(title="x" * n)


@workflow
def paged_stream(n: int) -> Iterator[Page]:
    yield Page(title="x" * n)


FOREIGN = """
import sys
from agentflow import get_run
from agentflow.exceptions import WorkflowNotLoaded
for run_id in sys.argv[1:]:
    run = get_run(run_id)
    try:
        print(repr(run.result()))
    except WorkflowNotLoaded as error:
        print("not loaded:", run.result_json())
"""


def test_a_process_without_the_workflow_reads_plain_results_and_json(disk):
    """Builtins come back anywhere; for classes there is `result_json()`, and a `WorkflowNotLoaded` that says so."""
    runs = [flow.start(2) for flow in (plain, streamed, paged, paged_stream)]
    for run in runs:
        run.result(timeout=20)

    shown = in_another_process(FOREIGN, disk, *[run.id for run in runs])

    assert shown.splitlines() == [
        "4",
        "'a4'",
        'not loaded: {"title":"xx"}',
        'not loaded: [{"title":"xx"}]',
    ]


def in_another_process(program: str, store: DiskStore, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": store.location},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


AT_EXIT = """
import asyncio, sys, time
from agentflow import Context, list_runs, workflow

@workflow
def stuck(n: int) -> None:
    time.sleep(600)

@workflow
def polite(ctx: Context, n: int) -> None:
    try:
        while True:
            time.sleep(0.01)
            ctx.check()
    finally:
        ctx.state["said"] = "goodbye"

@workflow
async def awaiting(ctx: Context, n: int) -> None:
    try:
        await asyncio.sleep(600)
    finally:
        ctx.state["said"] = "goodbye"

if __name__ == "__main__":
    for flow in (stuck, polite, awaiting):
        run = flow.start(1)
        while run.status != "running":
            time.sleep(0.01)
    print("done")
"""


def test_the_end_of_the_interpreter_leaves_runs_interrupted(disk, tmp_path):
    """It neither hangs nor says anything; what heeds it runs its `finally` blocks, and all of them can go on."""
    program = tmp_path / "at_exit.py"
    program.write_text(AT_EXIT)

    assert in_another_process(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", disk) == "done\n"

    runs = {run.workflow.rpartition(":")[2]: run for run in list_runs()}
    assert {name: run.status for name, run in runs.items()} == dict.fromkeys(
        ("stuck", "polite", "awaiting"), "interrupted"
    )
    said = {name: disk.state_row(run.workflow, "default", "said").value is not None for name, run in runs.items()}
    assert said == {"stuck": False, "polite": True, "awaiting": True}
