"""Agents: the same run in four ways, tools, streams, remembered requests, overrides, versions."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from agentflow._agent import Agent, AsyncTextStream, TextStream, overridden
from agentflow._conversation import OUTPUT_TOOL, AgentResult
from agentflow._recording import RECORDING, Slot, Turn
from agentflow.exceptions import (
    ModelHTTPError,
    ModelRetry,
    OutputInvalid,
    StoreCorrupt,
    TurnLimitExceeded,
    UnexpectedModelBehavior,
    UnknownTool,
    UsageError,
)
from agentflow.messages import (
    ImagePart,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolReturn,
    Usage,
    UserMessage,
)
from agentflow.models._base import AsyncModelStream, Model
from agentflow.models._scripted import FunctionModel, ScriptedModel
from agentflow.tools import tool
from tests._ways import WAYS, Ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence


class City(BaseModel):
    name: str
    country: str = "?"


def scripted(*answers: Any, name: str = "scripted") -> ScriptedModel:
    return ScriptedModel(answers, name=name)


def call(identity: str, name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id=identity, name=name, arguments=arguments)


# --- the run


@pytest.mark.parametrize("schema", [True, False])
async def test_a_run_with_tools_is_the_same_in_every_way(ask: Ask, schema: bool) -> None:
    """Output, messages, usage and calls are equal, whatever the colour and however the output comes."""
    first = ModelResponse(
        parts=(TextPart(text="Let me see."), call("1", "capital", '{"country": "France"}')),
        usage=Usage(requests=1, input_tokens=5, output_tokens=3),
    )
    written = '{"name": "Paris", "country": "France"}'
    last: Any = City(name="Paris", country="France") if schema else call("2", OUTPUT_TOOL, written)
    model = scripted(first, last)
    model.supports_json_schema = schema

    def capital(country: str) -> str:
        """Tell a capital."""
        return f"Paris is the capital of {country}"

    result = await ask(Agent(model, tools=[capital], output_type=City), "The capital of France?")

    assert result.output == City(name="Paris", country="France")
    assert result.messages[:3] == (
        UserMessage(content="The capital of France?"),
        first,
        ToolReturn(tool_call_id="1", tool_name="capital", content="Paris is the capital of France"),
    )
    assert [message.kind for message in result.messages[3:]] == ["response"]
    assert result.usage.requests == 2
    assert result.usage.output_tokens >= 3
    assert result.tool_calls == first.tool_calls
    model.assert_complete()


async def test_a_model_without_schemas_and_tools_is_asked_in_words(ask: Ask) -> None:
    """The schema stands in the instructions, the answer among words, and a wrong one is corrected."""
    model = scripted(
        "I think it is Paris.", ['Sure! [Here] it is:\n```json\n{"name": ', '"Paris"}\n```\nAnything else?']
    )
    model.supports_json_schema = model.supports_tools = False

    result = await ask(Agent(model, instructions="Tell.", output_type=City), "The capital of France?")

    assert result.output == City(name="Paris")
    asked = model.requests[0]
    assert (asked.output, asked.tools) == (None, ())
    assert isinstance(asked.messages[0], SystemMessage)
    assert asked.messages[0].content.startswith("Tell.\n\nAnswer with JSON that fits")
    assert '"country"' in asked.messages[0].content


async def test_a_model_without_tools_is_given_none(ask: Ask) -> None:
    """Tools that it could never call are refused before it is asked."""
    model = scripted("never")
    model.supports_tools = False

    with pytest.raises(UsageError, match="scripted cannot call any"):
        await ask(Agent(model, tools=[len_of]), "?")

    assert model.requests == ()


def len_of(text: str) -> int:
    return len(text)


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Move(TypedDict):
    to: Annotated[str, Field(pattern="[a-h][1-8]")]


@dataclass
class Point:
    x: int
    y: int = 0


OUTPUTS: list[tuple[Any, Any]] = [
    (int, 3),
    (Literal["yes", "no"], "yes"),
    (Annotated[int, Field(ge=0, le=10)], 7),
    (list[City], [City(name="Paris"), City(name="Rome", country="Italy")]),
    (City | Point, Point(1, 2)),
    (City | None, None),
    (dict[str, list[int]], {"a": [1, 2]}),
    (Move, {"to": "e4"}),
    (Point, Point(3)),
    (Tree, Tree(name="root", children=[Tree(name="leaf", children=[Tree(name="bug")])])),
    (list[Tree], [Tree(name="a", children=[Tree(name="b")])]),
    (tuple[int, str], (1, "b")),
]


@pytest.mark.parametrize(("output_type", "value"), OUTPUTS, ids=[str(kind) for kind, _ in OUTPUTS])
@pytest.mark.parametrize("form", ["schema", "tool", "words"])
async def test_every_type_comes_back_in_every_form(ask: Ask, form: str, output_type: Any, value: Any) -> None:
    """Whatever pydantic describes is given as the very type, however the model is held to it, after one wrong answer."""
    plain = TypeAdapter[Any](output_type).dump_python(value, mode="json")
    written = json.dumps(plain if isinstance(plain, dict) else {"answer": plain})
    wrong, right = '{"answer": {"x": "not a number"}, "to": "z9"}', written
    answers = [call(text, OUTPUT_TOOL, text) if form == "tool" else text for text in (wrong, right)]
    model = scripted(*answers)
    model.supports_json_schema, model.supports_tools = form == "schema", form != "words"

    result = await ask(Agent(model, output_type=output_type), "?")

    assert result.output == value
    assert type(result.output) is type(value)
    assert len(model.requests) == 2


@pytest.mark.parametrize("form", ["schema", "tool", "words"])
async def test_what_an_invalid_model_said_is_in_the_error(ask: Ask, form: str) -> None:
    """The last answer is `.body`, what is wrong with it in the message, and the value is not."""
    said = '{"name": 42}'
    model = scripted(*([call("1", OUTPUT_TOOL, said) if form == "tool" else said] * 2))
    model.supports_json_schema, model.supports_tools = form == "schema", form != "words"

    with pytest.raises(OutputInvalid, match="name: Input should be a valid string") as caught:
        await ask(Agent(model, output_type=City), "?")

    assert said in caught.value.body
    assert "42" not in str(caught.value)


@pytest.mark.parametrize("form", ["schema", "tool", "words"])
async def test_partials_grow_in_every_form(form: str) -> None:
    """Each is valid and further than the one before; of an answer by a tool, which comes whole, there is one; then the result."""
    pieces = ['{"name": "ro', 'ot", "children": [{"name": "a"}', ', {"name": "b', '"}]}']
    said = [call("1", OUTPUT_TOOL, "".join(pieces))] if form == "tool" else pieces
    whole = Tree(name="root", children=[Tree(name="a"), Tree(name="b")])

    def agent() -> Agent[Tree]:
        model = scripted(["42 it is: ", *said] if form != "schema" else said)
        model.supports_json_schema, model.supports_tools = form == "schema", form != "words"
        return Agent(model, output_type=Tree)

    stream, astream = agent().stream("?"), agent().astream("?")
    partials = list(stream.partials())
    apartials = [partial async for partial in astream.partials()]

    assert partials == apartials
    assert partials[-1] == stream.result.output == astream.result.output == whole
    assert [tree.name for tree in partials] == (["root"] if form == "tool" else ["ro", "root", "root"])


async def test_corrections_reach_the_model(ask: Ask) -> None:
    """A wrong output, wrong arguments, an unknown tool and a `ModelRetry` are told to the model, which goes on."""

    def capital(country: str) -> str:
        if country == "Frnce":
            raise ModelRetry("no such country; check the spelling")
        return "Paris"

    model = scripted(
        [call("1", "capital", '{"country": 1}'), call("2", "capitl"), call("3", "capital", '{"country": "Frnce"}')],
        call("4", "capital", '{"country": "France"}'),
        "It is Paris",
        City(name="Paris"),
    )

    result = await ask(Agent(model, tools=[capital], output_type=City), "?")

    told = [message for message in result.messages if isinstance(message, ToolReturn)]
    assert [message.is_error for message in told] == [True, True, True, False]
    assert told[2].content == "no such country; check the spelling"
    assert result.output == City(name="Paris")


@pytest.mark.parametrize(
    ("answers", "options", "error"),
    [
        (["no", "no"], {"output_type": City}, OutputInvalid),
        (["no"], {"output_type": City, "output_retries": 0}, OutputInvalid),
        ([call("1", "fine")] * 3, {"max_turns": 3}, TurnLimitExceeded),
        ([call("1", "none")] * 2, {}, UnknownTool),
        ([ModelResponse(parts=(TextPart(text="cu"),), finish_reason="length")], {}, UnexpectedModelBehavior),
        ([ModelHTTPError("down", status=503)], {}, ModelHTTPError),
    ],
)
async def test_a_run_that_cannot_succeed_raises(
    ask: Ask, answers: list[Any], options: dict[str, Any], error: type[Exception]
) -> None:
    """Each failure has its type, in every way; nothing is asked after it."""
    model = ScriptedModel(answers)

    def fine() -> str:
        return "fine"

    with pytest.raises(error) as caught:
        await ask(Agent(model, tools=[fine], **options), "?")

    assert type(caught.value) is error
    model.assert_complete()


async def test_the_exception_of_a_tool_passes_through_with_a_note(ask: Ask) -> None:
    """It is the very object that was raised, and the note names tool and agent."""
    mine = KeyError("mine")

    def search() -> str:
        raise mine

    model = scripted(call("1", "search"))

    with pytest.raises(KeyError) as caught:
        await ask(Agent(model, name="searcher", tools=[search]), "?")

    assert caught.value is mine
    assert caught.value.__notes__ == ["agentflow: in tool 'search' of Agent('scripted', name='searcher')"]


async def test_the_model_is_told_who_it_is(ask: Ask) -> None:
    """Description, instructions, expected output and Markdown make the system message, in this order."""
    model = scripted("fine")
    agent = Agent(
        model,
        description="You are a writer.",
        instructions=["Be brief.", "Be kind."],
        expected_output="One sentence.",
        markdown=True,
    )

    result = await ask(agent, "Write")

    assert result.messages[0] == SystemMessage(
        content="You are a writer.\n\n- Be brief.\n- Be kind.\n\nExpected output:\nOne sentence.\n\n"
        "Format your answer in Markdown."
    )
    assert model.requests[0].messages == result.messages[:2]


def test_markdown_is_not_asked_of_structured_output() -> None:
    """It would only invite a fence around the JSON."""
    model = scripted(City(name="Paris"))

    Agent(model, instructions="Answer.", markdown=True, output_type=City).run("?")

    assert model.requests[0].messages[0] == SystemMessage(content="Answer.")


async def test_settings_go_with_every_request(ask: Ask) -> None:
    """The settings are the model's business."""
    model = scripted(call("1", "fine"), "fine")
    settings = ModelSettings(temperature=0.1, extra={"service_tier": "flex"})

    def fine() -> str:
        return "fine"

    await ask(Agent(model, tools=[fine], settings=settings), "?")

    assert [request.settings for request in model.requests] == [settings, settings]


