"""Never executed: what type checkers see of workflows and steps (mypy --strict and pyright strict)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from datetime import timedelta
from typing import Any, assert_type

from agentflow import (
    Context,
    RetryPolicy,
    Run,
    RunStatus,
    Session,
    Step,
    Workflow,
    cached_step,
    current_context,
    get_run,
    list_runs,
    print_run,
    workflow,
)
from agentflow._runs import RunStep
from agentflow._state import State
from agentflow.events import Event
from agentflow.messages import Usage
from agentflow.stores import DiskStore, MemoryStore, Store
from agentflow.types import Difference, Explanation, StateModel

# --- steps keep their signature, less the context


@cached_step
def bare(ctx: Context, url: str, *, fast: bool = False) -> list[str]:
    assert_type(ctx.state, State)
    return [url]


@cached_step(retry=RetryPolicy(attempts=3, wait=timedelta(seconds=1)), ttl=60, cache_if=bool, tags=("web",))
def optional(url: str) -> int:
    return len(url)


@cached_step
async def awaited(ctx: Context, url: str) -> bytes:
    return url.encode()


@cached_step(scope="run")
def streamed(topic: str) -> Generator[str, None, int]:
    yield topic
    return 1


@cached_step
def iterated(ctx: Context, topic: str) -> Iterator[str]:
    yield topic


@cached_step
async def astreamed(ctx: Context, topic: str) -> AsyncIterator[str]:
    yield topic


assert_type(bare("u", fast=True), list[str])
assert_type(optional("u"), int)
assert_type(streamed("t"), Generator[str, None, int])
assert_type(iterated("t"), Generator[str, None, Any])
assert_type(astreamed("t"), AsyncGenerator[str, None])
bare()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare("u", True)  # type: ignore[call-arg, misc, unused-ignore]  # pyright: ignore[reportCallIssue]
optional(url=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(bare.key("u"), str)
assert_type(bare.is_cached("u", fast=True), bool)
assert_type(bare.forget("u"), int)
assert_type(bare.explain("u", fast=True), Explanation)
assert_type(bare.explain("u").differences, tuple[Difference, ...])
bare.explain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare.key(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(bare.with_options(session_id="s", refresh=True)("u"), list[str])
optional.seed(1, "u")
optional.seed("1", "u")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def in_tasks() -> None:
    assert_type(await awaited("u"), bytes)
    assert_type(await awaited.acall("u"), bytes)
    assert_type(await bare.acall("u"), list[str])
    assert_type(await streamed.acall("t"), int)
    assert_type(await bare.amap(["u"]), list[list[str]])
    async for item in astreamed("t"):
        assert_type(item, str)


def takes_any(step: Step[..., Any], flow: Workflow[..., Any]) -> None: ...


# --- workflows


@workflow(session=lambda topic: topic)
def post(ctx: Context, topic: str) -> Iterator[str]:
    yield topic


@workflow
def count(ctx: Context, topic: str, times: int = 1) -> int:
    assert_type(ctx.map(optional, ["a"]), list[int])
    assert_type(ctx.run_id, str | None)
    return times


@workflow(resume_within=None, max_attempts=2, ignore="topic")
async def acount(topic: str) -> int:
    pages = await current_context().map(awaited.fn, [topic])
    return len(pages)


@workflow
async def apost(ctx: Context, topic: str) -> AsyncIterator[str]:
    yield topic


assert_type(post("t"), Generator[str, None, Any])
assert_type(count("t", times=2), int)
assert_type(count.with_options(session_id="s", refresh=[bare, "other"])("t"), int)
assert_type(count.with_options(debug=True)("t"), int)
assert_type(count.session("s"), Session)
assert_type(count.sessions(limit=3), list[Session])
assert_type(count.session("s").runs(), list[Run])
count(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
count.with_options(session_id=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_any(bare, count)


async def flows_in_tasks() -> None:
    assert_type(await acount("t"), int)
    assert_type(await count.acall("t"), int)
    async for item in apost("t"):
        assert_type(item, str)


# --- state


@workflow
def tally(ctx: Context) -> None:
    assert_type(ctx.state.increment("n", 2), int | float)
    with tally.session("s").state.transaction() as state:
        assert_type(state, State)


class Blog(StateModel):
    posts: dict[str, int] = {}


@workflow(state=Blog, session="s")
def typed(ctx: Context[Blog], topic: str) -> int:
    assert_type(ctx.state, Blog)
    assert_type(ctx.state.posts, dict[str, int])
    assert_type(ctx.state.increment("posts"), int | float)
    ctx.state.posts = {"a": "b"}  # type: ignore[dict-item]  # pyright: ignore[reportAttributeAccessIssue]
    ctx.state.pages  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    with ctx.state.transaction() as blog:
        assert_type(blog, Blog)
    return len(ctx.state.posts)


@cached_step
async def typed_step(ctx: Context[Blog]) -> None:
    async with ctx.state.transaction() as blog:
        assert_type(blog, Blog)


assert_type(typed("t"), int)
workflow(state=int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]

# --- runs and stores

assert_type(get_run("id").status, RunStatus)
assert_type(list_runs(status="failed"), list[Run])
assert_type(count.start("a").steps(), list[RunStep])
assert_type(count.start("a").usage, Usage)
assert_type(count.start("a").cancel(), bool)
assert_type(count.start("a").resume(), Run)
assert_type(count.with_options(run_id="id", executor="process").start("a"), Run)
count.start(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(count.start("a").result_json(timeout=1), str)
stores: list[Store] = [DiskStore("x"), MemoryStore()]


# --- events

assert_type(count.stream_events("t", times=2), Generator[Event, None, int])
assert_type(print_run(count.stream_events("t", times=2), markdown=False, show_time=False), int)
assert_type(get_run("id").events(after=3, follow=False), Generator[Event, None, None])


async def events_in_tasks() -> None:
    assert_type(await print_run(acount.astream_events("t")), int)
    assert_type(await print_run(acount("t")), int)
    async with acount.astream_events("t") as stream:
        async for event in stream:
            assert_type(event.seq, int)
    assert_type(stream.result, int)
    async for recorded in get_run("id").aevents():
        assert_type(recorded.attempt, int)
