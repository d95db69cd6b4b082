"""How an instance of a user's class is taken apart into plain values, and put together again.

A layout reads the fields of an instance where they are kept and writes them back there: no `__init__`, no
validator and no converter of the user's runs, so what comes back is what was stored and nothing happens twice.
If the class has changed since, which its digest tells, `_type_changes` decides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
from abc import ABC, abstractmethod
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeAlias

import attrs
from pydantic import BaseModel

from agentflow._type_changes import StaleValue, adapted_fields, adapted_model, revalidated
from agentflow._type_registry import class_name, describe, field_types, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from agentflow._type_changes import Default, Same

__all__ = ["KINDS", "Layout", "Parts", "Refused", "Rest", "layout_of"]

Rest: TypeAlias = "dict[str, Any] | None"
"""What an instance holds beside its fields, by what it is; None if there is nothing unusual."""

Parts: TypeAlias = "tuple[tuple[str, ...], list[Any], Rest]"
"""An instance, taken apart: the fields that have a value, their values in the same order, and the rest."""


class Refused(Exception):  # noqa: N818 - the codec turns it into an UnserializableValue that has the whole path
    """A part of a value cannot be stored.

    Attributes:
        value: The part.
        why: What is wrong with it and what to do.
        trail: The way from the part up to the whole value: each piece of the path with the container it is in.
    """

    def __init__(self, value: object, why: str) -> None:
        super().__init__(why)
        self.value, self.why = value, why
        self.trail: list[tuple[str, object]] = []

    def inside(self, container: object, pieces: Iterable[tuple[str, object]]) -> Refused:
        """Note where in a container the part is; the pieces of the path come with what they lead to."""
        part = self.trail[-1][1] if self.trail else self.value
        self.trail.append((next((piece for piece, item in pieces if item is part), ""), container))
        return self


class Layout(ABC):
    """How instances of one class are taken apart and put together.

    Attributes:
        tag: The kind of class, as it stands in stored values.
        cls: The class.
        name: What it is called in stored values.
        fields: The names of its fields.
        digest: Changes with the fields, their types and constraints, and the names of validators; their code and the
            defaults belong to the version of the step.
    """

    tag: ClassVar[str]
    fields: tuple[str, ...] = ()
    digest: str = ""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.name = class_name(cls)

    @staticmethod
    @abstractmethod
    def fits(candidate: type) -> bool:
        """Say whether this is the layout of a class."""

    @abstractmethod
    def take_apart(self, value: Any) -> Parts:
        """Return the parts of an instance.

        Raises:
            Refused: If it holds something that would be lost.
        """

    @abstractmethod
    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:
        """Make the instance of these parts again, as it was; there are as many values as names."""

    def maker(self, names: tuple[str, ...]) -> Callable[[Sequence[Any], Rest], object]:
        """Return what puts instances with these fields together."""
        return functools.partial(self.put_together, names)

    def adapt(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest, same: Same) -> object:  # noqa: ARG002
        """Make an instance although the class has changed since its parts were stored.

        Raises:
            StaleValue: If the class does not accept every stored value as it is, or needs one that is missing.
        """
        return self.put_together(names, values, rest)


class EnumLayout(Layout):
    """Members of an enum, by name; combinations of flags, which may have none, by value."""

    tag = "enum"
    fields = ("name",)

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is an enum."""
        return issubclass(candidate, Enum)

    def take_apart(self, value: Any) -> Parts:
        """Return the member's name."""
        if self.cls._member_map_.get(value._name_) is value:
            return self.fields, [value._name_], None
        if isinstance(value, Flag) and type(value._value_) is int:
            return self.fields, [value._value_], None
        raise Refused(value, "It is no member of its class by name: return a member that the class defines.")

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:  # noqa: ARG002
        """Find the member."""
        (member,) = values
        if type(member) is str and member in self.cls._member_map_:
            return self.cls._member_map_[member]
        if type(member) is int and issubclass(self.cls, Flag):
            with contextlib.suppress(ValueError):
                return self.cls(member)
        raise StaleValue(f"{self.name} has no member {member} any more")


class ScalarLayout(Layout):
    """Subclasses of `str`, `int`, `float` and `bytes` that add behaviour but hold nothing more."""

    tag = "scalar"
    fields = ("value",)
    _EXACT: ClassVar[Mapping[type, Any]] = {
        str: str.__str__,
        int: int.__int__,
        float: float.__float__,
        bytes: bytes.__bytes__,
    }

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self._base: Any = self._base_of(cls)

    @classmethod
    def _base_of(cls, scalar: type) -> type | None:
        return next((base for base in cls._EXACT if issubclass(scalar, base)), None)

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is defined in Python, and adds no slots to one of these types."""
        base = ScalarLayout._base_of(candidate)
        return (
            base is not None and base is not candidate and _defined_in_python(candidate, base) and not _slots(candidate)
        )

    def take_apart(self, value: Any) -> Parts:
        """Return the value as its plain type."""
        if getattr(value, "__dict__", None):
            raise Refused(value, "It has attributes, which would be lost: make it a dataclass.")
        return self.fields, [self._EXACT[self._base](value)], None

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:  # noqa: ARG002
        """Make the value of its class again, without its `__new__`."""
        return self._base.__new__(self.cls, *values)


class ModelLayout(Layout):
    """Instances of pydantic models: all fields, extra values, private attributes, and which fields were set."""

    tag = "model"

    def __init__(self, cls: type[BaseModel]) -> None:
        super().__init__(cls)
        types = field_types(cls)
        self.fields = tuple(cls.model_fields)
        self._all = frozenset(self.fields)
        self._cached = _cached_properties(cls)
        metadata = {name: settled(field.metadata) for name, field in cls.model_fields.items()}
        constraints = {name: f"{describe(types[name])} {metadata[name]}" for name in self.fields}
        others = (*_validators(cls), *cls.__private_attributes__, f"extra={cls.model_config.get('extra')}")
        self.digest = _digest(self.tag, constraints, others)

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is a pydantic model that keeps nothing in slots of its own."""
        model = issubclass(candidate, BaseModel) and _defined_in_python(candidate)
        return model and _slots(candidate).keys() <= set(BaseModel.__slots__)

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


