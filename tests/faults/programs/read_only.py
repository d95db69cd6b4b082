"""Uses a store as a user who may only read it: read_only.py DIRECTORY make|nobody|root. Prints what it saw as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import agentflow
from agentflow.exceptions import StoreError
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow


def make() -> dict[str, object]:
    _flow.flow("old", 1)
    return _flow.step("outside", 1)


def use(directory: str) -> dict[str, object]:
    began = time.process_time(), time.monotonic()
    told: dict[str, object] = {"remembered": _flow.step("outside", 1) == _flow.answer("outside", 1)}
    for name, call in {"step": lambda: _flow.step("outside", 2), "workflow": lambda: _flow.flow("new", 1)}.items():
        try:
            call()
        except StoreError as error:
            told[name] = [
                type(error).__name__,
                error.errno,
                error.path == directory,
                "right to write" in str(error),
            ]
    told["state"] = _flow.flow.session("default").state.get("old/0")
    told["runs"] = [run.status.value for run in _flow.flow.session("default").runs()]
    return {**told, "cpu": round(time.process_time() - began[0], 2), "seconds": round(time.monotonic() - began[1], 2)}


if __name__ == "__main__":
    place, what = sys.argv[1:]
    if what == "nobody" and os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    _flow.LOG.open(Path(os.devnull))
    store = DiskStore(place)
    agentflow.configure(store=store)
    print(json.dumps(make() if what == "make" else use(place)))
    store.close()
