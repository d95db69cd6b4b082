"""What a model request through an agent costs over the same bytes through bare httpx, on loopback; see docs/performance.md.

    python benchmarks/providers.py

The server is a process of its own that answers at once. Agent and bare client take turns in every repeat, and each ratio is that of
one repeat: the machine's speed changes by the minute, the ratio does not. Shown are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import httpx

from agentflow import Agent
from agentflow.messages import ModelRequest, SystemMessage, UserMessage
from agentflow.models.anthropic import AnthropicModel
from agentflow.models.openai import OpenAIModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TEXT = "The quick brown fox jumps over the lazy dog. " * 5
PIECES = [TEXT[start : start + 9] for start in range(0, len(TEXT), 9)]
ASKED = ModelRequest(messages=(SystemMessage(content="Be brief."), UserMessage(content="Hello")))
USAGE = {"prompt_tokens": 10, "completion_tokens": 50}

WHOLE = {
    "chat/completions": {
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": USAGE,
    },
    "messages": {
        "model": "m",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 50},
    },
}
EVENTS = {
    "chat/completions": [
        *({"model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in PIECES),
        {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"model": "m", "choices": [], "usage": USAGE},
    ],
    "messages": [
        {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 10}}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    ],
}


# ---- the server ----------------------------------------------------------------------------------


@cache
def response(path: str, *, streamed: bool) -> bytes:
    """The bytes of one answer."""
    name = path.rpartition("/v1/")[2]
    kind = "text/event-stream" if streamed else "application/json"
    body = json.dumps(WHOLE[name]).encode()
    if streamed:
        events = [f"data: {json.dumps(event)}\n\n" for event in EVENTS[name]]
        body = "".join([*events, "data: [DONE]\n\n" if name == "chat/completions" else ""]).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind.encode(), len(body), body)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
            writer.write(response(head.split()[1], streamed=b'"stream": true' in body))
    except asyncio.IncompleteReadError:
        writer.close()


async def serve() -> None:
    """Serve until killed, after printing the port."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    """Run the server for a block, in a process of its own, and give its address."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.terminate()


# ---- what is measured ----------------------------------------------------------------------------


def microseconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e6


async def amicroseconds(work: Callable[[], Awaitable[object]], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        await work()
    return (time.perf_counter() - began) / times * 1e6


class Bare:
    """The same requests without anything of ours: the bytes that the agent sends, and all bytes of the answer."""

    def __init__(self, model: OpenAIModel | AnthropicModel) -> None:
        codec = model.codec()
        self.calls = {stream: codec.encode(ASKED, stream=stream) for stream in (False, True)}

    def run(self, client: httpx.Client) -> httpx.Response:
        call = self.calls[False]
        return client.post(call.url, headers=dict(call.headers), content=call.body)

    def stream(self, client: httpx.Client) -> None:
        call = self.calls[True]
        with client.stream("POST", call.url, headers=dict(call.headers), content=call.body) as answered:
            for _ in answered.iter_bytes():
                pass

    async def arun(self, client: httpx.AsyncClient) -> None:
        call = self.calls[False]
        await client.post(call.url, headers=dict(call.headers), content=call.body)

    async def astream(self, client: httpx.AsyncClient) -> None:
        call = self.calls[True]
        async with client.stream("POST", call.url, headers=dict(call.headers), content=call.body) as answered:
            async for _ in answered.aiter_bytes():
                pass


async def consumed(agent: Agent[str]) -> None:
    async with agent.astream("Hello") as stream:
        async for _ in stream:
            pass


async def measure(agent: Agent[str], bare: Bare, times: int) -> dict[str, tuple[float, float]]:
    """One repeat: each way by the agent and bare, in microseconds."""
    found = {}
    with httpx.Client() as client:
        bare.run(client), agent.run("Hello")
        found["run"] = microseconds(lambda: agent.run("Hello"), times), microseconds(lambda: bare.run(client), times)
        streams = microseconds(lambda: list(agent.stream("Hello")), times)
        found["stream"] = streams, microseconds(lambda: bare.stream(client), times)
    async with httpx.AsyncClient() as client:
        await bare.arun(client)
        await agent.arun("Hello")
        ours = await amicroseconds(lambda: agent.arun("Hello"), times)
        found["arun"] = ours, await amicroseconds(lambda: bare.arun(client), times)
        ours = await amicroseconds(lambda: consumed(agent), times)
        found["astream"] = ours, await amicroseconds(lambda: bare.astream(client), times)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure model requests against bare httpx.")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--times", type=int, default=150)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve())
        return
    with serving() as url:
        print("| what | agent µs | httpx µs | ratio |\n|---|---:|---:|---:|", flush=True)
        for made in (OpenAIModel, AnthropicModel):
            show(made("m", api_key="k", base_url=url), asked.repeats, asked.times)


def show(model: OpenAIModel | AnthropicModel, repeats: int, times: int) -> None:
    """Measure one provider and print its lines."""
    agent = Agent(model, instructions=ASKED.messages[0].content)
    found = [asyncio.run(measure(agent, Bare(model), times)) for _ in range(repeats)]
    for way in found[0]:
        ours, floors = ([repeat[way][place] for repeat in found] for place in (0, 1))
        ratio = statistics.median(one / floor for one, floor in zip(ours, floors, strict=True))
        said = f"{statistics.median(ours):.0f} | {statistics.median(floors):.0f} | {ratio:.2f}"
        print(f"| {model.provider}: {way} | {said} |")


if __name__ == "__main__":
    main()
