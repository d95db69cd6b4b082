"""The layouts of classes with fields: pydantic models, dataclasses, attrs classes; and which class has which layout."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
from pydantic import BaseModel

from agentflow._layout import (
    CACHED_HASH,
    EnumLayout,
    Layout,
    NamedTupleLayout,
    Refused,
    ScalarLayout,
    cached_properties,
    defined_in_python,
    digest_of,
    slots_of,
)
from agentflow._type_changes import adapted_fields, adapted_model, revalidated
from agentflow._type_registry import describe, field_types, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from agentflow._layout import Parts, Rest
    from agentflow._type_changes import Default, Same

__all__ = ["KINDS", "layout_of"]


class ModelLayout(Layout):
    """Instances of pydantic models: all fields, extra values, private attributes, and which fields were set."""

    tag = "model"

    def __init__(self, cls: type[BaseModel]) -> None:
        super().__init__(cls)
        types = field_types(cls)
        self.fields = tuple(cls.model_fields)
        self._all = frozenset(self.fields)
        self._cached = cached_properties(cls)
        metadata = {name: settled(field.metadata) for name, field in cls.model_fields.items()}
        constraints = {name: f"{describe(types[name])} {metadata[name]}" for name in self.fields}
        others = (*_validators(cls), *cls.__private_attributes__, f"extra={cls.model_config.get('extra')}")
        self.digest = digest_of(self.tag, constraints, others)

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is a pydantic model that keeps nothing in slots of its own."""
        model = issubclass(candidate, BaseModel) and defined_in_python(candidate)
        return model and slots_of(candidate).keys() <= set(BaseModel.__slots__)

    def take_apart(self, value: Any) -> Parts:
        """Read what pydantic keeps of a model, which is also what pickle and copy take of it."""
        state: dict[str, Any] = value.__dict__
        names = self.fields if state.keys() == self._all else self._present(value)
        try:
            given, extra, private = value.__pydantic_fields_set__, value.__pydantic_extra__, value.__pydantic_private__
        except AttributeError:
            raise Refused(value, "It was never initialised: make it by calling its class.") from None
        rest: Rest = None
        if extra is not None or private is not None or given != (self._all if names is self.fields else set(names)):
            held = {"extra": extra, "private": private, "set": None if given == set(names) else sorted(given)}
            rest = {part: value for part, value in held.items() if value is not None}
        return names, [state[name] for name in names], rest

    def _present(self, value: BaseModel) -> tuple[str, ...]:
        """Return the fields that have a value, where that is not all of them, or where there is something else."""
        if strange := sorted(value.__dict__.keys() - self._all - self._cached):
            raise Refused(value, f"It holds {', '.join(strange)}, which is no field of its class: declare it as one.")
        return tuple(name for name in self.fields if name in value.__dict__)

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:
        """Write the state of a model back; through the slots, since frozen models refuse to be written to."""
        more: dict[str, Any] = rest or {}
        model = object.__new__(self.cls)
        _SET_STATE(model, dict(zip(names, values, strict=True)))
        _SET_GIVEN(model, set(more.get("set", names)))
        _SET_EXTRA(model, more.get("extra"))
        _SET_PRIVATE(model, more.get("private"))
        return model

    def maker(self, names: tuple[str, ...]) -> Callable[[Sequence[Any], Rest], object]:
        """Return what puts such models together; most of the time of reading a value is spent in it."""
        new, cls, given = object.__new__, self.cls, set(names)

        def make(values: Sequence[Any], rest: Rest) -> object:
            if rest is not None:
                return self.put_together(names, values, rest)
            model = new(cls)
            _SET_STATE(model, dict(zip(names, values)))  # noqa: B905 - the reader has counted them
            _SET_GIVEN(model, given.copy())
            _SET_EXTRA(model, None)
            _SET_PRIVATE(model, None)
            return model

        return make

    def adapt(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest, same: Same) -> object:
        """Validate the stored values with the model as it is now."""
        return adapted_model(self.cls, self.name, dict(zip(names, values, strict=True)), rest or {}, same)


# These are how pydantic itself copies and unpickles models, looked up once: reading a value is the hot path.
_SET_STATE: Final = vars(BaseModel)["__dict__"].__set__
_SET_GIVEN: Final = vars(BaseModel)["__pydantic_fields_set__"].__set__
_SET_EXTRA: Final = vars(BaseModel)["__pydantic_extra__"].__set__
_SET_PRIVATE: Final = vars(BaseModel)["__pydantic_private__"].__set__


def _validators(cls: Any) -> list[str]:
    """Return the names of a model's validators."""
    decorators = cls.__pydantic_decorators__
    return [*decorators.field_validators, *decorators.model_validators, *decorators.validators]


