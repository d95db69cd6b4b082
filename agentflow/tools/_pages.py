"""What a URL asks for and what the head of an answer means, decided without any I/O.

The URL is a stranger's: what one client would read differently from another is refused, not guessed.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import attrs
import httpx

from agentflow.tools._addresses import parse
from agentflow.tools._failures import PageRefused, PageUnavailable, shown

__all__ = [
    "Headers",
    "Page",
    "Readable",
    "Redirect",
    "Target",
    "target",
    "too_large",
    "weigh",
]

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names and values as they came."""

_PORTS: Final = {"http": 80, "https": 443}
_FOUND: Final = frozenset({200, 203})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_READABLE: Final = frozenset({"text/html", "application/xhtml+xml", "text/plain", "text/xml", "application/xml"})

# Whitespace, control characters, backslashes and lone surrogates: clients disagree about what they mean in a URL.
_AMBIGUOUS: Final = re.compile(r"[\s\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


@attrs.frozen
class Target:
    """One request, in the parts that it is sent with.

    Attributes:
        url: The whole URL, for redirects and for the reader.
        host: A name in ASCII and lower case without its final dot, or an address without brackets.
        port: The port.
    """

    url: httpx.URL
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.url.scheme == "https"

    @property
    def host_header(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.url.scheme] else f"{host}:{self.port}"


@attrs.frozen
class Page:
    """What was fetched.

    Attributes:
        url: Where it was found, after redirects.
        media_type: What its server says it is, such as `"text/html"`.
        charset: The encoding its server names, if any.
        body: Its bytes, without transfer compression.
    """

    url: str
    media_type: str
    charset: str | None
    body: bytes


@attrs.frozen
class Redirect:
    """The page is elsewhere."""

    url: str


@attrs.frozen
class Readable:
    """The body can be read; this is what the headers say about it."""

    media_type: str
    charset: str | None
    compressed: bool


def target(url: str) -> Target:
    """Return what a URL asks for.

    Raises:
        PageRefused: If it is no plain http or https URL; what one client reads differently from another is refused.
    """
    plain = url.strip(" \t\r\n")
    if _AMBIGUOUS.search(plain):
        raise PageRefused.about(url, "the URL holds spaces, control characters or backslashes")
    try:
        parsed = httpx.URL(plain)
        port = parsed.port if parsed.port is not None else _PORTS.get(parsed.scheme, 0)
    except (httpx.InvalidURL, ValueError):
        raise PageRefused.about(url, "it is not a valid URL") from None
    if parsed.scheme not in _PORTS:
        raise PageRefused.about(url, "only http and https URLs are read")
    if parsed.userinfo:
        raise PageRefused.about(url, "the URL holds a user name or a password")
    if not 0 < port < 65536:
        raise PageRefused.about(url, "the URL has no valid port")
    host = _host(parsed.raw_host.decode("ascii"))
    if host is None:
        raise PageRefused.about(url, "the URL has no plainly written host")
    return Target(parsed, host, port)


def _host(written: str) -> str | None:
    """Return a host in its one plain form, or None; octal, hexadecimal and short addresses have none."""
    name = written.lower().removesuffix(".")
    if ":" in name or _NUMBER.fullmatch(name):
        address = parse(name)
        return None if address is None else str(address)
    return name if _NAME.fullmatch(name) else None


def weigh(asked: Target, status: int, headers: Headers, max_bytes: int) -> Redirect | Readable:
    """Decide from the head of an answer what to do with the rest.

    Raises:
        PageRefused: If there is no page, or one that is too large or of a kind that is not read.
        PageUnavailable: If the server says that it may work later.
    """
    url, fields = str(asked.url), {name.lower(): value.decode("latin-1") for name, value in headers}
    location = fields.get(b"location")
    if status in _REDIRECTS and location is not None:
        return Redirect(_joined(asked, location))
    if status not in _FOUND:
        raise _answered(url, status)
    length = fields.get(b"content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large(url, max_bytes)
    return _readable(url, fields)


def _joined(asked: Target, location: str) -> str:
    """Return where a `Location` header leads."""
    # Servers write UTF-8 into headers that were read as Latin-1.
    text = location.encode("latin-1").decode("utf-8", "replace")
    if _AMBIGUOUS.search(text):
        raise PageRefused.about(str(asked.url), "it redirects to a URL with spaces, control characters or backslashes")
    try:
        return str(asked.url.join(text))
    except (httpx.InvalidURL, ValueError):
        raise PageRefused.about(str(asked.url), "it redirects to what is not a valid URL") from None


def _answered(url: str, status: int) -> PageRefused | PageUnavailable:
    """Return the error for a status that brings no page."""
    reason = f"the server answered with status {status}"
    return PageUnavailable.about(url, reason) if status in _PASSING else PageRefused.about(url, reason)


def _readable(url: str, fields: dict[bytes, str]) -> Readable:
    """Say what the body is."""
    written = fields.get(b"content-type", "")
    media_type = written.partition(";")[0].strip().lower()
    coding = fields.get(b"content-encoding", "identity").strip().lower()
    if media_type not in _READABLE:
        kind = shown(media_type) or "of no stated type"
        raise PageRefused.about(url, f"it is {kind}; only HTML, XHTML, XML and plain text are read")
    if coding not in {"identity", "gzip", "x-gzip", ""}:
        raise PageRefused.about(url, "it is compressed in a way that was not asked for")
    charset = _CHARSET.search(written)
    return Readable(media_type, charset[1] if charset else None, compressed="gzip" in coding)


def too_large(url: str, max_bytes: int) -> PageRefused:
    """Return the error for a page of too many bytes."""
    return PageRefused.about(
        url, f"it is larger than {max_bytes} bytes; article_reader(max_bytes=...) reads larger ones"
    )
