"""What the values of a session's state may be: anything that can be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentflow._merge import ABSENT
from agentflow._serialization import Codec, StaleValue, codec_for
from agentflow.exceptions import StoreCorrupt, UsageError

if TYPE_CHECKING:
    from agentflow._frames import Home

__all__ = ["AnyValues", "Values"]


class Values:
    """What the keys of a state are, and how their values are written and read."""

    def encoded(self, key: str, value: object) -> bytes | None:
        """Return the encoding of a value, None if it is absent."""
        return None if value is ABSENT else self._codec(key).dumps(value, owner=f"state[{key!r}]")

    def decoded(self, key: str, body: bytes | None, home: Home) -> object:
        """Return the value of an encoding.

        Raises:
            StoreCorrupt: If it cannot be read back.
        """
        if body is None:
            return ABSENT
        try:
            return self._codec(key).loads(body)
        except StaleValue as stale:
            raise StoreCorrupt(
                f"state[{key!r}] of session {home.session_id!r} cannot be read back: {stale}: import or register "
                "its class (agentflow.register_type) before the workflow runs, set the key anew, or delete it",
                path=home.store.location,
            ) from stale

    def same(self, key: str, one: object, other: object) -> bool:
        """Whether two values are equal as they are stored."""
        return self.encoded(key, one) == self.encoded(key, other)

    def checked(self, key: str, value: object) -> object:
        """Return a value as it is to be assigned.

        Raises:
            UsageError: If there can be no such key.
        """
        raise NotImplementedError  # pragma: no cover - the classes below say

    def default(self, key: str) -> bytes | None:
        """Return the encoding of what a key without a value stands for, None for nothing."""
        raise NotImplementedError  # pragma: no cover - the classes below say

    def _codec(self, key: str) -> Codec:
        raise NotImplementedError  # pragma: no cover - the classes below say


_ANY: Final = codec_for(Any)


class AnyValues(Values):
    """Keys of any name with values of any type that can be stored."""

    def checked(self, key: str, value: object) -> object:
        """Return the value, which is the caller's own."""
        if type(key) is not str:
            raise UsageError(f"state[{key!r}]: a state key is a str, not {type(key).__name__}")
        self.encoded(key, value)  # what cannot be stored is refused here, where it is assigned
        return value

    def default(self, key: str) -> None:  # noqa: ARG002 - no key stands for anything
        """Return None: a key without a value is absent."""
        return None  # noqa: RET501 - said, since the base class may give something

    def _codec(self, key: str) -> Codec:  # noqa: ARG002 - one for all
        return _ANY
