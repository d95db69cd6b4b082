"""Never executed: what type checkers see of agents (mypy --strict and pyright strict)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from agentflow import Agent, AgentResult, Budget, History, Team
from agentflow._agent import AsyncTextStream, TextStream
from agentflow.exceptions import ModelTimeout
from agentflow.messages import (
    CachePoint,
    FilePart,
    ImagePart,
    Message,
    ModelResponse,
    ModelSettings,
    TextPart,
    ToolCall,
    Usage,
    UserMessage,
)
from agentflow.models import FallbackModel, Model, resolve
from agentflow.models.anthropic import AnthropicModel
from agentflow.models.google import GoogleModel
from agentflow.models.ollama import OllamaModel
from agentflow.models.openai import OpenAIModel
from agentflow.models.openai_responses import OpenAIResponsesModel
from agentflow.tools import Tool, tool


class SearchResults(BaseModel):
    urls: list[str]


class Nothing(BaseModel):
    reason: str


def search(query: str, limit: int = 5) -> list[str]:
    return [query] * limit


async def asearch(query: str) -> list[str]:
    return [query]


@tool
def bare(query: str, *, limit: int = 5) -> list[str]:
    return [query] * limit


@tool(name="named", description="d")
def named(query: str) -> int:
    return len(query)


# --- tools keep their signature

assert_type(bare("x", limit=3), list[str])
assert_type(named("x"), int)
assert_type(bare.name, str)
bare(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare("x", 3)  # type: ignore[call-arg, misc, unused-ignore]  # pyright: ignore[reportCallIssue]
named()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# --- agents are generic in their output

text = Agent("openai:x", instructions=["a"], tools=[search, asearch, bare, named])
assert_type(text, Agent[str])
assert_type(text.run("p"), AgentResult[str])
assert_type(text.run("p").output, str)

searcher = Agent("openai:x", output_type=SearchResults, name="s", settings=ModelSettings(temperature=0))
assert_type(searcher, Agent[SearchResults])
assert_type(searcher.run("p"), AgentResult[SearchResults])
assert_type(searcher.run("p").output, SearchResults)
assert_type(searcher.run("p").usage, Usage)
assert_type(searcher.run("p").messages, tuple[Message, ...])
assert_type(searcher.run("p").tool_calls, tuple[ToolCall, ...])

assert_type(Agent("openai:x", output_type=list[int]).run("p").output, list[int])
assert_type(Agent("openai:x", output_type=dict[str, SearchResults]).run("p").output, dict[str, SearchResults])
assert_type(Agent("openai:x", output_type=str), Agent[str])
assert_type(Agent("openai:x", output_type=bool), Agent[bool])

# Type checkers have no type for a union as a value yet, so it is declared.
either: Agent[SearchResults | Nothing] = Agent("openai:x", output_type=SearchResults | Nothing)
assert_type(either.run("p").output, SearchResults | Nothing)
choice: Agent[Literal["a", "b"]] = Agent("openai:x", output_type=Literal["a", "b"])
assert_type(choice.run("p").output, Literal["a", "b"])

Agent(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Agent("openai:x", cache="forever")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Agent("openai:x", instruction="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Agent("openai:x", "name")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
searcher.run(SearchResults(urls=[]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
searcher.name = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# --- copies, overrides, tools

assert_type(searcher.replace(name="t", instructions="i"), Agent[SearchResults])
assert_type(searcher.replace(model="openai:y"), Agent[SearchResults])
assert_type(searcher.replace(output_type=Nothing), Agent[Nothing])
assert_type(searcher.as_tool("s"), Tool[[str], SearchResults])
assert_type(searcher.as_tool()("prompt"), SearchResults)
searcher.replace(instruction="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def overriding(model: Model) -> None:
    with searcher.override(model=model):
        pass


# --- streams

assert_type(searcher.stream("p"), TextStream[SearchResults])
assert_type(searcher.astream("p"), AsyncTextStream[SearchResults])


def streamed() -> Generator[str, None, SearchResults]:
    result = yield from searcher.stream("p")
    assert_type(result, AgentResult[SearchResults])
    return result.output


def plain(stream: TextStream[SearchResults]) -> None:
    for chunk in stream:
        assert_type(chunk, str)
    assert_type(stream.result.output, SearchResults)
    assert_type(list(stream.partials()), list[SearchResults])


def as_generator() -> Generator[str, None, AgentResult[str]]:
    return text.stream("p")


async def astreamed() -> AsyncGenerator[str, None]:
    async with searcher.astream("p") as stream:
        async for chunk in stream:
            assert_type(chunk, str)
            yield chunk
    assert_type(stream.result, AgentResult[SearchResults])
    async for partial in searcher.astream("p").partials():
        assert_type(partial, SearchResults)
    assert_type(await searcher.arun("p"), AgentResult[SearchResults])


def takes_any(agents: list[Agent[Any]]) -> None: ...


takes_any([text, searcher])


def models_are_typed() -> None:
    model = FallbackModel("openai:gpt-4o", resolve("ollama:llama3.2"), on=(ModelTimeout,))
    assert_type(model, FallbackModel)
    assert_type(resolve("google:gemini-2.5-flash"), Model)
    OpenAIModel("m", base_url="http://localhost:8000/v1", supports_json_schema=False)
    AnthropicModel("claude-sonnet-5", max_retries=0)
    GoogleModel("gemini-2.5-flash")
    OllamaModel("llama3.2")
    OpenAIResponsesModel("gpt-5")
    message = UserMessage.of(
        "What is this?", ImagePart(data=b""), FilePart(url="https://example.com/a.pdf"), CachePoint()
    )
    assert_type(message.text, str)
    assert_type(message.parts, tuple[TextPart | ImagePart | FilePart | CachePoint, ...])
    assert_type(ModelResponse().reasoning, str)
    ModelSettings(reasoning="high", cache_prompt="1h", parallel_tool_calls=False)


# --- teams are agents, histories and budgets are options

team = Team(searcher, [text, searcher])
assert_type(team, Team[SearchResults])
assert_type(team.run("p").output, SearchResults)
assert_type(Team(searcher, [text], mode="collaborate", name="n"), Team[SearchResults])
assert_type(Team(searcher, [text], mode="route"), Team[Any])
Team(searcher, [text], mode="vote")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

Agent("openai:x", name="n", history=True)
Agent("openai:x", name="n", history=History(max_messages=3, summarize=text))
Agent("openai:x", history=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
assert_type(Budget(tokens=3).cost, float | None)
assert_type(text.run("p").usage.cost, float | None)
assert_type(tool(search, timeout=3.0)("x"), list[str])
