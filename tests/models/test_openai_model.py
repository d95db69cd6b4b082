"""OpenAIModel as users hold it: names, keys, addresses, clients of their own, and many requests at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import pytest

from agentflow.exceptions import ModelHTTPError, UsageError
from agentflow.messages import ModelSettings
from agentflow.models import Model, resolve
from agentflow.models._base import real_requests
from agentflow.models.openai import OpenAIModel
from agentflow.testing import VirtualClock

from ._chat import HELLO, answer, completion, delta, event, stream, stream_of


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No key and no address in the environment."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture(params=["request", "arequest", "stream", "astream"])
def ask(request):
    """Each way of asking, as a function that gives the answer's text."""
    return {"request": _request, "arequest": _arequest, "stream": _stream, "astream": _astream}[request.param]


def _request(model, asked=HELLO):
    return model.request(asked).text


def _arequest(model, asked=HELLO):
    return asyncio.run(model.arequest(asked)).text


def _stream(model, asked=HELLO):
    return "".join(model.stream(asked))


def _astream(model, asked=HELLO):
    async def collected():
        items = model.astream(asked)
        texts = [text async for text in items]
        assert items.response.text == "".join(texts)
        return "".join(texts)

    return asyncio.run(collected())


# ---- names ---------------------------------------------------------------------------------------


def test_a_name_becomes_a_model():
    """Also one with a colon in it; a model stays what it is."""
    model = resolve("openai:ft:gpt-4o:me")

    assert isinstance(model, OpenAIModel)
    assert model.name == "openai:ft:gpt-4o:me"
    assert resolve(model) is model
    assert model.supports_json_schema


@pytest.mark.parametrize("name", ["gpt-4o", "", "openai:", "nobody:gpt", ":gpt"])
def test_an_unknown_name_is_refused(name):
    """With the providers that are known."""
    with pytest.raises(UsageError, match="'openai'"):
        resolve(name)


