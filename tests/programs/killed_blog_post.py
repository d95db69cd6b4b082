"""Kills the blog example after its k-th recorded model answer, for every k, and counts what the next process asks again.

Every execution is a forked process of its own. Prints one JSON object: requests of the first and of the second process by k.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack

import blog_post_generator as example
import offline

from agentflow.models import Model
from agentflow.stores import DiskStore

TOPIC = "why cats run the internet"


class Counting(Model):
    """The offline model; every request is a line in a file."""

    def __init__(self, log: str) -> None:
        self._model = offline.model()
        self._log = log

    @property
    def name(self) -> str:
        return "counting"

    def request(self, request):
        with open(self._log, "a") as log:
            log.write("request\n")
        return self._model.request(request)


class Killing(DiskStore):
    """A store that kills its process right after the k-th model answer has become durable."""

    answers_left = -1

    def commit(self, transaction) -> None:
        super().commit(transaction)
        for entry in transaction.entries:
            if entry.kind == "request":
                self.answers_left -= 1
                if self.answers_left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def run(store: DiskStore, log: str, max_concurrency: int) -> None:
    example.AT_ONCE = max_concurrency
    with ExitStack() as stack:
        for agent in (example.searcher, example.article_reader, example.writer):
            stack.enter_context(agent.override(model=Counting(log)))
        list(example.blog_post.with_options(store=store)(TOPIC))


def in_a_process(directory: str, log: str, kill_after: int, max_concurrency: int) -> int:
    """Run the example in a forked process; return how it ended and what it asked."""
    child = os.fork()
    if child == 0:
        store = Killing(directory, durability="process")
        store.answers_left = kill_after
        try:
            run(store, log, max_concurrency)
        except BaseException as error:  # noqa: BLE001
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def asked(log: str) -> int:
    return len(open(log).readlines()) if os.path.exists(log) else 0


def main(max_concurrency: int) -> None:
    found = {}
    for kill_after in range(12):
        with tempfile.TemporaryDirectory() as directory:
            first, second = f"{directory}/first", f"{directory}/second"
            ended = in_a_process(f"{directory}/store", first, kill_after, max_concurrency)
            continued = in_a_process(f"{directory}/store", second, 0, max_concurrency)
            found[kill_after] = {"ended": ended, "first": asked(first), "continued": continued, "second": asked(second)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
