"""A power cut (F4) and whether the disk is really told to keep what it has (F5)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import PROGRAMS, ROOT


@pytest.mark.parametrize("cuts", [8, pytest.param(160, marks=pytest.mark.slow)])
def test_a_cut_leaves_a_beginning(program, tmp_path, figure, cuts):
    """The log of a killed process is cut at any byte: what is left is a beginning of what was acknowledged, and all that was synced before."""
    counts = program("corrupt.py", tmp_path, "cuts", cuts, 0)

    assert counts["bad"] == []
    assert counts["cuts"] == cuts
    figure("F4", cuts=cuts, lost=0, damaged=0)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(("durability", "at_least", "at_most"), [("power", 100, 140), ("process", 0, 40)])
def test_every_acknowledged_step_is_synced(tmp_path, figure, durability, at_least, at_most):
    """By default each step that is acknowledged alone has an fsync of its own; `durability="process"` leaves that to the system."""
    script = f"""
from pathlib import Path
import sys
sys.path.insert(0, {str(PROGRAMS)!r})
import agentflow, _flow
from agentflow.stores import DiskStore
agentflow.configure(store=DiskStore(sys.argv[1] + "/store", durability={durability!r}))
_flow.LOG.open(Path(sys.argv[1]) / "log")
for n in range(100):
    _flow.step("one", n)
"""
    counted = tmp_path / "counted"
    subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(counted),
            "-e",
            "trace=fsync,fdatasync",
            sys.executable,
            "-c",
            script,
            str(tmp_path),
        ],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    syncs = counted.read_text().count("sync(")

    assert at_least <= syncs <= at_most
    figure("F5", steps=100, syncs=syncs, durability=durability)