def test_importing_models_loads_no_http_library():
    """Also making a model does not; the first request does."""
    code = (
        "import sys, agentflow.models; from agentflow.models.openai import OpenAIModel; "
        "agentflow.models.resolve('openai:gpt-4o'); OpenAIModel('m', api_key='k').codec(); "
        "print({'httpx', 'httpx2', 'openai', 'anyio'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("arguments", [{"model": ""}, {"model": "m", "max_retries": -1}])
def test_a_model_that_cannot_be_is_refused(arguments):
    """When it is made, not when it is asked."""
    with pytest.raises(UsageError):
        OpenAIModel(**arguments)


# ---- keys and addresses --------------------------------------------------------------------------


def test_a_missing_key_is_named_at_the_first_request(ask):
    """The model itself can be made without; the message says what to do."""
    model = OpenAIModel("gpt-4o-mini")

    with pytest.raises(UsageError) as raised:
        ask(model)

    assert all(part in str(raised.value) for part in ("OPENAI_API_KEY", "api_key=", "offline", "openai:gpt-4o-mini"))


def test_pauses_between_attempts_move_the_clock_of_a_test(server, ask):
    """What the provider asks for is noted, and nobody waits for it."""
    last = stream(stream_of("Hello!")) if "stream" in ask.__name__ else answer(completion())
    server.will(answer({}, 429, {"retry-after": "50"}), answer({}, 503, {"retry-after": "40"}), last)
    model = OpenAIModel("m", base_url=server.url, api_key="sk-canary-0001")

    with VirtualClock() as clock:
        assert ask(model) == "Hello!"

    assert clock.pauses == [50, 40]


def test_the_key_is_looked_up_at_each_request(server, monkeypatch):
    """An argument comes before the environment; a newline at its end is no part of it."""
    server.always = answer(completion())
    model = OpenAIModel("m", base_url=server.url)

    for key in ("sk-one", "sk-two\n"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        model.request(HELLO)
    OpenAIModel("m", base_url=server.url, api_key=" sk-three\n").request(HELLO)

    assert [seen.headers["authorization"] for seen in server.seen] == [
        "Bearer sk-one",
        "Bearer sk-two",
        "Bearer sk-three",
    ]


def test_a_server_of_ones_own_needs_no_key(server, monkeypatch):
    """Its address may come from the environment as well."""
    server.always = answer(completion())
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)

    assert OpenAIModel("m").request(HELLO).text == "Hello!"
    assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-é", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_refused(key, ask):
    """Without showing it."""
    with pytest.raises(UsageError, match="check api_key") as raised:
        ask(OpenAIModel("m", api_key=key))

    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://h/v1",
        "https://",
        "https://h:x/v1",
        "https://[h/v1",
        "https://h /v1",
        "http://h:0",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(url, monkeypatch):
    """When the model is made, or when the environment is read."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)

    with pytest.raises(UsageError, match="^base_url= is no address"):
        OpenAIModel("m", base_url=url)
    with pytest.raises(UsageError, match="^OPENAI_BASE_URL is no address" if url else "^no API key"):
        OpenAIModel("m").request(HELLO)


def test_another_server_is_another_model():
    """A step's version names the server, but none of its secrets."""
    assert OpenAIModel("m").__agentflow_version__() == "openai:m"
    assert OpenAIModel("m", base_url="https://u:p@h/v1?k=v").__agentflow_version__() == "openai:m at https://h/v1"
    assert (
        repr(OpenAIModel("m", api_key="k", base_url="https://u:p@h/v1?k=v"))
        == "OpenAIModel('m', base_url='https://h/v1')"
    )
    assert repr(OpenAIModel("m")) == "OpenAIModel('m')"


# ---- clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_transport_of_the_users_own_is_used(ask, library):
    """Of either library, in every way of asking; nothing else is asked."""
    seen = []

    def handler(request):
        seen.append(request)
        body = b"".join(stream_of("Mo", "ck"))
        streamed = b'"stream": true' in request.content
        if streamed:
            return library.Response(200, content=body, headers={"content-type": "text/event-stream"})
        return library.Response(200, json=completion("Mock"))

    model = OpenAIModel("m", api_key="k", transport=library.MockTransport(handler))

    assert [ask(model), ask(model)] == ["Mock", "Mock"]
    assert [request.url.host for request in seen] == ["api.openai.com"] * 2
    assert isinstance(seen[0], library.Request)
    assert repr(seen[0].url) == "URL('https://api.openai.com/v1/chat/completions')"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_clients_of_the_users_own_are_used_and_left_open(server, library):
    """With their own headers and their own timeouts."""
    server.always = answer(completion())

    async def awaited(client):
        async with client:
            await OpenAIModel("m", base_url=server.url, async_http_client=client).arequest(HELLO)
            return client.is_closed

    with library.Client(headers={"x-mine": "1"}, trust_env=False) as client:
        OpenAIModel("m", base_url=server.url, http_client=client).request(HELLO)
        closed = client.is_closed
    aclosed = asyncio.run(awaited(library.AsyncClient(headers={"x-mine": "1"}, trust_env=False)))

    assert [seen.headers["x-mine"] for seen in server.seen] == ["1", "1"]
    assert (closed, aclosed) == (False, False)


@pytest.mark.parametrize(
    ("options", "timeout", "expected"),
    [
        ({}, None, (10, 600, 600, 600)),
        ({}, 3.0, (3, 3, 3, 3)),
        ({}, 60.0, (10, 60, 60, 60)),
        ({"timeout": 7}, None, (7, 7, 7, 7)),
        ({"timeout": None}, None, (None, None, None, None)),
        ({"timeout": 7}, 3.0, (3, 3, 3, 3)),
    ],
)
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_timeouts(library, options, timeout, expected):
    """The request's, then those somebody chose for the client, then ours; never five seconds by accident."""
    seen = []

    def handler(request):
        seen.append(request.extensions["timeout"])
        return library.Response(200, json=completion())

    with library.Client(transport=library.MockTransport(handler), **options) as client:
        model = OpenAIModel("m", api_key="k", http_client=client)
        model.request(HELLO.model_copy(update={"settings": ModelSettings(timeout=timeout)}))

    assert tuple(seen[0][name] for name in ("connect", "read", "write", "pool")) == expected


def test_a_client_of_one_colour_is_not_passed_by():
    """The other colour would go around the user's proxy: it says which argument is missing."""
    with httpx.Client() as client:
        blocking = OpenAIModel("m", api_key="k", http_client=client)
        with pytest.raises(UsageError, match="async_http_client="):
            asyncio.run(blocking.arequest(HELLO))
    awaiting = OpenAIModel("m", api_key="k", async_http_client=httpx.AsyncClient())
    with pytest.raises(UsageError, match=" http_client="):
        awaiting.request(HELLO)


def test_a_transport_of_one_colour_is_named():
    """It says which method is missing."""
    with httpx.HTTPTransport() as transport, pytest.raises(UsageError, match="handle_async_request"):
        asyncio.run(OpenAIModel("m", api_key="k", transport=transport).arequest(HELLO))


def test_both_libraries_at_once(server):
    """An error of one is recognised while the other is loaded too."""
    for library in (httpx, httpx2):
        with library.Client(trust_env=False) as client:
            model = OpenAIModel("m", base_url="http://127.0.0.1:1/v1", http_client=client, max_retries=0)
            with pytest.raises(ModelHTTPError, match="ConnectError"):
                model.request(HELLO)


def test_cookies_are_not_kept(server):
    """They would go with the requests of other keys."""
    server.will(answer(completion(), headers={"set-cookie": "a=b"}), answer(completion()))

    for key in ("one", "two"):
        OpenAIModel("m", base_url=server.url, api_key=key).request(HELLO)

    assert "cookie" not in server.seen[1].headers


# ---- many at once --------------------------------------------------------------------------------


def test_fifty_requests_at_once(server):
    """One model, one loop: the server answers none before it has all of them."""
    together = threading.Barrier(50)

    def reply(handler):
        together.wait(20)
        answer(completion())(handler)

    server.always = reply
    model = OpenAIModel("m", base_url=server.url)

    async def all_of_them():
        return await asyncio.gather(*(model.arequest(HELLO) for _ in range(50)))

    assert [response.text for response in asyncio.run(all_of_them())] == ["Hello!"] * 50


def test_fifty_streams_at_once(server):
    """Each has its own text, and they run beside each other."""
    together = threading.Barrier(50)
    number = iter(range(50))

    def reply(handler):
        mine = str(next(number))
        stream([event(delta(content=mine)), lambda: together.wait(20), *stream_of(f"={mine}")])(handler)

    server.always = reply
    model = OpenAIModel("m", base_url=server.url)

    async def one():
        return [text async for text in model.astream(HELLO)]

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(50)))

    assert sorted(asyncio.run(all_of_them())) == sorted([str(n), f"={n}"] for n in range(50))


