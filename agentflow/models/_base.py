"""What a model is to the rest of agentflow, and what a provider of one has to say.

A `Model` answers requests in four ways: at once or piece by piece, blocking or awaited.
A provider over HTTP is a `Codec`: it turns a request into an `HttpCall` and bytes into an answer, and does no I/O.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import urlsplit

import attrs

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from agentflow.messages import ModelRequest, ModelResponse
    from agentflow.models._http import AsyncTransport, SyncTransport
    from agentflow.models._sse import ServerSentEvent

__all__ = [
    "AsyncHttpClient",
    "AsyncModelStream",
    "Codec",
    "EventSource",
    "HttpCall",
    "HttpModel",
    "HttpOptions",
    "Model",
    "RealRequests",
    "StreamDecoder",
    "SyncHttpClient",
    "address",
    "real_requests",
]


class AsyncModelStream:
    """The text of one answer as it comes: iterate it with `async for`, then read `.response`.

    Args:
        source: An async generator of text pieces whose last item is the complete `ModelResponse`.
    """

    def __init__(self, source: AsyncGenerator[str | ModelResponse, None]) -> None:
        self._source = source
        self._response: ModelResponse | None = None

    @property
    def response(self) -> ModelResponse:
        """The complete answer.

        Raises:
            UsageError: If the stream is not exhausted yet.
        """
        if self._response is None:
            raise UsageError(
                "the model's answer is not complete: exhaust the stream with 'async for', then ask .response"
            )
        return self._response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for item in self._source:
            if isinstance(item, str):
                return item
            self._response = item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop listening and give the connection back; harmless when the stream is exhausted."""
        await self._source.aclose()


class Model(ABC):
    """Something that answers model requests; subclass it to bring a model of your own.

    Only `name` and `request` must be written: the other three ways of asking follow from them.
    A model is shared between threads and tasks, so it keeps nothing of a single request on itself.

    ```python
    from agentflow.messages import ModelRequest, ModelResponse, TextPart, UserMessage
    from agentflow.models import Model

    class Parrot(Model):
        @property
        def name(self) -> str:
            return "parrot"

        def request(self, request: ModelRequest) -> ModelResponse:
            return ModelResponse(parts=(TextPart(text=request.messages[-1].text),), finish_reason="stop")

    assert Parrot().request(ModelRequest(messages=(UserMessage(content="Hello"),))).text == "Hello"
    ```

    Attributes:
        supports_json_schema: Whether the model can be held to an `OutputSchema`; if not, structured output goes by a tool.
        supports_tools: Whether the model can call tools; if neither, structured output is asked for in words.
    """

    supports_json_schema: bool = True
    supports_tools: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The model as users write it, such as `"openai:gpt-4o-mini"`."""

    @abstractmethod
    def request(self, request: ModelRequest) -> ModelResponse:
        """Answer a request.

        Raises:
            ModelError: If there is no answer, or none that can be used.
        """

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Answer a request without blocking the loop; by default `request` in a thread with the caller's context."""
        return await asyncio.to_thread(self.request, request)

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Yield the text of the answer as it comes and return the whole; by default the text in one piece.

        A piece may be empty: then the model writes the arguments of a tool, or the provider says that it is alive.
        """
        response = self.request(request)
        if response.text:
            yield response.text
        return response

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does, without blocking the loop; the answer is in the stream's `.response`."""
        return AsyncModelStream(_whole(self, request))

    def __agentflow_version__(self) -> str:
        """Return what stands for this model in the version of a step that uses it."""
        return self.name


async def _whole(model: Model, request: ModelRequest) -> AsyncGenerator[str | ModelResponse, None]:
    """Yield the text of an answer in one piece, then the answer."""
    response = await model.arequest(request)
    if response.text:
        yield response.text
    yield response


# ---- providers over HTTP -------------------------------------------------------------------------


def address(url: str) -> str:
    """Return a URL as it may be shown: without user, password, query and fragment, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@attrs.frozen
class HttpCall:
    """One HTTP POST, ready to be sent; shows neither its headers nor its query, where keys are kept."""

    url: str = attrs.field(repr=address)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    timeout: float | None = None


class EventSource(Protocol):
    """Cuts the bytes of one stream into events."""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete."""
        ...


class StreamDecoder(Protocol):
    """Reads the events of one answer."""

    @property
    def complete(self) -> bool:
        """Whether the provider has said that nothing more comes."""
        ...

    def feed(self, event: ServerSentEvent) -> str:
        """Take an event and return the text that it adds to the answer, often none; a `CallDelta` if calls have grown.

        Raises:
            ModelHTTPError: If the event reports an error or makes no sense; its status decides on a retry.
        """
        ...

    def finish(self) -> ModelResponse:
        """Return the answer, once no more events come.

        Raises:
            ModelHTTPError: If the stream ended before the answer was complete.
            UnexpectedModelBehavior: If the model refused.
        """
        ...


