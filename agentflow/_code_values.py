"""How a value that code names counts: by value, by its code, by its source, or by its type only.

It knows kinds of values, by their real type: an object may say anything about its class. It does not
know names, modules or pieces: it asks a `Follower` for those.

The rules, in the order they are tried:

* An object with `__agentflow_version__()` counts by what that says.
* Functions, classes, bound methods, `partial` objects and what has a `__wrapped__` count by their code.
* What a function itself changes or rebinds (its memo, its counter) counts by its type: it is state.
* Scalars, tuples, frozensets and enum members count by value.
* A global list, dict or set counts by the statements that make it, and so does every other object
  that is of the user's own class, of the standard library, or compares by value.
* A captured value, for which there is no such statement, counts by its content, unless it is of a class
  that is not the user's and compares by identity.
* Everything else counts by its type: clients, connections, models, loggers of installed packages.
"""

from __future__ import annotations

__all__ = ["CAPTURED", "STATE", "Follower", "Origin", "Place", "Values"]

import copyreg
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from inspect import getattr_static
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, get_args, get_origin

from attrs import frozen

from agentflow._canonical import LEAVES, is_enum, node, scalar
from agentflow._user_code import package_of

if TYPE_CHECKING:
    from agentflow._code_module import Module
    from agentflow._code_source import Source, Statement
    from agentflow._code_watch import Versioned

_BUILT_IN: Final = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
_CONTAINERS: Final = (list, dict, set, bytearray)
_MAX_DEPTH: Final = 50
"""Captured values that are nested deeper are not told apart; each level takes six frames of Python's stack."""
_GETTERS: Final = frozenset({"operator:itemgetter", "operator:attrgetter", "operator:methodcaller", "string:Template"})
"""Values of the standard library that compare by identity although they never change."""
_DATA_PACKAGES: Final = frozenset({"jinja2", "mako", "pydantic"})
"""Packages whose objects are texts and schemas: they count, also those that compare by identity."""


class Place(Enum):
    """Where a value was found that has no source of its own."""

    CAPTURED = "captured"
    """In a closure or a default: the content counts."""
    STATE = "state"
    """The code itself changes it."""


CAPTURED, STATE = Place


@frozen(eq=False)
class Origin:
    """The statements that make a global.

    Attributes:
        module: The module they are in.
        name: The global.
        source: The text they are in.
        statements: Themselves.
    """

    module: Module
    name: str
    source: Source
    statements: tuple[Statement, ...]


_Place: TypeAlias = Place | Origin


class Follower(Protocol):
    """Follows what has a definition, and gives the bytes that stand for it."""

    def function(self, function: FunctionType) -> bytes:
        """Follow a Python function."""
        ...

    def class_(self, cls: type, place: _Place) -> bytes:
        """Follow a class."""
        ...

    def module(self, module: ModuleType) -> bytes:
        """Name a module."""
        ...

    def source(self, origin: Origin) -> bytes:
        """Follow the statements that make a global."""
        ...

    def versioned(self, item: Versioned) -> bytes:
        """Ask an object for its version."""
        ...

    def content(self, value: object) -> bytes:
        """Follow an object by what it holds."""
        ...

    def owner(self, cls: type) -> str:
        """Return whose a class is: "user", "stdlib" or "installed"."""
        ...


