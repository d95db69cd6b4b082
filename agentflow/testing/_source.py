"""Values as Python source that a person reads and a test compares with: what is needed of `repr`, laid out, with imports and without secrets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import math
import pathlib
import re
import sys
import uuid
import zoneinfo
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

__all__ = ["Imports", "Node", "Unwritable", "Writer", "called", "laid_out", "listed", "mapped"]

_WIDTH: Final = 100
_LONGEST_TEXT: Final = 80
_FROM: Final = 40  # characters that "from ... import" may take
_FEW: Final = 20  # characters of a value of which several stand in a line
_WORDS: Final = re.compile(r"[^\n]*?(?:\n|\s(?=\S)|$)")
_PLAIN: Final = (bool, int, bytes, type(None))
_BY_TEXT: Final = (decimal.Decimal, uuid.UUID)
_MOMENTS: Final = (dt.datetime, dt.date, dt.time, dt.timedelta)
# What a test says by itself: nothing else is imported by such a name.
_OWN_NAMES: Final = frozenset(
    {"asyncio", "datetime", "frozenset", "items", "iter", "next", "result", "scripted_model", "set", "value"}
)


class Unwritable(Exception):  # noqa: N818 - an answer, not a failure: what it is of is then left out
    """A value that cannot be written as source, or would not be the same when it is read."""


@attrs.frozen
class _Group:
    """Source with parts, which may stand in lines of their own.

    Attributes:
        opening: What stands before the parts.
        parts: The parts: each a label, such as `name=`, and its source.
        closing: What stands behind them.
        needs_comma: Whether a single part is followed by a comma, as in a tuple of one.
        separator: What stands between parts.
    """

    opening: str
    parts: tuple[tuple[str, Node], ...]
    closing: str
    needs_comma: bool = False
    separator: str = ","

    def __str__(self) -> str:
        inside = f"{self.separator} ".join(f"{label}{node}" for label, node in self.parts)
        return f"{self.opening}{inside}{',' if self.needs_comma else ''}{self.closing}"


Node: TypeAlias = "str | _Group"


class Imports:
    """The imports that a module needs."""

    def __init__(self) -> None:
        self._names: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._whole: set[str] = set()
        self._taken = set(_OWN_NAMES)

    def add(self, module: str, qualname: str) -> str:
        """Have a name imported and return how it is written: where another module's has the name already, it gets a number.

        Raises:
            Unwritable: If it cannot be imported.
        """
        if "<" in qualname or module == "__main__":
            raise Unwritable(f"{qualname} is not at the top of a module")
        name, dot, inside = qualname.partition(".")
        names = self._names[module]
        if name not in names:
            names[name] = self._free(name)
        return f"{names[name]}{dot}{inside}"

    def _free(self, name: str) -> str:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        found = next(each for each in itertools.chain([name], numbered) if each not in self._taken)
        self._taken.add(found)
        return found

    def module(self, name: str) -> None:
        """Have a whole module of the standard library imported: one whose name nothing else is given."""
        assert name in _OWN_NAMES
        self._whole.add(name)

    def text(self) -> str:
        """Return the import statements, those of the standard library first."""
        standard = {module for module in self._names if module.partition(".")[0] in sys.stdlib_module_names}
        whole = "\n".join(f"import {module}" for module in sorted(self._whole))
        first = "\n".join(filter(None, [whole, self._statements(standard)]))
        blocks = [first, self._statements(self._names.keys() - standard)]
        return "\n\n".join(filter(None, blocks))

    def _statements(self, modules: AbstractSet[str]) -> str:
        return "\n".join(
            laid_out(f"from {module} import ", _imported(self._names[module])) for module in sorted(modules)
        )


def _imported(written: Mapping[str, str]) -> Node:
    names = [name if name == each else f"{name} as {each}" for name, each in sorted(written.items())]
    node = _Group("(", tuple(("", name) for name in names), ")")
    return ", ".join(names) if len(str(node)) <= _WIDTH - _FROM else node


@attrs.frozen
class Writer:
    """Writes values.

    Attributes:
        imports: What they need.
        masked: Takes secrets out of a text.
    """

    imports: Imports
    masked: Callable[[str], str]

    def write(self, value: Any) -> Node:
        """Return a value as source.

        Raises:
            Unwritable: If it cannot be.
        """
        cls = type(value)
        if cls is str:
            return _text(self.masked(value))
        if cls in _PLAIN or (cls is float and math.isfinite(value)):
            return repr(value)
        if cls in (list, tuple, dict, set, frozenset):
            return self._collection(value)
        if isinstance(value, enum.Enum):
            return self._member(value)
        return self._made(value, cls)

    def _member(self, value: enum.Enum) -> Node:
        cls = type(value)
        written = self.imports.add(cls.__module__, cls.__qualname__)
        if value.name in cls.__members__ and value.name.isidentifier():
            return f"{written}.{value.name}"
        return f"{written}({self.write(value.value)})"  # several flags at once, or none

    def _collection(self, value: Any) -> Node:
        match value:
            case dict():
                return _Group(
                    "{", tuple((f"{self.write(key)}: ", self.write(item)) for key, item in value.items()), "}"
                )
            case list():
                return _Group("[", self._parts(value), "]")
            case tuple():
                return _Group("(", self._parts(value), ")", needs_comma=len(value) == 1)
            case _:
                inside = _Group("{", tuple(sorted(self._parts(value), key=str)), "}") if value else "()"
                name = "frozenset" if isinstance(value, frozenset) else "set"
                return inside if name == "set" and value else f"{name}({inside if value else ''})"

    def _parts(self, values: Iterable[Any]) -> tuple[tuple[str, Node], ...]:
        return tuple(("", self.write(each)) for each in values)

    def _made(self, value: Any, cls: type[Any]) -> Node:
        if cls in _BY_TEXT:
            return f"{self.imports.add(cls.__module__, cls.__name__)}({_quoted(str(value))})"
        if cls in _MOMENTS:
            return self._moment(value)
        if isinstance(value, pathlib.PurePath):
            return f"{self.imports.add('pathlib', cls.__name__)}({_quoted(str(value))})"
        fields = _fields(value)
        if fields is None:
            raise Unwritable(f"a {cls.__qualname__} cannot be written as source")
        name = self.imports.add(cls.__module__, cls.__qualname__)
        return _Group(f"{name}(", tuple((f"{field}=", self.write(each)) for field, each in fields.items()), ")")

    def _moment(self, value: Any) -> Node:
        self.imports.module("datetime")
        if not isinstance(value, dt.datetime | dt.time) or value.tzinfo is None:
            return repr(value)
        return f"{repr(value.replace(tzinfo=None))[:-1]}, tzinfo={self._zone(value.tzinfo)})"

    def _zone(self, zone: dt.tzinfo) -> str:
        if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
            return f"{self.imports.add('zoneinfo', 'ZoneInfo')}({_quoted(zone.key)})"
        offset = zone.utcoffset(None)
        if offset is None:
            raise Unwritable(f"a time zone of {type(zone).__qualname__} cannot be written as source")
        return repr(dt.timezone(offset))  # other classes of fixed offsets, such as pydantic's, give equal times


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return what an object is made from, less what it has by default; None if that is not known."""
    if isinstance(value, BaseModel):
        known = {
            info.alias or name: (getattr(value, name), info.default) for name, info in type(value).model_fields.items()
        }
    elif dataclasses.is_dataclass(value):
        known = {
            each.name: (getattr(value, each.name), each.default) for each in dataclasses.fields(value) if each.init
        }
    elif attrs.has(type(value)):
        known = {
            each.alias: (getattr(value, each.name), each.default) for each in attrs.fields(type(value)) if each.init
        }
    else:
        return None
    return {
        name: found for name, (found, default) in known.items() if type(found) is not type(default) or found != default
    }


