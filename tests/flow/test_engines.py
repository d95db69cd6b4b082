"""An engine of somebody's own, with a queue and workers in other processes, implements `Executor` with what is public."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow import Run, configure, get_run, list_runs, workflow
from agentflow._claims import run_lock
from agentflow._settings import using_store
from agentflow.exceptions import RunCancelled, RunConflict, UsageError
from agentflow.executors import Executor, Job, execute
from agentflow.stores import DiskStore, MemoryStore

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/programs/spool.py"
PATIENCE = 30


@pytest.fixture
def spool() -> Iterator[ModuleType]:
    """The program, imported under the name that it has for its workers."""
    spec = importlib.util.spec_from_file_location("spool", PROGRAM)
    assert spec
    assert spec.loader
    module = sys.modules["spool"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["spool"]


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    place = tmp_path / "tickets"
    place.mkdir()
    return place


@contextlib.contextmanager
def a_worker(disk: DiskStore, tickets: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM), str(disk.path), str(tickets)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            (tickets / ".enough").touch()


def wait_for(value: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := value()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
    return found


def lines_of(place: Path) -> list[list[str]]:
    return [line.split() for line in place.read_text().splitlines()] if place.exists() else []


def started(spool: ModuleType, tickets: Path, *arguments: Any, **options: Any) -> Run:
    engine = spool.Spool(tickets)
    assert isinstance(engine, Executor)
    run: Run = spool.squares.with_options(executor=engine, **options).start(*arguments)
    return run


def test_a_run_waits_in_a_queue_that_no_process_holds(disk, spool, tickets, tmp_path):
    """It is `pending` for whoever looks, also in other processes and in doctor's eyes; the same call begins another run."""
    place = tmp_path / "notes"
    run = started(spool, tickets, str(place), 3)
    look = f"from agentflow import get_run; print(get_run({run.id!r}, store={str(disk.path)!r}).status)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", look], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )

    called = spool.squares(str(place), 3)

    assert (run.status, elsewhere.stdout) == ("pending", "pending\n")
    assert [other.id for other in list_runs(status="pending")] == [run.id]
    assert disk.doctor() == ()
    assert called == 5
    assert {other.id: other.status for other in list_runs()}.pop(run.id) == "pending"


def test_a_worker_executes_what_waits(disk, spool, tickets, tmp_path):
    """In its own process, with its result, steps and events for whoever asks here."""
    place = tmp_path / "notes"
    run = started(spool, tickets, str(place), 3)

    with a_worker(disk, tickets) as worker:
        result = run.result(timeout=PATIENCE)

    assert result == 5
    assert [int(pid) for pid, _ in lines_of(place)] == [worker.pid] * 3
    assert [step.status for step in run.steps()] == ["completed"] * 3


def test_a_ticket_that_comes_twice_is_executed_once(disk, spool, tickets, tmp_path):
    """Whoever comes second is refused; a queue may deliver at least once."""
    place = tmp_path / "notes"
    run = started(spool, tickets, str(place), 2)

    execute(run.id)
    with pytest.raises(RunConflict, match="it is completed"):
        execute(run.id)

    assert run.result(timeout=0) == 1
    assert len(lines_of(place)) == 2


@pytest.mark.parametrize("kind", [DiskStore, MemoryStore])
def test_what_waits_in_a_queue_is_not_pruned(spool, tickets, tmp_path, kind):
    """However long it waits: a backlog is no rubbish."""
    with using_store(MemoryStore() if kind is MemoryStore else DiskStore(tmp_path / "other")) as store:
        run = started(spool, tickets, str(tmp_path / "notes"), 2)

        removed = store.prune(older_than=0, dry_run=False)
        execute(run.id)

        assert removed.runs == 0
        assert run.result(timeout=0) == 1
        assert store.prune(older_than=0, dry_run=False).runs == 1
        store.close()


