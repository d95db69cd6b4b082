"""What runs spend and may spend: usage over steps, retries, attempts and child runs; budgets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from agentflow import Agent, Budget, Context, RetryPolicy, cached_step, get_run, list_runs, workflow
from agentflow._claims import run_lock
from agentflow.exceptions import BudgetExceeded, OutputInvalid, RunFailed, StoreCorrupt, UsageError
from agentflow.messages import ModelResponse, TextPart, ToolCall, Usage
from agentflow.stores import MemoryStore
from agentflow.stores._base import EventRecord
from agentflow.testing import FunctionModel, ScriptedModel

pytestmark = pytest.mark.usefixtures("store")


def said(text: str, **usage: Any) -> ModelResponse:
    return ModelResponse(parts=(TextPart(text=text),), usage=Usage(requests=1, **usage))


def priced(count: int, cost: float | None = 0.25) -> ScriptedModel:
    return ScriptedModel([said(f"{n}", input_tokens=10, output_tokens=5, cost=cost) for n in range(count)])


def answered(flow: Any) -> list[Any]:
    (run,) = list_runs(workflow=flow.name)
    return [event for event in run.events() if event.type == "model_answered"]


def test_all_kinds_of_usage_are_counted_and_recorded(ask):
    """Tokens of each kind and the cost are in the result, in the context and in the events, with the step that asked."""
    usage = Usage(requests=1, input_tokens=10, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2, cost=0.25)
    agent = Agent(ScriptedModel([ModelResponse(parts=(TextPart(text="x"),), usage=usage)] * 2))

    @cached_step
    def inside(n: int) -> str:
        return ask(agent, "?")

    @workflow
    def flow(ctx: Context) -> Usage:
        ask(agent, "?")
        inside(1)
        return ctx.usage

    assert flow() == usage + usage
    assert [(event.usage, event.step) for event in answered(flow)] == [(usage, ""), (usage, inside.name)]
    assert answered(flow)[1].key == inside.with_options(workflow=flow.name).key(1)


def test_each_step_knows_what_it_has_used(ask):
    """Its own requests, not those of a step that it called; a hit has used nothing."""
    agent = Agent(priced(4))

    @cached_step
    def inner(n: int) -> str:
        return ask(agent, "inner")

    @cached_step
    def outer(n: int) -> str:
        return ask(agent, "one") + ask(agent, "two") + inner(n)

    @workflow
    def flow() -> None:
        ask(agent, "body")
        outer(1)
        outer(1)

    flow()

    steps = list_runs(workflow=flow.name)[0].steps()
    assert [(step.step, step.hit, step.usage.requests) for step in steps] == [
        (outer.name, False, 2),
        (inner.name, False, 1),
        (outer.name, True, 0),
    ]
    assert steps[0].usage.cost == 2 * list_runs()[0].steps()[1].usage.cost > 0


def test_hits_are_free():
    """Neither a step's hit nor a replayed answer counts, in the next attempt of the run; what was paid before counts on."""
    agent, fails = Agent(priced(3), cache="run"), [True]

    @cached_step
    def inside() -> str:
        return agent.run("inside").output

    @workflow
    def flow(ctx: Context) -> float | None:
        inside()
        agent.run("body")
        if fails.pop():
            fails.append(False)
            raise RuntimeError
        return ctx.usage.cost

    with pytest.raises(RuntimeError):
        flow()

    assert flow() == 0.5
    assert [event.replayed for event in answered(flow)] == [False, False, True]
    assert answered(flow)[2].model == "scripted"


def test_a_retry_counts_what_the_failed_attempt_paid():
    """An answer that led to a failure is forgotten, and paid all the same."""
    agent = Agent(ScriptedModel([said("no", cost=1.0), said("7", cost=1.0)]), output_type=int, output_retries=0)

    @cached_step(retry=RetryPolicy(attempts=2, wait=0))
    def inside() -> int:
        return agent.run("?").output

    @workflow
    def flow(ctx: Context) -> tuple[int, float | None]:
        return inside(), ctx.usage.cost

    assert flow() == (7, 2.0)