class ObjectLayout(Layout):
    """Instances of dataclasses and attrs classes: what is in their `__dict__` and slots."""

    tag = "object"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        fields = [*(_attrs_fields(cls) if attrs.has(cls) else _dataclass_fields(cls))]
        self._defaults = {field.name: field.default for field in fields}
        self._types = {field.name: field.type for field in fields}
        self._slots = slots_of(cls)
        # typing puts `__orig_class__` on what a generic alias makes; it is no part of the value.
        self._passing = cached_properties(cls) | {"__orig_class__"}
        self.fields = tuple(self._defaults)
        self._all = frozenset(self.fields)
        self.digest = digest_of(
            self.tag, {field.name: f"{describe(field.type)} {field.constraint}" for field in fields}
        )

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is a dataclass or an attrs class, and nothing that keeps more than it shows."""
        return (dataclasses.is_dataclass(candidate) or attrs.has(candidate)) and defined_in_python(candidate)

    def take_apart(self, value: Any) -> Parts:
        """Read the fields, and what else was put on the instance."""
        state: dict[str, Any] = self._state(value) if self._slots else getattr(value, "__dict__", {})
        if state.keys() == self._all:
            return self.fields, [state[name] for name in self.fields], None
        found = self._found(state)
        others = {name: held for name, held in state.items() if name not in self._all | self._passing}
        if CACHED_HASH in others:
            others[CACHED_HASH] = None
        return tuple(found), list(found.values()), {"attributes": others} if others else None

    def _state(self, value: Any) -> dict[str, Any]:
        state = dict(getattr(value, "__dict__", ()))
        for name, slot in self._slots.items():
            with contextlib.suppress(AttributeError):  # an empty slot
                state[name] = slot.__get__(value)
        return state

    def _found(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that have a value, also those that have it from their class, as defaults without init."""
        static = {name: inspect.getattr_static(self.cls, name, _NOTHING) for name in self._all - state.keys()}
        plain = {name: held for name, held in static.items() if held is not _NOTHING and not hasattr(held, "__get__")}
        found = {**plain, **state}
        return {name: found[name] for name in self.fields if name in found}

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:
        """Write the fields back where they were, past `__setattr__`, which a frozen class refuses."""
        made = object.__new__(self.cls)
        state = dict(zip(names, values, strict=True))
        if rest is not None:
            state.update(rest["attributes"])
        for name in self._slots.keys() & state.keys():
            self._slots[name].__set__(made, state.pop(name))
        if state:
            made.__dict__.update(state)
        return made

    def adapt(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest, same: Same) -> object:
        """Find the stored fields among the fields as they are now, and let attrs validate them."""
        stored = dict(zip(names, values, strict=True))
        filled = adapted_fields(self.name, stored, self._defaults, self._types, same)
        made = self.put_together(tuple(filled), [*filled.values()], rest)
        if attrs.has(self.cls):
            revalidated(self.name, made)
        return made


_NOTHING: Final = object()
_FACTORY: Final[Any] = type(attrs.Factory(list))  # the name is a class, which its stub calls a function


@attrs.frozen
class _Field:
    """One field of a dataclass or attrs class: its name, type and default, and what else a value must satisfy."""

    name: str
    type: Any
    default: Default | None
    constraint: str = ""


def _attrs_fields(cls: Any) -> Iterator[_Field]:
    types = field_types(cls)
    for field in attrs.fields(cls):
        kind = types.get(field.name, field.type or Any)
        yield _Field(field.name, kind, _attrs_default(field), settled(field.validator))


def _attrs_default(field: attrs.Attribute[Any]) -> Default | None:
    """Return what makes a default, converted; None if there is none, or none that can be had without an instance."""
    default: Any = field.default
    convert: Any = field.converter or (lambda value: value)
    if isinstance(default, _FACTORY):
        return None if default.takes_self or not callable(convert) else lambda: convert(default.factory())
    return None if default is attrs.NOTHING or not callable(convert) else lambda: convert(default)


def _dataclass_fields(cls: Any) -> Iterator[_Field]:
    types = field_types(cls)
    checked: Mapping[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
    annotated: Any = Annotated
    for field in dataclasses.fields(cls):
        kind, info = types.get(field.name, Any), checked.get(field.name)
        if info is None:
            yield _Field(field.name, kind, _dataclass_default(field))
        else:
            # A pydantic dataclass has what pydantic knows of a field where the default should be.
            default = None if info.is_required() else functools.partial(info.get_default, call_default_factory=True)
            yield _Field(field.name, annotated[kind, *info.metadata] if info.metadata else kind, default)


def _dataclass_default(field: dataclasses.Field[Any]) -> Default | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    default = field.default
    return None if default is dataclasses.MISSING else lambda: default


KINDS: Final[tuple[type[Layout], ...]] = (EnumLayout, ModelLayout, NamedTupleLayout, ObjectLayout, ScalarLayout)
"""All layouts, in the order in which they are tried."""


def layout_of(cls: type) -> Layout | None:
    """Return the layout of a class, or None if its instances cannot be stored."""
    return next((kind(cls) for kind in KINDS if kind.fits(cls)), None)
