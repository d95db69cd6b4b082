"""Events from bytes, whatever the bytes are cut into: server-sent ones, as the HTML standard defines them, and lines.

Lines end at CR, LF or CRLF and nowhere else: `str.splitlines` and friends would also cut at U+2028 and U+0085,
which may stand inside JSON. An event without its blank line is incomplete and never comes out.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

__all__ = ["EventParser", "LineParser", "ServerSentEvent"]

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@attrs.frozen
class ServerSentEvent:
    """One event of a stream."""

    data: str
    event: str = "message"


class EventParser:
    """Collects the bytes of one stream and gives its events as soon as they are complete."""

    def __init__(self) -> None:
        self._open: list[
            bytes
        ] = []  # the pieces of a line that has not ended; joined once, so that long lines stay cheap
        self._ended_in_cr = False
        self._at_start = True
        self._data: list[str] = []
        self._event = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete."""
        return [event for line in self._lines(chunk) if (event := self._take(line)) is not None]

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end in this chunk."""
        if not chunk:
            return []
        text = chunk[1:] if self._ended_in_cr and chunk.startswith(b"\n") else chunk
        self._ended_in_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = b"".join([*self._open, lines[0]])
            self._open = []
        self._open.append(rest)
        return lines

    def _take(self, line: bytes) -> ServerSentEvent | None:
        """Take a line; a blank one completes an event, if there is data for one."""
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        if line.startswith(b"data: "):  # nearly every line that is not blank
            self._data.append(line[6:].decode("utf-8", errors="replace"))
            return None
        if line:
            self._field(line.decode("utf-8", errors="replace"))
            return None
        return self._complete()

    def _field(self, line: str) -> None:
        """Keep a field that matters here; comments, which begin with a colon, have an empty name."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value

    def _complete(self) -> ServerSentEvent | None:
        """Return the event that is over, if it has data, and begin the next."""
        data, event = self._data, self._event
        self._data, self._event = [], ""
        return ServerSentEvent(data="\n".join(data), event=event or "message") if data else None


class LineParser:
    """Gives each line of a stream as an event: JSON values one to a line, which some servers send in place of events.

    A last line without its end is incomplete and never comes out.
    """

    def __init__(self) -> None:
        self._open: list[bytes] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the lines that they complete."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._open, lines[0]])
            self._open = []
        self._open.append(rest)
        return [ServerSentEvent(line.decode("utf-8", errors="replace")) for line in lines if line.strip()]
