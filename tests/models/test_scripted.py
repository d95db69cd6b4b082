"""The models without a network: what is given as an answer is what comes back, in every way of asking."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel, Field

from agentflow.exceptions import ModelHTTPError, UsageError
from agentflow.messages import (
    ModelRequest,
    ModelResponse,
    ModelSettings,
    OutputSchema,
    TextPart,
    ToolCall,
    ToolDefinition,
    Usage,
    UserMessage,
)
from agentflow.models import Model
from agentflow.models._scripted import FunctionModel, ScriptedModel

from ._chat import HELLO


class Fact(BaseModel):
    text: str
    rating: int = Field(serialization_alias="stars", default=3)


class Heard:
    """What a way of asking gives: the pieces, if it has any, and the whole."""

    def __init__(self, texts, response):
        self.texts, self.response = texts, response


def _request(model, asked=HELLO):
    return Heard(None, model.request(asked))


def _arequest(model, asked=HELLO):
    return Heard(None, asyncio.run(model.arequest(asked)))


def _stream(model, asked=HELLO):
    texts, items = [], model.stream(asked)
    while True:
        try:
            texts.append(next(items))
        except StopIteration as end:
            return Heard(texts, end.value)


def _astream(model, asked=HELLO):
    async def collected():
        items = model.astream(asked)
        return Heard([text async for text in items], items.response)

    return asyncio.run(collected())


@pytest.fixture(params=[_request, _arequest, _stream, _astream], ids=lambda way: way.__name__[1:])
def ask(request):
    """Each way of asking."""
    return request.param


WHOLE = ModelResponse(
    parts=(TextPart(text="a"), TextPart(text="b"), ToolCall(name="f"), ToolCall(id="mine", name="g")),
    usage=Usage(requests=2, input_tokens=5),
    model="other",
    finish_reason="length",
)

ANSWERS = [
    ("Hi", ["Hi"], "Hi"),
    ("", [], ""),
    (["a", "", "b"], ["a", "b"], "ab"),
    ([], [], ""),
    (Fact(text="x"), ['{"text":"x","stars":3}'], '{"text":"x","stars":3}'),
    (["Here: ", Fact(text="x")], ["Here: ", '{"text":"x","stars":3}'], 'Here: {"text":"x","stars":3}'),
    (TextPart(text="a"), ["a"], "a"),
    (WHOLE, ["a", "b"], "ab"),
    (["a", "b", WHOLE], ["a", "b"], "ab"),
]


# ---- both models ---------------------------------------------------------------------------------


@pytest.fixture(params=["scripted", "function", "async function"])
def model_giving(request):
    """Each kind of model, as a function that makes one which gives an answer."""

    def made(answer):
        async def awaited(messages, info):
            return answer

        if request.param == "scripted":
            return ScriptedModel([answer])
        return FunctionModel(awaited if request.param == "async function" else lambda messages, info: answer)

    return made


@pytest.mark.parametrize(("answer", "texts", "text"), ANSWERS)
def test_an_answer_comes_back(ask, model_giving, answer, texts, text):
    """Its text is split as it was given, and joined in the whole."""
    heard = ask(model_giving(answer))

    assert heard.texts in (None, texts)
    assert heard.response.text == text
    assert heard.response.usage.requests >= 1


def test_tool_calls_come_back(ask, model_giving):
    """One, several, or some beside text; each has an id of its own."""
    one = ask(model_giving(ToolCall.of("f", x=1))).response
    several = ask(model_giving(["See: ", ToolCall.of("f"), ToolCall(id="mine", name="g")])).response

    assert one.tool_calls[0].arguments == '{"x": 1}'
    assert one.finish_reason == "tool_calls"
    assert one.tool_calls[0].id
    assert several.text == "See: "
    assert [call.name for call in several.tool_calls] == ["f", "g"]
    assert several.tool_calls[1].id == "mine"
    assert len({call.id for call in several.tool_calls}) == 2


def test_a_whole_response_comes_back_as_it_is(ask, model_giving):
    """Only ids that are missing are added, and it counts as a request at least."""
    response = ask(model_giving(WHOLE)).response
    uncounted = ask(model_giving(ModelResponse(usage=Usage(output_tokens=3)))).response

    first = WHOLE.parts[2].model_copy(update={"id": response.tool_calls[0].id})
    assert response == WHOLE.model_copy(update={"parts": (*WHOLE.parts[:2], first, WHOLE.parts[3])})
    assert uncounted.usage == Usage(requests=1, output_tokens=3)


@pytest.mark.parametrize("kind", [ModelHTTPError, KeyboardInterrupt])
def test_an_exception_is_raised(ask, model_giving, kind):
    """The very instance, whatever it is."""
    error = kind("x")

    with pytest.raises(kind) as raised:
        ask(model_giving(error))

    assert raised.value is error


@pytest.mark.parametrize("ask", [_stream, _astream])
def test_an_exception_may_come_in_the_middle_of_a_stream(ask, model_giving):
    """After the pieces before it."""
    heard = []
    model = model_giving(["Hel", ModelHTTPError("dropped")])

    async def aread():
        async for text in model.astream(HELLO):
            heard.append(text)

    with pytest.raises(ModelHTTPError, match="dropped"):
        if ask is _stream:
            heard.extend(iter(model.stream(HELLO)))
        else:
            asyncio.run(aread())

    assert heard == ["Hel"]


@pytest.mark.parametrize("answer", [42, None, b"x", {"a": 1}, ["a", 42], ValueError, {"a"}])
def test_something_else_is_refused(ask, model_giving, answer):
    """By a script when it is made, of a function when it returns."""
    with pytest.raises(UsageError, match="neither text"):
        ask(model_giving(answer))


# ---- ScriptedModel -------------------------------------------------------------------------------


def test_answers_come_in_order(ask):
    """And what was asked is kept."""
    other = ModelRequest(messages=(UserMessage(content="Again"),))
    model = ScriptedModel(["one", "two"])

    assert model.remaining == 2
    assert ask(model).response.text == "one"
    assert model.remaining == 1
    assert ask(model, other).response.text == "two"
    assert model.remaining == 0
    assert model.requests == (HELLO, other)
    model.assert_complete()


def test_an_answer_may_be_an_iterator(ask):
    """It is read when it is asked for."""
    heard = ask(ScriptedModel([iter(["a", "b"])]))

    assert heard.response.text == "ab"
    with pytest.raises(UsageError, match="neither text"):
        ask(ScriptedModel([iter(["a", 42])]))


def test_an_unplanned_request_fails_at_once(ask):
    """With what was asked; a step does not retry this error."""
    model = ScriptedModel(["one"], name="tiny")
    ask(model)

    with pytest.raises(UsageError, match=r"unplanned model request: tiny has given all of its 1 answers.*Hello"):
        ask(model)

    assert len(model.requests) == 2
    assert model.remaining == 0


def test_a_script_that_is_not_finished_says_so():
    """With the next answer."""
    model = ScriptedModel(["one", "two", "three"])
    model.request(HELLO)

    with pytest.raises(AssertionError, match=r"asked 1 times and has 2 of 3 answers left; the next is 'two'"):
        model.assert_complete()


def test_a_single_text_is_no_script():
    """It would be a script of letters."""
    with pytest.raises(UsageError, match=r"write ScriptedModel\(\['Hello'\]\)"):
        ScriptedModel("Hello")


def test_a_script_is_shared_by_threads():
    """Each answer goes out once."""
    model = ScriptedModel([str(number) for number in range(200)])

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: model.request(HELLO).text, range(200)))

    assert sorted(texts, key=int) == [str(number) for number in range(200)]
    model.assert_complete()


def test_streams_of_a_script_take_turns():
    """Other tasks run between the pieces."""
    model = ScriptedModel([["a1", "a2"], ["b1", "b2"]])
    order = []

    async def read():
        async for text in model.astream(HELLO):
            order.append(text)

    async def both():
        await asyncio.gather(read(), read())

    asyncio.run(both())

    assert order == ["a1", "b1", "a2", "b2"]


def test_a_script_has_its_name():
    """Which is all of its version."""
    model = ScriptedModel([])

    assert isinstance(model, Model)
    assert model.name == model.__agentflow_version__() == "scripted"
    assert ScriptedModel([], name="mine").name == "mine"


# ---- FunctionModel -------------------------------------------------------------------------------


def plain(messages, info):
    return messages[-1].content.upper()


async def awaited(messages, info):
    await asyncio.sleep(0)
    return messages[-1].content.upper()


def pieces(messages, info):
    yield from messages[-1].content.upper()


async def apieces(messages, info):
    for letter in messages[-1].content.upper():
        await asyncio.sleep(0)
        yield letter


async def awaited_pieces(messages, info):
    return pieces(messages, info)


class Iterator:
    """An async iterator that is no generator."""

    def __init__(self, messages, info):
        self.left = list(messages[-1].content.upper())

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


@pytest.mark.parametrize("fn", [plain, awaited, pieces, apieces, awaited_pieces, Iterator, lambda m, i: awaited(m, i)])
def test_a_function_may_have_any_colour(ask, fn):
    """In every way of asking; an iterator's items are the pieces."""
    heard = ask(FunctionModel(fn))

    assert heard.response.text == "HELLO"
    assert heard.texts in (None, ["HELLO"], list("HELLO"))
    if fn in (pieces, apieces, awaited_pieces, Iterator):
        assert heard.texts in (None, list("HELLO"))


