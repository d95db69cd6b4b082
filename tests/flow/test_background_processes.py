"""Runs that other processes ask for, and what is left of runs when their process ends."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentflow import Run, get_run, list_runs, workflow
from agentflow._claims import run_lock
from agentflow.exceptions import RunCancelled, RunInterrupted
from agentflow.stores import DiskStore
from agentflow.stores._locks import _offset

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


WAITED_FOR = """
import sys, threading
from agentflow import Context, configure, workflow
configure(store=sys.argv[1], max_runs=1)

@workflow
def endless(ctx: Context, n: int) -> None:
    while True:
        ctx.check()

runs = [endless.start(n) for n in range(2)]

def wait(run):
    try:
        run.result()
    except Exception as error:
        print(type(error).__name__, flush=True)

for run in runs:
    threading.Thread(target=wait, args=(run,)).start()
"""


def test_a_thread_that_waits_for_a_run_which_will_never_begin_does_not_hold_up_the_end(tmp_path):
    """At the end of the interpreter also the runs that still wait for a thread are over, for whoever waits for them."""
    ended = subprocess.run(
        [sys.executable, "-c", WAITED_FOR, str(tmp_path / "store")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert ended.stdout.split() == ["RunInterrupted", "RunInterrupted"]


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


PROGRAM = ROOT / "tests/programs/background.py"


def start(store: DiskStore, *args: str, program: Path = PROGRAM) -> str:
    """Start a background process from a process that ends right after it; return the run's id."""
    done = run_program(store, *args, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_program(store: DiskStore, *args: str, program: Path = PROGRAM) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": store.location},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_run_in_a_process_survives_whoever_started_it(disk, background):
    """A script that ends right after `start` leaves a run that completes, under the keys that an import gives it."""
    run_id = start(disk, "report", "3")

    run = get_run(run_id)
    result = run.result(timeout=20)

    assert isinstance(result, background.Report)
    assert result.n == 3
    assert result.pid != os.getpid()
    assert (run.status, run.attempt) == ("completed", 1)
    assert background.report.with_options(executor="process").start(3).result(timeout=20).n == 3


def test_a_process_has_no_terminal_and_is_nobodys_child(disk, tmp_path):
    """It is in a session of its own, and whoever started it has no zombie to bury."""
    program = tmp_path / "session.py"
    program.write_text(
        "import os, sys\n"
        "from agentflow import workflow\n"
        "@workflow\n"
        "def where() -> list[int]:\n"
        "    return [os.getpid(), os.getppid(), os.getsid(0), os.fstat(0).st_rdev, os.fstat(1).st_rdev]\n"
        "if __name__ == '__main__':\n"
        "    run = where.with_options(executor='process').start()\n"
        "    print(os.getpid(), os.getsid(0), os.stat(os.devnull).st_rdev, *run.result(timeout=20))\n"
        "    try:\n"
        "        os.waitpid(-1, os.WNOHANG)\n"
        "    except ChildProcessError:\n"
        "        print('no child')\n"
    )

    shown = start(disk, program=program).splitlines()

    starter, session, null, pid, parent, own_session, stdin, stdout = map(int, shown[0].split())
    assert shown[1] == "no child"
    assert len({starter, pid}) == 2
    assert parent not in (starter, pid)
    assert own_session not in (session, pid)
    assert stdin == stdout == null


REFUSALS = [
    (
        "def make():\n    @workflow\n    def flow(): ...\n    return flow\nflow = make()\n",
        "inside a function",
        "flow.start()",
    ),
    ("@workflow\ndef flow(thing): ...\n", "cannot be stored", "flow.start(__import__('fractions').Fraction)"),
    ("@workflow(ignore='client')\ndef flow(client): ...\n", "'client' is not stored", "flow.start(1)"),
    ("@workflow\ndef flow(): ...\n", "no other process can open", "flow.with_options(store='memory:').start()"),
]


@pytest.mark.parametrize(("definition", "message", "call"), REFUSALS)
def test_what_no_other_process_can_execute_is_refused(disk, tmp_path, definition, message, call):
    """The caller of `start` is told, in a sentence, and the run is recorded as failed."""
    program = tmp_path / "program.py"
    program.write_text(
        "from agentflow import configure, list_runs, workflow\nconfigure(executor='process')\n"
        f"{definition}\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        {call}\n"
        "    finally:\n"
        "        print([run.status.value for run in list_runs()])\n"
    )

    done = run_program(disk, program=program)

    assert done.stderr.splitlines()[-1].startswith("agentflow.exceptions.UsageError: ")
    assert message in done.stderr
    assert done.stdout.strip() in ("['failed']", "[]")


def test_a_script_without_a_guard_is_told_about_it(disk, tmp_path):
    """Importing it must not start it anew, and so on without end."""
    program = tmp_path / "unguarded.py"
    program.write_text(
        "from agentflow import workflow\n@workflow\ndef flow(): ...\nflow.with_options(executor='process').start()\n"
    )

    done = run_program(disk, program=program)

    assert 'below `if __name__ == "__main__":`' in done.stderr
    assert [run.status for run in list_runs()] == ["failed"]


@pytest.mark.parametrize("source", ["prompt", "import"])
def test_a_program_that_no_process_can_load_is_refused(disk, tmp_path, source):
    """What only lives at a prompt is refused here; what raises when it is imported, with what it raised there."""
    flow = "from agentflow import workflow\n@workflow\ndef flow(): ...\n"
    if source == "prompt":
        done = subprocess.run(
            [sys.executable, "-c", f"{flow}flow.with_options(executor='process').start()"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": disk.location},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        expected = "in a notebook or at a prompt"
    else:
        program = tmp_path / "failing.py"
        program.write_text(
            f"{flow}if __name__ == '__main__':\n    flow.with_options(executor='process').start()\nelse:\n    raise OSError('not today')\n"
        )
        done = run_program(disk, program=program)
        expected = "importing it failed with OSError: not today"

    assert expected in done.stderr
    assert [(run.status, run.attempt) for run in list_runs()] == [("failed", 0)]


@pytest.mark.parametrize("flow", ["sleeping", "asleep", "stepping", "yielding", "ayielding"])
def test_sigterm_leaves_a_run_interrupted(disk, background, tmp_path, flow):
    """Whatever it is doing, it unwinds, records that, and can go on."""
    place = tmp_path / "notes"
    run = getattr(background, flow).with_options(executor="process").start(str(place))
    wait_until(lambda: place.exists() and place.read_text().startswith("begun\n"))

    os.kill(pid_of(run, disk), signal.SIGTERM)
    with pytest.raises(RunInterrupted):
        run.result(timeout=20)

    assert list(run.events())[-1].type == "run_interrupted"
    assert place.read_text().splitlines()[-1] == "finally"
    assert background.__dict__[flow].session("default").state["left"] == 1


@pytest.mark.parametrize("flow", ["asleep", "stepping", "yielding", "ayielding"])
def test_a_run_of_another_process_is_cancelled(disk, background, tmp_path, flow):
    """The wish goes through the store: a task is woken, other code told at its next boundary; both unwind."""
    place = tmp_path / "notes"
    run = getattr(background, flow).with_options(executor="process").start(str(place))
    wait_until(lambda: place.exists() and place.read_text().startswith("begun\n"))

    assert run.cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout=20)

    assert place.read_text().splitlines()[-1] == "finally"
    assert background.__dict__[flow].session("default").state["left"] == 1
    assert list_runs(status="cancelled") == [run]


def test_a_run_that_died_before_it_was_told_is_cancelled(disk, background, tmp_path):
    """Whoever looks sees that it was to be cancelled, and no call continues it."""
    place = tmp_path / "notes"
    run = background.sleeping.with_options(executor="process").start(str(place))
    wait_until(lambda: place.exists() and place.read_text().startswith("begun\n"))

    run.cancel()
    before = run.status
    os.kill(pid_of(run, disk), signal.SIGKILL)
    wait_until(lambda: run.status != "running")

    assert (before, run.status) == ("running", "cancelled")
    with pytest.raises(RunCancelled):
        run.result(timeout=20)


def pid_of(run: Run, store: DiskStore) -> int:
    """Return the process that executes a run: who holds its lock, as the kernel says."""
    offset = _offset(f"lock:{run_lock(run.id)}")
    with open(store.path / "locks", "rb") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        return struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[4]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
