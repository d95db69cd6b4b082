"""Figure R13: many sessions at once, over threads and tasks, and no value of one is seen or stored in another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentflow import Context, cached_step, workflow

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.filterwarnings("ignore:step .* reads state")]


@cached_step
def remember(ctx: Context, number: int) -> str:
    ctx.state.setdefault("by steps", {})[str(number)] = ctx.session_id
    ctx.state.increment("steps")
    return ctx.session_id


@cached_step
async def aremember(ctx: Context, number: int) -> str:
    ctx.state.setdefault("by steps", {})[str(number)] = ctx.session_id
    await asyncio.sleep(0)
    ctx.state.increment("steps")
    return ctx.session_id


def seen_in(ctx: Context) -> set[Any]:
    return {ctx.session_id, *ctx.state.get("by steps", {}).values(), *ctx.state.get("by body", {}).values()}


@workflow(name="many")
def flow(ctx: Context, operations: int) -> set[Any]:
    seen = set()
    for number in range(operations):
        seen |= {remember(number), ctx.session_id} | seen_in(ctx)
        ctx.state.setdefault("by body", {})[str(number)] = ctx.session_id
    return seen


@workflow(name="amany")
async def aflow(ctx: Context, operations: int) -> set[Any]:
    seen = set()
    for number in range(operations):
        seen |= {await aremember(number), ctx.session_id} | seen_in(ctx)
        ctx.state.setdefault("by body", {})[str(number)] = ctx.session_id
    return seen


@pytest.mark.parametrize(
    ("sessions", "operations"), [(20, 10), pytest.param(200, 50, marks=pytest.mark.slow)], ids=["few", "R13"]
)
async def test_no_session_sees_or_keeps_a_value_of_another(sessions, operations):
    """Half of them run in threads and half in tasks, all at once, with the same arguments and shared steps."""
    names = [f"session {number}" for number in range(sessions // 2)]
    with ThreadPoolExecutor(sessions // 2) as pool:
        in_threads = [pool.submit(flow.with_options(session_id=name), operations) for name in names]
        in_tasks = await asyncio.gather(*(aflow.with_options(session_id=name)(operations) for name in names))
        results = [*zip(names, in_tasks), *((name, future.result()) for name, future in zip(names, in_threads))]

    assert [seen for name, seen in results if seen != {name}] == []
    for name in names:
        for state in (flow.session(name).state, aflow.session(name).state):
            assert {*state["by steps"].values(), *state["by body"].values()} == {name}
            assert (len(state["by steps"]), len(state["by body"]), state["steps"]) == (operations,) * 3