# --- tools in two colours


@pytest.mark.parametrize("way", ["arun", "astream"])
async def test_async_calls_of_one_turn_run_at_once(way: str) -> None:
    """Sync and async tools of one turn wait for each other, and are answered in the order of the calls."""
    met, loop = threading.Barrier(2, timeout=10), asyncio.get_running_loop()

    async def first() -> str:
        await loop.run_in_executor(None, met.wait)
        return "one"

    def second() -> str:
        met.wait()
        return "two"

    result = await WAYS[way](
        Agent(scripted([call("1", "first"), call("2", "second")], "done"), tools=[first, second]), "?"
    )

    returns = [message for message in result.messages if isinstance(message, ToolReturn)]
    assert [(each.tool_call_id, each.content) for each in returns] == [("1", "one"), ("2", "two")]


def endless() -> tuple[Callable[[], Awaitable[str]], asyncio.Event, list[str]]:
    """A tool that ends only when it is cancelled, whether it has begun, and how it ended."""
    ended: list[str] = []
    waiting = asyncio.Event()

    async def wait() -> str:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cancelled")
        return "never"

    return wait, waiting, ended


async def test_when_an_async_call_fails_the_others_are_cancelled_and_awaited() -> None:
    """No call goes on behind the back of who got the exception, and the exception is no group."""
    wait, waiting, ended = endless()

    async def fail() -> str:
        await waiting.wait()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await Agent(scripted([call("1", "wait"), call("2", "fail")]), tools=[wait, fail]).arun("?")

    assert ended == ["cancelled"]