class NamedTupleLayout(Layout):
    """Instances of named tuples."""

    tag = "namedtuple"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.fields = cls._fields
        self._types = field_types(cls)
        self.digest = _digest(self.tag, {name: describe(self._types.get(name, Any)) for name in self.fields})

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class was made by `NamedTuple` or `namedtuple`, or inherits from one that was."""
        return issubclass(candidate, tuple) and hasattr(candidate, "_fields") and _defined_in_python(candidate, tuple)

    def take_apart(self, value: Any) -> Parts:
        """Return the items of the tuple."""
        if getattr(value, "__dict__", None):
            raise Refused(value, "It has attributes besides its items, which would be lost: make it a dataclass.")
        return self.fields, list(value), None

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:  # noqa: ARG002
        """Make the tuple of its class again."""
        return tuple.__new__(self.cls, values)

    def adapt(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest, same: Same) -> object:
        """Find the stored items by name among the items as they are now."""
        stored = dict(zip(names, values, strict=True))
        static = self.cls._field_defaults
        defaults = {name: (lambda name=name: static[name]) if name in static else None for name in self.fields}
        filled = adapted_fields(self.name, stored, defaults, self._types, same)
        return self.put_together(self.fields, [*filled.values()], rest)


class ObjectLayout(Layout):
    """Instances of dataclasses and attrs classes: what is in their `__dict__` and slots."""

    tag = "object"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        fields = [*(_attrs_fields(cls) if attrs.has(cls) else _dataclass_fields(cls))]
        self._defaults = {field.name: field.default for field in fields}
        self._types = {field.name: field.type for field in fields}
        self._slots = _slots(cls)
        # typing puts `__orig_class__` on what a generic alias makes; it is no part of the value.
        self._passing = _cached_properties(cls) | {"__orig_class__"}
        self.fields = tuple(self._defaults)
        self._all = frozenset(self.fields)
        self.digest = _digest(self.tag, {field.name: f"{describe(field.type)} {field.constraint}" for field in fields})

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class is a dataclass or an attrs class, and nothing that keeps more than it shows."""
        return (dataclasses.is_dataclass(candidate) or attrs.has(candidate)) and _defined_in_python(candidate)

    def take_apart(self, value: Any) -> Parts:
        """Read the fields, and what else was put on the instance."""
        state: dict[str, Any] = self._state(value) if self._slots else getattr(value, "__dict__", {})
        if state.keys() == self._all:
            return self.fields, [state[name] for name in self.fields], None
        found = self._found(state)
        others = {name: held for name, held in state.items() if name not in self._all | self._passing}
        if _CACHED_HASH in others:
            others[_CACHED_HASH] = None
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
_CACHED_HASH: Final = "_attrs_cached_hash"
"""Where attrs keeps a hash, which is another one in another process; None makes it compute the hash again."""


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


def _digest(kind: str, fields: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """Return a short digest of what stored values of a class rely on."""
    lines = [kind, *(f"{name}: {text}" for name, text in fields.items()), *sorted(others)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _validators(cls: Any) -> list[str]:
    """Return the names of a model's validators."""
    decorators = cls.__pydantic_decorators__
    return [*decorators.field_validators, *decorators.model_validators, *decorators.validators]


def _defined_in_python(cls: type, base: type = object) -> bool:
    """Say whether nothing but `base` of a class is written in C, where it could keep what is not seen from here."""
    heap_type = 1 << 9  # Py_TPFLAGS_HEAPTYPE
    return all(part.__flags__ & heap_type for part in cls.__mro__ if part not in {base, object})


def _slots(cls: type) -> dict[str, Any]:
    """Return the descriptors of a class's slots, those of the bases included, by the name they are kept under."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        members = {name: slot for name, slot in vars(base).items() if isinstance(slot, MemberDescriptorType)}
        if "__attrs_attrs__" in vars(base):
            # attrs keeps what cached properties computed in slots too.
            kept = {field.name for field in attrs.fields(base)} | {_CACHED_HASH}
            members = {name: slot for name, slot in members.items() if name in kept}
        found = {**members, **found}
    return found


def _cached_properties(cls: type) -> frozenset[str]:
    """Return the names under which cached properties keep what can be computed again."""
    members = (item for base in cls.__mro__ for item in vars(base).items())
    return frozenset(name for name, member in members if isinstance(member, functools.cached_property))


KINDS: Final[tuple[type[Layout], ...]] = (EnumLayout, ModelLayout, NamedTupleLayout, ObjectLayout, ScalarLayout)
"""All layouts, in the order in which they are tried."""


def layout_of(cls: type) -> Layout | None:
    """Return the layout of a class, or None if its instances cannot be stored."""
    return next((kind(cls) for kind in KINDS if kind.fits(cls)), None)
