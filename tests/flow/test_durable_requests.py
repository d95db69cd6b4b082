"""What model requests cost when their process is killed: nothing is paid twice. Real processes, and a server on loopback that counts."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentflow import Agent, RetryPolicy, cached_step, list_runs, workflow
from agentflow.exceptions import ModelHTTPError, ModelTimeout, OutputInvalid, StoreBusy, TurnLimitExceeded
from agentflow.messages import ToolCall
from agentflow.testing import FunctionModel, ScriptedModel, SimulatedCrash, fresh_store

ROOT = Path(__file__).parents[2]


class Server(ThreadingHTTPServer):
    """Calls the tool `work` ten times, then says that it is done; asked for a sample it says a number that it has never said."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0
        self.calls_in_a_turn = 1
        self.mutex = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.mutex:
            self.server.asked += 1
            number = self.server.asked
        said, streamed = self.said(asked["messages"], number, self.server.calls_in_a_turn), asked.get("stream", False)
        reason = "tool_calls" if "tool_calls" in said else "stop"
        head = {"id": f"c{number}", "model": "m", "created": 1}
        if streamed:
            pieces = [{"index": 0, "delta": said}, {"index": 0, "delta": {}, "finish_reason": reason}]
            events = [json.dumps({**head, "object": "chat.completion.chunk", "choices": [each]}) for each in pieces]
            body = "".join(f"data: {each}\n\n" for each in [*events, "[DONE]"]).encode()
        else:
            choice = {"index": 0, "message": said, "finish_reason": reason}
            body = json.dumps({**head, "object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def said(messages: list[Any], number: int, at_once: int) -> dict[str, Any]:
        done = sum(message["role"] == "tool" for message in messages)
        if messages[-1]["content"] == "sample":
            return {"role": "assistant", "content": f"sample {number}"}
        if done == 10:
            return {"role": "assistant", "content": "all done"}
        # The id is another one each time, as a provider's is.
        functions = [{"name": "work", "arguments": json.dumps({"n": done + n})} for n in range(1, at_once + 1)]
        calls = [
            {"index": place, "id": f"call-{number}-{random.random()}", "type": "function", "function": function}
            for place, function in enumerate(functions)
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def execute(
    what: str, dies_in: int, server: Server, directory: Path, *, at_once: bool = False
) -> subprocess.CompletedProcess[str]:
    server.calls_in_a_turn = 10 if at_once else 1
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/programs/killed_tools.py"), what, str(dies_in), server.url],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AGENTFLOW_STORE": str(directory / "store"),
            "EXECUTIONS": str(directory / "executions"),
            **({"AT_ONCE": "1"} if at_once else {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def logged(directory: Path) -> list[str]:
    return (directory / "executions").read_text().split("\n")[:-1]


@pytest.mark.parametrize("what", ["body", "abody", "step"])
def test_killed_in_the_ninth_tool_call_it_goes_on_there(what, server, tmp_path):
    """Ten calls are eleven requests, paid once each; only the ninth call, which was under way, is executed again."""
    died = execute(what, 9, server, tmp_path)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert server.asked == 9

    continued = execute(what, 0, server, tmp_path)

    assert continued.stdout == '"all done"\n', continued.stderr
    assert server.asked == 11
    assert logged(tmp_path) == [*map(str, range(1, 10)), "9", "10"]


@pytest.mark.parametrize("what", ["body", "abody", "step"])
def test_killed_in_the_ninth_of_ten_calls_at_once_it_goes_on_there(what, server, tmp_path):
    """All ten are called in one turn: two requests, paid once each; of the calls only the ninth and tenth, which were under way, are executed again."""
    died = execute(what, 9, server, tmp_path, at_once=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert server.asked == 1

    continued = execute(what, 0, server, tmp_path, at_once=True)

    assert continued.stdout == '"all done"\n', continued.stderr
    assert server.asked == 2
    executed = Counter(logged(tmp_path))
    assert {executed.pop("9"), executed.pop("10")} == {2}
    assert executed == {str(n): 1 for n in range(1, 9)}


def test_equal_requests_are_samples_and_replay_as_such(server, tmp_path):
    """Each is another answer, counted inside its place: the body, an item of a map, a step. After a kill none is asked again."""
    died = execute("samples", 1, server, tmp_path)
    assert died.returncode == -signal.SIGKILL, died.stderr

    continued = execute("samples", 0, server, tmp_path)

    first, second = map(json.loads, logged(tmp_path))
    assert continued.returncode == 0, continued.stderr
    assert second == first == json.loads(continued.stdout)
    assert server.asked == 12
    assert len({sample for place in first for sample in place}) == 12


def test_a_bad_answer_is_forgotten():
    """A retry asks anew, and so does the next call, although the request is the same; what came before it is replayed."""
    fine = Agent(ScriptedModel(["good"]))
    model = ScriptedModel(["bad", "worse", "7"])
    counter = Agent(model, output_type=int, output_retries=0)

    @cached_step(retry=RetryPolicy(attempts=2, wait=0))
    def count() -> int:
        return counter.run("How many?").output

    @workflow
    def flow() -> int:
        fine.run("?")
        return count()

    with fresh_store():
        with pytest.raises(OutputInvalid):
            flow()
        assert flow() == 7
        (run,) = list_runs(workflow=flow.name)

    assert run.usage.requests == 4
    model.assert_complete()


HAPPENS: list[tuple[Any, bool]] = [
    (ModelHTTPError("down", model="m", status=503), True),
    (ModelTimeout("slow", model="m"), True),
    (StoreBusy("locked", path="somewhere"), True),
    (KeyboardInterrupt(), True),
    (asyncio.CancelledError(), True),
    (SimulatedCrash("dead"), True),
    (OutputInvalid("no number", model="m"), False),
    (TurnLimitExceeded("on and on", model="m"), False),
    (ValueError("what it says makes no sense"), False),
    (None, False),
]


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("happened", "replays"), HAPPENS, ids=[type(each).__name__ if each else "cache_if" for each, _ in HAPPENS]
)
def test_answers_are_kept_or_forgotten_by_what_ended_their_step(colour, happened, replays):
    """What can be gone on with after a failure of others is not paid again; what was of no use is asked for anew."""
    agent, fails = Agent(ScriptedModel(["one", "two"])), [True]

    def judged(text: str) -> str:
        if happened is not None and fails and fails.pop():
            raise happened
        return text

    @cached_step(cache_if=lambda _: happened is not None)
    def ask() -> str:
        return judged(agent.run("?").output)

    @cached_step(cache_if=lambda _: happened is not None)
    async def aask() -> str:
        return judged((await agent.arun("?")).output)

    @workflow(name="flow")
    def flow() -> str:
        said = ask() if colour == "sync" else asyncio.run(aask_here())
        if happened is None and fails and fails.pop():
            raise RuntimeError
        return said

    async def aask_here() -> str:
        return await aask()

    with fresh_store():
        with pytest.raises(BaseException):  # noqa: B017, PT011 - each of the above, and what asyncio makes of it
            flow()
        (run,) = list_runs(workflow="flow")
        again = run.resume().result(timeout=30)

    assert again == ("one" if replays else "two")


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_bad_answer_in_the_body_is_forgotten_with_all_that_led_to_it(way):
    """The next attempt asks that agent's conversation anew, from its first request, and replays every other one."""
    fine, model = ScriptedModel(["good"]), ScriptedModel(["bad", "worse", "no", "7"])
    counter = Agent(model, output_type=int)

    @workflow
    def flow() -> str:
        ask = counter.run if way == "sync" else lambda prompt: asyncio.run(counter.arun(prompt))
        return f"{Agent(fine).run('?').output} {ask('How many?').output}"

    with fresh_store():
        with pytest.raises(OutputInvalid):
            flow()
        assert flow() == "good 7"
    model.assert_complete()


async def test_tools_that_ask_agents_at_once_replay_in_any_order():
    """Each call of a tool is a place of its own: equal requests in two of them keep their answers, whoever is first."""
    said: list[str] = []

    async def sample(messages: Any, info: Any) -> str:
        said.append(f"sample {len(said)}")
        return said[-1]

    inner = Agent(FunctionModel(sample))
    waits = {"first": [0.0, 0.03], "second": [0.03, 0.0]}
    results: list[list[str]] = []
    fails = [True]

    def outer_answer(messages: Any, info: Any) -> Any:
        told = [message.text for message in messages if message.kind == "tool_return"]
        return " ".join(told) if told else [ToolCall.of("ask", who="first"), ToolCall.of("ask", who="second")]

    async def ask(who: str) -> str:
        await asyncio.sleep(waits[who].pop(0))
        return (await inner.arun("A sample, please")).output

    outer = Agent(FunctionModel(outer_answer), tools=[ask])

    @workflow
    async def flow() -> str:
        results.append([(await outer.arun("?")).output])
        if fails:
            fails.clear()
            raise RuntimeError
        return results[-1][0]

    with fresh_store():
        with pytest.raises(RuntimeError):
            await flow()
        await flow()

    assert results == [["sample 0 sample 1"]] * 2
    assert len(said) == 2