def test_one_model_in_many_threads(server):
    """The threads share its connections."""
    server.always = answer(completion())
    model = OpenAIModel("m", base_url=server.url)

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: model.request(HELLO).text, range(40)))

    assert texts == ["Hello!"] * 40
    assert server.connections <= 8


def test_a_retry_does_not_block_the_loop(server):
    """While one request waits for its next attempt, another is answered; cancelling ends the wait."""
    server.will(answer({}, 503, {"retry-after": "60"}), answer(completion()))
    model = OpenAIModel("m", base_url=server.url)

    async def both():
        waiting = asyncio.create_task(model.arequest(HELLO))
        while not server.seen:
            await asyncio.sleep(0.001)
        text = (await model.arequest(HELLO)).text
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return text

    assert asyncio.run(both()) == "Hello!"
    assert len(server.seen) == 2


def test_the_threads_of_blocking_requests_wait_as_long_as_asked(server):
    """The default sleep is a real one: the second attempt is made, after the wait."""
    server.will(answer({}, 503, {"retry-after-ms": "1"}), answer(completion()))

    assert OpenAIModel("m", base_url=server.url).request(HELLO).text == "Hello!"
    assert len(server.seen) == 2


def test_a_cancelled_request_gives_its_connection_back(server):
    """And the next request is answered."""
    server.will(server.hold, answer(completion()))
    model = OpenAIModel("m", base_url=server.url)

    async def cancelled_then_answered():
        task = asyncio.create_task(model.arequest(HELLO))
        while not server.seen:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await model.arequest(HELLO)).text

    assert asyncio.run(cancelled_then_answered()) == "Hello!"


# ---- the switch for tests ------------------------------------------------------------------------


def test_real_requests_can_be_refused(server, ask, monkeypatch):
    """Nothing is sent then, in any way of asking."""
    monkeypatch.setattr(real_requests, "refused_because", "this is a test")

    with pytest.raises(UsageError, match="openai:m was refused: this is a test"):
        ask(OpenAIModel("m", base_url=server.url))

    assert server.seen == []


def test_a_model_is_a_model():
    """Agents ask for no more than that."""
    assert isinstance(OpenAIModel("m"), Model)
