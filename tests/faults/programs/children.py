"""Children of a process that has its store open, made in each way that multiprocessing knows: children.py DIRECTORY CHILDREN TIMES. Prints the counts as JSON.

The parent has written and read, and holds a lock; all children write so many results each and read what the parent wrote, while the parent goes on writing.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import warnings
from pathlib import Path

from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, EntryFilter, Transaction

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def writing(store: DiskStore, name: str, times: int) -> int:
    """Write and read; return how often what was read was right."""
    right = 0
    for number in range(times):
        store.commit(Transaction(entries=(Entry(key=f"{name} {number}", payload=name.encode()),)))
        right += store.read(f"{name} {number}") == name.encode() and store.read("before") == b"parent"
    return right


def inherited(name: str, times: int) -> int:
    return writing(STORE, name, times)


STORE: DiskStore
"""The parent's, in a forked child; in others one that they open themselves."""


def opened(directory: Path) -> None:
    global STORE  # noqa: PLW0603 - what a pool's initializer is for
    STORE = DiskStore(directory)


def main() -> None:
    """Start children in each way, and count what there is at last."""
    directory, children, times = Path(sys.argv[1]) / "store", int(sys.argv[2]), int(sys.argv[3])
    opened(directory)
    STORE.commit(Transaction(entries=(Entry(key="before", payload=b"parent"),)))
    STORE.try_lock("the parent's")
    told: dict[str, int] = {}
    for method in multiprocessing.get_all_start_methods():
        ready = {} if method == "fork" else {"initializer": opened, "initargs": (directory,)}
        with multiprocessing.get_context(method).Pool(children, **ready) as pool:
            asked = pool.starmap_async(
                inherited, [(f"{method} {child}", times) for child in range(children)], chunksize=1
            )
            mine = writing(STORE, f"parent of {method}", times)
            told[method] = sum(asked.get(300)) + mine
            pool.close()
            pool.join()
    kept = len(STORE.entries(EntryFilter())) - 1
    locked = DiskStore(directory).is_locked("the parent's")
    STORE.close()
    print(json.dumps({"right": told, "kept": kept, "lock_kept": locked}))


if __name__ == "__main__":
    main()
