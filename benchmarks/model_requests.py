"""What an agent costs over its HTTP client: `model_requests.py DIRECTORY TIMES MANY LONG`, one repeat; see `suite.py`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from measuring import Amounts, Sample, pair, printed

from agentflow import Agent
from agentflow.models.openai import OpenAIModel

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 200}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 200, "total_tokens": 210},
    }
).encode()


class Answering(BaseHTTPRequestHandler):
    """A server that knows one answer, and notes the last question."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    question = b""

    def do_POST(self) -> None:
        Answering.question = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n"
        self.wfile.write(head.encode() + ANSWER)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def measure(amounts: Amounts) -> list[Sample]:
    with serving() as url, httpx.Client() as client:
        agent = Agent(OpenAIModel("small", base_url=url, api_key="none"), instructions="Answer.")
        agent.run("What do cats say?")
        question, headers = Answering.question, {"Content-Type": "application/json"}

        def bare() -> None:
            client.post(f"{url}/chat/completions", content=question, headers=headers).raise_for_status().json()

        return [pair("request", lambda: agent.run("What do cats say?"), bare, amounts.times)]


if __name__ == "__main__":
    printed(measure(Amounts(*map(int, sys.argv[2:5]))))