def test_a_session_knows_what_its_runs_have_used():
    """Each request counts once, in the session of the run that made it."""
    agent = Agent(priced(3))

    @workflow
    def child() -> str:
        return agent.run("b").output

    @workflow
    def flow(n: int) -> str:
        return agent.run("a").output + child()

    flow(1)
    agent.run("outside")

    assert flow.session("default").usage.cost == 0.25
    assert child.session("default").usage == Usage(requests=1, input_tokens=10, output_tokens=5, cost=0.25)


def test_an_unknown_price_is_not_taken_for_nothing():
    """The sum with one request of unknown cost is unknown."""
    agent = Agent(ScriptedModel([said("a", cost=0.5), said("b")]))

    @workflow
    def flow(ctx: Context) -> list[float | None]:
        costs = [ctx.usage.cost]
        for _ in range(2):
            agent.run("?")
            costs.append(ctx.usage.cost)
        return costs

    assert flow() == [None, 0.5, None]


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(requests=2), "requests"),
        (Budget(tokens=30), "tokens"),
        (Budget(cost=0.5), "cost"),
        (Budget(tokens=16, requests=100), "tokens"),
    ],
)
@pytest.mark.parametrize("cache", ["run", "session", None])
def test_a_spent_budget_stops_before_the_next_request(ask, budget, limit, cache):
    """Two requests use it up, whether they are remembered or not; the third is not made, and what is over names itself."""
    model = priced(9)
    agent = Agent(model, cache=cache)

    @workflow(budget=budget)
    def flow() -> None:
        for n in range(9):
            ask(agent, str(n))

    with pytest.raises(BudgetExceeded, match="larger budget") as caught:
        flow()

    assert len(model.requests) == 2
    assert caught.value.limit == limit
    assert caught.value.used >= caught.value.allowed


@pytest.mark.parametrize("cache", ["run", None])
def test_what_earlier_attempts_have_paid_counts(cache):
    """The same call goes on with what is left; with a larger budget it goes on without paying again."""
    model = priced(9)
    agent = Agent(model, cache=cache)

    @workflow(budget=Budget(requests=3))
    def flow(ctx: Context) -> tuple[int, float | None]:
        for n in range(5):
            agent.run(str(n))
        return ctx.usage.requests, ctx.usage.cost

    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            flow()
    assert len(model.requests) == 3

    if cache:
        assert flow.with_options(budget=Budget(requests=5))() == (5, 1.25)
        assert len(model.requests) == 5


def test_the_budget_of_a_call_is_kept_when_its_run_is_resumed():
    """Who resumes a run need not know what it may spend, and what earlier attempts have paid counts."""
    model, fails = priced(9), [True]
    agent = Agent(model)

    @workflow(budget=Budget(requests=9))
    def flow() -> None:
        for n in range(5):
            agent.run(str(n))
            if fails:
                fails.clear()
                raise RuntimeError

    with pytest.raises(RuntimeError):
        flow.with_options(budget=Budget(requests=3, seconds=timedelta(hours=1)))()
    (run,) = list_runs(workflow=flow.name)

    with pytest.raises(RunFailed, match="the budget of 3 requests is spent"):
        run.resume().result(timeout=60)

    assert len(model.requests) == 3
    assert run.usage.requests == 3


def test_a_step_keeps_its_answers_when_the_budget_ends():
    """It goes on where the money ran out: what it has paid is replayed."""
    model = priced(9)
    agent = Agent(model)

    @cached_step
    def inside() -> list[str]:
        return [agent.run(str(n)).output for n in range(3)]

    @workflow(budget=Budget(requests=2))
    def flow() -> list[str]:
        return inside()

    with pytest.raises(BudgetExceeded):
        flow()

    assert flow.with_options(budget=Budget(requests=3))() == ["0", "1", "2"]
    assert len(model.requests) == 3


