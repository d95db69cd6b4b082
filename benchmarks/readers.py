"""A run that yields ten thousand chunks a second, followed by processes: its rate, their delay, everybody's memory; see docs/performance.md.

    python benchmarks/readers.py

The workflow `talk` yields ten chunks each millisecond, each with the time at which it was said; `mark` emits as many events of its own,
which are not put together. Delays are those of the first and the last chunk of each event that a reader gets.
The floor of the rate is a plain generator at the same pace, since a busy machine wakes nobody each millisecond.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import attrs

COMMON = """
import array, json, os, sys, time, agentflow

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

WRITER = f"""{COMMON}
def chunks(count):
    began, cpu, memory = time.monotonic(), time.process_time(), []
    for number in range(count):
        if number % 10 == 0:
            time.sleep(max(0.0, began + number / 10_000 - time.monotonic()))
        if number % (count // 10) == 0:
            memory.append(resident())
        yield f"{{time.time():.6f}}\\n"
    took = time.monotonic() - began
    told.append({{"rate": count / took, "memory": memory, "cpu": (time.process_time() - cpu) / took}})

@agentflow.workflow
def talk(count):
    yield "ready"
    sys.stdin.readline()
    yield from chunks(count)

@agentflow.workflow
def mark(ctx: agentflow.Context, count):
    ctx.emit("ready")
    yield None
    sys.stdin.readline()
    for chunk in chunks(count):
        ctx.emit(chunk)

agentflow.configure(store=sys.argv[1])
told, count = [], int(sys.argv[3])
stream = globals()[sys.argv[2]](count)
next(stream)
print("ready", flush=True)
for _ in stream:
    pass
for _ in chunks(count):
    pass
print(json.dumps(told), flush=True)
"""

READER = f"""{COMMON}
delays, memory, seen, cpu = array.array("f"), [], 0, 0.0
for event in agentflow.list_runs(store=sys.argv[1])[0].events():
    items = event.items if event.type == "run_yielded" else [event.value] if event.type == "emitted" else []
    now = time.time()
    if not items or items[0] is None:
        continue
    if items[0] == "ready":
        print("ready", flush=True)
        cpu, began = time.process_time(), time.monotonic()
        continue
    if seen // 10_000 != (seen + len(items)) // 10_000:
        memory.append(resident())
    seen += len(items)
    delays.extend(now - float(item) for item in {{items[0], items[-1]}})
cpu, took = time.process_time() - cpu, time.monotonic() - began
print(json.dumps({{"seen": seen, "delays": list(delays), "memory": memory, "cpu": cpu / took}}), flush=True)
"""


@attrs.frozen
class Followed:
    """What came of one run: a line of the table."""

    workflow: str
    readers: int
    writer: dict[str, Any]
    floor: dict[str, Any]
    seen: list[dict[str, Any]]

    def line(self) -> str:
        """Return the line."""
        delays = sorted(delay * 1000 for reader in self.seen for delay in reader["delays"])
        cpu = sum(reader["cpu"] for reader in self.seen) / max(1, self.readers)
        at = [f"{delays[int(len(delays) * part)]:.0f}" if delays else "–" for part in (0.5, 0.99, 0.9999)]
        grown = max((_grown(reader["memory"]) for reader in self.seen), default=0.0)
        writer = self.writer
        return (
            f"| {self.workflow} | {self.readers} | {writer['rate']:,.0f} | {self.floor['rate']:,.0f} | {' | '.join(at)} "
            f"| {writer['cpu']:.0%} | {cpu:.0%} | {_grown(writer['memory']):.1f} | {grown:.1f} |"
        )


def _grown(memory: list[int]) -> float:
    """Return by how many MiB a process grew from the first tenth of the run to its end."""
    return (memory[-1] - memory[len(memory) // 10]) / 2**20 if memory else 0.0


def _begun(stack: ExitStack, program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return stack.enter_context(process)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe
    return pipe


def followed(workflow: str, readers: int, count: int) -> Followed:
    """Let a process write so many chunks and others follow it from the first one on."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        store = str(Path(directory) / "store")
        writer = _begun(stack, WRITER, store, workflow, str(count))
        _pipe(writer.stdout).readline()
        following = [_begun(stack, READER, store) for _ in range(readers)]
        for reader in following:
            _pipe(reader.stdout).readline()
        time.sleep(0.2)  # until nobody starts any more
        _pipe(writer.stdin).write("go\n")
        _pipe(writer.stdin).flush()
        seen = [json.loads(_pipe(reader.stdout).readline()) for reader in following]
        for reader in seen:
            assert reader["seen"] == count, "a reader has missed something"
        return Followed(workflow, readers, *json.loads(_pipe(writer.stdout).readline()), seen)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure a run that is followed by processes while it is written.")
    parser.add_argument("--readers", type=int, nargs="*", default=[0, 1, 10])
    parser.add_argument("--chunks", type=int, default=100_000)
    asked = parser.parse_args()
    print(
        "| workflow | readers | chunks/s | floor | delay ms, median | 99 % | 99.99 % | writer CPU | reader CPU | writer grew MiB | reader grew MiB |"
    )
    print("|" + " --- |" + "---:|" * 10)
    for workflow in ("talk", "mark"):
        for readers in asked.readers:
            print(followed(workflow, readers, asked.chunks).line(), flush=True)


if __name__ == "__main__":
    main()
