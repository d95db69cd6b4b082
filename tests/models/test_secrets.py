"""The key, and what stands in the address beside it, show up nowhere: no message, chain, representation or log."""

from __future__ import annotations

import asyncio
import logging
import traceback

import httpx
import pytest

from agentflow.exceptions import AgentflowError, ModelError, UsageError
from agentflow.messages import TextPart
from agentflow.models.openai import OpenAIModel

from ._chat import HELLO, answer, cut, delta, event, stream
from ._dialects import DIALECTS

KEY = "sk-canary-0001"
CANARIES = (KEY, "canary-user", "canary-password", "canary-value", "canary-flag")
ECHO = " / ".join(CANARIES)


def address_of(server, path="/v1"):
    """An address with everything that it should not have."""
    host = server.url.removeprefix("http://").removesuffix("/v1")
    return f"http://canary-user:canary-password@{host}{path}?v=1&canary=canary-value&canary-flag"


def chain(error):
    """An exception and all that it leads to, also what `from None` only hides."""
    found, todo = [], [error]
    while todo:
        current = todo.pop()
        if current is not None and current not in found:
            found.append(current)
            todo += [current.__cause__, current.__context__]
    return found


def everything_about(error):
    """All text that an exception could put into a log or onto a screen."""
    parts = [f"{each!r} {each} {each.args} {vars(each)}" for each in chain(error)]
    return "".join([*parts, *traceback.format_exception(error)])


def locals_of(error):
    """The local variables of our functions, which some loggers show."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=True)
    ours = [str(frame.locals) for frame in frames if frame.filename != __file__ and "agentflow" in frame.filename]
    assert ours
    return "".join(ours)


ways = pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.request(HELLO),
        lambda model: asyncio.run(model.arequest(HELLO)),
        lambda model: list(model.stream(HELLO)),
        lambda model: asyncio.run(_collected(model)),
    ],
    ids=["request", "arequest", "stream", "astream"],
)


async def _collected(model):
    return [text async for text in model.astream(HELLO)]


@ways
@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(
    ("reply", "retries"),
    [
        (answer({"error": {"message": f"Bad: {ECHO}"}}, 401), 0),
        (answer({"error": {"message": f"Bad: {ECHO}"}}, 429, {"retry-after": "0"}), 1),
        (answer(f"<html>{'x' * 490}{ECHO}".encode(), 500, {"retry-after": "0"}), 1),
        (answer(f"<html>{ECHO}".encode(), 200, {"content-type": "text/html"}), 0),
        (answer({"error": {"message": f"Bad: {ECHO}", "code": 400}}), 0),
        (answer({"error": f"Bad: {ECHO}"}, 302, {"location": "/"}), 0),
        (stream([event({"error": {"message": f"Bad: {ECHO}"}})]), 0),
        (stream([event(f"<html>{ECHO}")]), 0),
        (stream([event(delta(content="x"))], drop=True), 0),
        (cut, 0),
    ],
    ids=["401", "429", "500", "page", "error in 200", "302", "error event", "event", "dropped", "cut"],
)
def test_errors_show_no_secrets(server, caplog, ask, reply, retries, provider):
    """Also if the server repeats them, and with every logger at its loudest."""
    caplog.set_level(logging.DEBUG)
    server.always = reply
    model = DIALECTS[provider].model_class("m", api_key=KEY, base_url=address_of(server), max_retries=retries)

    with pytest.raises(ModelError) as raised:
        ask(model)

    text = everything_about(raised.value) + caplog.text
    assert not [canary for canary in CANARIES if canary in text]
    assert all(isinstance(each, AgentflowError) for each in chain(raised.value))
    assert "?v=1&canary=canary-value&canary-flag" in server.seen[0].path


@ways
def test_a_server_that_is_not_there_shows_no_secrets(caplog, ask, server):
    """The address is in the message, but only where it leads."""
    caplog.set_level(logging.DEBUG)
    server.url = "http://127.0.0.1:1/v1"
    model = OpenAIModel("m", api_key=KEY, base_url=address_of(server), max_retries=0)

    with pytest.raises(ModelError, match="http://127.0.0.1:1/v1/chat/completions") as raised:
        ask(model)

    text = everything_about(raised.value) + locals_of(raised.value) + caplog.text
    assert not [canary for canary in CANARIES if canary in text]
    assert chain(raised.value) == [raised.value]


@ways
def test_a_key_that_cannot_be_sent_is_not_quoted(caplog, ask):
    """HTTP libraries quote the header that they refuse, so it never gets there."""
    caplog.set_level(logging.DEBUG)

    with pytest.raises(UsageError) as raised:
        ask(OpenAIModel("m", api_key=f"{KEY}\nx"))

    messages = "".join(f"{each!r}{each}" for each in chain(raised.value))
    assert KEY not in messages + caplog.text


def test_a_header_that_cannot_be_sent_is_not_quoted(server):
    """Nor is one that a user's own client adds."""
    with httpx.Client(headers={"x-mine": f"{KEY}\nx"}, trust_env=False) as client:
        model = OpenAIModel("m", base_url=server.url, http_client=client)
        with pytest.raises(ModelError, match=r"\(LocalProtocolError\)") as raised:
            model.request(HELLO)

    assert KEY not in "".join(f"{each!r}{each}" for each in chain(raised.value))


@pytest.mark.parametrize("url", [f"{KEY}", f"https://{KEY}:x@[/v1", f"ftp://h/?{KEY}", f"https://h:{KEY}/v1"])
def test_an_address_that_cannot_be_asked_is_not_quoted(url):
    """A key may stand where the address belongs."""
    with pytest.raises(UsageError) as raised:
        OpenAIModel("m", base_url=url)

    assert KEY not in "".join(f"{each!r}{each}" for each in chain(raised.value))


@ways
@pytest.mark.parametrize("provider", DIALECTS)
def test_success_logs_no_secrets(server, caplog, ask, provider):
    """The HTTP libraries log the address of every request."""
    caplog.set_level(logging.DEBUG)
    dialect = DIALECTS[provider]
    streamed = "_collected" in ask.__code__.co_names or "stream" in ask.__code__.co_names
    server.will(dialect.reply(dialect.said(TextPart(text="Hi")), streamed=streamed))

    ask(dialect.model_class("m", api_key=KEY, base_url=address_of(server)))

    assert f"{server.url}/" in caplog.text
    assert not [canary for canary in CANARIES if canary in caplog.text]


@pytest.mark.parametrize("provider", DIALECTS)
def test_representations_show_no_secrets(server, provider):
    """Of the model, its codec, and its calls."""
    model = DIALECTS[provider].model_class("m", api_key=KEY, base_url=address_of(server))
    codec = model.codec()
    call = codec.encode(HELLO, stream=True)

    text = f"{model!r}{codec!r}{call!r}{model.__agentflow_version__()}{model._options!r}{codec.decoder()!r}"

    assert not [canary for canary in CANARIES if canary in text]
    assert any(value.removeprefix("Bearer ") == KEY for value in call.headers.values())
