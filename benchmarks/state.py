"""What an update of a session's state costs beside 10, 1 000 and 100 000 other keys, and a yield beside much loaded state.

    python benchmarks/state.py

Shown are the median microseconds of one update and the bytes that the process hands to the system for it (Linux counts them in
/proc/self/io). The cost is flat if they do not grow with the keys.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentflow import Context, workflow
from agentflow._serialization import codec_for, seal
from agentflow._settings import using_store
from agentflow.stores import DiskStore
from agentflow.stores._base import StateWrite, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UPDATES = 300
YIELDS = 2_000


@workflow
def flow() -> None: ...


@workflow(session="yields")
def stream(ctx: Context, yields: int) -> Iterator[int]:
    _ = dict(ctx.state)
    yield from range(yields)


def written() -> int:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["wchar"])


def fill(store: DiskStore, session: str, keys: int, value: object) -> None:
    body = seal(codec_for(object).dumps(value, owner="benchmark"))
    for start in range(0, keys, 10_000):
        writes = [
            StateWrite(workflow=flow.name, session_id=session, key=f"key {n}", value=body)
            for n in range(start, min(start + 10_000, keys))
        ]
        store.commit(Transaction(state=tuple(writes)))


def cost(work: Callable[[int], object]) -> tuple[float, float]:
    times, before = [], written()
    for number in range(UPDATES):
        began = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6, (written() - before) / UPDATES


def updates(store: DiskStore, keys: int) -> None:
    fill(store, f"s{keys}", keys, "x" * 50)
    state = flow.session(f"s{keys}").state

    def in_transaction(number: int) -> None:
        with flow.session(f"s{keys}").state.transaction() as inside:
            inside["key 6"] = number

    kinds: dict[str, Callable[[int], object]] = {
        "assignment": lambda number: state.__setitem__("key 5", number),
        "increment": lambda _: state.increment("n"),
        "transaction": in_transaction,
    }

    for name, work in kinds.items():
        microseconds, size = cost(work)
        print(f"| {name} | {keys:,} | {microseconds:.0f} | {size:,.0f} |")


def yields(store: DiskStore, keys: int, value: object) -> float:
    store.delete_session(stream.name, "yields")
    body = seal(codec_for(object).dumps(value, owner="benchmark"))
    writes = [StateWrite(workflow=stream.name, session_id="yields", key=f"{n}", value=body) for n in range(keys)]
    store.commit(Transaction(state=tuple(writes)))
    play = stream(YIELDS)
    next(play)
    began = time.perf_counter()
    for _ in play:
        pass
    return (time.perf_counter() - began) / YIELDS * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = DiskStore(Path(directory) / "store", durability="process")
        with using_store(store):
            print("| update | keys in the session | median µs | bytes |\n|---|---:|---:|---:|")
            for keys in (10, 1_000, 100_000):
                updates(store, keys)
            print("\n| loaded state | µs a yield |\n|---|---:|")
            for label, keys, value in (
                ("nothing", 0, None),
                ("10 texts", 10, "x" * 50),
                ("1 000 texts", 1_000, "x" * 50),
                ("a text of 1 MB", 1, "x" * 1_000_000),
                ("a dict of 100 items", 1, {str(n): n for n in range(100)}),
                ("a dict of 10 000 items", 1, {str(n): n for n in range(10_000)}),
            ):
                print(f"| {label} | {yields(store, keys, value):.1f} |")
        store.close()


if __name__ == "__main__":
    main()
