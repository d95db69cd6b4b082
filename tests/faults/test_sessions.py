"""Many sessions at once over one store and one agent (T6; R13): none sees or stores anything of another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentflow import Agent, Context, cached_step, workflow
from agentflow._settings import using_store
from agentflow.stores import DiskStore
from agentflow.testing import FunctionModel


def echo(messages, _info):
    return f"answer to {messages[-1].text}" if hasattr(messages[-1], "text") else f"answer to {messages[-1]}"


agent = Agent(FunctionModel(echo))


@cached_step(name="sessions.ask")
def ask(ctx: Context, who: str, n: int) -> str:
    return f"{ctx.session_id}|{agent.run(f'{who}-{n}').output}"


@cached_step(name="sessions.aask")
async def aask(ctx: Context, who: str, n: int) -> str:
    return f"{ctx.session_id}|{(await agent.arun(f'{who}-{n}')).output}"


def foreign(ctx: Context, who: str, n: int, answer: str) -> int:
    """Count what is not one's own in an answer and in the state."""
    before = ctx.state.get("last", f"{who}-start")
    ctx.state["last"] = f"{who}-{n}"
    ctx.state.setdefault("all", []).append(f"{who}-{n}")
    return (f"{who}-{n}" not in answer) + (not answer.startswith(f"{who}|")) + (not before.startswith(f"{who}-"))


@workflow(name="sessions.flow", session=lambda who: who)
def flow(ctx: Context, who: str, operations: int) -> int:
    # The same arguments in every session: only the session tells the calls apart.
    same = ctx.map(lambda n: shared(n), range(3))
    return sum(foreign(ctx, who, n, ask(who, n)) for n in range(operations)) + sum(each != who for each in same)


@cached_step(name="sessions.shared")
def shared(ctx: Context, n: int) -> str:
    return ctx.session_id


@workflow(name="sessions.aflow", session=lambda who: who)
async def aflow(ctx: Context, who: str, operations: int) -> int:
    return sum([foreign(ctx, who, n, await aask(who, n)) for n in range(operations)])


@pytest.mark.parametrize(("sessions", "operations"), [(20, 5), pytest.param(200, 50, marks=pytest.mark.slow)])
def test_sessions_do_not_see_each_other(tmp_path, figure, sessions, operations):
    """R13: as many sessions as there are threads, and as many as tasks, share a store, an agent and the arguments of a step."""
    store = DiskStore(tmp_path / "store", durability="process")
    names = [f"user{number}" for number in range(sessions)]

    async def tasks() -> list[int]:
        return await asyncio.gather(*(aflow(name, operations) for name in names))

    with using_store(store):
        with ThreadPoolExecutor(32) as pool:
            seen = list(pool.map(lambda name: flow(name, operations), names))
        seen += asyncio.run(tasks())
        expected = {name: [f"{name}-{n}" for n in range(operations)] for name in names}
        stored = [
            name
            for kind in (flow, aflow)
            for name in names
            if kind.session(name).state["all"] != expected[name]
            or kind.session(name).state["last"] != expected[name][-1]
        ]
    store.close()

    assert sum(seen) == 0
    assert stored == []
    figure(
        "R13",
        sessions=2 * sessions,
        operations=2 * sessions * operations,
        foreign_values_seen=0,
        foreign_values_stored=0,
    )
