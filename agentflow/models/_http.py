"""The way to a provider: the only module here that imports httpx, and the only one with colours.

The two transports say the same in the same order, one blocking and one awaiting; all decisions are in `_attempts`.
They use what httpx and httpx2 share, so a user's client may be of either. The annotations name httpx for both.

Connections are shared by all models without options of their own: clients know neither keys nor addresses, those come
with each call. A model with a client or transport of the user's own keeps to that.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import random
import sys
from contextlib import aclosing, closing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import httpx

from agentflow._call_delta import CallDelta
from agentflow._clock import asleep, sleep, wall_time
from agentflow._logging import enabled, logger
from agentflow._recording import RECORDING
from agentflow.exceptions import ModelHTTPError, UsageError
from agentflow.models._attempts import Failure, broken, refused, timed_out, unreachable
from agentflow.models._base import address
from agentflow.models._pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Hashable, Iterator
    from ssl import SSLContext
    from types import ModuleType

    from agentflow.messages import ModelResponse
    from agentflow.models._base import Codec, HttpCall, HttpOptions

__all__ = ["AsyncTransport", "SyncTransport", "async_transport", "sync_transport"]

_CONNECT, _SILENCE = 10.0, 600.0
_MOMENT, _MOST_CHUNKS = 0.1, 16  # how long, and how far, to look for the end of a connection after that of the answer
_CLIENT_DEFAULT: Final = (5.0, 5.0, 5.0, 5.0)  # what httpx does where nobody has decided


# ---- the two transports --------------------------------------------------------------------------


@attrs.frozen
class SyncTransport:
    """Sends calls and waits for their answers.

    Attributes:
        client: Gives the client to use now.
        retries: How often a failed attempt is repeated at most.
        sleep: Waits between attempts.
    """

    client: Callable[[], httpx.Client]
    retries: int = 2
    sleep: Callable[[float], None] = sleep

    def request(self, codec: Codec, call: HttpCall) -> ModelResponse:
        """Return the answer to a call.

        Raises:
            ModelError: If there is none after all attempts.
        """
        attempt = 0
        while isinstance(outcome := self._ask(codec, call), Failure):
            self.sleep(_pause(outcome, attempt, self.retries))
            attempt += 1
        return outcome

    def stream(self, codec: Codec, call: HttpCall) -> Generator[str, None, ModelResponse]:
        """Yield the text of the answer to a call as it arrives and return the whole.

        Raises:
            ModelError: If there is none after all attempts; once text was yielded, there is no further attempt.
        """
        attempt = 0
        while isinstance(outcome := (yield from self._listen(codec, call)), Failure):
            self.sleep(_pause(outcome, attempt, self.retries))
            attempt += 1
        return outcome

    def _ask(self, codec: Codec, call: HttpCall) -> ModelResponse | Failure:
        """Make one attempt."""
        try:
            client = self.client()
            response = client.send(_prepared(client, call))
        except _request_errors() as error:
            return _transport_failure(codec, call, error)
        return _judged(codec, response)

    def _listen(self, codec: Codec, call: HttpCall) -> Generator[str, None, ModelResponse | Failure]:
        """Make one attempt, giving its text as it arrives."""
        reading = _Reading(codec)
        try:
            client = self.client()
            with closing(client.send(_prepared(client, call), stream=True)) as response:
                if not _is_stream(response):
                    response.read()
                    outcome = _judged(codec, response)
                    yield from _text(outcome)
                    return outcome
                chunks = response.iter_bytes()
                for chunk in chunks:
                    yield from reading.feed(chunk)
                    if reading.complete:
                        _drain(response, chunks)
                        break
                return reading.finish()
        except _stream_errors() as error:
            return reading.failed(call, error)


@attrs.frozen
class AsyncTransport:
    """Sends calls and awaits their answers.

    Attributes:
        client: Gives the client of the running loop.
        retries: How often a failed attempt is repeated at most.
        sleep: Waits between attempts.
    """

    client: Callable[[], Awaitable[httpx.AsyncClient]]
    retries: int = 2
    sleep: Callable[[float], Awaitable[None]] = asleep

    async def request(self, codec: Codec, call: HttpCall) -> ModelResponse:
        """Return the answer to a call.

        Raises:
            ModelError: If there is none after all attempts.
        """
        attempt = 0
        while isinstance(outcome := await self._ask(codec, call), Failure):
            await self.sleep(_pause(outcome, attempt, self.retries))
            attempt += 1
        return outcome

    async def stream(self, codec: Codec, call: HttpCall) -> AsyncGenerator[str | ModelResponse, None]:
        """Yield the text of the answer to a call as it arrives, then the whole.

        Raises:
            ModelError: If there is none after all attempts; once text was yielded, there is no further attempt.
        """
        attempt = 0
        while True:
            async with aclosing(self._listen(codec, call)) as items:
                async for item in items:
                    if isinstance(item, Failure):
                        failure = item
                        break
                    yield item
                else:
                    return
            await self.sleep(_pause(failure, attempt, self.retries))
            attempt += 1

    async def _ask(self, codec: Codec, call: HttpCall) -> ModelResponse | Failure:
        """Make one attempt."""
        try:
            client = await self.client()
            response = await client.send(_prepared(client, call))
        except _request_errors() as error:
            return _transport_failure(codec, call, error)
        return _judged(codec, response)

    async def _listen(self, codec: Codec, call: HttpCall) -> AsyncGenerator[str | ModelResponse | Failure, None]:
        """Make one attempt, giving its text as it arrives and last how it ended."""
        reading = _Reading(codec)
        try:
            client = await self.client()
            async with aclosing(await client.send(_prepared(client, call), stream=True)) as response:
                if not _is_stream(response):
                    await response.aread()
                    outcome = _judged(codec, response)
                    for text in _text(outcome):
                        yield text
                    yield outcome
                    return
                chunks = response.aiter_bytes()
                async for chunk in chunks:
                    for text in reading.feed(chunk):
                        yield text
                    if reading.complete:
                        await _adrain(chunks)
                        break
                outcome = reading.finish()
        except _stream_errors() as error:
            outcome = reading.failed(call, error)
        yield outcome


def sync_transport(options: HttpOptions) -> SyncTransport:
    """Return the blocking transport for a provider's options."""
    return SyncTransport(_client_source(options), options.retries)


