"""Values of the standard library (and the URLs of pydantic) as parts of keys, each by its exact type.

Knows what makes two of them different for plain code. Modules that are not loaded are not loaded here:
a value of theirs can only come from a program that has.
"""

from __future__ import annotations

__all__ = ["EXACT", "LOADED", "SUBCLASSED", "fields"]

import datetime as dt
import re
import struct
import sys
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from functools import partial
from hashlib import sha256
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import EllipsisType, NotImplementedType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from agentflow._canonical import node, scalar
from agentflow._key_walk import Order, Refused, Shape, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agentflow._key_walk import Kind


def _named(shape: Shape, index: int) -> str:
    """Reach a part by its name: `.name`; what comes before the named ones has no way of its own."""
    first = index - (len(tuple(shape.children)) - len(shape.names))
    return f".{shape.names[first]}" if first >= 0 else ""


def fields(
    tag: bytes, names: Sequence[str], values: Iterable[object], *, head: bytes = b"", before: tuple[object, ...] = ()
) -> Shape:
    """Return the shape of named values, in the order given.

    Args:
        tag: The kind.
        names: The names, which count.
        values: The values, one for each name.
        head: What else counts, already encoded.
        before: Parts without a name.
    """
    spelled = node(b"names", head, *(name.encode("utf-8", "surrogatepass") for name in names))
    return Shape(tag, (*before, *values), spelled, names=names, label=_named)


# --- containers ---


def _keyed(shape: Shape, index: int) -> str:
    """Reach a value by its key, if the key is fit to be read: other text may be long, or private."""
    key = list(shape.children)[index - index % 2]
    readable = type(key) is int or (type(key) is str and key.isidentifier() and len(key) < 40)
    return f"[{key!r}]" if readable else "[...]"


def _flat(pairs: Any) -> list[object]:
    return [part for pair in pairs for part in pair]


def _dict(value: Any, *, tag: bytes = b"dict", order: Order = Order.FREE_PAIRS) -> Shape:
    return Shape(tag, _flat(value.items()), order=order, label=_keyed)


def _defaultdict(value: Any) -> Shape:
    return fields(b"defaultdict", ("default_factory",), (value.default_factory,), before=(dict(value),))


def _namespace(value: SimpleNamespace) -> Shape:
    names = sorted(vars(value))
    return fields(b"namespace", names, [vars(value)[name] for name in names])


def _deque(value: Any) -> Shape:
    return Shape(b"deque", value, scalar(value.maxlen) or b"")


def _array(value: Any) -> Shape:
    """Items as they are, not the machine's byte order."""
    if value.typecode in "uw":  # text, as wide as the platform has it
        return Shape(b"array", (value.typecode, value.tounicode()))
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    return Shape(b"array", (value.typecode, value.itemsize, len(value), sha256(value).digest()))


# --- times ---

_WALL: Final = struct.Struct(">HBBBBBIB")


def _datetime(value: Any) -> Shape:
    """Wall time, fold and zone: one instant in two zones is two values."""
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return Shape(b"datetime", (value.tzinfo,), _WALL.pack(value.year, value.month, value.day, *clock), label=_zone)


def _time(value: Any) -> Shape:
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return Shape(b"time", (value.tzinfo,), _WALL.pack(0, 0, 0, *clock), label=_zone)


def _zone(_: Shape, __: int) -> str:
    return ".tzinfo"


def _date(value: Any) -> Shape:
    return Shape(b"date", (value.year, value.month, value.day))


def _timedelta(value: Any) -> Shape:
    return Shape(b"timedelta", (value.days, value.seconds, value.microseconds))


def _timezone(value: Any) -> Shape:
    return Shape(b"timezone", value.__getinitargs__())  # its offset, and its name if it was given one


def _zoneinfo(value: Any) -> Shape:
    if value.key is None:
        raise Refused(type_of(value), "a time zone read from a file has no name to be known by")
    return Shape(b"zoneinfo", (value.key,))


# --- numbers, names and patterns ---


def _decimal(value: Any) -> Shape:
    sign, digits, exponent = value.as_tuple()
    return Shape(b"decimal", (sign, bytes(digits), exponent))


def _attributes(tag: bytes, *names: str) -> Kind:
    """Return a kind whose values are these attributes."""

    def shape(value: Any) -> Shape:
        return Shape(tag, [getattr(value, name) for name in names], names=names, label=_named)

    return shape


def _address(value: Any) -> Shape:
    return Shape(b"address", (type(value).__name__, value.packed, getattr(value, "scope_id", None)))


def _interface(value: Any) -> Shape:
    scope = getattr(value, "scope_id", None)
    return Shape(b"interface", (type(value).__name__, value.packed, value.network.prefixlen, scope))


