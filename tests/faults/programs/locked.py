"""Works while another process holds the write lock: locked.py DIRECTORY SECONDS PATIENCE. Prints what it saw as JSON.

The lock is held for SECONDS; PATIENCE is the `busy_timeout` in seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
import warnings
from pathlib import Path

import agentflow
from agentflow.exceptions import StoreBusy
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def hold(directory: Path, seconds: float) -> int:
    """Have a forked process take the lock, and come back when it has it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        con = sqlite3.connect(directory / "store/cache.db", isolation_level=None)
        con.execute("BEGIN EXCLUSIVE")
        os.write(writing, b"!")
        time.sleep(seconds)
        con.execute("ROLLBACK")
        os._exit(0)
    os.read(reading, 1)
    return child


def refused(call: object) -> dict[str, object]:
    """Call, and say how long it waited, at which cost, and for what."""
    wall, cpu = time.monotonic(), time.process_time()
    error = None
    try:
        call()  # type: ignore[operator]
    except StoreBusy as busy:
        error = busy
    seconds, used = time.monotonic() - wall, time.process_time() - cpu
    result = getattr(error, "result", None)
    return {
        "busy": error is not None,
        "kept": result == _flow.answer("new", 1) or result == [{"first": 1}, _flow.answer("new", 1)],
        "seconds": round(seconds, 2),
        "cpu_share": round(used / seconds, 3),
    }


async def lag(call: object) -> float:
    """Call in a task, and return the longest time that the loop stood still."""
    worst = 0.0
    task = asyncio.ensure_future(call)  # type: ignore[arg-type]
    while not task.done():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        worst = max(worst, time.monotonic() - before - 0.005)
    assert isinstance(task.exception(), StoreBusy)
    return worst


def main(directory: Path, seconds: float, patience: float) -> dict[str, object]:
    store = DiskStore(directory / "store", busy_timeout=patience)
    agentflow.configure(store=store)
    _flow.LOG.open(directory / "log")
    _flow.step("old", 1)
    asyncio.run(_flow.astep("old", 1))
    store.close()
    child = hold(directory, seconds)
    began = time.monotonic()
    told: dict[str, object] = {"remembered": _flow.step("old", 1) == _flow.answer("old", 1)}
    told["opened_and_read"] = round(time.monotonic() - began, 2)
    told["step"] = refused(lambda: _flow.step("new", 1))
    told["async step"] = refused(lambda: asyncio.run(_flow.astep("new", 1)))
    told["loop_stood_still"] = round(asyncio.run(lag(_flow.astep("other", 1))), 3)
    while seconds > 50 and time.monotonic() < began + seconds - patience - 1:
        refused(lambda: _flow.step("new", 1))
    os.waitpid(child, 0)
    told["afterwards"] = _flow.step("new", 1) == _flow.answer("new", 1)
    store.close()
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))))
