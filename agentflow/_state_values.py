"""What the values of a session's state may be: anything that can be stored, or the fields of a pydantic model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pydantic

from agentflow._merge import ABSENT
from agentflow._recording import RESERVED
from agentflow._serialization import Codec, StaleValue, codec_for
from agentflow.exceptions import IncompatibleStore, StoreCorrupt, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentflow._active_run import Home

__all__ = ["AnyValues", "ModelValues", "Values"]


_MOST_LOOKS: Final = 20


class Values:
    """What the keys of a state are, and how their values are written and read."""

    def encoded(self, key: str, value: object) -> bytes | None:
        """Return the encoding of a value, None if it is absent."""
        if value is ABSENT:
            return None
        codec, owner = self._codec(key), f"state[{key!r}]"
        for _ in range(_MOST_LOOKS):
            try:
                return codec.dumps(value, owner=owner)
            except (
                RuntimeError
            ):  # another thread of the body has put something into a dict or a set just now: look again
                continue
        return codec.dumps(value, owner=owner)

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
                hint="import or register its class, set the key anew, or delete it",
            ) from stale

    def same(self, key: str, one: object, other: object) -> bool:
        """Whether two values are equal as they are stored."""
        return self.encoded(key, one) == self.encoded(key, other)

    def loaded(self, key: str, body: bytes | None, home: Home) -> tuple[object, bytes | None]:
        """Return the value of an encoding, and the encoding that it has today."""
        return self.decoded(key, body, home), body

    def names(self, stored: Sequence[str]) -> Iterable[str]:
        """Return the keys there are, of those that are stored."""
        return stored

    def checked(self, key: str, value: object) -> object:
        """Return a value as it is to be assigned.

        Raises:
            UsageError: If there can be no such key.
        """
        raise NotImplementedError  # pragma: no cover - the classes below say

    def default(self, key: str) -> bytes | None:
        """Return the encoding of what a key without a value stands for, None for nothing.

        Raises:
            KeyError: If there can be no such key.
        """
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


class ModelValues(Values):
    """The fields of a pydantic model: each has its type, its rules and its default.

    Args:
        model: The model.

    Raises:
        UsageError: If it is none whose fields can be kept one by one.
    """

    def __init__(self, model: type[pydantic.BaseModel]) -> None:
        _check_model(model)
        self.model = model
        self._codecs = {name: codec_for(field.annotation) for name, field in model.model_fields.items()}
        self._defaults: dict[str, bytes] = {}

    def decoded(self, key: str, body: bytes | None, home: Home) -> object:
        """Return the value of an encoding, which the field of today accepts.

        Raises:
            IncompatibleStore: If it does not.
        """
        if key.startswith(RESERVED):
            return super().decoded(key, body, home)
        assert body is not None
        try:
            value = self._codec(key).loads(body)
            return value if body == self._defaults.get(key) else self._validated(key, value)
        except (StaleValue, pydantic.ValidationError) as error:
            raise IncompatibleStore(
                f"state[{key!r}] of session {home.session_id!r} was stored by other code, and {self.model.__qualname__}.{key} does not "
                f"accept it: {_shortened(error)}: let the field accept it (by its type or a validator), set it anew, or delete it with "
                f"del workflow.session({home.session_id!r}).state[{key!r}]",
                path=home.store.location,
                hint="let the field accept what is stored, or delete it",
            ) from error

    def loaded(self, key: str, body: bytes | None, home: Home) -> tuple[object, bytes | None]:
        """Return the value of an encoding, and the encoding that it has today: reading it is no change, also if validation made one."""
        value = self.decoded(key, body, home)
        return value, self.encoded(key, value)

    def names(self, stored: Sequence[str]) -> Iterable[str]:  # noqa: ARG002 - what older code has stored stays, unseen
        """Return the names of the fields."""
        return self._codecs

    def checked(self, key: str, value: object) -> object:
        """Return a value as the field takes it.

        Raises:
            pydantic.ValidationError: If the field does not.
        """
        if key.startswith(RESERVED):
            return value
        if key not in self._codecs:
            raise UsageError(
                f"state[{key!r}]: {self.model.__qualname__} has no such field; it has {', '.join(self._codecs) or 'none'}"
            )
        value = self._validated(key, value)
        self.encoded(key, value)  # what cannot be stored is refused here, where it is assigned
        return value

    def default(self, key: str) -> bytes | None:
        """Return the encoding of a field's default, which is made once, so that it is the same for all."""
        if key.startswith(RESERVED):
            return None
        if key not in self._defaults:
            codec = self._codec(key)
            value = self.model.model_fields[key].get_default(call_default_factory=True, validated_data={})
            self._defaults.setdefault(key, codec.dumps(value, owner=f"the default of {self.model.__qualname__}.{key}"))
        return self._defaults[key]

    def _validated(self, key: str, value: object) -> object:
        # The model's own validator, so that those of its fields take part; the other fields of this instance are not looked at.
        alone = self.model.model_construct()
        self.model.__pydantic_validator__.validate_assignment(alone, key, value)
        return alone.__dict__[key]

    def _codec(self, key: str) -> Codec:
        return _ANY if key.startswith(RESERVED) else self._codecs[key]


def _shortened(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
    return str(error)


def _check_model(model: type[pydantic.BaseModel]) -> None:
    if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel)) or issubclass(model, pydantic.RootModel):
        raise UsageError(f"state={model!r}: write a class derived from pydantic.BaseModel, with a field for each key")
    model.model_rebuild()
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    why = {
        f"the state begins empty, and {', '.join(required)} has no default: give it one": bool(required),
        "fields are loaded and checked one by one, so a validator of the whole model cannot hold: put what belongs together into "
        "a model of its own, as one field": bool(model.__pydantic_decorators__.model_validators),
        "it is frozen, so nothing could be set": model.model_config.get("frozen", False),
        "it allows extra fields, which no type checker knows: declare them": model.model_config.get("extra") == "allow",
        "its private attributes would not be kept: make them fields": bool(model.__private_attributes__),
    }
    for reason, holds in why.items():
        if holds:
            raise UsageError(f"state={model.__qualname__}: {reason}")