def async_transport(options: HttpOptions) -> AsyncTransport:
    """Return the awaiting transport for a provider's options."""
    return AsyncTransport(_async_client_source(options), options.retries)


# ---- between the transports and the decisions ----------------------------------------------------


class _Reading:
    """One attempt to read a streamed answer: bytes in, text out, and in the end what came of it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._events = codec.events()
        self._decoder = codec.decoder()
        self._begun = False

    @property
    def complete(self) -> bool:
        """Whether nothing more comes; waiting for the connection's end could then take as long as the server likes."""
        return self._decoder.complete

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield what these bytes add to the answer; calls that grow can be taken back, since nothing is done with them."""
        for event in self._events.feed(chunk):
            text = self._decoder.feed(event)
            self._begun = self._begun or bool(text)
            if text or isinstance(text, CallDelta):
                yield text

    def finish(self) -> ModelResponse:
        """Return the answer, if it is complete."""
        return self._decoder.finish()

    def failed(self, call: HttpCall, error: Exception) -> Failure:
        """Return the failure of this attempt; what has been shown to the caller cannot be taken back."""
        failure = broken(error) if isinstance(error, ModelHTTPError) else _transport_failure(self._codec, call, error)
        return failure.final() if self._begun else failure


def _drain(response: httpx.Response, chunks: Iterator[bytes]) -> None:
    """Read what is left of a response after the answer's end, if it is there within a moment.

    Only a connection that was read to its end can be used again. The end mostly comes with the last event, but a server
    may leave it open as long as it likes, so the time to wait for it must be short. httpx takes the time for a whole
    response before its first byte; the connection itself, which it hands out, can be told for each read.
    """
    network = response.extensions.get("network_stream")
    if network is None:
        return
    read = network.read
    network.read = lambda size, timeout=None: read(size, _MOMENT)  # noqa: ARG005 - the connection's own signature
    try:
        for _ in itertools.islice(chunks, _MOST_CHUNKS):
            pass
    except _request_errors():
        pass  # then the connection is closed, and the answer is complete all the same
    finally:
        del network.read


async def _adrain(chunks: AsyncIterator[bytes]) -> None:
    """Do what `_drain` does; a task can be told when to stop waiting."""
    try:
        async with asyncio.timeout(_MOMENT):
            for _ in range(_MOST_CHUNKS):
                await anext(chunks)
    except _drain_ends():
        pass


def _judged(codec: Codec, response: httpx.Response) -> ModelResponse | Failure:
    """Return what a complete HTTP answer means."""
    if not response.is_success:
        return refused(codec, response.status_code, response.headers, response.content, now=wall_time())
    try:
        return codec.decode(response.content)
    except ModelHTTPError as error:
        return broken(error)


def _text(outcome: ModelResponse | Failure) -> list[str]:
    """Return the text of an answer that came whole, in at most one piece."""
    return [outcome.text] if not isinstance(outcome, Failure) and outcome.text else []


def _is_stream(response: httpx.Response) -> bool:
    """Tell whether an answer is a stream of events; some servers answer a wish for one with plain JSON."""
    kind = response.headers.get("content-type", "")
    return response.is_success and ("json" not in kind or "ndjson" in kind)


def _pause(failure: Failure, attempt: int, retries: int) -> float:
    """Return how long to wait before the next attempt, or raise; says so to the run and the log: it can be long."""
    seconds = failure.pause(attempt, retries=retries, jitter=random.random())  # noqa: S311 - not a secret
    error = failure.error
    if (recording := RECORDING.get()) is not None:
        recording.retried(error.model or "", f"{type(error).__name__}: {error}", pause=seconds)
    if enabled(logging.INFO):
        status = error.status if isinstance(error, ModelHTTPError) else None
        logger().info("model.retried", model=error.model, error=type(error).__name__, status=status, wait=seconds)
    return seconds


# ---- what httpx and httpx2 share -----------------------------------------------------------------


def _loaded(name: str) -> tuple[type[Exception], ...]:
    """Return an exception of httpx, and its namesake of httpx2 if that is loaded: they have no common ancestor."""
    return tuple(getattr(sys.modules[library], name) for library in ("httpx", "httpx2") if library in sys.modules)


def _request_errors() -> tuple[type[Exception], ...]:
    """Return what a client raises when a request fails; looked up only when something was raised."""
    return _loaded("RequestError") + _loaded("InvalidURL")


def _stream_errors() -> tuple[type[Exception], ...]:
    """Return what ends an attempt to read a stream: those, and what its decoder makes of it."""
    return (*_request_errors(), ModelHTTPError)


def _drain_ends() -> tuple[type[Exception], ...]:
    """Return what ends the wait for the rest of a response: it is there, it takes too long, or the connection broke."""
    return (*_request_errors(), StopAsyncIteration, TimeoutError)


def _transport_failure(codec: Codec, call: HttpCall, error: Exception) -> Failure:
    """Return the failure that a client's exception means."""
    reason = type(error).__name__
    if isinstance(error, _loaded("TimeoutException")):
        return timed_out(codec, call, reason, call.timeout)
    if isinstance(error, _loaded("LocalProtocolError") + _loaded("InvalidURL")):
        # The request itself is malformed. The message quotes it, with the header that may hold a key.
        return unreachable(codec, call, reason, "").final()
    return unreachable(codec, call, reason, str(error))