async def test_cancelling_a_run_cancels_its_calls() -> None:
    """A cancelled task leaves no tool running."""
    wait, waiting, ended = endless()

    task = asyncio.create_task(Agent(scripted(call("1", "wait")), tools=[wait]).arun("?"))
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


def test_an_async_tool_in_a_sync_run_is_refused_before_anything_is_paid() -> None:
    """The message names the tool and `arun()`, also for a stream that nobody consumes yet."""
    model = scripted("never asked")

    async def search() -> str:
        return "found"

    agent = Agent(model, tools=[search])

    for sync in (agent.run, agent.stream):
        with pytest.raises(UsageError, match=r"tool 'search' of Agent\('scripted'\) is async: use arun\(\)"):
            sync("?")
    assert model.requests == ()


def test_a_tool_that_turns_out_to_be_async_is_refused_with_a_note() -> None:
    """A lambda that returns a coroutine shows its colour only when it is called."""

    async def search() -> str:
        return "found"

    hidden = tool(name="hidden")(lambda: search())

    with pytest.raises(UsageError, match=r"'hidden' is async.*arun\(\)"):
        Agent(scripted(call("1", "hidden")), tools=[hidden]).run("?")


# --- streams


def test_a_stream_is_a_generator_that_returns_the_result() -> None:
    """`yield from` passes the pieces on as they were written, and gives the AgentResult."""

    def shout(agent: Agent[str]) -> Generator[str, None, str]:
        result = yield from agent.stream("Hello?")
        return result.output.upper()

    pieces: list[str] = []

    def consume() -> Generator[str, None, None]:
        pieces.append((yield from shout(Agent(scripted(["Hel", "lo", "!"])))))

    assert list(consume()) == ["Hel", "lo", "!"]
    assert pieces == ["HELLO!"]
    assert isinstance(Agent(scripted("x")).stream("?"), Generator)


def test_what_is_said_beside_calls_is_streamed() -> None:
    """The text of every turn comes, in order."""

    def fine() -> str:
        return "fine"

    stream = Agent(scripted(["Let ", "me see. ", call("1", "fine")], ["It is ", "fine."]), tools=[fine]).stream("?")

    assert list(stream) == ["Let ", "me see. ", "It is ", "fine."]
    assert stream.result.output == "It is fine."


async def test_a_stream_is_lazy_and_lets_others_run() -> None:
    """Nothing is asked before the first piece is wanted."""
    model = scripted(["a", "b"])
    agent = Agent(model)
    sync, not_sync = agent.stream("?"), agent.astream("?")
    assert model.requests == ()

    assert next(sync) == "a"
    assert len(model.requests) == 1
    sync.close()
    await not_sync.aclose()

    assert len(model.requests) == 1


async def test_the_result_of_an_unfinished_stream_is_a_usage_error() -> None:
    """Half an answer has no result, neither before nor after the stream is closed."""
    agent = Agent(FunctionModel(lambda messages, info: ["a", "b"]))
    sync, not_sync = agent.stream("?"), agent.astream("?")
    next(sync)
    await anext(not_sync)

    for stream in (sync, not_sync):
        with pytest.raises(UsageError, match="not exhausted"):
            stream.result  # noqa: B018
    sync.close()
    await not_sync.aclose()
    with pytest.raises(UsageError, match="not exhausted"):
        sync.result  # noqa: B018