class Codec(Protocol):
    """A provider's format for one model, without I/O."""

    @property
    def name(self) -> str:
        """The model's name, for errors."""
        ...

    def encode(self, request: ModelRequest, *, stream: bool) -> HttpCall:
        """Return the call that asks the request."""
        ...

    def decode(self, body: bytes) -> ModelResponse:
        """Read a complete answer.

        Raises:
            ModelHTTPError: If the body is no answer.
            UnexpectedModelBehavior: If the model refused.
        """
        ...

    def decoder(self) -> StreamDecoder:
        """Return a reader for one streamed answer."""
        ...

    def events(self) -> EventSource:
        """Return what makes events of the bytes of one streamed answer."""
        ...

    def asked_wait(self, body: bytes) -> float | None:
        """Return how many seconds to wait an error answer asks for, beside what its headers say."""
        ...

    def error_text(self, body: bytes) -> str:
        """Return what an error answer says, without secrets."""
        ...

    def redact(self, text: str) -> str:
        """Return a text without this codec's secrets."""
        ...


class SyncHttpClient(Protocol):
    """What is used of an `httpx.Client`, or of an `httpx2.Client`."""

    @property
    def timeout(self) -> Any:
        """The client's own timeouts."""
        ...

    def build_request(
        self, method: str, url: str, *, headers: Any = ..., content: Any = ..., timeout: Any = ...
    ) -> Any:
        """Make a request that `send` takes."""
        ...

    def send(self, request: Any, *, stream: bool = ...) -> Any:
        """Send a request."""
        ...


class AsyncHttpClient(Protocol):
    """What is used of an `httpx.AsyncClient`, or of an `httpx2.AsyncClient`."""

    @property
    def timeout(self) -> Any:
        """The client's own timeouts."""
        ...

    def build_request(
        self, method: str, url: str, *, headers: Any = ..., content: Any = ..., timeout: Any = ...
    ) -> Any:
        """Make a request that `send` takes."""
        ...

    async def send(self, request: Any, *, stream: bool = ...) -> Any:
        """Send a request."""
        ...


@attrs.frozen
class HttpOptions:
    """How a provider is reached; without options by the connections that this process shares.

    Attributes:
        client: The user's own client for blocking requests; never closed here.
        async_client: The user's own client for awaited requests; never closed here.
        transport: The user's own httpx transport, such as a `MockTransport`, for clients that are made here.
        retries: How often a failed attempt is repeated at most.
    """

    client: SyncHttpClient | None = attrs.field(default=None, repr=False)
    async_client: AsyncHttpClient | None = attrs.field(default=None, repr=False)
    transport: object = attrs.field(default=None, repr=False)
    retries: int = 2


class HttpModel(Model):
    """A model that is reached over HTTP: a codec, and one of the two transports."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options

    @abstractmethod
    def codec(self) -> Codec:
        """Return the codec for the next request, with the key that is in force now.

        Raises:
            UsageError: If there is no key, or none that can be sent.
        """

    def request(self, request: ModelRequest) -> ModelResponse:
        """Answer a request over the network."""
        codec = self._permitted()
        return self._blocking.request(codec, codec.encode(request, stream=False))

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Answer a request over the network without blocking the loop."""
        codec = self._permitted()
        return await self._awaiting.request(codec, codec.encode(request, stream=False))

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Yield the text of the answer as it arrives and return the whole."""
        codec = self._permitted()
        return (yield from self._blocking.stream(codec, codec.encode(request, stream=True)))

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does, without blocking the loop."""
        return AsyncModelStream(self._arriving(request))

    async def _arriving(self, request: ModelRequest) -> AsyncGenerator[str | ModelResponse, None]:
        """Yield the text of the answer as it arrives, then the whole."""
        codec = self._permitted()
        items = self._awaiting.stream(codec, codec.encode(request, stream=True))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def _permitted(self) -> Codec:
        """Return the codec, unless real requests are refused."""
        real_requests.check(self.name)
        return self.codec()

    # httpx is imported with `_http`, so not before a request is made: it takes longer than all of agentflow.
    @cached_property
    def _blocking(self) -> SyncTransport:
        from agentflow.models._http import sync_transport  # noqa: PLC0415

        return sync_transport(self._options)

    @cached_property
    def _awaiting(self) -> AsyncTransport:
        from agentflow.models._http import async_transport  # noqa: PLC0415

        return async_transport(self._options)


class RealRequests:
    """Whether models may be asked over the network; tests refuse it for the whole process."""

    def __init__(self) -> None:
        self.refused_because: str | None = None

    def check(self, model: str) -> None:
        """Raise if requests are refused.

        Raises:
            UsageError: With the reason of whoever refused them.
        """
        # Said by the environment it reaches child processes, too, and code that was not loaded yet when it was said.
        reason = self.refused_because or os.environ.get("AGENTFLOW_REFUSE_MODEL_REQUESTS")
        if reason:
            raise UsageError(f"a request to {model} was refused: {reason}")


real_requests: Final = RealRequests()
"""The permission in force in this process; not a context variable, since background threads obey it too."""
