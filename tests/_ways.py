"""The four ways to run an agent: as async functions, and as functions of a sync caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from agentflow import Agent, AgentResult

Ask: TypeAlias = Callable[[Agent[Any], Any], Awaitable[AgentResult[Any]]]
Call: TypeAlias = Callable[[Agent[Any], Any], AgentResult[Any]]


def _run(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
    return agent.run(prompt)


async def _arun(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
    return await agent.arun(prompt)


def _stream(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
    stream = agent.stream(prompt)
    for _ in stream:
        pass
    return stream.result


async def _astream(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
    async with agent.astream(prompt) as stream:
        async for _ in stream:
            pass
    return stream.result


def _in_a_task(call: Call) -> Ask:
    async def ask(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
        return call(agent, prompt)

    return ask


def _in_a_loop(ask: Ask) -> Call:
    async def asked(agent: Agent[Any], prompt: Any) -> AgentResult[Any]:
        return await ask(agent, prompt)

    return lambda agent, prompt: asyncio.run(asked(agent, prompt))


WAYS: dict[str, Ask] = {"run": _in_a_task(_run), "arun": _arun, "stream": _in_a_task(_stream), "astream": _astream}
"""Each awaited; those of the blocking ones block the loop."""

CALLED: dict[str, Call] = {"run": _run, "arun": _in_a_loop(_arun), "stream": _stream, "astream": _in_a_loop(_astream)}
"""Each called, where no loop runs."""

STREAMED = frozenset({"stream", "astream"})
