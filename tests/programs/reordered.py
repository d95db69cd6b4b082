"""Reads a set of addresses in whatever order this process has it, and dies half way if told to.

Usage: reordered.py DIRECTORY HOW DIE_AFTER. Each execution of the step is a line in `executed`; the order in which this process goes
through the set is a line in `orders`. Prints what it has read, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import agentflow
from agentflow import Agent, Context, cached_step, workflow
from agentflow.stores import DiskStore
from agentflow.testing import FunctionModel

DIRECTORY = Path(sys.argv[1])
agentflow.configure(store=DiskStore(DIRECTORY / "store", durability="process"))

left = int(sys.argv[3])


def answer(messages, info) -> str:
    return f"summary of {messages[-1].content}"


reader = Agent(FunctionModel(answer))


def executed(url: str) -> None:
    """Write down an execution; die instead of the one after the last that is allowed."""
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    with (DIRECTORY / "executed").open("a") as file:
        file.write(f"{url}\n")


@cached_step
def read(url: str) -> str:
    executed(url)
    return f"page of {url}"


@cached_step
def lines(url: str) -> Iterator[str]:
    executed(url)
    yield f"page of {url}"
    yield "end"


@cached_step
def summarize(url: str) -> str:
    executed(url)
    return reader.run(url).output


@workflow
def read_all(ctx: Context, how: str, urls: set[str]) -> dict[str, object]:
    order = list(urls)
    with (DIRECTORY / "orders").open("a") as file:
        file.write(f"{json.dumps(order)}\n")
    match how:
        case "loop":
            return {url: read(url) for url in order}
        case "map":
            return dict(zip(order, ctx.map(read, order, max_concurrency=3), strict=True))
        case "stream":
            return {url: list(lines(url)) for url in order}
        case "agent":
            return {url: summarize(url) for url in order}
        case "body":
            found: dict[str, object] = {}
            for url in order:
                executed(url)
                found[url] = reader.run(url).output
            return found
        case _:
            raise SystemExit(how)


if __name__ == "__main__":
    print(json.dumps(read_all(sys.argv[2], {f"https://example.com/{n}" for n in range(12)})))
