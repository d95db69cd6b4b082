"""What the tests of `print_run` show: a run with a retry, a map, a child, an agent with a tool, and text; or one that fails, waits, or is hostile."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

from hostile import HOSTILE

from agentflow import Agent, Context, RetryPolicy, cached_step, configure, print_run, tool, workflow
from agentflow.messages import ModelResponse, TextPart, ToolCall, Usage
from agentflow.testing import ScriptedModel

configure(store="memory:")

TEXT = ["# Ca", "ts\n\nThey **sleep** a", " lot, see [a page](https://x.example).\n\n", "* one\n* two\n\nEnd."]


@tool
def web_search(query: str) -> str:
    """Search the web."""
    return f"pages about {query}"


def answer(*parts):
    return ModelResponse(parts=parts, usage=Usage(requests=1, input_tokens=100, output_tokens=20, cost=0.001))


writer = Agent(
    ScriptedModel([answer(ToolCall.of("web_search", query="cats")), answer(TextPart(text="noted"))]),
    name="writer",
    tools=[web_search],
)

tries = []


@cached_step(retry=RetryPolicy(attempts=3, wait=0))
def find(topic: str) -> list[str]:
    tries.append(topic)
    if len(tries) == 1:
        raise ConnectionError("reset by peer")
    return [f"{topic} {number}" for number in range(8)]


@cached_step
def read(url: str) -> str:
    return url.upper()


@cached_step
def ask(topic: str) -> str:
    return writer.run(topic).output


@cached_step
def write(topic: str) -> Iterator[str]:
    yield from TEXT


@workflow
def rate(topic: str) -> int:
    return len(read(topic))


@workflow(session="demo")
def post(ctx: Context, topic: str) -> Iterator[str]:
    ctx.map(read, find(topic))
    rate(topic)
    find(topic)
    ask(topic)
    ctx.emit({"found": 8})
    yield from write(topic)


@cached_step
def parse(page: str) -> str:
    return {}[page]


@workflow(session="demo")
def broken(ctx: Context) -> str:
    return parse("title")


@workflow(session="demo")
def hostile(ctx: Context) -> Iterator[str]:
    for text in HOSTILE:
        ctx.emit(text)
        rate(text)
        yield f"{text}\n\n"
    raise ValueError(" ".join(HOSTILE))


@cached_step
def nap() -> None:
    time.sleep(60)


@workflow(session="demo")
def stuck() -> Iterator[str]:
    yield "working\n\n"
    nap()


@workflow(session="demo")
async def aslow() -> None:
    await asyncio.sleep(60)


def run(name: str, *, markdown: bool = True) -> None:
    if name == "post":
        print_run(post.with_options(run_id="demo")("cats"), markdown=markdown, show_time=False)
    elif name == "stuck":
        print_run(stuck.with_options(run_id="demo")())
    elif name == "aslow":
        asyncio.run(print_run(aslow.with_options(run_id="demo")()))
    else:
        flow = {"broken": broken, "hostile": hostile}[name].with_options(run_id="demo")
        print_run(flow.stream_events(), markdown=markdown, show_time=False)


def main() -> None:
    from agentflow import get_run

    try:
        run(sys.argv[1], markdown="plain" not in sys.argv)
    except KeyboardInterrupt:
        print("status:", get_run("demo").status.value)
    except Exception as error:  # what it says is shown by print_run
        print("raised", type(error).__name__)
    print("THE END")


if __name__ == "__main__":
    main()
