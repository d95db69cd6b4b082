"""The four ways to run an agent, as async functions."""

from __future__ import annotations


async def by_run(agent, prompt):
    return agent.run(prompt)


async def by_arun(agent, prompt):
    return await agent.arun(prompt)


async def by_stream(agent, prompt):
    stream = agent.stream(prompt)
    for _ in stream:
        pass
    return stream.result


async def by_astream(agent, prompt):
    async with agent.astream(prompt) as stream:
        async for _ in stream:
            pass
    return stream.result


WAYS = {"run": by_run, "arun": by_arun, "stream": by_stream, "astream": by_astream}
STREAMED = {"stream", "astream"}
