"""One session's state under many processes: no update is lost, and whoever dies holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflow._active_run import Home
from agentflow._body_state import BodyState
from agentflow._calls import plain_transaction
from agentflow.stores import DiskStore

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "programs" / "shared_state.py"


def start(store: DiskStore, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": str(store.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def total(store: DiskStore) -> Any:
    return BodyState(Home(store, "shared", "shared"), plain_transaction, lambda: None)["n"]


@pytest.mark.parametrize(
    ("processes", "times"), [(4, 25), pytest.param(8, 500, marks=pytest.mark.slow)], ids=["few", "R14"]
)
@pytest.mark.parametrize("way", ["increment", "transaction", "assignment"])
def test_no_update_is_lost_among_processes(disk, way, processes, times):
    """Each update counts, or is a typed conflict in the process that made it."""
    started = [start(disk, way, times) for _ in range(processes)]
    refused = [int(process.communicate(timeout=300)[0]) for process in started]

    assert [process.returncode for process in started] == [0] * processes
    assert total(disk) == processes * times - sum(refused)
    if way != "assignment":
        assert sum(refused) == 0


def test_a_transaction_of_a_process_that_is_killed_has_changed_nothing_and_holds_nobody_up(disk):
    """The kernel frees the lock with its holder."""
    start(disk, "increment", 1).communicate(timeout=60)
    holder = start(disk, "hold")
    assert holder.stdout
    assert holder.stdout.readline() == "inside\n"
    waiting = start(disk, "transaction", 1)

    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    assert waiting.communicate(timeout=60)[0] == "0\n"
    assert total(disk) == 2
