"""Fetching pages that a stranger may have named, without letting the stranger into places only we can reach.

Whoever writes a page, a search result or a prompt can put any URL before a model, so the URL is the attacker's.
The guard sits where the connection is made: `_Wire` resolves the name once, refuses unless *every* address it leads to
is public, and connects to one of the addresses it checked. Names that change their mind between check and use
(DNS rebinding), odd spellings of an address and redirects all pass through that one door.
What a URL or an answer means is decided in `_pages`, where an address leads in `_addresses`; neither does any I/O.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import attrs
import httpcore
import httpx

from agentflow.tools._addresses import Address, Reach, Verdict, judge, parse
from agentflow.tools._failures import PageRefused, PageTimeout, PageUnavailable
from agentflow.tools._pages import Page, Redirect, Target, target, too_large, weigh

if TYPE_CHECKING:
    import ssl

__all__ = ["Fetcher", "Resolve", "system_resolve"]

T = TypeVar("T")

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""Gives the addresses that a name leads to."""

_MAX_REDIRECTS: Final = 5


def system_resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for the addresses of a name, each once, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@attrs.frozen
class Fetcher:
    """Fetches pages within limits; immutable and shared between threads.

    Attributes:
        allow_private: Whether private networks and this machine may be read; metadata services never are.
        max_bytes: The most bytes of a page, after decompression.
        timeout: Seconds for everything together: names, connections, redirects, the last byte.
        resolve: What finds the addresses of a name.
        network: What opens the connection to an address that was checked.
        ssl_context: The certificates to trust; by default those that httpx trusts.
    """

    allow_private: bool = False
    max_bytes: int = 10_000_000
    timeout: float = 30.0
    resolve: Resolve = system_resolve
    network: httpcore.NetworkBackend = attrs.field(factory=httpcore.SyncBackend)
    ssl_context: ssl.SSLContext | None = None

    def fetch(self, url: str) -> Page:
        """Return the page at a URL.

        Raises:
            PageRefused: If it is not to be read: its address is not public, it is too large, or no page.
            PageUnavailable: If it cannot be had now; `PageTimeout` if it did not come whole in time.
        """
        deadline, where = _Deadline(time.monotonic() + self.timeout), url
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._asked(target(where), deadline)
            if isinstance(answer, Page):
                return answer
            where = answer.url
        raise PageRefused.about(url, f"it redirects more than {_MAX_REDIRECTS} times")

    def _asked(self, asked: Target, deadline: _Deadline) -> Page | Redirect:
        """Make one request, and say in our words what went wrong with it."""
        try:
            return self._exchanged(asked, deadline)
        except (httpcore.TimeoutException, TimeoutError):
            reason = f"it did not come whole within {self.timeout:g} seconds"
            raise PageTimeout.about(str(asked.url), reason) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            reason = str(error) or type(error).__name__
            raise PageUnavailable.about(str(asked.url), reason) from error

    def _exchanged(self, asked: Target, deadline: _Deadline) -> Page | Redirect:
        """Send one request and read its answer as far as it is wanted."""
        trusted = self.ssl_context or (httpx.create_ssl_context(trust_env=False) if asked.secure else None)
        wire = _Wire(self, asked, deadline)
        with (
            httpcore.ConnectionPool(ssl_context=trusted, network_backend=wire) as pool,
            pool.stream("GET", _core_url(asked), headers=_request_headers(asked)) as response,
        ):
            todo = weigh(asked, response.status, response.headers, self.max_bytes)
            if isinstance(todo, Redirect):
                return todo
            body = self._body(asked, response.iter_stream(), _Inflater() if todo.compressed else None)
            return Page(str(asked.url), todo.media_type, todo.charset, body)

    def _body(self, asked: Target, chunks: Iterable[bytes], inflater: _Inflater | None) -> bytes:
        """Read a body, and stop as soon as it is too large, on the wire or unpacked."""
        body, received = bytearray(), 0
        for chunk in chunks:
            received += len(chunk)
            room = self.max_bytes - len(body)
            body += inflater.feed(chunk, room + 1) if inflater else chunk
            if max(received, len(body)) > self.max_bytes:
                raise too_large(str(asked.url), self.max_bytes)
        if inflater and not inflater.complete:
            raise PageUnavailable.about(str(asked.url), "its compressed body is cut off")
        return bytes(body)


