"""Steps for the tests in which several processes use one store; what they execute they write down in `executed`.

Usage: remembering.py DIRECTORY COMMAND [ARGUMENT]. Prints its answer as JSON.
"""

from __future__ import annotations

import json
import linecache
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import agentflow
from agentflow import cached_step
from agentflow.stores import DiskStore

DIRECTORY = Path(sys.argv[1])
agentflow.configure(store=DiskStore(DIRECTORY / "store", durability="process"))


def executed(what: str) -> None:
    with (DIRECTORY / "executed").open("a") as file:
        file.write(f"{what}\n")


@cached_step
def squared(number: int) -> int:
    executed(f"squared {number}")
    return number**2


@cached_step
def large() -> list[str]:
    executed("large")
    return ["a" * 1000] * 1000


@cached_step
def large_or_small(is_large: bool = True) -> dict[str, int] | str:
    executed(f"large_or_small {is_large}")
    return {str(number): number for number in range(20_000)} if is_large else "small"


CELL = """
@cached_step
def doubled(number: int) -> int:
    executed("doubled")
    return 2 * number
"""


def from_a_cell(number: int, *, has_source: bool) -> int:
    """Define a step as a notebook does, in the main module from a cell, and call it."""
    cell = "<ipython-input-1-abcdef>"
    if has_source:
        linecache.cache[cell] = (len(CELL), None, CELL.splitlines(keepends=True), cell)
    exec(compile(CELL, cell, "exec"), globals())  # noqa: S102 - what a notebook does with its cells
    return globals()["doubled"](number)


def in_a_pool() -> list[int]:
    """Hand a step itself to the processes of a pool, which share its memory."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return [*pool.map(squared, [1, 2, 3]), *pool.map(squared, [1, 2, 3])]


def answer(command: str) -> object:
    match command:
        case "squared":
            return squared(7)
        case "pool":
            return in_a_pool()
        case "cell":
            return from_a_cell(21, has_source=True)
        case "cell-without-source":
            return from_a_cell(21, has_source=False)
        case "large":
            while not (DIRECTORY / "go").exists():
                time.sleep(0.001)
            return [len(large()), len(large_or_small()), large_or_small(is_large=False)]
        case _:
            raise SystemExit(f"no command {command}")


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[2])))