def test_a_budget_is_shared_with_child_runs():
    """What a child pays counts for its parent, also after both have failed and go on; a child may have less."""
    model, fails = priced(9), [True]
    agent = Agent(model)

    @workflow
    def child(n: int) -> str:
        return agent.run(str(n)).output

    @workflow(budget=Budget(requests=1))
    def small() -> str:
        return agent.run("a").output + agent.run("b").output

    @workflow(budget=Budget(requests=4))
    def parent(ctx: Context) -> tuple[int, Budget | None]:
        child(1)
        child(2)
        if fails:
            fails.clear()
            raise RuntimeError
        with pytest.raises(BudgetExceeded):
            small()
        spent, left = ctx.usage.requests, ctx.budget
        child(3)
        with pytest.raises(BudgetExceeded):
            child(4)
        return spent, left

    with pytest.raises(RuntimeError):
        parent()

    assert parent() == (3, Budget(requests=1))
    assert len(model.requests) == 4


def test_replayed_answers_are_given_although_the_budget_is_spent():
    """A budget holds back requests, not what was paid."""
    agent, fails = Agent(priced(2)), [True]

    @workflow(budget=Budget(requests=2))
    def flow() -> str:
        answers = agent.run("a").output + agent.run("b").output
        if fails:
            fails.clear()
            raise RuntimeError
        return answers

    with pytest.raises(RuntimeError):
        flow()

    assert flow() == "01"


def test_check_raises_only_beyond_the_budget():
    """To have used all of it is fine; time that is over is not."""
    agent = Agent(priced(9))

    @workflow(budget=Budget(requests=1, tokens=20))
    def modest(ctx: Context) -> str:
        agent.run("?")
        ctx.check()
        return "fine"

    @workflow(budget=Budget(seconds=timedelta(0)))
    def late(ctx: Context) -> None:
        ctx.check()

    assert modest() == "fine"
    with pytest.raises(BudgetExceeded, match="seconds"):
        late()


def test_the_seconds_of_earlier_attempts_count():
    """A run that goes on has used the time from the first to the last event of each attempt."""

    @workflow
    def flow(ctx: Context) -> float | None:
        left.append(ctx.budget.seconds if ctx.budget else None)
        if len(left) == 1:
            ctx.emit("waiting")
            busy.wait(0.05)
            raise RuntimeError
        return left[1]

    import threading

    left: list[float | None] = []
    busy = threading.Event()
    limited = flow.with_options(budget=Budget(seconds=1000))

    with pytest.raises(RuntimeError):
        limited()

    assert limited() <= 1000 - 0.05


async def test_a_run_with_many_events_goes_on_without_holding_up_the_loop():
    """What it has spent is read page by page, and other tasks get on in between."""

    class Watched(MemoryStore):
        def events(self, run_id: str, after: int = 0, limit: int | None = None) -> Sequence[EventRecord]:
            found = super().events(run_id, after, limit)
            pages.append(len(found))
            return found

    pages: list[int] = []

    @workflow
    async def flow(ctx: Context) -> int:
        if ctx.attempt == 1:
            for number in range(2000):
                ctx.emit(number)
            raise RuntimeError
        return ctx.attempt

    kept = flow.with_options(store=Watched())
    with pytest.raises(RuntimeError):
        await kept()
    pages.clear()

    assert await kept() == 2
    assert sum(pages) > 2000
    assert max(pages) <= 500


def test_a_run_whose_events_are_damaged_is_nobodys(disk):
    """What it has spent cannot be told, which is an error of the store; the run does not count as being executed."""

    @workflow
    def flow() -> Iterator[int]:
        yield 1

    stream = flow()
    next(stream)
    stream.close()
    (run,) = list_runs(workflow=flow.name)
    with contextlib.closing(sqlite3.connect(disk.path / "cache.db", isolation_level=None)) as con:
        con.execute("UPDATE af_events SET data = x'00' WHERE seq = 1")

    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=run.id):
            list(flow())
    assert not disk.is_locked(run_lock(run.id))


