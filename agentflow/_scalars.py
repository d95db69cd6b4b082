"""The scalars of the standard library, and how each is said in plainer values.

`take` gives the plain values that a scalar consists of, `make` turns them into the same scalar. Types are
recognised exactly: a subclass may hold more than its base shows.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import ipaddress
import pathlib
import re
import struct
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID, SafeUUID

import attrs
from pydantic_core import MultiHostUrl, TzInfo, Url

from agentflow._type_changes import StaleValue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MAKERS", "SCALARS", "Scalar", "url_scalar"]

Plain: TypeAlias = tuple[object, ...]


@attrs.frozen
class Scalar:
    """How one type of scalar is stored.

    Attributes:
        cls: The type.
        tag: Its name in stored values.
        take: Returns what it consists of, in plain values or simpler scalars.
        make: Makes it again.
        parts: The attributes that `take` returns, where a part may be refused and has to be named.
    """

    cls: type
    tag: str
    take: Callable[[Any], Plain]
    make: Callable[..., object]
    parts: tuple[str, ...] = ()


def _by_text(cls: Any, tag: str) -> Scalar:
    """Store a type by its text, from which its constructor makes it again."""
    return Scalar(cls, tag, lambda value: (str(value),), cls)


def _int(text: str) -> int:
    return int(text, 16)


def _float(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(value)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _base64(value: bytes | bytearray) -> Plain:
    return (base64.b64encode(value).decode("ascii"),)


def _datetime(wall: str, fold: int, zone: dt.tzinfo | None) -> dt.datetime:
    return dt.datetime.fromisoformat(wall).replace(fold=fold, tzinfo=zone)


def _time(wall: str, fold: int, zone: dt.tzinfo | None) -> dt.time:
    return dt.time.fromisoformat(wall).replace(fold=fold, tzinfo=zone)


def _wall(value: Any) -> Plain:
    """Return a moment as its wall clock says it; the same instant in another zone is another value."""
    return (value.replace(fold=0, tzinfo=None).isoformat(), value.fold, value.tzinfo)


def _zone(key: str) -> zoneinfo.ZoneInfo:
    # zoneinfo looks for a package of that name: only names of zones may come so far.
    if not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*", key):
        raise ValueError(key)
    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError:
        raise StaleValue(f"this machine does not know the time zone {key}") from None


def _path(cls: Callable[[str], pathlib.PurePath]) -> Callable[[str], pathlib.PurePath]:
    def make(text: str) -> pathlib.PurePath:
        try:
            return cls(text)
        except NotImplementedError:
            raise StaleValue("the path is of another operating system") from None

    return make


def _pattern(pattern: str | bytes, flags: int) -> re.Pattern[Any]:
    try:
        return re.compile(pattern, flags & _PATTERN_FLAGS)
    except (re.error, RecursionError) as error:
        raise ValueError(str(error)) from error


_PATTERN_FLAGS: Final = int(
    re.ASCII | re.IGNORECASE | re.LOCALE | re.MULTILINE | re.DOTALL | re.UNICODE | re.VERBOSE
)  # not DEBUG, which prints


def _uuid(value: UUID) -> Plain:
    return (str(value), value.is_safe.value)


def _url(name: str, text: str) -> object:
    return _url_types()[name](text)


@functools.cache
def _url_types() -> Mapping[str, Any]:
    """Return pydantic's own URL classes by name."""
    # Imported when the first URL is met: it costs a third of importing pydantic, and most programs have none.
    from pydantic import networks  # noqa: PLC0415

    # Older versions of pydantic have aliases of pydantic_core's two classes in place of classes of their own.
    bases = (getattr(networks, "_BaseUrl", Url), getattr(networks, "_BaseMultiHostUrl", MultiHostUrl))
    own = {name: cls for name, cls in vars(networks).items() if isinstance(cls, type) and issubclass(cls, bases)}
    return {"Url": Url, "MultiHostUrl": MultiHostUrl, **own}


def url_scalar(cls: type) -> Scalar | None:
    """Return how one of pydantic's own URL classes is stored; None for every other class."""
    if cls.__module__ not in {"pydantic.networks", Url.__module__} or _url_types().get(cls.__name__) is not cls:
        return None
    return Scalar(cls, "url", lambda value: (cls.__name__, str(value)), _url)


_ZONED: Final = ("", "", ".tzinfo")

_ALL: Final = (
    Scalar(int, "int", lambda value: (hex(value),), _int),  # such as JSON cannot say in 64 bits
    Scalar(float, "float", lambda value: (struct.pack(">d", value).hex(),), _float),  # NaN and the infinities
    Scalar(complex, "complex", lambda value: (value.real, value.imag), complex),
    Scalar(bytes, "bytes", _base64, _bytes),
    Scalar(bytearray, "bytearray", _base64, lambda text: bytearray(_bytes(text))),
    Scalar(dt.datetime, "datetime", _wall, _datetime, _ZONED),
    Scalar(dt.time, "time", _wall, _time, _ZONED),
    Scalar(dt.date, "date", lambda value: (value.isoformat(),), dt.date.fromisoformat),
    Scalar(
        dt.timedelta,
        "timedelta",
        lambda value: (value.days, value.seconds, value.microseconds),
        dt.timedelta,
    ),
    Scalar(dt.timezone, "timezone", lambda value: value.__getinitargs__(), dt.timezone),
    Scalar(TzInfo, "tzinfo", lambda value: (int(value.utcoffset(None).total_seconds()),), TzInfo),  # pydantic's own
    Scalar(zoneinfo.ZoneInfo, "zoneinfo", lambda value: (value.key,), _zone, (".key",)),
    _by_text(Decimal, "decimal"),
    Scalar(Fraction, "fraction", lambda value: (value.numerator, value.denominator), Fraction),
    Scalar(UUID, "uuid", _uuid, lambda text, safe: UUID(text, is_safe=SafeUUID(safe))),
    _by_text(ipaddress.IPv4Address, "ipv4address"),
    _by_text(ipaddress.IPv6Address, "ipv6address"),
    _by_text(ipaddress.IPv4Network, "ipv4network"),
    _by_text(ipaddress.IPv6Network, "ipv6network"),
    _by_text(ipaddress.IPv4Interface, "ipv4interface"),
    _by_text(ipaddress.IPv6Interface, "ipv6interface"),
    _by_text(pathlib.PurePosixPath, "pureposixpath"),
    _by_text(pathlib.PureWindowsPath, "purewindowspath"),
    Scalar(pathlib.PosixPath, "posixpath", lambda value: (str(value),), _path(pathlib.PosixPath)),
    Scalar(pathlib.WindowsPath, "windowspath", lambda value: (str(value),), _path(pathlib.WindowsPath)),
    Scalar(re.Pattern, "pattern", lambda value: (value.pattern, value.flags & _PATTERN_FLAGS), _pattern),
    Scalar(range, "range", lambda value: (value.start, value.stop, value.step), range),
    Scalar(slice, "slice", lambda value: (value.start, value.stop, value.step), slice, (".start", ".stop", ".step")),
)

SCALARS: Final[Mapping[type, Scalar]] = {scalar.cls: scalar for scalar in _ALL}
"""How each type of scalar is stored."""

MAKERS: Final[Mapping[str, Callable[..., object]]] = {**{scalar.tag: scalar.make for scalar in _ALL}, "url": _url}
"""What makes the scalar of each tag again."""
