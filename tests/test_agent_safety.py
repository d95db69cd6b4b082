"""What may get out of an agent's run, and what may not: secrets into logs, errors and events, and a model's text into a terminal's control."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from agentflow import Agent, Team, cached_step, list_runs, tool, workflow
from agentflow.exceptions import AgentflowError, OutputInvalid, UnknownTool
from agentflow.messages import ModelSettings, ToolCall
from agentflow.models.openai import OpenAIModel
from agentflow.stores import MemoryStore
from agentflow.stores._base import EntryFilter
from agentflow.testing import FunctionModel, ScriptedModel, fresh_store
from agentflow.tools import MCPServer
from tests._ways import CALLED

ways = pytest.mark.parametrize("ask", CALLED.values(), ids=CALLED)


def secret(number: int) -> str:
    # Put together here, so that no line of this file, which a traceback may show, has one in it.
    return "-".join(["can" + "ary", str(number), "x"])


class Report(BaseModel):
    total: int


class Client:
    def __init__(self, key: SecretStr) -> None:
        self.key = key


@ways
def test_no_secret_gets_out(
    ask: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: Any, monkeypatch: Any
) -> None:
    """Fourteen of them, where people have them; none in logs, messages, tracebacks, events, representations or the store's metadata."""
    monkeypatch.setenv("OPENAI_API_KEY", secret(1))
    caplog.set_level(logging.DEBUG)
    client = Client(SecretStr(secret(2)))
    server = MCPServer(["server", f"--key={secret(3)}"], env={"KEY": secret(4)})
    remote = MCPServer(f"https://{secret(5)}:{secret(6)}@example.com/mcp?key={secret(7)}")
    unused = OpenAIModel("m", api_key=secret(8), base_url=f"https://u:{secret(9)}@example.com/v1")

    def charge(card: str) -> str:
        """Charge a card."""
        assert client.key.get_secret_value()
        return f"charged {card} with {secret(10)}"

    script = ScriptedModel(
        [
            [ToolCall.of("charge", card=secret(11)), ToolCall.of("charge", card=12, owner=secret(12))],
            f'{{"total": "{secret(13)}"}}',
            f'{{"total": "{secret(13)}"}}',
        ]
    )
    settings = ModelSettings(extra={"user": secret(14)})
    agent = Agent(
        script,
        name="clerk",
        instructions=f"Use {secret(1)}.",
        tools=[charge],
        output_type=Report,
        history=True,
        settings=settings,
    )

    @cached_step
    def inside() -> int:
        ask(agent, f"My card is {secret(11)}")
        return 1

    @workflow
    def flow(card: str) -> int:
        return inside()

    with fresh_store(MemoryStore()) as store:
        with pytest.raises(OutputInvalid) as caught:
            flow(secret(11))
        (run,) = list_runs(workflow=flow.name)
        events = [event.model_dump_json() for event in run.events()]
        recorded = [repr(store.run(run.id)), run.error or "", *map(repr, store.entries(EntryFilter()))]

    told = "".join(traceback.format_exception(caught.value))
    shown = [
        repr(each)
        for each in (
            agent,
            script,
            server,
            remote,
            unused,
            agent.tools[0],
            caught.value,
            agent.stream("?"),
            Team(agent, [agent]),
        )
    ]
    logged = [caplog.text, *(json.dumps(vars(record), default=str) for record in caplog.records)]
    printed = capfd.readouterr()
    everything = "\n".join([told, *events, *recorded, *shown, *logged, printed.out, printed.err])
    assert secret(13) in caught.value.body, "it is there to be asked for"
    assert [number for number in range(1, 15) if secret(number) in everything] == []


HOSTILE = [
    "\x1b[2Jgone",
    "\x1b]8;;https://evil.example\x07bank.example\x1b]8;;\x07",
    "\x1b]52;c;aGVsbG8=\x07copy",
    "\x9b31mred",
    "\x90q\x9cdcs",
    "bell\x07",
    "back\b\b\b\bspace",
    "over\rwritten",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "line\nforged=1",
    "null\x00byte",
    "tab\vdown\f",
    "\ud800lone",
]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Home(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Closed(BaseModel, extra="forbid"):
    name: str = ""


def controls(text: str) -> list[str]:
    return [each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs"} and each != "\n"]


def readable(text: str) -> list[str]:
    return "".join(each if each.isprintable() else "\0" for each in text).split("\0")


@ways
@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
def test_what_a_model_makes_up_controls_no_terminal(ask: Callable[..., Any], hostile: str) -> None:
    """Names of tools, fields and kinds stand in errors as escapes: no control byte, no forged line, and what can be read is kept."""
    text = json.dumps(hostile)
    cases = [
        (Agent(ScriptedModel([ToolCall(name=hostile)] * 2)), UnknownTool),
        (Agent(ScriptedModel([f"{{{text}: 1}}"] * 2), output_type=Closed), OutputInvalid),
        (Agent(ScriptedModel([f'{{"pet": {{"kind": {text}}}}}'] * 2), output_type=Home), OutputInvalid),
    ]

    for agent, kind in cases:
        with pytest.raises(AgentflowError) as caught:
            ask(agent, "?")
        message = str(caught.value)
        assert type(caught.value) is kind
        assert controls(message) == []
        assert "\nforged" not in message
        if kind is UnknownTool:
            assert [run for run in readable(hostile) if run not in message] == []


class Answer(BaseModel):
    user: str
    told: list[str]


def test_fifty_users_share_one_team_in_threads_and_in_tasks() -> None:
    """With tools, history, typed output and steps: each user gets what is theirs, and nothing of anybody else's."""

    def respond(messages: Any, info: Any) -> Any:
        prompts = [message.text for message in messages if message.kind == "user"]
        answered = [message.text for message in messages if message.kind == "tool_return"]
        if messages[-1].kind == "user":
            return ToolCall.of("echo", text=prompts[-1])
        return Answer(user=answered[-1], told=[*prompts, *answered])

    @tool(max_concurrency=8)
    def echo(text: str) -> str:
        """Say it again."""
        return text

    desk = Team(
        Agent(FunctionModel(respond), name="desk", tools=[echo], output_type=Answer, history=True),
        [Agent(ScriptedModel([]), name="nobody")],
    )

    @cached_step
    def asked(said: str) -> Answer:
        return desk.run(said).output

    @workflow(session=lambda user, said: user)
    def chat(user: str, said: str) -> tuple[Answer, int]:
        result = asked(said)
        return result, len(list_runs(workflow=chat.name, session_id=user))

    @workflow(session=lambda user, said: user)
    async def achat(user: str, said: str) -> Answer:
        return (await desk.arun(said)).output

    users = [f"user-{n}" for n in range(50)]

    async def all_at_once() -> list[Any]:
        threads = [asyncio.to_thread(chat, user, f"{user} in a thread") for user in users]
        tasks = [achat(user, f"{user} in a task") for user in users]
        return await asyncio.gather(*threads, *tasks)

    with fresh_store():
        found = asyncio.run(all_at_once())

    for user, (answer, _), aanswer in zip(users, found[:50], found[50:], strict=True):
        assert (answer.user, aanswer.user) == (f"{user} in a thread", f"{user} in a task")
        assert {each.split()[0] for each in [*answer.told, *aanswer.told]} == {user}
