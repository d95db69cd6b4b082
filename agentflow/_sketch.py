"""A short picture of a value: enough to see how two calls differ, small enough to keep with every result.

It is made when a step misses and kept beside the result, so it is bounded in size and time, holds no secrets that can be
recognised, and never runs code of the value's class: no `repr`, no properties, no comparison.

A sketch is plain JSON: a text, or `[kind, size, [[label, sketch], ...]]` of a value with parts.
"""

from __future__ import annotations

__all__ = ["HIDDEN", "Sketch", "differing", "drawn", "is_secret_name", "sketch", "sketched"]

import collections
import datetime as dt
import decimal
import fractions
import ipaddress
import pathlib
import re
import sys
import uuid
from functools import lru_cache
from itertools import islice, pairwise
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from agentflow._canonical import is_enum
from agentflow._key_code import contents, lineage, loaded
from agentflow._logging import masked_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Sketch: TypeAlias = str | list[Any]

HIDDEN: Final = "[hidden]"
"""What stands in the place of a secret."""

_MOST_TEXT: Final = 60
"""Characters of one value that are kept."""
_SCANNED, _MARGIN = 200, 40
"""Characters that are searched for secrets, and those at their end that are not shown: a secret may be cut in two there."""
_MOST_PARTS, _MOST_DEPTH, _MOST_NODES = 8, 3, 32
_MOST_BITS: Final = 200
_MOST_BYTES: Final = 400
"""Of a decimal or fraction: how long its text would be is not known before it is made."""
_MOST_DRAWN: Final = 140

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS: Final = frozenset(
    {
        "apikey", "auth", "authorization", "bearer", "cookie", "cookies", "credential", "credentials", "passphrase", "passwd",
        "password", "passwords", "pwd", "secret", "secrets", "token",
    }
)  # fmt: skip
_KEYS: Final = frozenset({"access", "api", "encryption", "private", "signing"})
"""What makes a word a secret that `key` follows."""


@lru_cache(maxsize=512)
def is_secret_name(name: str) -> bool:
    """Say whether what has this name is a secret, in whatever style it is written: `api_key`, `dbPassword`, `Authorization`."""
    words = [word.lower() for word in _WORD.findall(name[:_SCANNED])]
    return not _SECRET_WORDS.isdisjoint(words) or any(
        key == "key" and before in _KEYS for before, key in pairwise(words)
    )


def sketch(value: object, name: str = "") -> Sketch:
    """Return the picture of a value.

    Args:
        value: The value.
        name: What it is called: nothing is shown of what is named like a secret.
    """
    return HIDDEN if is_secret_name(name) else _Sketcher().draw(value, _MOST_DEPTH)


def sketched(value: object, name: str) -> Sketch:
    """Return the picture of a value, whatever happens."""
    try:
        return sketch(value, name)
    except Exception:  # noqa: BLE001 - another thread may be changing it, and its class may be any: no picture is worth a failed call
        return f"<{_name_of(type(value))}>"


