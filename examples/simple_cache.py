"""A workflow that remembers what its agent said: the second call with the same message is immediate.

python examples/simple_cache.py "Tell me about cats."
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator

import services

from agentflow import Agent, cached_step, workflow

SERVICES = services.choose()

agent = Agent(SERVICES.small, instructions="Answer in one short paragraph.")


@cached_step
def answer(message: str) -> Generator[str, None, str]:
    """Ask the agent; the chunks are seen as they come, and again whenever the same message is asked."""
    return (yield from agent.stream(message)).output


@workflow
def cached_answer(message: str) -> Generator[str, None, None]:
    """Stream the answer to a message."""
    yield from answer(message)


def main() -> None:
    """Ask twice."""
    message = " ".join(sys.argv[1:]) or "Tell me why people like cats."
    if SERVICES.note:
        print(SERVICES.note)
    for _ in range(2):
        began = time.perf_counter()
        for chunk in cached_answer(message):
            print(chunk, end="", flush=True)
        print(f"\n  [{time.perf_counter() - began:.2f} s]\n")


if __name__ == "__main__":
    main()
