"""Remembers large results with too little memory: memory.py DIRECTORY ROUNDS. Each round has a megabyte more. Prints the counts as JSON."""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from pathlib import Path

import agentflow
from agentflow import cached_step
from agentflow.stores import DiskStore

LARGE = 6 * 2**20
finished: list[int] = []


@cached_step
def large(n: int) -> bytes:
    value = b"x" * LARGE
    finished.append(n)
    return value


def in_use() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    return int(line.split()[1]) * 1024


def attempt(n: int) -> str:
    """Call with so many megabytes to spare, and say what came of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + n * 2**20, hard))
    error = None
    try:
        large(n)
    except Exception as raised:
        error = raised
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if error is None:
        return "works"
    if n not in finished:
        return f"the body's own {type(error).__name__}"
    kept = getattr(error, "result", None) == b"x" * LARGE
    return f"{type(error).__name__} {getattr(error, 'errno', None)} {'with' if kept else 'WITHOUT'} the result"


if __name__ == "__main__":
    store = DiskStore(Path(sys.argv[1]) / "store", durability="process")
    agentflow.configure(store=store)
    large(0)
    seen = Counter(attempt(n) for n in range(1, int(sys.argv[2]) + 1))
    again = sum(large(n) != b"x" * LARGE for n in range(1, int(sys.argv[2]) + 1))
    print(json.dumps({"seen": seen, "wrong_afterwards": again}))
    store.close()