class _Sketcher:
    """Draws one value, with so many parts in all."""

    def __init__(self) -> None:
        self._left = _MOST_NODES

    def draw(self, value: Any, depth: int) -> Sketch:
        """Return the picture of a value that may have parts so many levels deep."""
        self._left -= 1
        cls: type[Any] = type(value)
        leaf = _LEAVES.get(id(cls))
        if leaf is not None:
            return leaf(value)
        kind = _COLLECTIONS.get(id(cls))
        if kind is None:
            return self._object(value, cls, depth)
        if kind is set:
            return self._set(value, depth)
        parts = self._items(value) if kind is dict else self._pair(value) or self._numbered(value)
        return self._parts(cls.__name__, len(value), parts, depth)

    def _parts(self, kind: str, size: int, parts: Iterable[tuple[str, str, object]], depth: int) -> Sketch:
        drawn: list[list[Any]] = []
        if depth:
            for label, name, part in islice(parts, _MOST_PARTS):
                if self._left <= 0:
                    break
                drawn.append([label, HIDDEN if name and is_secret_name(name) else self.draw(part, depth - 1)])
        return [kind, size, drawn]

    def _items(self, value: dict[Any, Any]) -> Iterator[tuple[str, str, object]]:
        for key, item in value.items():
            yield f"[{_drawn(self.draw(key, 0))}]", key if type(key) is str else "", item

    def _numbered(self, value: Iterable[Any]) -> Iterator[tuple[str, str, object]]:
        for index, item in enumerate(value):
            yield f"[{index}]", "", item

    def _pair(self, value: Any) -> list[tuple[str, str, object]] | None:
        """Return the parts of a header or the like, of which the first says what the second is."""
        if len(value) == 2 and type(value[0]) is str and is_secret_name(value[0]):
            return [("[0]", "", value[0]), ("[1]", value[0], value[1])]
        return None

    def _set(self, value: Any, depth: int) -> Sketch:
        if len(value) > _MOST_PARTS or not depth:
            return [type(value).__name__, len(value), []]
        texts = sorted(_drawn(self.draw(item, 0)) for item in value)
        return [type(value).__name__, len(value), [[f"[{text}]", text] for text in texts]]

    def _object(self, value: Any, cls: type[Any], depth: int) -> Sketch:
        name = _short(_name_of(cls))
        if is_enum(cls):
            member = _attributes(value).get("_name_")
            return f"{name}.{_short(member)}" if type(member) is str else name
        if cls is FunctionType or issubclass(cls, type):
            return f"<{_short(value.__qualname__ if cls is FunctionType else _name_of(value))}>"
        if any(_name_of(base) in _SECRET_CLASSES for base in lineage(cls)):
            return HIDDEN
        fields = _fields(cls)
        if fields is None:
            return f"<{name}{_size(value, cls)}>"
        return self._parts(name, len(fields), _held(value, cls, fields), depth)


def _text(value: str) -> str:
    if len(value) <= _SCANNED:
        masked = masked_text(value)
        if len(masked) <= _MOST_TEXT:
            return repr(masked)
    else:
        masked = masked_text(value[:_SCANNED])[:-_MARGIN]
    return f"{masked[:_MOST_TEXT]!r}… ({len(value):,} characters)"


def _integer(value: int) -> str:
    return repr(value) if value.bit_length() <= _MOST_BITS else f"<int of {value.bit_length():,} bits>"


def _number(value: Any) -> str:
    return str(value) if sys.getsizeof(value) <= _MOST_BYTES and _is_short(value) else f"<{type(value).__name__}>"


def _is_short(value: Any) -> bool:
    if type(value) is not fractions.Fraction:
        return True
    return max(value.numerator.bit_length(), value.denominator.bit_length()) <= _MOST_BITS


def _moment(value: Any) -> str:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone or type(zone) is loaded("zoneinfo", "ZoneInfo"):
        return str(value.isoformat())
    return f"{value.replace(tzinfo=None).isoformat()} {_short(_name_of(type(zone)))}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _path(value: pathlib.PurePath) -> str:
    return f"{type(value).__name__}({_text(str(value))})"


_name_of: Final[Any] = type.__dict__["__qualname__"].__get__
_module_of: Final[Any] = type.__dict__["__module__"].__get__
"""Its name and module, by `type` itself: a metaclass may answer as it likes."""

_SECRET_CLASSES: Final = frozenset({"Secret", "SecretBytes", "SecretStr", "_SecretBase", "_SecretField"})

# By the identity of exact types, so that no class of the user's own is asked whether it equals one of these.
_LEAVES: Final[Mapping[int, Callable[[Any], str]]] = {
    id(cls): leaf
    for cls, leaf in cast(
        "dict[type[Any], Callable[[Any], str]]",
        {
            type(None): repr,
            bool: repr,
            int: _integer,
            float: repr,
            complex: repr,
            str: _text,
            bytes: lambda value: f"<{len(value):,} bytes>",
            bytearray: lambda value: f"<bytearray of {len(value):,} bytes>",
            decimal.Decimal: _number,
            fractions.Fraction: _number,
            uuid.UUID: str,
            dt.date: str,
            dt.timedelta: str,
            dt.time: _moment,
            dt.datetime: _moment,
            pathlib.PosixPath: _path,
            pathlib.WindowsPath: _path,
            pathlib.PurePosixPath: _path,
            pathlib.PureWindowsPath: _path,
            ipaddress.IPv4Address: str,
            ipaddress.IPv6Address: str,
        },
    ).items()
}
_COLLECTIONS: Final[Mapping[int, type[Any]]] = {
    id(cls): kind
    for kind, classes in {
        dict: (dict, collections.OrderedDict, collections.defaultdict, collections.Counter),
        list: (list, tuple, collections.deque),
        set: (set, frozenset),
    }.items()
    for cls in classes
}


