"""A server on loopback, and one way to ask a model in either colour over either HTTP library."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, closing
from dataclasses import dataclass, field

import httpx
import httpx2
import pytest

from agentflow.messages import ModelResponse
from agentflow.models._http import AsyncTransport, SyncTransport

from ._chat import HELLO, serving


@pytest.fixture
def server():
    """A server on loopback that does what the test plans."""
    with serving() as plan:
        yield plan


@dataclass
class Heard:
    texts: list[str]
    response: ModelResponse


@dataclass
class Drive:
    """Asks a codec in one colour over one library; what it would have slept is in `waits`."""

    colour: str
    library: object
    waits: list[float] = field(default_factory=list)

    def ask(self, codec, request=HELLO, *, retries=2) -> ModelResponse:
        """The answer."""
        call = codec.encode(request, stream=False)
        if self.colour == "async":
            return asyncio.run(self._aask(codec, call, retries))
        with self._client() as client:
            return self._sync(client, retries).request(codec, call)

    async def _aask(self, codec, call, retries):
        async with self._aclient() as client:
            return await self._async(client, retries).request(codec, call)

    def listen(self, codec, request=HELLO, *, retries=2, on_text=lambda text: None) -> Heard:
        """The answer piece by piece; `on_text` is called with each as it comes."""
        call = codec.encode(request, stream=True)
        if self.colour == "async":
            return asyncio.run(self._alisten(codec, call, retries, on_text))
        heard = []
        with self._client() as client, closing(self._sync(client, retries).stream(codec, call)) as items:
            while True:
                try:
                    text = next(items)
                except StopIteration as end:
                    return Heard(heard, end.value)
                heard.append(text)
                on_text(text)

    async def _alisten(self, codec, call, retries, on_text):
        heard = []
        async with self._aclient() as client, aclosing(self._async(client, retries).stream(codec, call)) as items:
            async for item in items:
                if isinstance(item, ModelResponse):
                    return Heard(heard, item)
                heard.append(item)
                on_text(item)

    def _client(self):
        return self.library.Client(trust_env=False, verify=False)

    def _aclient(self):
        return self.library.AsyncClient(trust_env=False, verify=False)

    def _sync(self, client, retries):
        return SyncTransport(lambda: client, retries, self.waits.append)

    def _async(self, client, retries):
        async def source():
            return client

        async def sleep(seconds):
            self.waits.append(seconds)

        return AsyncTransport(source, retries, sleep)


@pytest.fixture(params=["sync-httpx", "async-httpx", "sync-httpx2", "async-httpx2"])
def drive(request):
    """Each colour over each library."""
    colour, _, library = request.param.partition("-")
    return Drive(colour, {"httpx": httpx, "httpx2": httpx2}[library])


@pytest.fixture
def eventually():
    """Wait until something that another thread does is done."""

    def wait(done):
        for _ in range(1000):
            if done():
                return
            time.sleep(0.01)
        raise AssertionError("it did not happen")

    return wait
