"""How an interpreter ends (F30): `sys.exit` and errors inside steps, threads that are still at it; the store's own ends stand in
`tests/stores/test_processes.py`, those of half-read streams in `tests/flow/test_processes.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from .conftest import ROOT

PROGRAM = """
    import atexit, sys, threading, time
    import agentflow
    from agentflow import Context, cached_step, workflow
    from agentflow.stores import DiskStore

    agentflow.configure(store=DiskStore(sys.argv[1]))

    @cached_step
    def step(n: int) -> int:
        if n == 2 and sys.argv[2] == "exit in a step":
            sys.exit(3)
        if n == 2 and sys.argv[2] == "error in a step":
            raise ValueError("nobody catches it")
        return n

    @workflow
    def flow(ctx: Context, count: int) -> None:
        for n in range(count):
            ctx.state["n"] = step(n)

    if sys.argv[2] == "a thread at work":
        threading.Thread(target=flow, args=(10**6,), daemon=True).start()
        time.sleep(0.2)
    elif sys.argv[2] == "at exit":
        atexit.register(flow, 2)
    else:
        flow(4)
"""
LAST = {"exit in a step": "", "error in a step": "ValueError: nobody catches it", "a thread at work": "", "at exit": ""}
STATUS = {"exit in a step": 3, "error in a step": 1, "a thread at work": 0, "at exit": 0}


@pytest.mark.parametrize("ending", list(STATUS))
def test_an_interpreter_ends_quietly(tmp_path, figure, ending):
    """It ends at once, with its own status, says nothing of locks or of exceptions that were ignored, and the finished steps are kept."""
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(PROGRAM), str(tmp_path / "store"), ending]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == STATUS[ending], ended.stderr
    for complaint in ("locked", "Exception ignored", "ResourceWarning", "Fatal"):
        assert complaint not in ended.stderr
    assert LAST[ending] in ended.stderr
    if not LAST[ending]:
        assert ended.stderr == ""
    figure("F30", ending=ending, complaints=0)