def test_what_waits_in_a_queue_can_be_cancelled_and_resumed(disk, spool, tickets, tmp_path):
    """A worker that gets its ticket later is refused; resumed, it gets into the queue again."""
    place = tmp_path / "notes"
    run = started(spool, tickets, str(place), 2)

    assert run.cancel()
    assert spool.take(tickets) == run.id
    with pytest.raises(RunConflict, match="it is cancelled"):
        execute(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=0)

    configure(executor=spool.Spool(tickets))
    try:
        assert run.resume().status == "pending"
        assert run.resume().status == "pending"  # once is enough
        assert spool.take(tickets) == run.id
        assert spool.take(tickets) is None
    finally:
        configure(executor="thread")
    execute(run.id)
    assert run.result(timeout=0) == 1


def test_a_run_whose_worker_is_killed_goes_on_with_another(disk, spool, tickets, tmp_path):
    """It is `interrupted` as any other, and resumed, it is submitted again and repeats no finished step."""
    place = tmp_path / "notes"
    run = started(spool, tickets, str(place), 20, 0.02)
    with a_worker(disk, tickets) as worker:
        wait_for(lambda: len(lines_of(place)) > 3)
        worker.kill()
    died = time.monotonic()
    wait_for(lambda: run.status == "interrupted")
    assert time.monotonic() - died < 2

    (tickets / ".enough").unlink()
    configure(executor=spool.Spool(tickets))
    try:
        run.resume()
    finally:
        configure(executor="thread")
    with a_worker(disk, tickets):
        assert run.result(timeout=PATIENCE) == sum(n * n for n in range(20))

    repeated = len(lines_of(place)) - 20
    assert run.attempt == 2
    assert repeated <= 1  # the one that may have been under way


def test_a_queue_that_refuses_takes_nothing(disk, spool, tickets, tmp_path):
    """The caller gets its error, the run has failed with it, and the same call goes on with it, as with any that failed."""
    tickets.rmdir()

    with pytest.raises(FileNotFoundError):
        started(spool, tickets, str(tmp_path / "notes"), 2)

    run = list_runs()[0]
    assert run.status == "failed"
    assert run.error is not None
    assert "FileNotFoundError" in run.error
    assert spool.squares(str(tmp_path / "notes"), 2) == 1
    assert get_run(run.id).status == "completed"


def test_a_queue_that_fails_after_its_worker_died_holds_no_run(disk):
    """The worker has begun, so the run is not taken back; and whoever put it there does not look like its owner."""

    @workflow
    def dies() -> None:
        if os.getpid() != here:
            os._exit(1)

    class Unsure:
        name = "unsure"

        def submit(self, job: Job) -> None:
            with job.queued():
                child = os.fork()
                if child == 0:
                    execute(job.run_id)
                os.waitpid(child, 0)
                raise ConnectionError("no acknowledgement")

    here = os.getpid()
    with pytest.raises(ConnectionError):
        dies.with_options(executor=Unsure()).start()

    assert list_runs()[0].status != "running"
    assert not disk.is_locked(run_lock(list_runs()[0].id))


def test_arguments_that_only_the_caller_has_are_refused(disk):
    """No worker could have them."""
    from agentflow import workflow

    class Queue:
        name = "queue"

        def submit(self, job: Job) -> None:
            with job.queued():
                pytest.fail("it must not get there")

    @workflow(ignore="client")
    def flow(client: object) -> None: ...

    with pytest.raises(UsageError, match="client"):
        flow.with_options(executor=Queue()).start(object())


def test_one_id_started_twice_is_in_the_queue_once(disk, spool, tickets, tmp_path):
    """A run_id that waits is found waiting, by a start and by a call."""
    first = started(spool, tickets, str(tmp_path / "notes"), 2, run_id="once")
    again = started(spool, tickets, str(tmp_path / "notes"), 2, run_id="once")

    assert first == again
    assert spool.take(tickets) == "once"
    assert spool.take(tickets) is None