class Watched(Model):
    """A model whose streams tell when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    @property
    def name(self) -> str:
        return "watched"

    def request(self, request: ModelRequest) -> ModelResponse:
        raise AssertionError("a stream was asked for")

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        try:
            yield "a"
            yield "b"
        finally:
            self.closed.append("sync")
        return ModelResponse()

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        return AsyncModelStream(self._pieces())

    async def _pieces(self) -> AsyncGenerator[str | ModelResponse, None]:
        try:
            yield "a"
            yield "b"
        finally:
            await asyncio.sleep(0)
            self.closed.append("async")


async def test_closing_a_stream_closes_the_models() -> None:
    """The connection is given back at once, not when memory is collected."""
    model = Watched()
    with_close = Agent(model).stream("?")
    next(with_close)

    with_close.close()
    async with Agent(model).astream("?") as stream:
        assert await anext(stream) == "a"

    assert model.closed == ["sync", "async"]
    assert list(with_close) == []


def test_a_consumer_may_throw_into_a_stream() -> None:
    """The exception comes back out, in each form that `throw` takes, and the model's stream is closed."""
    model = Watched()
    mine = KeyError("mine")

    for arguments in [(mine,), (KeyError, mine), (KeyError, "mine"), (KeyError,), (KeyError, None, None)]:
        stream = Agent(model).stream("?")
        next(stream)
        with pytest.raises(KeyError) as caught:
            stream.throw(*arguments)
        assert caught.value is mine or mine not in arguments
        assert caught.value.args == (("mine",) if arguments[1:] == ("mine",) or mine in arguments else ())

    assert model.closed == ["sync"] * 5


async def partials(way: str, agent: Agent[Any]) -> list[Any]:
    if way == "sync":
        return list(agent.stream("?").partials())
    return [partial async for partial in agent.astream("?").partials()]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_partials_grow_to_the_output(way: str) -> None:
    """A model appears when it is valid, grows, and comes whole at the end."""
    agent = Agent(scripted(['{"na', 'me": "Pa', "ris", '"', ', "country": "France"}']), output_type=City)

    found = await partials(way, agent)

    assert found == [City(name="Pa"), City(name="Paris"), City(name="Paris", country="France")]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_partials_of_text_are_the_text_so_far(way: str) -> None:
    """Each is the answer from its beginning; another turn begins anew."""

    def fine() -> str:
        return "fine"

    agent = Agent(scripted(["See", "ing", call("1", "fine")], ["It ", "is"]), tools=[fine])

    assert await partials(way, agent) == ["See", "Seeing", "It ", "It is"]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_an_output_that_is_never_text_is_one_partial(way: str) -> None:
    """This model gives the arguments of an output tool whole, so the output comes once."""
    model = scripted(call("1", OUTPUT_TOOL, '{"name": "Paris"}'))
    model.supports_json_schema = False

    assert await partials(way, Agent(model, output_type=City)) == [City(name="Paris")]


def test_partials_return_the_result() -> None:
    """`yield from stream.partials()` gives the AgentResult, as the stream itself does."""
    results: list[AgentResult[City]] = []

    def consume() -> Generator[City, None, None]:
        results.append((yield from Agent(scripted(City(name="Paris")), output_type=City).stream("?").partials()))

    assert list(consume()) == [City(name="Paris")]
    assert results[0].output == City(name="Paris")


def test_a_stream_may_be_advanced_from_different_threads() -> None:
    """Web frameworks take every piece in another thread and context."""
    stream = Agent(scripted(["a", call("1", "fine")], ["b", "c"]), tools=[tool(name="fine")(lambda: "x")]).stream("?")

    pieces = []
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            pieces.append(pool.submit(contextvars.Context().run, next, stream).result())

    assert pieces == ["a", "b", "c"]
    assert list(stream) == []
    assert stream.result.output == "bc"


# --- remembered requests


