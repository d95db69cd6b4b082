"""What is remembered of a call, and whether a remembered result still answers it. Pure: time is passed in."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from agentflow._serialization import seal, unsealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._serialization import Codec, StaleValue
    from agentflow.exceptions import StoreCorrupt

__all__ = ["Hit", "Miss", "Policy", "Remembered", "StreamCodec", "mark_stream", "split_stream"]

_HEADER: Final = struct.Struct("<dH")
_LENGTH: Final = struct.Struct("<Q")
_STREAM: Final = b"\0"  # no encoded value begins with it


@attrs.frozen(slots=False)  # made in half the time
class Remembered:
    """A remembered result: its encoded value, when it was completed, and which run made it.

    Attributes:
        body: The encoded value.
        created_at: When it was completed, in seconds since the epoch.
        run_id: The run that made it, `""` outside one.
    """

    body: bytes = attrs.field(repr=False)
    created_at: float
    run_id: str

    def pack(self) -> bytes:
        """Return it as the store keeps it: sealed with a checksum."""
        run_id = self.run_id.encode("utf-8", "surrogatepass")
        return seal(_HEADER.pack(self.created_at, len(run_id)), run_id, self.body)

    @classmethod
    def unpack(cls, payload: bytes) -> Remembered:
        """Read what the store keeps.

        Raises:
            StoreCorrupt: If it is not what was packed.
            IncompatibleStore: If a newer agentflow packed it.
        """
        plain = unsealed(payload)
        created_at, length = _HEADER.unpack_from(plain)
        start = _HEADER.size + length
        run_id = bytes(plain[_HEADER.size : start]).decode("utf-8", "surrogatepass")
        return cls(bytes(plain[start:]), created_at, run_id)


@attrs.frozen(slots=False)  # made in half the time
class Hit:
    """A remembered result that answers the call.

    Attributes:
        remembered: The result as it was kept.
        value: What it decodes to; this caller's own.
    """

    remembered: Remembered
    value: Any

    @property
    def body(self) -> bytes:
        """Its encoding."""
        return self.remembered.body


@attrs.frozen
class Miss:
    """Why nothing that is remembered answers the call.

    Attributes:
        why: The reason; `"new"` where nothing is remembered under the key.
        remembered: The result that does not answer it, if there is one and it can be read.
        error: What reading it raised.
    """

    why: Literal["new", "expired", "refresh", "stale", "damaged"] = "new"
    remembered: Remembered | None = None
    error: StaleValue | StoreCorrupt | None = None


@attrs.frozen
class Policy:
    """Under which conditions a remembered result answers a call.

    Attributes:
        ttl: For how long after its completion, in seconds; None for ever.
        refresh: Whether the call asks for a new result.
        run_id: The run of the call; what it has made anew itself is not made anew again.
    """

    ttl: float | None = None
    refresh: bool = False
    run_id: str = ""

    def accepts(self, remembered: Remembered, now: float) -> bool:
        """Whether it answers the call at this time."""
        if self.ttl is not None and now - remembered.created_at >= self.ttl:
            return False
        return not self.refresh or (bool(self.run_id) and remembered.run_id == self.run_id)


@attrs.frozen
class StreamCodec:
    """Encodes a finished stream: the items it yielded and the value it returned."""

    items: Codec
    value: Codec

    def dumps(self, items: Sequence[bytes], value: Any, *, owner: str) -> bytes:
        """Return encoded items and a value as one body."""
        parts = [_LENGTH.pack(len(items))]
        for item in items:
            parts += (_LENGTH.pack(len(item)), item)
        return b"".join((*parts, self.value.dumps(value, owner=owner)))

    def split(self, body: bytes) -> tuple[list[bytes], bytes]:
        """Return the encoded items and the encoded value of a body."""
        return _split(body)


def mark_stream(body: bytes) -> bytes:
    """Mark the body of a finished stream as one, for who does not know the function that made it."""
    return _STREAM + body


def split_stream(body: bytes) -> tuple[list[bytes], bytes] | None:
    """Return the encoded items and the encoded value of a body that is marked as a stream, None if it is not."""
    return _split(body[1:]) if body[:1] == _STREAM else None


def _split(body: bytes) -> tuple[list[bytes], bytes]:
    (count,) = _LENGTH.unpack_from(body)
    items, at = [], _LENGTH.size
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        items.append(body[at : at + length])
        at += length
    return items, body[at:]