def _core_url(asked: Target) -> httpcore.URL:
    """Return the URL in the parts that were checked, so that nothing is parsed again."""
    return httpcore.URL(
        scheme=asked.url.raw_scheme, host=asked.host.encode("ascii"), port=asked.port, target=asked.url.raw_path
    )


def _request_headers(asked: Target) -> dict[bytes | str, bytes | str]:
    """Return what every request says: no cookies, no referrer, nothing about the one who asks."""
    return {
        "Host": asked.host_header,
        "User-Agent": "Mozilla/5.0 (compatible; agentflow)",
        "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,application/xml;q=0.7,text/xml;q=0.7",
        "Accept-Encoding": "gzip",
        "Connection": "close",
    }


@attrs.frozen
class _Deadline:
    """The moment by which everything must be done."""

    at: float

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: If there are none.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Wire(httpcore.NetworkBackend):
    """The one door to the network: connects only to addresses that it has checked itself."""

    def __init__(self, fetcher: Fetcher, asked: Target, deadline: _Deadline) -> None:
        self._fetcher, self._asked, self._deadline = fetcher, asked, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is the only clock
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers."""
        addresses = self._checked(host, port)
        for left in range(len(addresses), 0, -1):
            patience = self._deadline.remaining() / left  # a silent address must not eat the time of the others
            try:
                stream = self._fetcher.network.connect_tcp(
                    str(addresses[-left]), port, patience, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                return _TimedStream(stream, self._deadline)
        raise httpcore.ConnectError("its name leads to no address")

    def _checked(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host; one that may not be reached refuses them all."""
        literal = parse(host)
        found = [host] if literal else self._resolved(host, port)
        addresses = [parse(text) for text in found]
        for address in addresses:
            self._check(address)
        return [address for address in addresses if address is not None]

    def _resolved(self, host: str, port: int) -> Sequence[str]:
        """Ask for the addresses of a name, once."""
        try:
            return _in_time(self._deadline, lambda: self._fetcher.resolve(host, port))
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"its name cannot be resolved ({error})") from error

    def _check(self, address: Address | None) -> None:
        """Refuse an address that may not be reached. The message keeps it to itself: the asker may be mapping us."""
        verdict = judge(address) if address is not None else None
        most = Reach.PRIVATE if self._fetcher.allow_private else Reach.PUBLIC
        if verdict is None or verdict.reach > most:
            raise PageRefused.about(str(self._asked.url), _not_allowed(verdict))


def _not_allowed(verdict: Verdict | None) -> str:
    """Say why an address is not connected to, and what can be done about it."""
    kind = verdict.kind if verdict else "zoned"
    reason = f"its host leads to a {kind} address, and only public ones are read"
    if verdict and verdict.reach is Reach.PRIVATE:
        return f"{reason}; a program may allow private ones with article_reader(allow_private=True)"
    return reason


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - see connect_tcp
        return self._stream.read(max_bytes, self._deadline.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - see connect_tcp
        self._stream.write(buffer, self._deadline.remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - see connect_tcp
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining())
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Inflater:
    """Unpacks gzip, never more at once than was asked for; a body may be several packings one after the other."""

    def __init__(self) -> None:
        self._packing = zlib.decompressobj(wbits=31)
        self._untouched = True

    def feed(self, packed: bytes, at_most: int) -> bytes:
        """Unpack, and stop when `at_most` bytes are there: the caller gives up at that size."""
        unpacked = bytearray()
        while packed and len(unpacked) < at_most:
            if self._packing.eof:
                self._packing = zlib.decompressobj(wbits=31)
            try:
                unpacked += self._packing.decompress(packed, at_most - len(unpacked))
            except zlib.error:
                raise httpcore.RemoteProtocolError("its compressed body is damaged") from None
            packed, self._untouched = self._packing.unused_data, False
        return bytes(unpacked)

    @property
    def complete(self) -> bool:
        """Whether the last packing came to its end."""
        return self._packing.eof or self._untouched


def _in_time(deadline: _Deadline, work: Callable[[], T]) -> T:
    """Do work that cannot be interrupted, as name resolution, in a thread that may outlive our patience."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name="agentflow-resolve", daemon=True).start()
    return answer.result(timeout=deadline.remaining())