@pytest.mark.parametrize("fn", [plain, awaited, apieces])
def test_a_function_may_be_asked_on_a_running_loop(fn):
    """Blocking requests too, as in a notebook."""

    async def main():
        return FunctionModel(fn).request(HELLO).text, "".join(FunctionModel(fn).stream(HELLO))

    assert asyncio.run(main()) == ("HELLO", "HELLO")


def test_a_function_is_told_what_was_asked(ask):
    """Tools, the form of the output, settings."""
    request = ModelRequest(
        messages=HELLO.messages,
        tools=(ToolDefinition(name="f"),),
        output=OutputSchema(name="o", json_schema={}),
        settings=ModelSettings(seed=7),
    )
    seen = []

    ask(FunctionModel(lambda messages, info: seen.append((messages, info)) or "x"), request)

    messages, info = seen[0]
    assert messages == request.messages
    assert (info.tools, info.output, info.settings, info.request) == (
        request.tools,
        request.output,
        request.settings,
        request,
    )


@pytest.mark.parametrize("fn_colour", ["plain", "async"])
def test_a_function_sees_the_callers_context(ask, fn_colour):
    """Wherever it runs."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def look(messages, info):
        return variable.get()

    variable.set("set")

    assert ask(FunctionModel(look if fn_colour == "async" else lambda m, i: variable.get())).response.text == "set"


def test_a_blocking_function_does_not_block_the_loop():
    """It runs in a thread, and so does each step of a generator."""
    passed = threading.Event()

    def blocks(messages, info):
        assert passed.wait(10)
        yield "a"
        assert threading.current_thread() is not threading.main_thread()
        yield "b"

    async def main():
        task = asyncio.create_task(FunctionModel(blocks).arequest(HELLO))
        await asyncio.sleep(0)
        passed.set()
        return (await task).text

    assert asyncio.run(main()) == "ab"


def test_an_async_stream_that_is_left_closes_its_function():
    """When the stream is closed, not when it is collected."""
    closed = []

    async def fn(messages, info):
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    async def main():
        items = FunctionModel(fn).astream(HELLO)
        assert await anext(items) == "a"
        await items.aclose()
        return list(closed)

    assert asyncio.run(main()) == [True]


def test_a_function_gives_its_name():
    """Unless there is a better one; anything callable has one."""

    class Callable:
        def __call__(self, messages, info):
            return "x"

    assert FunctionModel(plain).name == "function:plain"
    assert FunctionModel(plain, name="mine").name == "mine"
    assert FunctionModel(Callable()).name.endswith("Callable")
