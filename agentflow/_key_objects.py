"""Objects of the user's own classes as parts of keys: models, records, enums, named tuples, subclasses.

An object can be keyed if its class says what it consists of (pydantic, attrs, dataclass, named tuple, enum), if it adds
nothing but behaviour to a builtin value, or if it or `register_key` gives the key. Whatever is left is refused.
"""

from __future__ import annotations

__all__ = ["classify", "register"]

import io
from functools import cached_property, partial
from types import BuiltinFunctionType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from agentflow._canonical import is_enum, member, qualified_name, scalar
from agentflow._key_arrays import ARRAY_BASES, ARRAYS, CONSTANTS
from agentflow._key_code import (
    check,
    class_name,
    contents,
    declared,
    inherits,
    is_expression,
    lineage,
    loaded,
    type_shape,
)
from agentflow._key_values import LOADED, SUBCLASSED, fields
from agentflow._key_walk import Kind, Refused, Shape, type_name, type_of

if TYPE_CHECKING:
    from collections.abc import Callable


def classify(cls: type) -> Kind:
    """Return the kind of a class that has none by exact type.

    Raises:
        Refused: If its instances cannot be keyed.
    """
    for find in (_given, _by_module, _by_meaning, _by_fields, _by_base):
        kind = find(cls)
        if kind is not None:
            return kind
    raise Refused(type_name(cls), _reason(cls))


# --- keys that the object, or register_key, gives ---

_REGISTERED: Final[dict[int, tuple[type, Callable[[Any], object]]]] = {}


def register(cls: type, give: Callable[[Any], object]) -> Kind:
    """Let `give` speak for the instances of `cls` and of subclasses that have no key of their own; return the kind."""
    _REGISTERED[id(cls)] = (cls, give)
    return partial(_give, give)


def _given(cls: type) -> Kind | None:
    """Find the key that the nearest class among its bases gives."""
    for base in lineage(cls):
        if id(base) in _REGISTERED:
            return partial(_give, _REGISTERED[id(base)][1])
        if "__agentflow_key__" in contents(base):
            return partial(_give, _own_key)
        if "__agentflow_version__" in contents(base):
            return _versioned
    return None


def _own_key(value: Any) -> object:
    cls = cast("Any", type(value))  # as for Python's own methods of this form, an instance's attribute does not count
    return cls.__agentflow_key__(value)


def _give(give: Callable[[Any], object], value: Any) -> Shape:
    return Shape(b"given", (qualified_name(type(value)), give(value)), label=_in_key)


def _in_key(_: Shape, __: int) -> str:
    return ".__agentflow_key__()"


def _versioned(value: Any) -> Shape:
    """Steps, workflows, agents and models count by their version, which covers all that they do.

    A pinned version may be any text, so the name of the function that such an object wraps stands beside it.
    """
    cls = cast("Any", type(value))
    own = getattr(value, "__dict__", {})
    place = (own.get("__module__"), own.get("__qualname__"))
    return Shape(b"versioned", (qualified_name(cls), *place, cls.__agentflow_version__(value)))


# --- classes known by name ---


def _by_module(cls: type) -> Kind | None:
    """Find a class of the standard library, numpy or pandas among those that the program has loaded."""
    for module, kinds in (*LOADED.items(), *ARRAYS.items()):
        for name, kind in kinds.items():
            if loaded(module, name) is cls:
                return kind
    for place, kind in CONSTANTS.items():
        if (constant := loaded(*place)) is not None and type(constant) is cls:
            return kind
    return next((kind for place, kind in ARRAY_BASES.items() if inherits(cls, loaded(*place))), None)


def _by_meaning(cls: type) -> Kind | None:
    """Find members of enums, classes and type expressions."""
    if is_enum(cls):
        return _member
    return type_shape if inherits(cls, type) or is_expression(cls) else None


def _member(value: Any) -> Shape:
    check(type(value))
    encoded = member(value)
    if encoded is None:
        raise Refused(type_of(value), "its enum made it up at run time, with a value that has no key")
    return Shape(b"member", (), encoded)


# --- classes that list their fields ---


@attrs.frozen
class _Layout:
    """Where the instances of a class keep what they are.

    Attributes:
        cls: The class whose name must still stand for it.
        head: What stands for it, encoded if that can be done once.
        before: What stands for it, or nothing.
        declared: The names of its declared fields.
        slots: The descriptors of its slots.
        hidden: Attributes that only save time, such as a cached property.
        exact: Gives the builtin value that an instance also is, where it is one.
        secret: Whether the values must not show.
    """

    cls: type
    head: bytes
    before: tuple[object, ...]
    declared: tuple[str, ...]
    slots: tuple[MemberDescriptorType, ...]
    hidden: frozenset[str]
    exact: Callable[[Any], Any] | None
    secret: bool = False

    @classmethod
    def of(cls, owner: type, names: tuple[str, ...] = (), *, secret: bool = False) -> _Layout:
        """Read the layout of a class, refusing those whose instances hold more than Python can see."""
        native = _native(owner)
        if native is not object and native not in SUBCLASSED:
            raise Refused(type_name(owner), _reason(owner))
        slots = tuple(each for base in lineage(owner) for each in _slots(base))
        exact = SUBCLASSED.get(native)
        generic: Any = contents(owner).get("__pydantic_generic_metadata__") or {}
        name = class_name(owner)
        head = scalar(name)
        before = (name,) if head is None else ()
        return cls(generic.get("origin") or owner, head or b"", before, names, slots, _hidden(owner), exact, secret)

    def state(self, value: object) -> dict[str, object]:
        """Return all that an instance holds, by name, in the order of the names.

        Not only its declared fields: what else was set on it can make it another value as well.
        """
        found = {slot.__name__: _unless_unset(slot.__get__, value) for slot in reversed(self.slots)}
        found |= _unless_unset(object.__getattribute__, value, "__dict__", default={})
        for name in self.declared:
            if name not in found:  # its default, which the class keeps
                found[name] = _unless_unset(object.__getattribute__, value, name)
        if any(type(name) is not str for name in found):
            raise Refused(type_of(value), "it has attributes whose names are no text")
        return {name: found[name] for name in sorted(found) if name not in self.hidden and found[name] is not _UNSET}