# --- objects with fields ---


def _fields(cls: type) -> list[tuple[str, bool]] | None:
    """Return the names of the fields of a model or record, and whether they may be shown; None for any other class."""
    for base in lineage(cls):
        own = contents(base)
        if "__pydantic_fields__" in own:
            return [(name, getattr(field, "repr", True)) for name, field in own["__pydantic_fields__"].items()]
        if "__dataclass_fields__" in own:
            return [(name, field.repr) for name, field in own["__dataclass_fields__"].items()]
        if "__attrs_attrs__" in own:
            return [(field.name, field.repr is not False) for field in own["__attrs_attrs__"]]
        if "_fields" in own and issubclass(cls, tuple):
            return [(name, True) for name in own["_fields"]]
    return None


def _held(value: Any, cls: type, names: list[tuple[str, bool]]) -> Iterator[tuple[str, str, object]]:
    """Yield the fields of an object without running any of its code."""
    if issubclass(cls, tuple):
        yield from ((f".{name}", name, item) for (name, _), item in zip(names, tuple.__iter__(value), strict=False))
        return
    for name, is_shown in names:
        found = _field(value, cls, name)
        if found:
            yield f".{name}", name if is_shown else "secret", found[0]


def _field(value: Any, cls: type, name: str) -> list[object]:
    for base in lineage(cls):
        slot = contents(base).get(name)
        if type(slot) is MemberDescriptorType:
            try:
                return [slot.__get__(value)]
            except AttributeError:
                return []
    held: dict[str, object] = _attributes(value)
    return [held[name]] if name in held else []


def _attributes(value: object) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", object.__getattribute__(value, "__dict__"))
    except AttributeError:
        return {}


def _size(value: Any, cls: type) -> str:
    """Return the shape of an array or table."""
    if str(_module_of(cls)).partition(".")[0] not in ("numpy", "pandas"):
        return ""
    shape: object = getattr(value, "shape", None)
    return f" {shape}" if type(shape) is tuple else ""


# --- looking at sketches ---

_ENDS: Final = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}"), "set": ("{", "}")}


def drawn(picture: Sketch) -> str:
    """Return a sketch as one short line."""
    text = _drawn(picture)
    return text if len(text) <= _MOST_DRAWN else f"{text[:_MOST_DRAWN]}…"


def _drawn(picture: Sketch) -> str:
    if isinstance(picture, str):
        return picture
    kind, size, parts = picture
    shown = [_named(kind, label, _drawn(part)) for label, part in parts]
    if size > len(parts):
        shown.append(f"… {size - len(parts):,} more" if parts else f"… {size:,} of them")
    opening, closing = _ENDS.get(kind, (f"{kind}(", ")"))
    return f"{opening}{', '.join(shown)}{closing}"


def _named(kind: str, label: str, text: str) -> str:
    if label.startswith("."):
        return f"{label[1:]}={text}"
    return f"{label[1:-1]}: {text}" if kind == "dict" else text


def differing(here: Sketch, there: Sketch) -> Iterator[tuple[str, str, str]]:
    """Yield where two sketches differ: the path, and both as text; nothing, if they show no difference."""
    if isinstance(here, str) or isinstance(there, str) or here[0] != there[0]:
        if here != there:
            yield "", drawn(here), drawn(there)
        return
    mine, theirs = dict(here[2]), dict(there[2])
    if here[1] != there[1] or mine.keys() != theirs.keys():
        yield "", drawn(here), drawn(there)
        return
    for label, part in mine.items():
        for path, one, other in differing(part, theirs[label]):
            yield label + path, one, other
