"""Remembers one huge value: huge.py DIRECTORY MEGABYTES bytes|str|list [LIMIT]. Prints what it took as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import agentflow
from agentflow import cached_step
from agentflow.exceptions import PayloadTooLarge
from agentflow.stores import DiskStore

MEGABYTES = int(sys.argv[2])
MAKE = {
    "bytes": lambda: bytes(range(256)) * (MEGABYTES * 4096),
    "str": lambda: "0123456789abcdé\n" * (MEGABYTES * 62_500),
    "list": lambda: list(range(10**6)) if MEGABYTES == 1 else list(range(10**5)),
}


@cached_step(name="huge")
def huge(kind: str) -> object:
    executed.append(kind)
    return MAKE[kind]()


@cached_step(name="small")
def small() -> int:
    return 1


executed: list[str] = []


def rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    kind = sys.argv[3]
    limit = {"max_value_bytes": int(sys.argv[4])} if sys.argv[4:] else {}
    store = DiskStore(Path(sys.argv[1]) / "store", **limit)
    agentflow.configure(store=store)
    small()
    expected = MAKE[kind]()
    before, began = rss(), time.monotonic()
    told: dict[str, object] = {}
    try:
        told["same"] = huge(kind) == expected
        told["hit"] = huge(kind) == expected and len(executed) == 1
    except PayloadTooLarge as error:
        told["refused"] = error.result == expected and error.path == str(store.path)
    told["seconds"] = round(time.monotonic() - began, 1)
    told["more_megabytes"] = rss() - before
    told["others"] = small.is_cached()
    store.close()
    print(json.dumps(told))