@dataclass
class Memory:
    """What a run keeps of its model requests, across its attempts."""

    def __post_init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.usage: list[tuple[str, Usage]] = []
        self.scopes: list[str] = []
        self.log: list[str] = []

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Put an attempt of the run in force."""
        attempt = Attempt(self)
        token = RECORDING.set(attempt)
        try:
            yield attempt
        finally:
            RECORDING.reset(token)


class Attempt:
    """A Recording: counts equal requests from the beginning, remembers in the run's memory."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.counts: dict[bytes, int] = {}

    def slot(self, request: bytes, scope: Any, model: str) -> Slot:
        self.memory.scopes.append(scope)
        if scope is None:
            return Slot("", None, None, model)
        count = self.counts[request] = self.counts.get(request, 0) + 1
        key = f"{count}:{request.decode()}"
        self.memory.log.append("slot")
        return Slot(key, self.memory.answers.get(key), scope, model)

    def spoil(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            self.memory.answers.pop(slot.key, None)

    def inside(self, place: str) -> AbstractContextManager[None]:
        return nullcontext()

    def turn(self, agent: str) -> Turn:
        raise NotImplementedError

    def save(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        assert slot.key not in self.memory.answers, "an answer is saved once"
        if slot.scope:
            self.memory.answers[slot.key] = answer
        self.memory.usage.append((slot.model, usage))
        self.memory.log.append("saved")

    async def asave(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        await asyncio.sleep(0)
        self.save(slot, answer, usage)
        self.memory.log[-1] = "asaved"


class Crash(BaseException):
    """The process dies."""


def ten_tool_turns(messages: Sequence[Any], _: Any) -> ToolCall | str:
    """Call the tool ten times, then say done; every answer has a fresh id, as a provider's has."""
    turn = sum(message.kind == "tool_return" for message in messages)
    return "done" if turn == 10 else ToolCall(id=f"call-{turn}", name="work", arguments=f'{{"n": {turn + 1}}}')


async def test_a_crash_in_the_ninth_tool_call_resumes_at_the_ninth(ask: Ask) -> None:
    """The next attempt asks nothing that was answered: nine turns replay, the tenth and the last are asked."""
    memory, crashed, asked = Memory(), [True], list[int]()

    def work(n: int) -> int:
        if n == 9 and crashed:
            crashed.clear()
            raise Crash
        return n

    def answer(messages: Sequence[Any], info: Any) -> ToolCall | str:
        asked.append(len(messages))
        return ten_tool_turns(messages, info)

    agent = Agent(FunctionModel(answer), tools=[work])
    with memory.attempt(), pytest.raises(Crash):
        await ask(agent, "go")
    assert len(asked) == 9

    with memory.attempt():
        result = await ask(agent, "go")

    assert result.output == "done"
    assert len(asked) == 11
    assert result.usage.requests == 2
    assert len(result.tool_calls) == 10


@pytest.mark.parametrize("first", WAYS)
async def test_what_one_way_asked_every_way_replays(ask: Ask, first: str) -> None:
    """A remembered run is replayed whole, without a request and without cost, from whichever way it was recorded."""
    memory = Memory()

    def fine() -> str:
        return "fine"

    model = scripted(["Let me see.", call("1", "fine")], ["It ", "is."])
    agent = Agent(model, tools=[fine])
    with memory.attempt():
        original = await WAYS[first](agent, "?")

    with memory.attempt():
        replayed = await ask(agent, "?")

    assert replayed.output == original.output
    assert replayed.messages == original.messages
    assert (original.usage.requests, replayed.usage) == (2, Usage())
    assert len(model.requests) == 2


async def test_a_streaming_replay_gives_the_text_whole() -> None:
    """The pieces are not remembered; a turn's text comes in one piece, and one without text in none."""
    memory = Memory()
    agent = Agent(scripted(["a", "b"], [call("1", "fine")], ["c", "d"]), tools=[tool(name="fine")(lambda: "x")])
    with memory.attempt():
        agent.run("?")
        agent.run("!")

    with memory.attempt():
        assert list(agent.stream("?")) == ["ab"]
        assert [piece async for piece in agent.astream("!")] == ["cd"]


async def test_equal_requests_are_different_samples(ask: Ask) -> None:
    """Three equal requests have three answers, and replay as three."""
    memory = Memory()
    agent = Agent(scripted("one", "two", "three"))
    with memory.attempt():
        first = [(await ask(agent, "?")).output for _ in range(3)]

    with memory.attempt():
        again = [(await ask(agent, "?")).output for _ in range(3)]

    assert first == again == ["one", "two", "three"]


async def test_an_answer_is_saved_before_anything_is_done_with_it(ask: Ask) -> None:
    """When the tool runs, the answer that wants it is durable; async ways save without blocking."""
    memory = Memory()

    def look() -> str:
        memory.log.append("tool")
        return "x"

    with memory.attempt():
        await ask(Agent(scripted(call("1", "look"), "done"), tools=[look]), "?")

    saved = "asaved" if ask in (WAYS["arun"], WAYS["astream"]) else "saved"
    assert memory.log == ["slot", saved, "tool", "slot", saved]


@pytest.mark.parametrize("scope", ["run", "session", "global"])
async def test_the_scope_goes_to_the_recording(ask: Ask, scope: Any) -> None:
    """`cache` says how far answers are shared; what that means is the run's business."""
    memory = Memory()

    with memory.attempt():
        await ask(Agent(scripted("x"), cache=scope), "?")

    assert memory.scopes == [scope]


async def test_without_cache_nothing_is_remembered(ask: Ask) -> None:
    """`cache=None` asks every time; what it used is counted all the same."""
    memory = Memory()
    agent = Agent(scripted("one", "two"), cache=None)

    with memory.attempt():
        outputs = [(await ask(agent, "?")).output for _ in range(2)]

    assert outputs == ["one", "two"]
    assert memory.answers == {}
    assert [usage.requests for _, usage in memory.usage] == [1, 1]


async def test_what_was_used_is_told_to_the_run(ask: Ask) -> None:
    """Model and tokens of each paid answer, and of no replayed one."""
    memory = Memory()
    response = ModelResponse(parts=(TextPart(text="x"),), usage=Usage(requests=1, input_tokens=5, output_tokens=2))

    for _ in range(2):
        with memory.attempt():
            await ask(Agent(scripted(response)), "?")

    assert memory.usage == [("scripted", Usage(requests=1, input_tokens=5, output_tokens=2))]


async def test_a_failed_request_is_not_remembered(ask: Ask) -> None:
    """Neither an error nor half a stream is an answer: the next attempt asks anew."""
    memory = Memory()
    agent = Agent(scripted(["half", ModelHTTPError("down", status=503)], "whole"))
    with memory.attempt(), pytest.raises(ModelHTTPError):
        await ask(agent, "?")
    assert memory.answers == {}

    with memory.attempt():
        assert (await ask(agent, "?")).output == "whole"


async def test_an_abandoned_stream_is_not_remembered() -> None:
    """What a consumer left in the middle is asked anew."""
    memory = Memory()
    agent = Agent(FunctionModel(lambda messages, info: ["a", "b"]))

    with memory.attempt():
        stream = agent.stream("?")
        next(stream)
        stream.close()
        async with agent.astream("?") as not_sync:
            await anext(not_sync)

    assert memory.log == ["slot", "slot"]
    assert memory.answers == {}


async def test_the_recording_is_read_when_the_request_is_made() -> None:
    """A stream made outside a run and consumed inside is remembered; the other way round it is not."""
    memory = Memory()
    agent = Agent(scripted("one", "two", "three", "four"))
    made_outside, amade_outside = agent.stream("a"), agent.astream("b")
    with memory.attempt():
        made_inside, amade_inside = agent.stream("c"), agent.astream("d")

        list(made_outside)
        async for _ in amade_outside:
            pass
    list(made_inside)
    async for _ in amade_inside:
        pass

    assert memory.log == ["slot", "saved", "slot", "asaved"]


async def test_a_damaged_memory_is_an_error_and_no_answer(ask: Ask) -> None:
    """What cannot be read is never taken for what the model said."""
    memory = Memory()
    agent = Agent(scripted("one", "two"))
    with memory.attempt():
        await ask(agent, "?")
    memory.answers = dict.fromkeys(memory.answers, b"{}x")

    with memory.attempt(), pytest.raises(StoreCorrupt):
        await ask(agent, "?")


async def test_another_model_asks_another_request(ask: Ask) -> None:
    """An answer of one model is never replayed for another."""
    memory = Memory()
    with memory.attempt():
        await ask(Agent(scripted("one", name="small")), "?")

    with memory.attempt():
        assert (await ask(Agent(scripted("two", name="large")), "?")).output == "two"


async def test_a_refusing_recording_stops_the_run_before_the_request(ask: Ask) -> None:
    """A run that may ask nothing more (cancelled, over its budget) raises out of the slot."""

    class Refusing(Attempt):
        def slot(self, request: bytes, scope: Any, model: str) -> Slot:
            raise UsageError("no more")

    model = scripted("never")
    token = RECORDING.set(Refusing(Memory()))
    try:
        with pytest.raises(UsageError, match="no more"):
            await ask(Agent(model), "?")
    finally:
        RECORDING.reset(token)

    assert model.requests == ()


# --- sharing


def echo(messages: Sequence[Any], _: Any) -> ToolCall | list[str]:
    """Call a tool with the prompt, then say what it returned, in pieces."""
    if messages[-1].kind == "user":
        return ToolCall(id="1", name="twice", arguments=f'{{"word": "{messages[-1].content}"}}')
    return list(messages[-1].content)


async def slow_echo(messages: Sequence[Any], info: Any) -> ToolCall | list[str]:
    await asyncio.sleep(0.001)
    return echo(messages, info)


def twice(word: str) -> str:
    return f"{word}{word}"


async def test_fifty_tasks_share_one_agent() -> None:
    """Every run gets the answer to its own prompt, streamed or not."""
    agent = Agent(FunctionModel(slow_echo), tools=[twice])

    results = await asyncio.gather(*(WAYS["arun" if n % 2 else "astream"](agent, f"w{n},") for n in range(50)))

    assert [result.output for result in results] == [f"w{n},w{n}," for n in range(50)]
    assert all(len(result.messages) == 4 and result.usage.requests == 2 for result in results)


def test_fifty_threads_share_one_agent() -> None:
    """The same for threads that start together."""
    agent = Agent(FunctionModel(echo), tools=[twice])
    start = threading.Barrier(50, timeout=30)

    def one(n: int) -> AgentResult[str]:
        start.wait()
        if n % 2:
            return agent.run(f"w{n},")
        stream = agent.stream(f"w{n},")
        assert "".join(stream) == f"w{n},w{n},"
        return stream.result

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(one, range(50)))

    assert [result.output for result in results] == [f"w{n},w{n}," for n in range(50)]
    assert all(len(result.messages) == 4 and result.usage.requests == 2 for result in results)


# --- overrides


async def test_an_override_puts_a_model_in_force_and_takes_it_back(ask: Ask) -> None:
    """It nests, holds for that agent only, and ends with its block, also by an exception."""
    one, other = Agent(scripted("own", "own", name="one")), Agent(scripted("other's", name="other"))

    with one.override(model=scripted("outer")):
        with pytest.raises(KeyError), one.override(model=scripted("inner")):
            assert (await ask(one, "?")).output == "inner"
            raise KeyError
        assert (await ask(one, "?")).output == "outer"
        assert (await ask(other, "?")).output == "other's"

    assert (await ask(one, "?")).output == "own"


async def test_an_override_belongs_to_its_thread_or_task() -> None:
    """Neither sees the other's; what a task starts does, as does a thread with its context."""
    agent = Agent(scripted("own", "own", name="own"))
    both = asyncio.Barrier(2)

    async def within(name: str) -> list[str]:
        with agent.override(model=FunctionModel(lambda messages, info: name)):
            await both.wait()
            copied = await asyncio.to_thread(agent.run, "?")
            return [agent.run("?").output, (await asyncio.create_task(agent.arun("?"))).output, copied.output]

    found = await asyncio.gather(within("a"), within("b"))
    with agent.override(model=scripted("never")), ThreadPoolExecutor(1) as pool:
        bare = pool.submit(agent.run, "?").result().output

    assert found == [["a"] * 3, ["b"] * 3]
    assert bare == "own"


def test_a_model_can_be_put_in_force_for_every_agent() -> None:
    """The nearest one counts: for every agent over a single one outside, a single one inside over every."""
    one, other = Agent("openai:a"), Agent("openai:b")

    with one.override(model=scripted("never")), overridden({None: scripted("every", "every", "every")}):
        assert [one.run("?").output, other.run("?").output] == ["every", "every"]
        with one.override(model=scripted("one")):
            assert [one.run("?").output, other.run("?").output] == ["one", "every"]


def test_the_model_in_force_is_that_of_the_call() -> None:
    """A stream made under an override keeps its model, wherever it is consumed."""
    agent = Agent(scripted("own"))

    with agent.override(model=scripted("override's")):
        stream = agent.stream("?")

    assert list(stream) == ["override's"]


def test_a_models_name_is_resolved_at_the_first_use() -> None:
    """An agent at module level costs no provider; a wrong name is told when it is used."""
    agent = Agent("nowhere:x")

    with pytest.raises(UsageError, match="nowhere:x"):
        agent.run("?")


def test_a_name_is_resolved_once() -> None:
    """All runs of an agent share one model, with its connections."""
    agent = Agent("openai:gpt-4o-mini")

    assert agent._model_in_force() is agent._model_in_force()
    assert agent._model_in_force().name == "openai:gpt-4o-mini"


# --- as a tool


async def test_an_agent_is_a_tool_of_another(ask: Ask) -> None:
    """It answers in the colour of the run around it; its output goes to the other model as text or JSON."""
    inner = scripted(City(name="Paris"), name="inner")
    guide = Agent(inner, name="The guide!", description="Knows cities.", output_type=City)
    outer = scripted(call("1", "The_guide_", '{"prompt": "France?"}'), "Paris!", name="outer")

    result = await ask(Agent(outer, tools=[guide.as_tool()]), "?")

    told = result.messages[2]
    assert isinstance(told, ToolReturn)
    assert told.content == '{"name":"Paris","country":"?"}'
    assert inner.requests[0].messages[-1] == UserMessage(content="France?")
    assert [each.description for each in outer.requests[0].tools] == ["Knows cities."]
    assert result.usage.requests == 3


async def test_an_agent_with_async_tools_is_a_tool_of_an_async_run() -> None:
    """Its async twin is used, and not its sync one in a thread."""

    async def look() -> str:
        return "seen"

    looker = Agent(scripted(call("1", "look"), "seen it", name="inner"), name="looker", tools=[look])
    agent = Agent(scripted(call("1", "looker", '{"prompt": "look"}'), "done"), tools=[looker.as_tool()])

    assert (await agent.arun("?")).output == "done"


def test_a_tool_needs_a_name() -> None:
    """Without one the message says where to give it; names and descriptions can be given."""
    agent = Agent(scripted("x"))

    with pytest.raises(UsageError, match=r"give Agent\(name=\.\.\.\) or as_tool\(name=\.\.\.\)"):
        agent.as_tool()
    made = agent.as_tool("helper", "Helps.")

    assert (made.name, made.description, agent.as_tool("helper").description) == ("helper", "Helps.", "Ask helper.")
    assert made("?") == "x"


# --- the value


def test_an_agent_is_immutable_and_hashable() -> None:
    """It cannot be changed in place, so it is safe to share."""
    agent = Agent("openai:x", instructions=["a"], tools=[twice])

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        agent.instructions = "b"  # type: ignore[misc]
    assert {agent: 1}[agent] == 1
    assert agent.instructions == ("a",)
    assert repr(agent) == "Agent('openai:x')"


def test_replace_gives_a_changed_copy() -> None:
    """Everything else stays, also a tool that was made of a function, and the original."""
    agent = Agent("openai:x", name="a", instructions="i", tools=[twice], max_turns=3, cache=None)

    changed = agent.replace(name="b", output_type=City)

    assert (changed.name, changed.output_type) == ("b", City)
    assert (changed.model, changed.instructions, changed.tools) == (agent.model, "i", agent.tools)
    assert (changed.max_turns, changed.cache, agent.name, agent.output_type) == (3, None, "a", str)
    with changed.override(model=scripted(City(name="Paris"))):
        assert changed.run("?").output == City(name="Paris")


def test_replacing_what_there_is_not_is_an_error() -> None:
    """A misspelt option is not lost."""
    with pytest.raises(TypeError, match="instruction"):
        Agent("openai:x").replace(instruction="x")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": 3}, r"model=3 is no model: give a name such as"),
        ({"name": 3}, "name=3: write a str"),
        ({"description": 3}, "description=3: write a str"),
        ({"instructions": 3}, "instructions=3: write a str or a list of them"),
        ({"instructions": ["Be kind.", 3]}, "instructions=3: write a str"),
        ({"expected_output": 3}, "expected_output=3: write a str"),
        ({"markdown": "yes"}, "markdown='yes': write True"),
        ({"max_turns": 0}, "max_turns=0: write 1 or more"),
        ({"max_turns": "5"}, "max_turns='5': write a whole number"),
        ({"output_retries": -1}, "output_retries=-1: write 0 or more"),
        ({"settings": {"temperature": 0}}, r"settings=.*: write ModelSettings\(\.\.\.\)"),
        ({"cache": "forever"}, "cache='forever' is none: use 'run', 'session', 'global' or None"),
        ({"tools": [twice, twice]}, "several tools named 'twice'"),
        ({"tools": [tool(name=OUTPUT_TOOL)(twice)]}, f"several tools named '{OUTPUT_TOOL}'"),
        ({"tools": twice}, r"tools=.*: write a list of functions, not a function"),
        ({"tools": [Agent("openai:x")]}, r"cannot be a tool.*an agent becomes one by \.as_tool\(\)"),
        ({"output_type": type(threading.Lock())}, "cannot be described to a model"),
        ({"settings": ModelSettings(extra={"x": object()})}, r"settings\.extra .* JSON"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(options: dict[str, Any], sentence: str) -> None:
    """The message says which option and what to write."""
    with pytest.raises(UsageError, match=f"(?s){sentence}"):
        Agent(**{"model": "openai:x", **options})


def test_an_override_is_a_model() -> None:
    """Anything else is refused before the block begins."""
    with pytest.raises(UsageError, match="model=3 is no model"), Agent("openai:x").override(model=3):  # type: ignore[arg-type]
        pass


async def test_a_prompt_is_text(ask: Ask) -> None:
    """A model passed by mistake is refused, not rendered."""
    with pytest.raises(UsageError, match="was given a City as prompt"):
        await ask(Agent(scripted("x")), City(name="Paris"))  # type: ignore[arg-type]


# --- versions


def thrice(word: str) -> str:
    return word * 3


def test_equal_agents_have_one_version() -> None:
    """It is a digest, the same for agents made alike, and also the key."""
    made = [Agent("openai:x", instructions="i", tools=[twice], output_type=City) for _ in range(2)]

    assert made[0].__agentflow_version__() == made[1].__agentflow_version__() == made[0].__agentflow_key__()
    assert len(made[0].__agentflow_version__()) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"model": "openai:y"},
        {"description": "d"},
        {"instructions": "j"},
        {"instructions": ["i"]},
        {"expected_output": "e"},
        {"markdown": True},
        {"tools": []},
        {"tools": [thrice]},
        {"tools": [tool(description="Double.")(twice)]},
        {"output_type": str},
        {"output_type": list[City]},
        {"settings": ModelSettings(temperature=0.5)},
        {"settings": ModelSettings(extra={"a": 1})},
        {"max_turns": 3},
        {"output_retries": 3},
    ],
)
def test_what_changes_answers_changes_the_version(change: dict[str, Any]) -> None:
    """Everything that the model is told or bound by counts."""
    agent = Agent("openai:x", instructions="i", tools=[twice], output_type=City)

    assert agent.replace(**change).__agentflow_version__() != agent.__agentflow_version__()


