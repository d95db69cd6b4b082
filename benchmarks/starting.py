"""What importing and a whole process cost: `starting.py DIRECTORY TIMES MANY LONG`, one repeat; see `suite.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from measuring import Sample, printed

TRIES = 3  # of which the quickest counts
PROGRAMS = Path(__file__).with_name("programs.py")
FLOOR = "import attrs, asyncio, diskcache; from pydantic import TypeAdapter"
"""What a process cannot do without that keeps typed results in a diskcache from async code."""

OURS = "from agentflow import Context, cached_step, workflow"
"""Names are loaded at their first use: these are what a program needs that only caches."""

PROBE = """
import time
began = time.perf_counter()
{}
took = time.perf_counter() - began
import json, sys
rss = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS:")) / 1024
print(json.dumps({{"took": took, "modules": len(sys.modules), "rss": rss}}))
"""


def imported(statement: str) -> dict[str, float]:
    command = [sys.executable, "-c", PROBE.format(statement)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def process(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure(place: Path) -> list[Sample]:
    turns = [(imported(FLOOR), imported(OURS)) for _ in range(TRIES)]
    ours = turns[0][1]
    place.mkdir(parents=True, exist_ok=True)
    ten = (str(PROGRAMS), "ten", str(place), "10")
    process(*ten)
    processes = [(process("-c", FLOOR), process(*ten)) for _ in range(TRIES)]
    return [
        Sample("import", min(turn[1]["took"] for turn in turns), min(turn[0]["took"] for turn in turns)),
        Sample("import, modules", ours["modules"]),
        Sample("import, memory", ours["rss"]),
        # The bar allows 30 ms above 1.3 times the floor's process, so that is what it is measured against.
        Sample(
            "process of ten hits", min(took for _, took in processes), min(took for took, _ in processes) * 1.3 + 0.03
        ),
    ]


if __name__ == "__main__":
    samples = measure(Path(sys.argv[1]) / "starting")
    printed(samples)
