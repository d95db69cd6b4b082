"""Kills a process in a small file system, fills that, and looks at the store: full_after_kill.py DIRECTORY ROUNDS. Prints the counts as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import agentflow
from agentflow.exceptions import StoreFull
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


# What the child has written must leave room for more once the ballast is gone, also where the machine is slow to kill it.
_MOST = 6


def killed(directory: Path, log: Path) -> None:
    child = os.fork()
    if child == 0:
        agentflow.configure(store=DiskStore(directory / "store"))
        _flow.LOG.open(log)
        for number in range(_MOST):
            _flow.flow(f"run-{number}", 3)
        time.sleep(60)
    while log.stat().st_size < 300:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(directory: Path, rounds: int) -> dict[str, object]:
    counts = {"acknowledged": 0, "lost": 0, "said_to_be_full": 0}
    untyped: list[str] = []
    for _ in range(rounds):
        log = Path(f"/tmp/agentflow-log-{os.getpid()}")
        log.write_text("")
        killed(directory, log)
        story = _flow.Story.read(log)
        ballast = directory / "ballast"
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(3_000_000))
        store = DiskStore(directory / "store")
        agentflow.configure(store=store)
        try:
            counts["lost"] += _flow.missing("sync", story.acknowledged)
            _flow.LOG.open(log)
            _flow.step("new", 1)
        except StoreFull:
            counts["said_to_be_full"] += 1
        except Exception as error:
            untyped.append(f"{type(error).__name__}: {error}")
        ballast.unlink()
        counts["acknowledged"] += len(story.acknowledged)
        counts["lost"] += _flow.missing("sync", story.acknowledged)
        _flow.step("new", 1)
        store.close()
        shutil.rmtree(directory / "store")
        log.unlink()
    return {"rounds": rounds, **counts, "untyped": untyped[:5]}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
