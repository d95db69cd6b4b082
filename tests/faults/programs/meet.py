"""Many who begin at once: meet.py DIRECTORY COMMAND NUMBER. Prints the counts as JSON.

`processes`: so many processes ask for one step at the same moment, in a store that is not there yet. `open`: so many rounds in which 32 processes
open a store that is not there. `updates`: so many processes change one session 500 times each. `takeover`: so many times, the owner of a running
step is killed while another process waits for it, and leaves a forked child alive. `stop`: it is stopped for a while instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import agentflow
from agentflow import Context, cached_step, workflow
from agentflow.exceptions import StateConflict, StepTimeout
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, EntryFilter, Transaction

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def together(count: int, work: Callable[[int], int]) -> list[int]:
    """Have forked processes do something at once, and return what they exit with."""
    ready, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(go)
            status = 99
            with contextlib.suppress(Exception):
                os.read(ready, 1)
                status = work(number)
            os._exit(status)
        children.append(child)
    os.close(go)
    os.close(ready)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def note(file: Path, what: object) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


def noted(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@cached_step
def value(directory: Path, n: int) -> list[int]:
    note(directory / "executed", n)
    time.sleep(0.1)
    return [n]


def processes(directory: Path, count: int) -> dict[str, object]:
    def ask(_: int) -> int:
        agentflow.configure(store=DiskStore(directory / "store"))
        return 0 if value(directory, 7) == [7] else 1

    answers = together(count, ask)
    return {
        "processes": count,
        "executions": len(noted(directory / "executed")),
        "wrong": sum(answer != 0 for answer in answers),
    }


def opened(directory: Path, rounds: int) -> dict[str, object]:
    errors = missing = 0
    for number in range(rounds):
        place = directory / str(number)

        def open_it(me: int, place: Path = place) -> int:
            store = DiskStore(place)
            store.commit(Transaction(entries=(Entry(key=str(me), payload=b"x"),)))
            store.close()
            return 0

        errors += sum(answer != 0 for answer in together(32, open_it))
        store = DiskStore(place)
        missing += 32 - len(store.entries(EntryFilter()))
        store.close()
    return {"rounds": rounds, "opens": 32 * rounds, "errors": errors, "missing": missing}


@workflow
def count_up(ctx: Context, how: str, me: int, n: int) -> None:
    if how == "increment":
        ctx.state.increment("n")
    elif how == "transaction":
        with ctx.state.transaction() as state:
            state["n"] = state.get("n", 0) + 1
    else:
        ctx.state["n"] = ctx.state.get("n", 0) + 1


def updates(directory: Path, count: int) -> dict[str, object]:
    """By increment, in a transaction, and by reading and writing, which may conflict but not lose anything silently."""
    told: dict[str, object] = {"processes": count}
    each = 500 if count >= 8 else 20
    for how in ("increment", "transaction", "plain"):
        store = DiskStore(directory / how, durability="process")

        def update(me: int, how: str = how, store: DiskStore = store) -> int:
            agentflow.configure(store=store)
            for n in range(each):
                try:
                    count_up(how, me, n)
                    note(directory / f"{how}.done", 1)
                except StateConflict:
                    note(directory / f"{how}.conflicts", 1)
            return 0

        failed = sum(answer != 0 for answer in together(count, update))
        agentflow.configure(store=store)
        final = count_up.session("default").state["n"]
        done, conflicts = len(noted(directory / f"{how}.done")), len(noted(directory / f"{how}.conflicts"))
        told[how] = {"final": final, "done": done, "conflicts": conflicts, "failed": failed, "lost": done - final}
        store.close()
    return {"updates": each * count, **told}


@cached_step
def held(directory: Path, n: int) -> int:
    if len(noted(directory / f"held-{n}")) == 0:
        note(directory / f"held-{n}", os.getpid())
        if os.fork() == 0:  # it outlives its parent
            time.sleep(1.5)
            os._exit(0)
        time.sleep(600)
    note(directory / f"held-{n}", time.monotonic())
    return n


def takeover(directory: Path, rounds: int) -> dict[str, object]:
    seconds: list[float] = []
    for n in range(rounds):
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                agentflow.configure(store=DiskStore(directory / "store"))
                os._exit(0 if held(directory, n) == n else 1)
            children.append(child)
            while not noted(directory / f"held-{n}"):
                time.sleep(0.001)
        time.sleep(0.1)  # the other one waits by now
        killed = time.monotonic()
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        assert os.waitpid(children[1], 0)[1] == 0
        seconds.append(float(noted(directory / f"held-{n}")[1]) - killed)
    return {
        "kills": rounds,
        "median_ms": round(1000 * statistics.median(seconds), 1),
        "slowest_ms": round(1000 * max(seconds), 1),
        "over_a_second": sum(each > 1 for each in seconds),
    }


@cached_step
def stopped(directory: Path, n: int) -> int:
    note(directory / "stopped", os.getpid())
    time.sleep(0.3)
    return n


def stop(directory: Path, number: int) -> dict[str, object]:
    """The owner of a running step stands still: who waits has a time of its own, and when the owner goes on there is one outcome."""
    child = os.fork()
    if child == 0:
        agentflow.configure(store=DiskStore(directory / "store"))
        os._exit(0 if stopped(directory, number) == number else 1)
    while not noted(directory / "stopped"):
        time.sleep(0.001)
    os.kill(child, signal.SIGSTOP)
    agentflow.configure(store=DiskStore(directory / "store"))
    late = False
    try:
        stopped.with_options(timeout=0.5)(directory, number)
    except StepTimeout:
        late = True
    os.kill(child, signal.SIGCONT)
    owner = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    again = stopped(directory, number) == number
    return {"owner": owner, "waiter_timed_out": late, "same": again, "executions": len(noted(directory / "stopped"))}


if __name__ == "__main__":
    commands = {"stop": stop, "processes": processes, "open": opened, "updates": updates, "takeover": takeover}
    place = Path(sys.argv[1])
    print(json.dumps(commands[sys.argv[2]](place, int(sys.argv[3]))))
