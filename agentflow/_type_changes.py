"""What happens to a stored instance whose class has changed since.

The new class must accept every stored value *unchanged* and have a default for each new field;
everything else is a `StaleValue`: computing again costs one call, a half-filled object costs the truth.
Only here does code of the user's classes run while a value is read: validators and default factories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from pydantic import AliasChoices, BaseModel, ConfigDict, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["Default", "Same", "StaleValue", "adapted_fields", "adapted_model", "revalidated"]

Same: TypeAlias = Callable[[object, object], bool]
"""Says whether two values are the same, down to the type of every part."""

Default: TypeAlias = Callable[[], object]
"""Makes the value of a field that was not given."""

_ANY_TYPE: Final = ConfigDict(arbitrary_types_allowed=True)


class StaleValue(Exception):  # noqa: N818 - the value is out of date; nobody made a mistake
    """A stored value no longer fits the code that reads it.

    Internal: the caller turns it into a miss and logs the reason.

    Attributes:
        reason: What no longer fits.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def adapted_fields(
    owner: str, stored: Mapping[str, object], fields: Mapping[str, Default | None], types: Mapping[str, Any], same: Same
) -> dict[str, object]:
    """Return the values of all fields of a class without validation of its own.

    Args:
        owner: The class, for messages.
        stored: The stored values by field.
        fields: The fields that the class has now, each with its default, if any.
        types: What the fields are declared to be.
        same: Compares a stored value with what its declared type makes of it.

    Raises:
        StaleValue: If a field is gone, or new without a default, or no longer of a type that takes the stored value.
    """
    _refuse_lost(owner, stored, fields)
    for name, value in stored.items():
        if not _takes(types.get(name, Any), value, same):
            raise StaleValue(f"{owner}.{name} does not accept the stored value any more")
    added = {name: _default(owner, name, default) for name, default in fields.items() if name not in stored}
    return {name: {**stored, **added}[name] for name in fields}


def _refuse_lost(owner: str, stored: Mapping[str, object], fields: Mapping[str, object]) -> None:
    """Refuse values whose field is gone: they would be lost silently."""
    if lost := sorted(stored.keys() - fields.keys()):
        raise StaleValue(f"{owner} does not have the stored {', '.join(lost)} any more")


def _default(owner: str, name: str, default: Default | None) -> object:
    if default is None:
        raise StaleValue(f"{owner}.{name} has no default, and the stored value is from before it existed")
    try:
        return default()
    except Exception as error:  # factories are the user's and may raise anything
        raise StaleValue(f"{owner}.{name} has no default: its factory raised {type(error).__name__}") from error


def _takes(annotation: Any, value: object, same: Same) -> bool:
    """Say whether a type takes a value as it is; a type that cannot be checked does not."""
    try:
        # Inside a tuple the configuration is allowed for every annotation, also for one that is a model.
        inside: Any = GenericAlias(tuple, (annotation,))
        adapter: TypeAdapter[Any] = TypeAdapter(inside, config=_ANY_TYPE)
        return same(adapter.validate_python((value,), strict=True)[0], value)
    except Exception:  # noqa: BLE001 - validators in the annotation are the user's and may raise anything
        return False


def revalidated(owner: str, made: Any) -> None:
    """Let the validators of an attrs class judge an instance.

    Raises:
        StaleValue: If one of them objects.
    """
    try:
        attrs.validate(made)
    except Exception as error:  # validators are the user's and may raise anything
        raise StaleValue(f"{owner} does not accept the stored value any more: {type(error).__name__}") from error


def adapted_model(
    cls: type[BaseModel], owner: str, stored: Mapping[str, object], rest: Mapping[str, Any], same: Same
) -> BaseModel:
    """Return an instance of a pydantic model that validated the stored values and kept them.

    Args:
        cls: The model as it is now.
        owner: Its name, for messages.
        stored: The stored values by field.
        rest: What else was stored: extra values, private attributes, which fields were set.
        same: Compares a stored value with the validated one.

    Raises:
        StaleValue: If validation fails or changes a value, or a stored field is gone.
    """
    extra: Mapping[str, object] = rest.get("extra") or {}
    private: Mapping[str, object] = rest.get("private") or {}
    _refuse_lost(owner, stored, cls.model_fields)
    _refuse_lost(owner, private, cls.__private_attributes__)
    _refuse_lost(owner, extra, extra if cls.model_config.get("extra") == "allow" else {})
    model = _validated(cls, owner, {**_by_alias(cls, owner, stored), **extra})
    kept = {**model.__dict__, **(model.__pydantic_extra__ or {})}
    for name, value in {**stored, **extra}.items():
        if not same(kept.get(name), value):
            raise StaleValue(f"{owner}.{name} does not keep the stored value: validation changes it")
    # Not by setattr, which a frozen model refuses.
    object.__setattr__(model, "__pydantic_fields_set__", set(rest.get("set", stored)))
    if private:
        object.__setattr__(model, "__pydantic_private__", {**(model.__pydantic_private__ or {}), **private})
    return model


def _validated(cls: type[BaseModel], owner: str, values: dict[str, object]) -> BaseModel:
    try:
        return cls.model_validate(values, strict=True)
    except ValidationError as error:
        # Fields and kinds only: messages, and the keys in longer places, show values.
        wrong = {f"{part['loc'][0] if part['loc'] else 'it'} ({part['type']})" for part in error.errors()}
        raise StaleValue(f"{owner} does not accept the stored value any more: {', '.join(sorted(wrong))}") from None
    except Exception as error:  # validators are the user's and may raise anything
        raise StaleValue(f"{owner} does not accept the stored value any more: {type(error).__name__}") from error


def _by_alias(cls: type[BaseModel], owner: str, stored: Mapping[str, object]) -> dict[str, object]:
    """Name values as validation wants them: `by_name=True` is younger than the oldest pydantic we work with."""
    if cls.model_config.get("validate_by_alias") is False:
        return dict(stored)
    return {_alias(owner, name, cls.model_fields[name]): value for name, value in stored.items()}


def _alias(owner: str, name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [name if alias is None else alias]
    plain = next((choice for choice in choices if isinstance(choice, str)), None)
    if plain is None:
        raise StaleValue(f"{owner} has changed, and {name} is read from a path, by which it cannot be validated again")
    return plain
