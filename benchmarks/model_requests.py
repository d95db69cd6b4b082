"""What an agent costs over its HTTP client: `model_requests.py DIRECTORY TIMES MANY LONG`, one repeat; see `suite.py`.

What is asked and answered is that of `providers.py`; the server is a thread here, so that a repeat starts no other process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from measuring import Amounts, Sample, pair, printed
from providers import ASKED, Bare, response

from agentflow import Agent
from agentflow.models.openai import OpenAIModel


class Answering(BaseHTTPRequestHandler):
    """A server that knows one answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(response(self.path, streamed=False))

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
        model = OpenAIModel("m", base_url=url, api_key="k")
        agent, bare = Agent(model, instructions=ASKED.messages[0].content), Bare(model)
        agent.run("Hello")

        def floor() -> None:
            bare.run(client).raise_for_status().json()

        return [pair("request", lambda: agent.run("Hello"), floor, amounts.times)]


if __name__ == "__main__":
    printed(measure(Amounts(*map(int, sys.argv[2:5]))))
