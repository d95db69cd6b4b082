"""The workflow whose life is cut short, in four colours, with a log of what it did that no store has anything to do with.

A line `S key` says that a step's body began, `R key` that it had its result, `A key` that the workflow has seen it. Each is a single append.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs

from agentflow import Context, cached_step, workflow

COLOURS = ("sync", "async", "stream", "astream")
PADDING = "lorem ipsum " * 40  # a result has some size


class Log:
    """Appends lines that survive whatever happens to the process."""

    def __init__(self) -> None:
        self.descriptor = -1

    def open(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, what: str) -> None:
        os.write(self.descriptor, f"{what}\n".encode())


LOG = Log()


def answer(name: str, n: int) -> dict[str, object]:
    """What a step returns."""
    return {"name": name, "n": n, "text": PADDING}


@cached_step
def step(ctx: Context, name: str, n: int) -> dict[str, object]:
    LOG.say(f"S {name}/{n}")
    ctx.state[f"{name}/{n}"] = n
    LOG.say(f"R {name}/{n}")
    return answer(name, n)


@cached_step
async def astep(ctx: Context, name: str, n: int) -> dict[str, object]:
    LOG.say(f"S {name}/{n}")
    ctx.state[f"{name}/{n}"] = n
    LOG.say(f"R {name}/{n}")
    return answer(name, n)


@cached_step
def streamed(ctx: Context, name: str, n: int) -> Iterator[dict[str, object]]:
    LOG.say(f"S {name}/{n}")
    ctx.state[f"{name}/{n}"] = n
    yield {"first": n}
    yield answer(name, n)
    LOG.say(f"R {name}/{n}")


@cached_step
async def astreamed(ctx: Context, name: str, n: int) -> AsyncIterator[dict[str, object]]:
    LOG.say(f"S {name}/{n}")
    ctx.state[f"{name}/{n}"] = n
    yield {"first": n}
    yield answer(name, n)
    LOG.say(f"R {name}/{n}")


def seen(name: str, n: int, result: object) -> None:
    """The workflow has the result of a step; it must be the right one."""
    if result != answer(name, n):
        LOG.say(f"W {name}/{n}")
    LOG.say(f"A {name}/{n}")


@workflow
def flow(ctx: Context, name: str, steps: int) -> str:
    for n in range(steps):
        seen(name, n, step(name, n))
        ctx.state[f"{name}/seen"] = n
    return name


@workflow
async def aflow(ctx: Context, name: str, steps: int) -> str:
    for n in range(steps):
        seen(name, n, await astep(name, n))
        ctx.state[f"{name}/seen"] = n
    return name


@workflow
def stream_flow(ctx: Context, name: str, steps: int) -> Iterator[str]:
    for n in range(steps):
        seen(name, n, list(streamed(name, n))[-1])
        ctx.state[f"{name}/seen"] = n
        yield str(n)


@workflow
async def astream_flow(ctx: Context, name: str, steps: int) -> AsyncIterator[str]:
    for n in range(steps):
        seen(name, n, [item async for item in astreamed(name, n)][-1])
        ctx.state[f"{name}/seen"] = n
        yield str(n)


async def _drain(name: str, steps: int) -> None:
    async for _ in astream_flow(name, steps):
        pass


RUN: dict[str, Callable[[str, int], object]] = {
    "sync": flow,
    "async": lambda name, steps: asyncio.run(aflow(name, steps)),
    "stream": lambda name, steps: list(stream_flow(name, steps)),
    "astream": lambda name, steps: asyncio.run(_drain(name, steps)),
}
STEPS = {"sync": step, "async": astep, "stream": streamed, "astream": astreamed}
FLOWS = {"sync": flow, "async": aflow, "stream": stream_flow, "astream": astream_flow}


@attrs.frozen
class Story:
    """What a log tells."""

    executed: Counter[str]
    finished: frozenset[str]
    acknowledged: frozenset[str]
    wrong: int
    executed_again: int
    """Executions of a step that the workflow had seen the result of."""

    @classmethod
    def read(cls, path: Path) -> Story:
        executed: Counter[str] = Counter()
        finished: set[str] = set()
        acknowledged: set[str] = set()
        wrong = again = 0
        for line in path.read_text().splitlines():
            kind, _, key = line.partition(" ")
            match kind:
                case "S":
                    executed[key] += 1
                    again += key in acknowledged
                case "R":
                    finished.add(key)
                case "A":
                    acknowledged.add(key)
                case _:
                    wrong += 1
        return cls(executed, frozenset(finished), frozenset(acknowledged), wrong, again)

    @property
    def extra(self) -> int:
        """Executions beyond one of each step."""
        return sum(self.executed.values()) - len(self.executed)


def missing(colour: str, keys: frozenset[str]) -> int:
    """Of the steps that the log says were seen, count those whose result or state is not in the store."""
    session = FLOWS[colour].session("default")
    lost = 0
    for key in keys:
        name, n = key.rsplit("/", 1)
        cached = STEPS[colour].with_options(workflow=FLOWS[colour].name, session_id="default").is_cached(name, int(n))
        lost += not cached or session.state.get(key) != int(n)
    return lost
