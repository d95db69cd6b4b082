"""Sets state in a workflow, by assignment, inside a value and in a step, and kills itself; then shows what is there."""

from __future__ import annotations

import os
import signal
import sys

from agentflow import Context, cached_step, workflow


@cached_step
def step(ctx: Context) -> None:
    ctx.state["by a finished step"] = 1


@cached_step
def dying(ctx: Context) -> None:
    ctx.state["by an unfinished step"] = 1
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
def flow(ctx: Context) -> None:
    ctx.state["assigned"] = {"before": 1}
    ctx.state["assigned"]["inside"] = 2
    step()
    dying()


if __name__ == "__main__":
    if sys.argv[1] == "die":
        flow()
    print(flow.session("default").runs()[0].status, dict(flow.session("default").state))
