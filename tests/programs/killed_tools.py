"""An agent that calls a tool ten times; its process is killed in a chosen call. Asks a server on loopback that counts.

Arguments: what to do, in which call to die (0: in none), and the server's address. AT_ONCE says that the calls come in one turn. Each execution of the tool is a line in the file EXECUTIONS.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time

from agentflow import Agent, Context, cached_step, current_context, get_run, workflow
from agentflow.models.openai import OpenAIModel

WHAT, URL = sys.argv[1], sys.argv[3]


def die_in(n: int) -> None:
    # Not a global constant: it would be part of the version of the step.
    dies_in = int(sys.argv[2])
    if dies_in and "AT_ONCE" in os.environ:
        meet(n, dies_in)
    if n == dies_in:
        os.kill(os.getpid(), signal.SIGKILL)


def meet(n: int, dies_in: int) -> None:
    """Of ten calls at once, let the one that dies wait until those before it are remembered and those after it have begun."""
    while n >= dies_in:  # those after it wait for its end, which is theirs
        done = sum(step.status == "completed" for step in get_run(current_context().run_id).steps())
        with open(os.environ["EXECUTIONS"]) as log:
            begun = len(log.readlines())
        if n == dies_in and (done, begun) == (dies_in - 1, 10):
            return
        time.sleep(0.01)


@cached_step
def work(n: int) -> str:
    """Do a piece of work."""
    with open(os.environ["EXECUTIONS"], "a") as log:
        log.write(f"{n}\n")
    die_in(n)
    return f"done {n}"


agent = Agent(OpenAIModel("m", base_url=URL, api_key="none"), tools=[work])


@cached_step
def inside() -> str:
    return agent.run("work").output


@workflow
def body() -> str:
    return agent.run("work").output


@workflow
async def abody() -> str:
    async with agent.astream("work") as stream:
        return "".join([chunk async for chunk in stream])


@workflow
def step() -> str:
    return inside()


@cached_step
def sampled() -> list[str]:
    return [agent.run("sample").output for _ in range(3)]


@workflow
def samples(ctx: Context) -> list[list[str]]:
    mine = [agent.run("sample").output for _ in range(3)]
    mapped = ctx.map(lambda n: [agent.run("sample").output for _ in range(2)], [1, 2, 3])
    steps = sampled()
    found = [mine, *mapped, steps]
    with open(os.environ["EXECUTIONS"], "a") as log:
        log.write(json.dumps(found) + "\n")
    die_in(1)
    return found


flow = {"body": body, "abody": abody, "step": step, "samples": samples}[WHAT]
print(json.dumps(asyncio.run(flow()) if WHAT == "abody" else flow()))
