"""An engine of somebody's own: a directory of tickets, and workers that take them. It knows of agentflow what is public.

Run as a script it is a worker: `python spool.py STORE TICKETS`, until there is a file `enough` among the tickets.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from agentflow import cached_step, configure, workflow
from agentflow.exceptions import RunConflict, RunNotFound
from agentflow.executors import Job, execute


class Spool:
    """Puts each run into a directory as a ticket, which is its id."""

    name = "spool"

    def __init__(self, tickets: Path) -> None:
        self.tickets = tickets

    def submit(self, job: Job) -> None:
        with job.queued():
            unfinished = self.tickets / f".{job.run_id}"
            unfinished.touch()
            unfinished.rename(self.tickets / job.run_id)


def take(tickets: Path) -> str | None:
    """Take a ticket, which no other worker gets then."""
    for ticket in tickets.glob("[!.]*"):
        try:
            ticket.rename(tickets / f".taken-{ticket.name}")
        except FileNotFoundError:  # another worker was faster
            continue
        return ticket.name
    return None


def work_on(run_id: str) -> None:
    """Execute a run; one that is not there any more, was cancelled or had its turn is nobody's business."""
    try:
        execute(run_id)
    except (RunConflict, RunNotFound) as refused:
        print(refused, flush=True)
    else:
        print(f"executed {run_id}", flush=True)


def note(place: str, what: object) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


@cached_step
def square(place: str, n: int) -> int:
    note(place, f"{os.getpid()} {n}")
    return n * n


@workflow
def squares(place: str, count: int, pause: float = 0.0) -> int:
    total = 0
    for n in range(count):
        total += square(place, n)
        time.sleep(pause)
    return total


def main(store: str, tickets: Path) -> None:
    configure(store=store, executor=Spool(tickets))
    while not (tickets / ".enough").exists():
        if run_id := take(tickets):
            work_on(run_id)
        else:
            time.sleep(0.01)


if __name__ == "__main__":
    sys.modules["spool"] = sys.modules["__main__"]
    main(sys.argv[1], Path(sys.argv[2]))