def _network(value: Any) -> Shape:
    first = value.network_address
    return Shape(b"network", (type(value).__name__, first.packed, value.prefixlen, getattr(first, "scope_id", None)))


def _path(value: PurePath, *, tag: bytes) -> Shape:
    """A path as it is spelled; it is not resolved and its file is not read (`FileArg` does that)."""
    return Shape(tag, (str(value),))


def _url(value: Any) -> Shape:
    """A URL as pydantic writes it, which is all that it holds."""
    return Shape(b"url", (type(value).__name__, str(value)))


def _constant(tag: bytes) -> Kind:
    return lambda _: Shape(tag)


def _buffer(value: bytearray) -> Shape:
    return Shape(b"bytearray", (len(value), sha256(value).digest()))


EXACT: Final[Mapping[type, Kind]] = {
    list: partial(Shape, b"list"),
    tuple: partial(Shape, b"tuple"),
    set: partial(Shape, b"set", order=Order.FREE),
    frozenset: partial(Shape, b"frozenset", order=Order.FREE),
    dict: _dict,
    OrderedDict: partial(_dict, tag=b"ordereddict", order=Order.KEPT),
    Counter: partial(_dict, tag=b"counter"),
    defaultdict: _defaultdict,
    deque: _deque,
    ChainMap: lambda value: Shape(b"chainmap", value.maps),
    SimpleNamespace: _namespace,
    bytearray: _buffer,
    range: _attributes(b"range", "start", "stop", "step"),
    slice: _attributes(b"slice", "start", "stop", "step"),
    EllipsisType: _constant(b"ellipsis"),
    NotImplementedType: _constant(b"notimplemented"),
    dt.datetime: _datetime,
    dt.date: _date,
    dt.time: _time,
    dt.timedelta: _timedelta,
    dt.timezone: _timezone,
    re.Pattern: _attributes(b"pattern", "pattern", "flags"),
    PurePosixPath: partial(_path, tag=b"pureposixpath"),
    PosixPath: partial(_path, tag=b"posixpath"),
    PureWindowsPath: partial(_path, tag=b"purewindowspath"),
    WindowsPath: partial(_path, tag=b"windowspath"),
}
"""Kinds by class. Enums, models and whatever else has many classes are found by `_key_objects`."""

LOADED: Final[Mapping[str, Mapping[str, Kind]]] = {
    "array": {"array": _array},
    "decimal": {"Decimal": _decimal},
    "fractions": {"Fraction": _attributes(b"fraction", "numerator", "denominator")},
    "ipaddress": {
        "IPv4Address": _address,
        "IPv6Address": _address,
        "IPv4Interface": _interface,
        "IPv6Interface": _interface,
        "IPv4Network": _network,
        "IPv6Network": _network,
    },
    "pydantic_core": {"Url": _url, "MultiHostUrl": _url},
    "uuid": {"UUID": _attributes(b"uuid", "int")},
    "zoneinfo": {"ZoneInfo": _zoneinfo},
}
"""Kinds by module and class, for modules that a program may or may not have loaded."""


def _sliced(base: Any) -> Callable[[Any], Any]:
    return lambda value: base.__getitem__(value, slice(None))


def _united(base: Any) -> Callable[[Any], Any]:
    return lambda value: base().union(value)  # neither iterates nor hashes: it copies the table


def _copied(base: Any) -> Callable[[Any], Any]:
    return lambda value: base(base.items(value))


def _rebuilt(cls: type, *names: str, fold: bool = False) -> Callable[[Any], Any]:
    """Return what makes an instance of the base itself. The class is held here, where no patching of time finds it."""

    def rebuild(value: Any) -> Any:
        arguments = [getattr(value, name) for name in names]
        return cls(*arguments, fold=value.fold) if fold else cls(*arguments)

    return rebuild


_CLOCK: Final = ("hour", "minute", "second", "microsecond", "tzinfo")

SUBCLASSED: Final[Mapping[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: bytes.__bytes__,
    bytearray: lambda value: bytearray().join([value]),
    list: _sliced(list),
    tuple: _sliced(tuple),
    set: _united(set),
    frozenset: _united(frozenset),
    dict: _copied(dict),
    OrderedDict: _copied(OrderedDict),
    dt.datetime: _rebuilt(dt.datetime, "year", "month", "day", *_CLOCK, fold=True),
    dt.date: _rebuilt(dt.date, "year", "month", "day"),
    dt.time: _rebuilt(dt.time, *_CLOCK, fold=True),
    dt.timedelta: _rebuilt(dt.timedelta, "days", "seconds", "microseconds"),
}
"""The classes whose subclasses can be keyed, and what such an object is without its subclass.

Everything goes through the base's own methods: a subclass may have overridden `__iter__` or `__str__`.
"""
