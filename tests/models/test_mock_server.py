"""A third party's mock server (aimock, of npm) as judge: it speaks every provider's format, written by other people.

It needs Node.js and is installed by `.ci/run`; elsewhere, put its command `llmock` on the PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agentflow import Agent
from agentflow.exceptions import RateLimited
from agentflow.models.ollama import OllamaModel
from tests._ways import WAYS

from ._dialects import DIALECTS

pytestmark = pytest.mark.slow

INSTALLED = Path(__file__).parent.parent.parent / ".ci" / "node_modules" / ".bin"
FIXTURES = [
    {
        "match": {"userMessage": "Greet me"},
        "response": {"content": "Hello there, how are you?", "reasoning": "A greeting is in order."},
    },
    {
        "match": {"userMessage": "The weather?", "hasToolResult": False},
        "response": {
            "toolCalls": [
                {"id": "call_one", "name": "weather", "arguments": '{"city":"Paris"}'},
                {"id": "call_two", "name": "weather", "arguments": '{"city":"Zürich"}'},
            ]
        },
    },
    {"match": {"userMessage": "The weather?", "hasToolResult": True}, "response": {"content": "Sunny everywhere."}},
    {
        "match": {"userMessage": "Too often"},
        "response": {"error": {"message": "Slow down.", "type": "rate_limit_error"}, "status": 429},
    },
]
PATHS = {"openai": "/v1", "openai-responses": "/v1", "google": "/v1beta"}


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    """The address of a running mock server."""
    command = shutil.which("llmock", path=f"{INSTALLED}{os.pathsep}{os.environ['PATH']}")
    if command is None:
        pytest.skip("needs the command llmock, of the npm package @copilotkit/aimock")
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    server = subprocess.Popen(
        [command, "--port", "0", "--strict", "--fixtures", str(fixtures)], stdout=subprocess.PIPE, text=True
    )
    try:
        said = next(line for line in server.stdout if "http://" in line)
        yield re.search(r"http://[\w.]+:\d+", said)[0]
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


@pytest.fixture(params=DIALECTS)
def model(request, mock):
    """A model of each provider that asks the mock server."""
    dialect = DIALECTS[request.param]
    return dialect.model(mock + PATHS.get(dialect.provider, ""), max_retries=0)


@pytest.fixture(params=WAYS)
def ask(request):
    """Each way to run an agent."""
    return WAYS[request.param]


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


async def test_text_and_reasoning_are_read(model, ask):
    """As the mock says them; of Ollama's format it knows no reasoning."""
    result = await ask(Agent(model), "Greet me")

    assert result.output == "Hello there, how are you?"
    assert result.messages[-1].reasoning == ("" if isinstance(model, OllamaModel) else "A greeting is in order.")


async def test_parallel_calls_are_made_and_answered(model, ask):
    """The mock finds the results where it looks for them."""
    result = await ask(Agent(model, tools=[weather]), "The weather?")

    assert [json.loads(call.arguments) for call in result.tool_calls] == [{"city": "Paris"}, {"city": "Zürich"}]
    assert result.output == "Sunny everywhere."


async def test_a_limit_is_told_as_such(model, ask):
    """With the mock's sentence."""
    with pytest.raises(RateLimited, match="Slow down"):
        await ask(Agent(model), "Too often")
