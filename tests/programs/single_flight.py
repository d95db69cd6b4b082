"""One process of several that ask for the same step at once; what it does is said on the command line.

Usage: single_flight.py DIRECTORY COMMAND [ARGUMENT]. The directory holds the store, and files by which the processes meet:
`ready.PID` says that one is there, `go` lets them begin, and each execution of a step is a line in `executed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import agentflow
from agentflow import cached_step, workflow
from agentflow.exceptions import UsageError
from agentflow.stores import DiskStore

DIRECTORY = Path(sys.argv[1])
agentflow.configure(store=DiskStore(DIRECTORY / "store"))


def executed(what: str) -> int:
    """Write down an execution; return how many there are."""
    with (DIRECTORY / "executed").open("a") as file:
        file.write(f"{what}\n")
    return len((DIRECTORY / "executed").read_text().splitlines())


def meet() -> None:
    """Say that this process is ready, and wait until all may go."""
    (DIRECTORY / f"ready.{os.getpid()}").touch()
    wait_for("go")


def wait_for(name: str) -> None:
    while not (DIRECTORY / name).exists():
        time.sleep(0.001)


@cached_step
def value(n: int) -> list[int]:
    executed("value")
    time.sleep(0.2)
    return [n]


@cached_step
async def avalue(n: int) -> list[int]:
    executed("avalue")
    await asyncio.sleep(0.2)
    return [n]


@cached_step
def stream(n: int) -> Iterator[int]:
    executed("stream")
    for k in range(n):
        time.sleep(0.02)
        yield k


@cached_step
async def astream(n: int) -> AsyncIterator[int]:
    executed("astream")
    for k in range(n):
        await asyncio.sleep(0.02)
        yield k


@cached_step
def held(n: int) -> int:
    if executed("held") == 1:
        if sys.argv[2:] == ["hold", "forking"] and os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        (DIRECTORY / "held").touch()
        time.sleep(60)
    return n


@cached_step
def held_stream(n: int) -> Iterator[int]:
    first = executed("held_stream") == 1
    yield n
    if first:
        (DIRECTORY / "held").touch()
        time.sleep(60)
    yield n + 1


@cached_step
def failing(n: int) -> int:
    if executed("failing") == 1:
        time.sleep(0.2)
        raise ValueError("the first one fails")
    return n


@cached_step
def interrupted(n: int) -> int:
    return _interrupted(n)


@cached_step(timeout=30)
def interrupted_with_a_timeout(n: int) -> int:
    return _interrupted(n)


def _interrupted(n: int) -> int:
    if executed("interrupted") == 1:
        (DIRECTORY / "held").touch()
        time.sleep(10)
    return n


@cached_step
async def ainterrupted(n: int) -> int:
    if executed("interrupted") == 1:
        (DIRECTORY / "held").touch()
        await asyncio.sleep(10)
    return n


@cached_step
def interrupted_stream(n: int) -> Iterator[int]:
    yield n
    yield _interrupted(n)


async def _collect() -> list[int]:
    return [item async for item in astream(5)]


@workflow
def interrupted_flow() -> int:
    return interrupted(1)


INTERRUPTED = {
    "step": (lambda: interrupted(1), interrupted, 1),
    "timeout": (lambda: interrupted_with_a_timeout(1), interrupted_with_a_timeout, 1),
    "async": (lambda: asyncio.run(ainterrupted(1)), ainterrupted, 1),
    "stream": (lambda: list(interrupted_stream(1)), interrupted_stream, [1, 1]),
    "flow": (interrupted_flow, interrupted.with_options(workflow=interrupted_flow.name), 1),
}


def interrupt(kind: str) -> dict[str, object]:
    call, step, expected = INTERRUPTED[kind]
    with contextlib.suppress(KeyboardInterrupt):
        call()
        return {"interrupted": False}
    remembered = step.is_cached(1)
    return {"interrupted": True, "remembered": remembered, "again": call() == expected, "hit": step.is_cached(1)}


def left(_: str) -> str:
    """End with streams that are half read, in every way that they can be held."""
    held = [stream(4), interrupted_stream.with_options(max_concurrency=1)(5)]
    held += [held]
    for played in held[:2]:
        next(played)
    globals()["kept"] = stream(6)
    next(globals()["kept"])

    async def begin() -> None:
        globals()["akept"] = astream(4)
        await anext(globals()["akept"])

    asyncio.run(begin())
    return "left"


def forked(_: str) -> dict[str, object]:
    """Read a stream half way, fork, and let both go on: the child executes anew, the parent's stream is not hurt."""
    played = stream(4)
    first = next(played)
    child = os.fork()
    if child == 0:
        answer = list(stream(4)) == [0, 1, 2, 3] if sys.argv[3] == "finished" else value(1) == [1]
        os._exit(0 if answer else 1)
    if sys.argv[3] == "finished":
        rest = list(played)
        _, status = os.waitpid(child, 0)
    else:
        _, status = os.waitpid(child, 0)
        rest = list(played)
    return {"parent": [first, *rest], "child": status}


def answer(command: str, argument: str) -> object:
    match command:
        case "value":
            return value(1)
        case "avalue":
            return asyncio.run(avalue(1))
        case "stream":
            return list(stream(5))
        case "astream":
            return asyncio.run(_collect())
        case "hold":
            return held(1)
        case "hold_stream":
            return list(held_stream(1))
        case "failing":
            return failing(1)
        case "interrupt":
            return interrupt(argument)
        case "fork":
            return forked(argument)
        case "leave":
            return left(argument)
        case _:
            raise SystemExit(f"no command {command}")


if __name__ == "__main__":
    command, argument = sys.argv[2], (sys.argv[3:] or [""])[0]
    meet()
    try:
        print(json.dumps(answer(command, argument)))
    except (ValueError, UsageError) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
