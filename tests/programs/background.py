"""Workflows for the tests of background processes; run as a script, it starts what it is asked for, prints the run's id and ends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

from pydantic import BaseModel

from agentflow import Context, cached_step, workflow
from agentflow.exceptions import UsageError


class Report(BaseModel):
    n: int
    pid: int


def note(place: str, what: str) -> None:
    """Append a line, in one write, so that lines of several processes do not mix."""
    if place:
        descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)


@cached_step
def work(place: str, n: int) -> int:
    note(place, f"step {n}")
    time.sleep(0.005)
    return n


@workflow
def report(n: int) -> Report:
    return Report(n=n, pid=os.getpid())


@workflow
def many(place: str, steps: int) -> int:
    return sum(work(place, n) for n in range(steps))


@cached_step
def numbered_work(place: str, n: int) -> int:
    note(place, f"{os.getpid()} {n}")
    time.sleep(0.003)
    return n


@workflow
def numbered(place: str, steps: int) -> int:
    return sum(numbered_work(place, n) for n in range(steps))


def begin(ctx: Context, place: str, way: str) -> None:
    """Change state in each way that there is: by assignment, inside a value before a boundary, and inside one after it."""
    ctx.state["assigned"] = {"a": 1}
    ctx.state["assigned"]["b"] = 2
    work(place, 1)
    ctx.state["assigned"]["c"] = 3
    note(place, f"{os.getpid()} begun")
    if way == "raise":
        raise ValueError(way)


@workflow
def plain_ending(ctx: Context, place: str, way: str) -> None:
    try:
        begin(ctx, place, way)
        while True:
            time.sleep(0.005)
            ctx.check()
    finally:
        ctx.state["left"] = way


@workflow
async def async_ending(ctx: Context, place: str, way: str) -> None:
    try:
        begin(ctx, place, way)
        await asyncio.sleep(600)
    finally:
        ctx.state["left"] = way


@workflow
def stream_ending(ctx: Context, place: str, way: str) -> Iterator[int]:
    try:
        begin(ctx, place, way)
        while True:
            if way == "kill":
                time.sleep(600)
            time.sleep(0.005)
            yield 1
    finally:
        ctx.state["left"] = way


@workflow
async def async_stream_ending(ctx: Context, place: str, way: str) -> AsyncIterator[int]:
    try:
        begin(ctx, place, way)
        if way == "break":
            yield 1
        await asyncio.sleep(600)
        yield 1
    finally:
        ctx.state["left"] = way


@workflow
def sleeping(ctx: Context, place: str) -> str:
    try:
        note(place, "begun")
        time.sleep(0.05 if ctx.attempt > 1 else 600)
    finally:
        ctx.state["left"] = ctx.attempt
        note(place, "finally")
    return "slept"


@workflow
async def asleep(ctx: Context, place: str) -> str:
    try:
        note(place, "begun")
        await asyncio.sleep(0.05 if ctx.attempt > 1 else 600)
    finally:
        ctx.state["left"] = ctx.attempt
        note(place, "finally")
    return "slept"


@workflow
def stepping(ctx: Context, place: str) -> int:
    try:
        note(place, "begun")
        for n in range(1 if ctx.attempt > 1 else 100_000):
            work(place, n)
    finally:
        ctx.state["left"] = ctx.attempt
        note(place, "finally")
    return 7


@workflow
def yielding(ctx: Context, place: str) -> Iterator[int]:
    try:
        note(place, "begun")
        for n in range(1 if ctx.attempt > 1 else 100_000):
            time.sleep(0.005)
            yield n
    finally:
        ctx.state["left"] = ctx.attempt
        note(place, "finally")


@workflow
async def ayielding(ctx: Context, place: str) -> AsyncIterator[int]:
    try:
        note(place, "begun")
        for n in range(1 if ctx.attempt > 1 else 100_000):
            await asyncio.sleep(0.005)
            yield n
    finally:
        ctx.state["left"] = ctx.attempt
        note(place, "finally")


@workflow(ignore="client")
def with_client(n: int, client: object) -> int:
    return n


if __name__ == "__main__":
    flow, *arguments = sys.argv[1:]
    try:
        run = globals()[flow].with_options(executor="process").start(*map(eval, arguments))
    except UsageError as error:
        print("refused:", error, file=sys.stderr)
        sys.exit(1)
    print(run.id)