class Values:
    """Gives each value the bytes that it counts by."""

    def __init__(self, follow: Follower) -> None:
        self._follow = follow
        self._inside: list[int] = []

    def form(self, value: Any, place: _Place = CAPTURED) -> bytes:
        """Return what `value` counts by."""
        if callable(getattr(_type(value), "__agentflow_version__", None)):
            return self._follow.versioned(value)
        if place is STATE:
            return self._code(value, place) or node(b"object", self.form(_type(value)))
        return self._plain(value) or self._code(value, place) or self._object(value, place)

    def _plain(self, value: Any) -> bytes | None:
        """Encode scalars, enum members, and the tuples and frozensets that may hold anything."""
        cls = _type(value)
        if leaf := LEAVES.get(id(cls)):
            return node(b"value", leaf(value))
        if is_enum(cls):
            return node(b"enum", self.form(cls), scalar(value._name_) or b"", scalar(value._value_) or b"")
        if cls is tuple:
            return self._nested(value, lambda: node(b"tuple", *map(self.form, value)))
        if cls is frozenset:
            return self._nested(value, lambda: node(b"frozenset", *self._unordered(value)))
        return node(b"singleton", repr(value).encode()) if value is ... or value is NotImplemented else None

    def _code(self, value: Any, place: _Place) -> bytes | None:
        """Follow what is code."""
        cls = _type(value)
        if cls is FunctionType:
            return self._follow.function(value)
        if issubclass(cls, type):
            return self._follow.class_(value, place)
        if issubclass(cls, ModuleType):
            return self._follow.module(value)
        return self._around_code(value, place)

    def _around_code(self, value: Any, place: _Place) -> bytes | None:
        """Follow what holds code."""
        cls = _type(value)
        if cls is MethodType:
            return node(b"method", self.form(value.__func__), self.form(value.__self__, place))
        if issubclass(cls, partial):
            return self._nested(value, lambda: self._partial(value))
        if cls in _BUILT_IN:
            return self._built_in(value, place)
        return self._wrapper(value, place)

    def _partial(self, value: Any) -> bytes:
        """Encode a `functools.partial` by its parts."""
        return node(b"partial", self.form(value.func), self.form(value.args), self.form(value.keywords))

    def _built_in(self, value: Any, place: _Place) -> bytes:
        """Name a function that is not written in Python, with the object it is bound to."""
        module = str(getattr(value, "__module__", None) or "")
        name = node(b"builtin", f"{package_of(module)}:{value.__qualname__}".encode())
        owner: object = getattr(value, "__self__", None)
        if owner is None or type(owner) is ModuleType:
            return name
        return node(b"method", name, self.form(owner, place))

    def _wrapper(self, value: Any, place: _Place) -> bytes | None:
        """Look into an object that a library put around a function, such as that of `lru_cache`."""
        wrapped: object = getattr_static(value, "__wrapped__", None)
        if wrapped is None or self._follow.owner(_type(value)) == "user":
            return None
        source = b"" if not isinstance(place, Origin) or _is_definition(place) else self._follow.source(place)
        return self._nested(value, lambda: node(b"wrapper", self.form(_type(value)), self.form(wrapped), source))

    def _object(self, value: Any, place: _Place) -> bytes:
        """Encode any other object: by source, by content or by type."""
        cls = _type(value)
        if not isinstance(place, Origin) and self._follow.owner(cls) == "stdlib" and get_origin(value) is not None:
            return self._generic(get_origin(value), get_args(value))
        kind = b"" if cls in _CONTAINERS else self.form(cls)
        if isinstance(place, Origin):
            counts = self._has_content(cls) or self._follow.owner(cls) == "stdlib" or _is_definition(place)
            return node(b"source", kind, self._follow.source(place)) if counts else node(b"object", kind)
        if cls in _CONTAINERS:
            return self._nested(value, lambda: self._container(value))
        return node(b"content", kind, self._follow.content(value)) if self._has_content(cls) else node(b"object", kind)

    def _generic(self, generic: Any, arguments: Iterable[object]) -> bytes:
        """Encode `list[Article]` and the like by their parts."""
        name = generic if issubclass(_type(generic), type) else str(getattr(generic, "__qualname__", ""))
        return node(b"generic", self.form(name), *map(self.form, arguments))

    def _has_content(self, cls: type) -> bool:
        """Say whether the objects of a class are data: the user's own, or such as compare by value."""
        if cls in _CONTAINERS or self._follow.owner(cls) == "user" or _compares_by_value(cls):
            return True
        return f"{cls.__module__}:{cls.__qualname__}" in _GETTERS or package_of(cls.__module__) in _DATA_PACKAGES

    def _container(self, value: Any) -> bytes:
        """Encode a list, dict, set or bytearray by its content."""
        cls = _type(value)
        if cls is dict:
            items = [(self.form(key), self.form(item)) for key, item in value.items()]
            return node(b"dict", *(node(b"item", *item) for item in sorted(items)))
        if cls is set:
            return node(b"set", *self._unordered(value))
        if cls is bytearray:
            return node(b"bytearray", bytes(value))
        return node(b"list", *map(self.form, value))

    def _unordered(self, items: Iterable[object]) -> list[bytes]:
        """Encode the members of a set; in the order of their names first, because pieces are numbered as they are met."""
        return sorted(self.form(item) for item in sorted(items, key=_name_of))

    def _nested(self, value: object, encode: Any) -> bytes:
        """Encode a value with others in it, unless that is already going on further out, or far too deep."""
        if id(value) in self._inside or len(self._inside) >= _MAX_DEPTH:
            return node(b"again")
        self._inside.append(id(value))
        try:
            return bytes(encode())
        finally:
            self._inside.pop()

    def reduced(self, value: Any) -> bytes:
        """Encode an object by its own account of what it would take to build it anew.

        It is only read: nothing is pickled, and nothing is ever built from it.
        """
        registered: Any = copyreg.dispatch_table.get(_type(value))
        try:
            account: object = registered(value) if registered else value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001 - an object that gives no account counts by its type, whatever its class raises
            return b""
        if not isinstance(account, tuple):
            return self.form(account)
        parts = cast("tuple[object, ...]", account)
        return node(b"reduced", *(self.form([*it] if isinstance(it, Iterator) else it) for it in parts))


def _type(value: object) -> type[Any]:
    """Return the type of a value of which nothing else is known."""
    return type(value)


def _compares_by_value(cls: Any) -> bool:
    """Say whether a class says itself when two of its objects are equal."""
    return cls.__eq__ is not object.__eq__


def _name_of(item: object) -> str:
    """Return a name that does not change between processes."""
    cls = _type(item)
    return str(cast("Any", item).__qualname__) if cls is FunctionType or issubclass(cls, type) else cls.__qualname__


def _is_definition(origin: Origin) -> bool:
    """Say whether a global was made by `def` or `class`: a decorator put an object in the place of the function."""
    return any(type(statement[-1]).__name__.endswith("Def") for statement in origin.statements)
