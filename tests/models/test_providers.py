"""The same agent over every provider, asked in every way: a server on loopback speaks each one's format."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import httpx
import httpx2
import pytest
from pydantic import BaseModel

from agentflow import Agent, tool
from agentflow._conversation import OUTPUT_TOOL
from agentflow.exceptions import AuthenticationFailed, ModelHTTPError, RateLimited, UnexpectedModelBehavior
from agentflow.messages import ImagePart, ModelRequest, TextPart, ToolReturn, Usage, UserMessage
from tests._ways import STREAMED, WAYS

from ._chat import answer, delta, event, stream, stream_of
from ._dialects import CALLS, DIALECTS

PNG = b"\x89PNG\r\n\x1a\n\x00canary"


class City(BaseModel):
    name: str
    country: str = "?"


class Service:
    """One provider on loopback, and one way to ask an agent that uses it."""

    def __init__(self, dialect, way, server):
        self.dialect, self.way, self.server = dialect, way, server
        self.streamed = way in STREAMED

    @property
    def model(self):
        return self.dialect.model(self.server.url.removesuffix("/v1"))

    async def ask(self, agent, prompt):
        return await WAYS[self.way](agent, prompt)

    def will(self, *answers):
        """Plan the answers, whole or streamed as they will be asked for; also replies as they are."""
        for each in answers:
            self.server.will(each if callable(each) else self.dialect.reply(each, streamed=self.streamed))

    def error(self, status, message, **headers):
        """What the provider does when it refuses a request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return answer({"error": {"message": message, "type": "x", "code": status}}, status, names)

    def seen(self, place=-1) -> str:
        """What was sent, as text."""
        return json.dumps(self.server.seen[place].body, ensure_ascii=False)


@pytest.fixture(params=WAYS)
def way(request):
    """Each way to run an agent."""
    return request.param


@pytest.fixture(params=DIALECTS)
def service(request, way, server):
    """Each provider, asked in each way."""
    return Service(DIALECTS[request.param], way, server)


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


def unpriced(usage: Usage) -> Usage:
    """Return a usage without its cost, which is known only where the prices are installed."""
    return usage.model_copy(update={"cost": None})


async def test_a_text_is_answered(service):
    """With the model's name and what it used; the key is in the headers."""
    service.will(service.dialect.said(TextPart(text="Hello, world."), usage=service.dialect.usage))

    result = await service.ask(Agent(service.model, instructions="Be brief."), "Say hello")

    assert result.output == "Hello, world."
    assert unpriced(result.usage) == service.dialect.usage
    assert result.messages[-1].model == service.dialect.model_name
    assert "Be brief." in service.seen()
    assert any("sk-canary-0001" in value for value in service.server.seen[0].headers.values())


async def test_parallel_calls_are_answered_in_the_next_turn(service):
    """The model gets back what it said and thought, and the results, and everything is counted."""
    service.will(service.dialect.rich(), service.dialect.said(TextPart(text="Sunny everywhere.")))

    result = await service.ask(Agent(service.model, tools=[weather]), "The weather?")

    assert result.output == "Sunny everywhere."
    assert [(call.name, json.loads(call.arguments)) for call in result.tool_calls] == [
        (name, json.loads(text)) for _, name, text in CALLS
    ]
    returns = [message.content for message in result.messages if isinstance(message, ToolReturn)]
    assert returns == ["It is sunny in Paris.", "It is sunny in Zürich\u2028."]
    assert all(text in service.seen() for text in (*returns[:1], "Both,"))
    assert unpriced(result.usage) == service.dialect.usage + Usage(requests=1, input_tokens=11, output_tokens=7)


async def test_what_the_model_thought_goes_back_to_it(service):
    """With its signature, where the provider has one: some refuse the results of tools without."""
    service.will(service.dialect.rich(), service.dialect.said(TextPart(text="Done.")))

    result = await service.ask(Agent(service.model, tools=[weather]), "The weather?")

    thoughts, answered = result.messages[1], service.seen()
    assert thoughts.reasoning == "Let me think."
    assert all(part.signature in answered for part in thoughts.parts if part.signature)
    assert ("Let me think." in answered) == (service.dialect.provider != "google")


async def test_an_output_type_is_filled_by_schema(service):
    """The model is held to the schema of the type."""
    service.will(service.dialect.said(TextPart(text='{"name": "Paris", "country": "France"}')))

    result = await service.ask(Agent(service.model, output_type=City), "The capital of France?")

    assert result.output == City(name="Paris", country="France")
    assert "country" in service.seen()


async def test_an_output_type_is_filled_by_a_tool(service):
    """Where the model knows no schemas."""
    service.will(
        service.dialect.said(
            *service.dialect.calls(("call_a", "final_answer", '{"name": "Rome"}')), finish="tool_calls"
        )
    )
    model = service.model
    model.supports_json_schema = False

    result = await service.ask(Agent(model, output_type=City), "A capital?")

    assert result.output == City(name="Rome")
    assert "final_answer" in service.seen()


