"""FallbackModel: the next model is asked when one fails, in every way of asking, and it is said who answered."""

from __future__ import annotations

import asyncio

import pytest

from agentflow import Agent, cached_step, list_runs, workflow
from agentflow._agent import AgentResult
from agentflow.events import ModelAnswered, ModelRetried
from agentflow.exceptions import ModelHTTPError, ModelTimeout, UnexpectedModelBehavior, UsageError
from agentflow.messages import ModelResponse, TextPart
from agentflow.models import FallbackModel, Model
from agentflow.models._scripted import ScriptedModel
from agentflow.testing import fresh_store
from tests._ways import STREAMED, WAYS

from ._chat import HELLO, answer, delta, event, stream
from ._dialects import DIALECTS

DOWN = ModelHTTPError("down", model="a", status=503)


@pytest.fixture(params=WAYS)
def ask(request):
    """Each way to run an agent."""
    return WAYS[request.param]


def models(*answers):
    """Scripted models named a, b, c with one answer each."""
    return [ScriptedModel([each], name=name) for name, each in zip("abc", answers, strict=False)]


@pytest.mark.parametrize("error", [DOWN, ModelTimeout("slow", model="a")])
async def test_the_next_model_answers(ask, error):
    """And the answer says whose it is."""
    first, second = models(error, "Hello!")

    result = await ask(Agent(FallbackModel(first, second)), "Say hello")

    assert result.output == "Hello!"
    assert result.messages[-1].answered_by == "b"


async def test_the_first_model_is_asked_alone_while_it_answers(ask):
    """The others are not paid for."""
    first, second = models("Hello!", "never")

    result = await ask(Agent(FallbackModel(first, second)), "Say hello")

    assert result.messages[-1].answered_by == "a"
    assert second.requests == ()


async def test_when_all_fail_the_last_error_is_raised(ask):
    """With a note of each error before it."""
    model = FallbackModel(*models(DOWN, ModelHTTPError("also down", model="b", status=500)))

    with pytest.raises(ModelHTTPError, match="also down") as raised:
        await ask(Agent(model), "Say hello")

    assert any("a failed: ModelHTTPError: down" in note for note in raised.value.__notes__)


async def test_another_error_is_raised_at_once(ask):
    """It would be the same with the next model, or is none of the model's."""
    first, second = models(UnexpectedModelBehavior("refused", model="a"), "never")

    with pytest.raises(UnexpectedModelBehavior, match="refused"):
        await ask(Agent(FallbackModel(first, second)), "Say hello")

    assert second.requests == ()


async def test_the_errors_to_go_on_after_can_be_chosen(ask):
    """Such as a refusal."""
    first, second = models(UnexpectedModelBehavior("refused", model="a"), "Hello!")

    result = await ask(Agent(FallbackModel(first, second, on=UnexpectedModelBehavior)), "Say hello")

    assert result.output == "Hello!"


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_a_stream_that_has_begun_is_not_replaced(way):
    """What was shown cannot be taken back."""
    first, second = models(["Hel", DOWN], "never")

    with pytest.raises(ModelHTTPError, match="down"):
        await WAYS[way](Agent(FallbackModel(first, second)), "Say hello")

    assert second.requests == ()


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_an_answer_without_text_is_an_answer(way):
    """Of a stream too, which then has no first piece."""
    model = FallbackModel(*models(ModelResponse(parts=(), finish_reason="stop"), "never"))

    result = await WAYS[way](Agent(model), "Say nothing")

    assert (result.output, result.messages[-1].answered_by) == ("", "a")


@pytest.mark.parametrize("way", sorted(STREAMED))
async def test_a_stream_that_breaks_in_a_call_is_replaced(server, way):
    """Calls that are half written have said nothing to anybody, and nothing was done with them."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
    server.always = stream([event(delta(tool_calls=[call]))], drop=True)
    broken = DIALECTS["openai"].model(server.url.removesuffix("/v1"), max_retries=0)

    result = await WAYS[way](Agent(FallbackModel(broken, ScriptedModel(["Hello!"]))), "Say hello")

    assert result.output == "Hello!"


def test_a_stream_that_is_closed_closes_the_model():
    """The connection goes back."""
    closed = []

    class Watched(Model):
        name = "watched"

        def request(self, request):
            raise NotImplementedError

        def stream(self, request):
            try:
                yield "one"
                yield "two"
            finally:
                closed.append(True)
            return ModelResponse(parts=(TextPart(text="onetwo"),))

    stream = FallbackModel(Watched()).stream(HELLO)
    next(stream)
    stream.close()

    assert closed == [True]


@pytest.mark.parametrize("sync", [True, False])
def test_a_run_tells_who_failed_and_who_answered(sync):
    """As events, and in what was used."""
    agent = Agent(FallbackModel(*models(DOWN, "Hello!")))

    @cached_step(name="greet by the next model")
    def greet() -> str:
        result: AgentResult[str] = agent.run("Say hello") if sync else asyncio.run(agent.arun("Say hello"))
        return result.output

    @workflow(name="greeting by the next model")
    def greeting() -> str:
        return greet()

    with fresh_store():
        greeting()
        events = list(list_runs()[0].events())

    retried = [event for event in events if isinstance(event, ModelRetried)]
    assert [(event.model, event.next_model) for event in retried] == [("a", "b")]
    assert "down" in retried[0].error
    assert [event.model for event in events if isinstance(event, ModelAnswered)] == ["b"]


async def test_one_provider_stands_in_for_another(server, ask):
    """Over the network: the first repeats its attempts, then the next is asked in its own format."""
    first, second = DIALECTS["anthropic"], DIALECTS["google"]
    url = server.url.removesuffix("/v1")
    streamed = ask in {WAYS[way] for way in STREAMED}
    refused = answer({"error": {"message": "Overloaded."}}, 529, {"retry-after": "0"})
    server.will(refused, refused, second.reply(second.said(TextPart(text="Hello!")), streamed=streamed))
    model = FallbackModel(first.model(url, max_retries=1), second.model(url))

    result = await ask(Agent(model), "Say hello")

    assert result.output == "Hello!"
    assert result.messages[-1].answered_by == "google:gemini-3-pro"
    assert [seen.path.partition("?")[0].rpartition("/")[2].partition(":")[0] for seen in server.seen] == [
        *("messages", "messages"),
        "gemini-3-pro",
    ]


def test_its_version_is_that_of_all_its_models():
    """Another model in it is another model, also where it has not been asked."""
    one, other = (FallbackModel("openai:a", name).__agentflow_version__() for name in ("ollama:b", "ollama:c"))

    assert one != other
    assert FallbackModel("openai:a", "ollama:b").__agentflow_version__() == one


def test_schemas_are_used_only_if_all_know_them():
    """The same request goes to each of them."""
    assert FallbackModel("openai:a", "anthropic:claude-sonnet-5").supports_json_schema
    assert not FallbackModel("openai:a", "anthropic:claude-3-haiku-20240307").supports_json_schema


def test_no_model_is_refused():
    """When it is made."""
    with pytest.raises(UsageError, match="at least one"):
        FallbackModel()