def test_a_run_cancelled_long_after_it_stopped_has_not_been_executed_meanwhile():
    """The seconds of a budget are those in which it was executed."""

    @workflow(budget=Budget(seconds=1))
    def flow(ctx: Context) -> Iterator[int]:
        yield 1
        ctx.check()

    stream = flow()
    next(stream)
    stream.close()
    time.sleep(1.1)
    (run,) = list_runs(workflow=flow.name)
    run.cancel()

    assert run.resume().result(timeout=60) == [1]


def test_a_cost_that_is_not_known_cannot_be_held():
    """A budget of dollars with a model that has no price says so, instead of letting it spend."""
    model = priced(9, cost=None)
    agent = Agent(model)

    @workflow(budget=Budget(cost=100))
    def flow() -> None:
        for n in range(3):
            agent.run(str(n))

    with pytest.raises(UsageError, match=r"agentflow-workflows\[cost\]"):
        flow()

    assert len(model.requests) == 1


async def test_requests_at_once_share_the_budget():
    """Only those under way at once can go beyond it, and all of them are counted."""

    async def slowly(messages: Any, info: Any) -> str:
        await asyncio.sleep(0)
        return "x"

    agent = Agent(FunctionModel(slowly))

    @workflow(budget=Budget(requests=10))
    async def flow(ctx: Context) -> int:
        async def ask(n: int) -> None:
            await agent.arun(str(n))

        results = await ctx.map(ask, range(40), max_concurrency=4, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), BudgetExceeded}
        return ctx.usage.requests

    assert 10 <= await flow() <= 13


def test_usage_survives_an_invalid_answer():
    """A run that fails for its model has paid, and its events say what."""
    agent = Agent(ScriptedModel([said("no", cost=1.0), said("no", cost=1.0)]), output_type=int)

    @workflow
    def flow() -> int:
        return agent.run("?").output

    with pytest.raises(OutputInvalid):
        flow()

    assert sum((event.usage.cost for event in answered(flow)), 0.0) == 2.0


def test_outside_a_run_nothing_is_counted_for_one():
    """A step that no workflow calls has no budget and no usage; the agent's result has its own."""
    agent = Agent(priced(1))

    @cached_step
    def alone(ctx: Context) -> tuple[Usage, Budget | None, float | None]:
        cost = agent.run("?").usage.cost
        return ctx.usage, ctx.budget, cost

    assert alone() == (Usage(), None, 0.25)


@pytest.mark.parametrize("limits", [{"tokens": -1}, {"cost": math.nan}, {"requests": "3"}, {"seconds": True}])
def test_a_budget_of_no_number_is_refused(limits):
    """Where it is written, not at the first request."""
    with pytest.raises(UsageError, match=next(iter(limits))):
        Budget(**limits)


def test_something_else_is_no_budget():
    """A number alone does not say what it limits."""
    with pytest.raises(UsageError, match="write a Budget"):
        workflow(budget=5)

    @workflow
    def flow() -> None: ...

    with pytest.raises(UsageError, match="write a Budget"):
        flow.with_options(budget=5)


def test_an_agent_used_as_a_tool_is_counted_for_the_agent_that_used_it(ask):
    """Each request once: in the result of the agent that was asked, and in the run."""
    poet = Agent(priced(1), name="poet")
    leader = Agent(
        ScriptedModel(
            [
                ModelResponse(parts=(ToolCall.of("poet", prompt="a rose"),), usage=Usage(cost=1.0)),
                said("done", cost=1.0),
            ]
        ),
        tools=[poet.as_tool()],
    )

    @workflow
    def flow(ctx: Context) -> tuple[float | None, float | None]:
        return leader.run("?").usage.cost, ctx.usage.cost

    assert flow() == (2.25, 2.25)
    assert get_run(list_runs(workflow=flow.name)[0].id).status == "completed"