def _text(text: str) -> Node:
    """Return a text as source, a long one in pieces that end where lines and words do."""
    if len(text) <= _LONGEST_TEXT:
        return _quoted(text)
    lines, line = [], ""
    for word in _WORDS.findall(text):
        if line and len(line) + len(word) > _LONGEST_TEXT:
            lines.append(line)
            line = ""
        line += word
        if line.endswith("\n"):
            lines.append(line)
            line = ""
    pieces = [_quoted(each) for each in [*lines, line] if each]
    return pieces[0] if len(pieces) == 1 else _Group("(", tuple(("", each) for each in pieces), ")", separator="")


def _quoted(text: str) -> str:
    """Return a text in double quotes, as formatters write it, where it has none itself."""
    plain = repr(text)
    return f'"{plain[1:-1]}"' if plain.startswith("'") and '"' not in plain and "\\'" not in plain else plain


def listed(parts: Iterable[Node]) -> Node:
    """Return the source of a list."""
    return _Group("[", tuple(("", each) for each in parts), "]")


def mapped(parts: Mapping[str, Node]) -> Node:
    """Return the source of a dict, given the source of its keys and values."""
    return _Group("{", tuple((f"{key}: ", each) for key, each in parts.items()), "}")


def called(name: str, /, *args: Node, **kwargs: Node) -> Node:
    """Return the source of a call."""
    return _Group(
        f"{name}(", (*(("", each) for each in args), *((f"{key}=", each) for key, each in kwargs.items())), ")"
    )


def laid_out(before: str, node: Node, indent: int = 0, *, after: str = "") -> str:
    """Return a line of source, or several if it is too long for one.

    Args:
        before: What stands before it.
        node: The source.
        indent: By how many spaces all of it is indented.
        after: What stands behind it.
    """
    space = " " * indent
    line = f"{space}{before}{node}{after}"
    if (
        isinstance(node, str)
        or not node.parts
        or (len(line) <= _WIDTH and not (node.separator == "" and len(node.parts) > 1))
    ):
        return line
    if len(node.parts) == 1 and not node.separator and isinstance(node.parts[0][1], str):
        return f"{space}{before}{node.parts[0][1]}{after}"
    lines = _filled(node, indent + 4) or [
        laid_out(label, each, indent + 4, after=node.separator) for label, each in node.parts
    ]
    return "\n".join([f"{space}{before}{node.opening}", *lines, f"{space}{node.closing}{after}"])


def _filled(node: _Group, indent: int) -> list[str]:
    """Return lines with as many short values in each as there is room for; none if they are not all short."""
    if not node.separator or any(label or not isinstance(each, str) or len(each) > _FEW for label, each in node.parts):
        return []
    lines, line = [], ""
    for _, each in node.parts:
        if line and indent + len(f"{line} {each},") > _WIDTH:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{each}{node.separator}"
    return [" " * indent + each for each in [*lines, line]]