async def test_a_wrong_output_is_corrected(service):
    """The model is told what is wrong, and its second answer counts."""
    wrong, right = '{"country": "France"}', '{"name": "Paris"}'
    service.will(*(service.dialect.said(TextPart(text=text)) for text in (wrong, right)))

    result = await service.ask(Agent(service.model, output_type=City), "A capital?")

    assert result.output == City(name="Paris")
    assert "name: Field required" in service.seen()


async def test_a_limit_is_waited_for(service):
    """A 429 that says when to come back is repeated, and nobody sees it."""
    service.will(service.error(429, "Slow down.", retry_after="0"), service.dialect.said(TextPart(text="Hello.")))

    result = await service.ask(Agent(service.model), "Say hello")

    assert result.output == "Hello."
    assert len(service.server.seen) == 2


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (401, AuthenticationFailed), (400, ModelHTTPError), (404, ModelHTTPError)]
)
async def test_an_error_says_what_the_provider_said(service, status, kind):
    """With its status and request id, and without the key, which some providers quote."""
    service.will(
        *[service.error(status, "No, sk-canary-0001!", request_id="req_7", retry_after="0")]
        * (3 if status == 429 else 1)
    )

    with pytest.raises(kind, match=r"No, \[redacted\]!") as raised:
        await service.ask(Agent(service.model), "Say hello")

    assert (raised.value.status, raised.value.request_id) == (status, "req_7")
    assert "canary" not in str(raised.value) + raised.value.body
    assert raised.value.model == f"{service.dialect.provider}:{service.dialect.model_name}"


async def test_an_answer_at_its_limit_is_no_whole_one(service):
    """It is never taken for what was asked for."""
    service.will(service.dialect.said(TextPart(text="Hel"), finish="length"))

    with pytest.raises(UnexpectedModelBehavior, match="max_tokens"):
        await service.ask(Agent(service.model), "Say hello")


async def test_a_request_that_holds_an_image_is_answered(service, way):
    """Its bytes arrive at the provider."""
    service.will(service.dialect.said(TextPart(text="A cat.")))
    asked = ModelRequest(messages=(UserMessage.of("What is this?", ImagePart(data=PNG)),))
    model = service.model

    if way == "run":
        response = model.request(asked)
    elif way == "arun":
        response = await model.arequest(asked)
    elif way == "stream":
        response = returned(model.stream(asked))
    else:
        items = model.astream(asked)
        assert "".join([text async for text in items]) == "A cat."
        response = items.response

    assert response.text == "A cat."
    assert ImagePart(data=PNG).base64 in service.seen()


async def test_a_tool_may_answer_with_a_picture(service):
    """Its bytes arrive at the provider in the next turn, beside the text that belongs to it."""

    def photograph(what: str) -> list[str | ImagePart]:
        """Take a picture."""
        return [f"This is {what}:", ImagePart(data=PNG)]

    call = service.dialect.calls(("a", "photograph", '{"what": "a cat"}'))
    service.will(service.dialect.said(*call, finish="tool_calls"), service.dialect.said(TextPart(text="A cat.")))

    result = await service.ask(Agent(service.model, tools=[photograph]), "Have a look")

    assert result.output == "A cat."
    assert "This is a cat:" in service.seen()
    assert ImagePart(data=PNG).base64 in service.seen()


