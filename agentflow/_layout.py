"""How an instance of a user's class is taken apart into plain values, and put together again.

A layout reads the fields of an instance where they are kept and writes them back there: no `__init__`, no
validator and no converter of the user's runs, so what comes back is what was stored and nothing happens twice.
If the class has changed since, which its digest tells, `_type_changes` decides.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from abc import ABC, abstractmethod
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import attrs

from agentflow._type_changes import StaleValue, adapted_fields
from agentflow._type_registry import class_name, describe, field_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agentflow._type_changes import Same

__all__ = [
    "CACHED_HASH",
    "EnumLayout",
    "Layout",
    "NamedTupleLayout",
    "Parts",
    "Refused",
    "Rest",
    "ScalarLayout",
    "cached_properties",
    "defined_in_python",
    "digest_of",
    "slots_of",
]

Rest: TypeAlias = "dict[str, Any] | None"
"""What an instance holds beside its fields, by what it is; None if there is nothing unusual."""

Parts: TypeAlias = "tuple[tuple[str, ...], list[Any], Rest]"
"""An instance, taken apart: the fields that have a value, their values in the same order, and the rest."""

CACHED_HASH: Final = "_attrs_cached_hash"
"""Where attrs keeps a hash, which is another one in another process; None makes it compute the hash again."""


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
            base is not None
            and base is not candidate
            and defined_in_python(candidate, base)
            and not slots_of(candidate)
        )

    def take_apart(self, value: Any) -> Parts:
        """Return the value as its plain type."""
        if getattr(value, "__dict__", None):
            raise Refused(value, "It has attributes, which would be lost: make it a dataclass.")
        return self.fields, [self._EXACT[self._base](value)], None

    def put_together(self, names: tuple[str, ...], values: Sequence[Any], rest: Rest) -> object:  # noqa: ARG002
        """Make the value of its class again, without its `__new__`."""
        return self._base.__new__(self.cls, *values)


class NamedTupleLayout(Layout):
    """Instances of named tuples."""

    tag = "namedtuple"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.fields = cls._fields
        self._types = field_types(cls)
        self.digest = digest_of(self.tag, {name: describe(self._types.get(name, Any)) for name in self.fields})

    @staticmethod
    def fits(candidate: type) -> bool:
        """Say whether the class was made by `NamedTuple` or `namedtuple`, or inherits from one that was."""
        return issubclass(candidate, tuple) and hasattr(candidate, "_fields") and defined_in_python(candidate, tuple)

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


def digest_of(kind: str, fields: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """Return a short digest of what stored values of a class rely on."""
    lines = [kind, *(f"{name}: {text}" for name, text in fields.items()), *sorted(others)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def defined_in_python(cls: type, base: type = object) -> bool:
    """Say whether nothing but `base` of a class is written in C, where it could keep what is not seen from here."""
    heap_type = 1 << 9  # Py_TPFLAGS_HEAPTYPE
    return all(part.__flags__ & heap_type for part in cls.__mro__ if part not in {base, object})


def slots_of(cls: type) -> dict[str, Any]:
    """Return the descriptors of a class's slots, those of the bases included, by the name they are kept under."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        members = {name: slot for name, slot in vars(base).items() if isinstance(slot, MemberDescriptorType)}
        if "__attrs_attrs__" in vars(base):
            # attrs keeps what cached properties computed in slots too.
            kept = {field.name for field in attrs.fields(base)} | {CACHED_HASH}
            members = {name: slot for name, slot in members.items() if name in kept}
        found = {**members, **found}
    return found


def cached_properties(cls: type) -> frozenset[str]:
    """Return the names under which cached properties keep what can be computed again."""
    members = (item for base in cls.__mro__ for item in vars(base).items())
    return frozenset(name for name, member in members if isinstance(member, functools.cached_property))
