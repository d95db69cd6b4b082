"""Tools of a real server process that speaks the Model Context Protocol."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agentflow import Agent, ModelRetry
from agentflow.exceptions import UsageError
from agentflow.messages import ImagePart, TextPart, ToolCall, ToolReturn
from agentflow.testing import ScriptedModel
from agentflow.tools import MCPServer, Tool, tool

PROGRAM = Path(__file__).parents[1] / "programs" / "mcp_server.py"


@pytest.fixture(scope="module")
def server() -> Iterator[MCPServer]:
    pytest.importorskip("mcp")
    with MCPServer([sys.executable, str(PROGRAM)], prefix="t_") as connected:
        yield connected


def named(server: MCPServer, name: str) -> Tool[..., Any]:
    return next(each for each in server.tools if each.name == name)


def test_its_tools_are_described_as_it_describes_them(server: MCPServer) -> None:
    """Names that providers would refuse are made fit, with a prefix; schema and description are the server's."""
    assert [each.name for each in server.tools] == ["t_add", "t_fail", "t_show_cat", "t_slow"]
    add = named(server, "t_add")
    assert add.description == "Add two numbers."
    assert add.parameters["properties"]["a"]["type"] == "integer"


@pytest.mark.parametrize("way", ["run", "arun", "stream", "astream"])
async def test_an_agent_calls_them(server: MCPServer, way: str) -> None:
    """In both colours, streaming or not: numbers, images, and what went wrong go to the model."""
    calls = [
        ToolCall(id="1", name="t_add", arguments='{"a": 1}'),
        ToolCall(id="2", name="t_fail"),
        ToolCall(id="3", name="t_show_cat"),
        ToolCall(id="4", name="t_add", arguments='{"a": "x"}'),
    ]
    model = ScriptedModel([calls, "done"])
    agent = Agent(model, tools=server.tools)

    match way:
        case "run":
            agent.run("?")
        case "arun":
            await agent.arun("?")
        case "stream":
            list(agent.stream("?"))
        case _:
            async with agent.astream("?") as stream:
                [_ async for _ in stream]

    told = [message for message in model.requests[1].messages if isinstance(message, ToolReturn)]
    assert (told[0].text, told[0].is_error) == ("3", False)
    assert told[1].is_error
    assert "the oven is cold" in told[1].text
    assert told[2].content == (TextPart(text="a cat"), ImagePart(data=b"\x89PNG\r\n\x1a\n"))
    assert told[3].is_error


@pytest.mark.parametrize("arguments", ['{"a": "x"}', "{}", '{"a": 1, "c": 2}', "[1]", '{"a": 1.5}'])
def test_arguments_are_checked_before_the_call(server: MCPServer, arguments: str) -> None:
    """By the server's schema, nothing may be added, and the value stays out of the message."""
    with pytest.raises(ValidationError):
        named(server, "t_add").read_arguments(arguments)


async def test_calls_go_on_at_once_and_from_anywhere(server: MCPServer) -> None:
    """Threads and tasks of any loop share the connection; a call that nobody waits for holds up no other."""
    slow = named(server, "t_slow")
    hurried = tool(slow, timeout=0.05)
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.append(slow.call({"seconds": 0.01})))
    thread.start()

    with pytest.raises(ModelRetry, match="longer than"):
        await hurried.acall({"seconds": 60})
    answers = await asyncio.gather(*(slow.acall({"seconds": 0.01}) for _ in range(5)))
    await asyncio.to_thread(thread.join, 30)

    assert len({*answers, *heard}) == 1


def test_the_process_ends_with_the_block() -> None:
    """Nothing is left of it, and its tools say that they are gone."""
    pytest.importorskip("mcp")
    with MCPServer([sys.executable, str(PROGRAM)]) as server:
        slow = named(server, "slow")
        process = int(str(slow.call({"seconds": 0})))
        os.kill(process, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(UsageError, match="not connected"):
        assert server.tools


def test_a_server_that_cannot_be_reached_says_so() -> None:
    """With its command, and without its arguments, which may be secrets."""
    pytest.importorskip("mcp")
    with (
        pytest.raises(ConnectionError, match="could not be reached") as caught,
        MCPServer(["/no/such/program", "--key=s3cret"]),
    ):
        pass
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(MCPServer("https://me:s3cret@example.com/mcp?key=s3cret"))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is connected, not when the module is imported."""
    monkeypatch.setitem(sys.modules, "mcp", None)

    with pytest.raises(UsageError, match=r"agentflow-workflows\[mcp\]"), MCPServer(["x"]):
        pass