_UNSET: Final = object()


def _unless_unset(get: Callable[..., Any], *args: object, default: Any = _UNSET) -> Any:
    """Return an attribute, or `default` if it is not set."""
    try:
        return get(*args)
    except AttributeError:
        return default


def _native(cls: type) -> Any:
    """Return the nearest base that is written in C: `object`, or a builtin whose value an instance also holds."""
    for base in lineage(cls):
        maker = contents(base).get("__new__")
        if not base.__flags__ & _HEAP or (type(maker) is BuiltinFunctionType and maker.__self__ is base):
            return base
    return object


_HEAP: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by C code that can also make plain types


def _slots(base: type) -> list[MemberDescriptorType]:
    if not base.__flags__ & _HEAP:
        return []
    found = [each for each in contents(base).values() if type(each) is MemberDescriptorType]
    if "__attrs_attrs__" not in contents(base):
        return found
    # attrs makes all slots of its classes: the fields', and others for what it caches
    names = {each.name for each in contents(base)["__attrs_attrs__"]}
    return [each for each in found if each.__name__ in names]


def _hidden(cls: type) -> frozenset[str]:
    cached = {name for base in lineage(cls) for name, each in contents(base).items() if type(each) is cached_property}
    return frozenset(cached | {"__pydantic_fields_set__", "_attrs_cached_hash"})


def _by_fields(cls: type) -> Kind | None:
    """Find models, dataclasses, attrs classes, pydantic's URLs and secrets."""
    if inherits(cls, loaded("pydantic.main", "BaseModel")):
        return partial(_model, _Layout.of(cls))
    for name in ("SecretStr", "SecretBytes", "Secret"):
        if inherits(cls, loaded("pydantic.types", name)):
            return partial(_record, _Layout.of(cls, secret=True))
    if any(inherits(cls, loaded("pydantic.networks", name)) for name in ("_BaseUrl", "_BaseMultiHostUrl")):
        return partial(_record, _Layout.of(cls))
    listed = declared(cls)
    return None if listed is None else partial(_record, _Layout.of(cls, tuple(each.name for each in listed)))


def _record(layout: _Layout, value: Any) -> Shape:
    """Class and everything the object holds, whatever its own `==` compares."""
    check(layout.cls)
    state = layout.state(value)
    before = layout.before if layout.exact is None else (*layout.before, layout.exact(value))
    shape = fields(b"record", tuple(state), state.values(), head=layout.head, before=before)
    return shape._replace(secret=True) if layout.secret else shape


def _model(layout: _Layout, value: Any) -> Shape:
    """A pydantic model: fields, extras and private attributes; which of them were set explicitly does not count."""
    check(layout.cls)
    state = layout.state(value)
    extra: Any = state.pop("__pydantic_extra__", None)
    private: Any = state.pop("__pydantic_private__", None)
    hidden: dict[str, object] = private or {}
    names = (*state, *sorted(hidden))
    values = (*state.values(), *(hidden[name] for name in sorted(hidden)))
    return fields(b"model", names, values, head=layout.head, before=(*layout.before, extra or None))


# --- behaviour added to a builtin value ---


def _by_base(cls: type) -> Kind | None:
    """Find named tuples, and subclasses of builtins without attributes of their own."""
    if _native(cls) not in SUBCLASSED:
        return None
    return partial(_subclassed, _Layout.of(cls), _tuple_names(cls))


def _tuple_names(cls: type) -> tuple[str, ...] | None:
    """Return the names of a named tuple's fields."""
    if not inherits(cls, tuple):
        return None
    return next((contents(base)["_fields"] for base in lineage(cls) if "_fields" in contents(base)), None)


def _subclassed(layout: _Layout, names: tuple[str, ...] | None, value: object) -> Shape:
    check(layout.cls)
    if layout.state(value):
        raise Refused(type_name(layout.cls), "it holds attributes beside its value")
    assert layout.exact is not None
    exact: Any = layout.exact(value)
    if names is not None and len(names) == len(exact):
        return fields(b"namedtuple", names, exact, head=layout.head, before=layout.before)
    return Shape(b"subclass", (*layout.before, exact), layout.head, label=_no_way)


def _no_way(_: Shape, __: int) -> str:
    return ""


# --- refusals ---


def _reason(cls: type) -> str:
    """Say why the instances of a class cannot be keyed."""
    for base, reason in _REASONS.items():
        if inherits(cls, base):
            return reason
    if any("__next__" in contents(base) or "__await__" in contents(base) for base in lineage(cls)):
        return "it can be used up, so it is not the same twice; pass a list"
    return "it does not say what it consists of"


_EMPTY: Final[dict[str, str]] = {}
_VIEWS: Final = (memoryview, MappingProxyType, *map(type, (_EMPTY.keys(), _EMPTY.values(), _EMPTY.items())))
_REASONS: Final[dict[type, str]] = {
    BaseException: "an exception carries more than it shows; pass what matters of it",
    MethodType: "a bound method is a function and an object; pass the object",
    ModuleType: "a module is code; pass its name",
    io.IOBase.__bases__[0]: "a file is a place that is read once; pass its content, or FileArg(path)",
    **dict.fromkeys(_VIEWS, "a view shows what another object holds; pass a copy of it"),
}