def _prepared(client: httpx.Client | httpx.AsyncClient, call: HttpCall) -> httpx.Request:
    """Return a call as a request of this client."""
    options: dict[str, Any] = {"headers": dict(call.headers), "content": call.body}
    if call.timeout is not None or not _has_timeouts(client):
        options["timeout"] = _timeouts(call.timeout)
    request = client.build_request("POST", call.url, **options)
    request.url = _discreet_class(cast("Hashable", type(request.url)))(request.url)
    return request


def _has_timeouts(client: httpx.Client | httpx.AsyncClient) -> bool:
    """Tell whether somebody chose the client's timeouts: its default of five seconds is too short for a model."""
    timeout = client.timeout
    return (timeout.connect, timeout.read, timeout.write, timeout.pool) != _CLIENT_DEFAULT


def _timeouts(seconds: float | None) -> tuple[float, float, float, float]:
    """Return the timeouts to connect, read, write, and get a connection from the pool."""
    silence = _SILENCE if seconds is None else seconds
    return (min(_CONNECT, silence), silence, silence, silence)


@functools.cache
def _discreet_class(url_type: Any) -> Any:
    """Return a URL class that keeps user and query to itself: the client's log would print them at each request."""

    def shown(url: object) -> str:
        return address(url_type.__str__(url))

    def represented(url: object) -> str:
        return f"URL({str(url)!r})"

    return type(f"Discreet{url_type.__name__}", (url_type,), {"__str__": shown, "__repr__": represented})


