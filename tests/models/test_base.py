"""What every model can do once it can answer a request."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from agentflow.exceptions import UsageError
from agentflow.messages import ModelResponse, TextPart
from agentflow.models import AsyncModelStream, Model
from agentflow.models._base import address

from ._chat import HELLO

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Echo(Model):
    """The least that a model must be."""

    def __init__(self, text="Hello"):
        self.text = text
        self.threads = []

    @property
    def name(self):
        return "echo"

    def request(self, request):
        self.threads.append(threading.current_thread())
        text = self.text or VARIABLE.get()
        return ModelResponse(parts=(TextPart(text=text),) if text != "unset" else ())


def streamed(model):
    texts, items = [], model.stream(HELLO)
    try:
        while True:
            texts.append(next(items))
    except StopIteration as end:
        return texts, end.value


async def astreamed(model):
    items = model.astream(HELLO)
    return [text async for text in items], items.response


def test_one_method_makes_a_model():
    """The other ways of asking follow from it."""
    model = Echo()
    whole = model.request(HELLO)

    assert asyncio.run(model.arequest(HELLO)) == whole
    assert streamed(model) == (["Hello"], whole)
    assert asyncio.run(astreamed(model)) == (["Hello"], whole)
    assert model.__agentflow_version__() == "echo"
    assert model.supports_json_schema


def test_no_text_is_no_piece():
    """A turn of tool calls streams nothing."""
    assert streamed(Echo(""))[0] == []
    assert asyncio.run(astreamed(Echo("")))[0] == []


def test_awaiting_does_not_block_the_loop():
    """The request runs in a thread, with the caller's context."""
    VARIABLE.set("set")
    model = Echo("")

    assert asyncio.run(model.arequest(HELLO)).text == "set"
    assert asyncio.run(astreamed(model))[0] == ["set"]
    assert threading.main_thread() not in model.threads


def test_an_unfinished_stream_has_no_response():
    """Asking for it says what to do first."""

    async def main():
        items = Echo().astream(HELLO)
        with pytest.raises(UsageError, match="exhaust the stream"):
            _ = items.response
        assert await anext(items) == "Hello"
        with pytest.raises(UsageError, match="exhaust the stream"):
            _ = items.response
        await items.aclose()

    asyncio.run(main())


def test_a_stream_stays_exhausted():
    """Its answer stays, and closing it does no harm."""

    async def main():
        items = Echo().astream(HELLO)
        assert [text async for text in items] == ["Hello"]
        assert [text async for text in items] == []
        await items.aclose()
        return items.response.text

    assert asyncio.run(main()) == "Hello"


def test_an_error_passes_through_a_stream():
    """And there is no response then."""

    async def source():
        yield "Hel"
        raise ValueError("x")

    async def main():
        items = AsyncModelStream(source())
        with pytest.raises(ValueError, match="x"):
            _ = [text async for text in items]
        with pytest.raises(UsageError):
            _ = items.response

    asyncio.run(main())


def test_a_model_needs_both_of_its_methods():
    """Python says which is missing."""

    class Nothing(Model):
        pass

    with pytest.raises(TypeError, match=r"name.*request"):
        Nothing()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h:1/v1?k=v#f", "https://h:1/v1"),
        ("http://u@[::1]/v1", "http://[::1]/v1"),
        ("http://h", "http://h"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url, shown):
    """User, password, query and fragment stay out."""
    assert address(url) == shown
