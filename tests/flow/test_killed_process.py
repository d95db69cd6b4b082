"""What is left when a process is killed with kill -9 in the middle of a workflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(what: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/programs/killed_state.py"), what],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": str(directory / "store")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_state_survives_kill_9(tmp_path):
    """What was assigned, changed before a boundary, or committed with a step is there; of the step that was killed, nothing."""
    assert run("die", tmp_path).returncode == -signal.SIGKILL

    shown = run("show", tmp_path)

    assert shown.stdout.split(" ", 1) == [
        "interrupted",
        "{'assigned': {'before': 1, 'inside': 2}, 'by a finished step': 1}\n",
    ], shown.stderr