# ---- clients -------------------------------------------------------------------------------------


def _client_source(options: HttpOptions) -> Callable[[], httpx.Client]:
    """Return what gives the client for blocking requests."""
    if options.client is not None:
        given = cast("httpx.Client", options.client)
        return lambda: given
    if options.transport is not None:
        made = _client_over(options.transport, "Client", "handle_request")
        return lambda: made
    if options.async_client is not None:
        raise UsageError("this model has only an async_http_client=: pass http_client= as well, or await arun/astream")
    return _POOL.client


def _async_client_source(options: HttpOptions) -> Callable[[], Awaitable[httpx.AsyncClient]]:
    """Return what gives the client for awaited requests."""
    if options.async_client is not None:
        return _always(cast("httpx.AsyncClient", options.async_client))
    if options.transport is not None:
        return _always(_client_over(options.transport, "AsyncClient", "handle_async_request"))
    if options.client is not None:
        raise UsageError("this model has only an http_client=: pass async_http_client= as well, or use run/stream")
    return _POOL.async_client


def _always(client: httpx.AsyncClient) -> Callable[[], Awaitable[httpx.AsyncClient]]:
    """Return a source of one client."""

    async def source() -> httpx.AsyncClient:
        return client

    return source


def _client_over(transport: object, kind: str, needed: str) -> Any:
    """Return a new client of the transport's own library; it has nothing to close but the user's transport."""
    if not hasattr(transport, needed):
        raise UsageError(
            f"the transport= of this model ({type(transport).__name__}) has no {needed}(): use one that has"
        )
    return getattr(_library_of(transport), kind)(transport=transport, **_common_options())


def _library_of(transport: object) -> ModuleType:
    """Return httpx2 for its transports and those derived from them, else httpx."""
    roots = {kind.__module__.partition(".")[0] for kind in type(transport).__mro__}
    return sys.modules["httpx2"] if "httpx2" in roots else httpx


def _common_options() -> dict[str, Any]:
    """Return the options of every client made here; cookies of one key's answers must not go with another's request."""
    return {
        "timeout": _timeouts(None),
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        "headers": {"user-agent": "agentflow"},
    }


def _pooled_options() -> dict[str, Any]:
    """Return the options of the shared clients: as many connections as asked for, some kept for the next requests."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    return {**_common_options(), "limits": limits, "verify": _trusted()}


@functools.cache
def _trusted() -> SSLContext:
    """Return the certificates to trust, read once: each reading costs more than a request on an open connection."""
    return httpx.create_ssl_context()


_POOL: Final = Pool(lambda: httpx.Client(**_pooled_options()), lambda: httpx.AsyncClient(**_pooled_options()))