def test_what_changes_no_answer_changes_no_version() -> None:
    """Names, how far answers are shared and how long we wait say nothing to the model."""
    agent = Agent("openai:x", settings=ModelSettings(temperature=0.5))

    changed = agent.replace(name="n", cache=None, settings=ModelSettings(temperature=0.5, timeout=3))

    assert changed.__agentflow_version__() == agent.__agentflow_version__()


def test_the_version_is_of_the_model_in_force() -> None:
    """What a scripted model said in a test is not found by the real one."""
    agent = Agent("openai:x")
    before = agent.__agentflow_version__()

    with agent.override(model=scripted("x")):
        assert agent.__agentflow_version__() != before
    assert agent.__agentflow_version__() == before


def test_an_agent_as_a_tool_counts_by_its_own_version() -> None:
    """Changed instructions of the inner agent change the outer one."""
    inner = Agent("openai:x", name="inner")
    outer = [Agent("openai:x", tools=[each.as_tool()]) for each in (inner, inner.replace(instructions="other"))]

    assert outer[0].__agentflow_version__() != outer[1].__agentflow_version__()


def test_the_streams_can_be_named_in_annotations() -> None:
    """Both are generic classes."""
    assert TextStream[str].__origin__ is TextStream  # type: ignore[attr-defined]
    assert AsyncTextStream[str].__origin__ is AsyncTextStream  # type: ignore[attr-defined]


async def test_a_prompt_may_have_images_and_files(ask: Ask) -> None:
    """They reach the model as they were given, and are part of the conversation; anything else is refused."""
    said = UserMessage.of("What is this?", ImagePart(data=bytes.fromhex("89504e470d0a1a0a")))
    model = ScriptedModel(["A cat."])

    result = await ask(Agent(model), said)

    assert model.requests[0].messages[-1] == said
    assert result.messages[0] == said
    with pytest.raises(
        UsageError, match=r"was given a bytes as prompt: a prompt is a str, or, with images and files, a UserMessage"
    ):
        await ask(Agent(model), b"What?")