def returned(stream):
    """What a stream returns."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_a_stream_that_breaks_before_its_first_text_is_asked_again(service):
    """Nobody has seen anything of it."""
    answered = service.dialect.said(TextPart(text="Hello."))
    service.will(stream([service.dialect.failure("Too busy.")], content_type=service.dialect.content_type), answered)

    result = await service.ask(Agent(service.model), "Say hello")

    assert result.output == "Hello."
    assert len(service.server.seen) == 2


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_a_stream_that_breaks_after_its_first_text_is_an_error(service):
    """What was shown cannot be taken back, so there is no second attempt."""
    answered = service.dialect.said(TextPart(text="Hello, world."))
    events = service.dialect.events(answered)
    first = next(place for place, event in enumerate(events) if b"Hello" in event and b"world" not in event)
    service.will(stream(events[: first + 1], drop=True, content_type=service.dialect.content_type), answered)

    with pytest.raises(ModelHTTPError):
        await service.ask(Agent(service.model), "Say hello")

    assert len(service.server.seen) == 1


@pytest.mark.parametrize("provider", DIALECTS)
async def test_fifty_at_once_get_their_own_answers(provider, server):
    """On one shared agent, whose model holds nothing of a request."""
    dialect = DIALECTS[provider]

    def echo(handler):
        number = re.search(r"Number (\d+)", json.dumps(handler.asked))[1]
        dialect.reply(dialect.said(TextPart(text=f"You said {number}.")), streamed=False)(handler)

    server.always = echo
    agent = Agent(dialect.model(server.url.removesuffix("/v1")), instructions="Repeat the number.")

    results = await asyncio.gather(*(agent.arun(f"Number {number}") for number in range(50)))

    assert [result.output for result in results] == [f"You said {number}." for number in range(50)]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("provider", DIALECTS)
async def test_streams_use_one_connection(provider, library, server):
    """A stream that has been read to its end gives its connection back, in both colours and of both libraries."""
    dialect = DIALECTS[provider]
    server.always = dialect.reply(dialect.said(TextPart(text="Hello!")), streamed=True)
    with library.Client(trust_env=False) as client:
        async with library.AsyncClient(trust_env=False) as async_client:
            model = dialect.model(server.url.removesuffix("/v1"), http_client=client, async_http_client=async_client)
            for _ in range(3):
                assert "".join(Agent(model).stream("Say hello")) == "Hello!"
                async with Agent(model).astream("Say hello") as stream:
                    assert "".join([text async for text in stream]) == "Hello!"

    assert server.connections == 2


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_a_connection_that_is_left_open_is_not_waited_for(service):
    """The answer is complete when the provider says so, whatever it does with its connection."""
    if service.dialect.provider == "google":
        return  # whose only word for the end is the connection's

    answered = service.dialect.events(service.dialect.said(TextPart(text="Hello!")))
    held = [*answered, lambda: service.server.released.wait(10)]
    service.will(stream(held, content_type=service.dialect.content_type))

    result = await service.ask(Agent(service.model), "Say hello")

    assert result.output == "Hello!"
    assert not service.server.released.is_set()


def answer_by_tool(provider, output):
    """What a model says that gives its answer by calling a tool."""
    dialect = DIALECTS[provider]
    return dialect.said(*dialect.calls(("a", OUTPUT_TOOL, f'{{"answer": {output}}}')), finish="tool_calls")


class Scene(BaseModel):
    title: str
    cast: list[str] = []


@pytest.mark.parametrize("way", sorted(STREAMED))
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic"])
async def test_partials_of_an_answer_by_a_tool_come_while_it_is_written(provider, way, server):
    """The server holds the second half of the arguments back until somebody has seen what the first half says."""
    shown, waited = threading.Event(), []
    said = answer_by_tool(provider, '[{"title": "Dawn", "cast": ["Ann"]}, {"title": "Dusk"}]')
    events = DIALECTS[provider].events(said)
    held = next(place for place, event in enumerate(events) if b"Dusk" in event)
    server.will(stream([*events[:held], lambda: waited.append(shown.wait(10)), *events[held:]]))
    model = DIALECTS[provider].model(server.url.removesuffix("/v1"), supports_json_schema=False)
    agent, seen = Agent(model, output_type=list[Scene]), []

    def show(partial):
        seen.append([scene.title for scene in partial])
        if "Dawn" in seen[-1]:
            shown.set()

    if way == "stream":
        for partial in agent.stream("A play in two scenes").partials():
            show(partial)
    else:
        async for partial in agent.astream("A play in two scenes").partials():
            show(partial)

    assert waited == [True]
    assert seen[-1] == ["Dawn", "Dusk"]


def test_text_beside_a_call_is_plain_text(server):
    """Where a provider says both at once, what a stream yields is no more than a str: it may be stored, and compared by its type."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    both = [event(delta(content="Well. ", tool_calls=[call])), event(delta("tool_calls")), event("[DONE]")]
    server.will(stream(both), stream(stream_of("Fine.")))
    agent = Agent(DIALECTS["openai"].model(server.url.removesuffix("/v1")), tools=[tool(lambda: "1", name="f")])

    texts = list(agent.stream("?"))

    assert texts == ["Well. ", "Fine."]
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize("way", sorted(STREAMED))
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic"])
async def test_a_broken_answer_by_a_tool_is_asked_for_again_and_grows_anew(provider, way, server):
    """Nothing was done with what was seen of it; the text of the stream has no empty pieces in it."""
    dialect = DIALECTS[provider]
    first, second = (answer_by_tool(provider, f'["{word}", "b", "as long as that"]') for word in ("lost", "kept"))
    events = dialect.events(first)
    held = next(place for place, event in enumerate(events) if b"lost" in event)
    server.will(stream(events[: held + 1], drop=True), stream(dialect.events(second)))
    model = dialect.model(server.url.removesuffix("/v1"), supports_json_schema=False, max_retries=1)
    agent = Agent(model, output_type=list[str])

    if way == "stream":
        seen = list(agent.stream("?").partials())
    else:
        seen = [partial async for partial in agent.astream("?").partials()]

    assert ["lost"] in [partial[:1] for partial in seen]
    assert seen[-1] == ["kept", "b", "as long as that"]
    server.will(stream(dialect.events(second)))
    assert list(agent.stream("?")) == []
