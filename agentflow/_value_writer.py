"""Python values as JSON nodes.

Strings, booleans, None, finite floats and integers of 64 bits are themselves, and a `dict` whose keys are all
`str` is a JSON object. Everything else is a JSON list that begins with a tag, lists included: so no value
of a user's can look like a tag. An instance names a row of the table of classes at the head of the document,
which has the class's name, its digest and the names of the fields; the instance has only their values.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from pydantic_core import to_json

from agentflow._layout import Refused
from agentflow._scalars import SCALARS, url_scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agentflow._layout import Layout
    from agentflow._scalars import Scalar

__all__ = ["CLASSES", "FACTORIES", "MAX_DEPTH", "PLAIN", "TEXT", "WITH_REST", "Writer", "shown"]

MAX_DEPTH: Final = 180
"""How deep values may be nested; pydantic's JSON parser stops at 200 levels."""

CLASSES: Final = "classes"
"""The tag of a document with a table of classes."""

TEXT: Final = "str"
"""The tag of a string that has lone surrogates, which JSON cannot say."""

PLAIN: Final = "plain"
"""The tag of a list whose items are all themselves."""

WITH_REST: Final = "+"
"""What the tag of an instance ends in if it holds something beside its fields."""

FACTORIES: Final[Mapping[str, Any]] = {
    factory.__name__: factory for factory in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
"""The factories that a `defaultdict` may have."""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1
_TEXT_KEYS: Final = frozenset({str})
_FLOATS: Final = {float}
_INTS: Final = {int}


Write: TypeAlias = "Callable[[Writer, Any, int], object]"


@attrs.frozen
class _Row:
    """One class in the table of a document.

    Attributes:
        index: Its place.
        layout: The layout of the class.
        names: The fields that its instances have.
        nested: The places of those fields that are lists or objects in some instance.
    """

    index: int
    layout: Layout
    names: tuple[str, ...]
    nested: set[int] = attrs.field(factory=set)


class Writer:
    """Writes one value.

    Args:
        layout_for: Returns the layout of a class that may be stored, and None for every other.
        careful: Whether to look for lone surrogates in every string; only needed where JSON refused one.
    """

    def __init__(self, layout_for: Callable[[type], Layout | None], *, careful: bool = False) -> None:
        self._layout_for = layout_for
        self._layouts: dict[type, Layout | None] = {}
        self.careful = careful
        self.plain = frozenset({bool, NoneType} if careful else {bool, NoneType, str})
        self._rows: dict[tuple[type, tuple[str, ...]], _Row] = {}

    def document(self, value: object) -> object:
        """Return a value as one JSON document.

        Raises:
            Refused: If a part of it cannot be stored.
        """
        node = self.node(value, 0)
        if not self._rows:
            return node
        table = [[row.layout.name, row.layout.digest, sorted(row.nested), row.names] for row in self._rows.values()]
        return [CLASSES, table, node]

    def node(self, value: Any, depth: int) -> object:
        """Return the node of a value inside `depth` others."""
        kind: type = type(value)
        if kind in self.plain:
            return value
        if depth > MAX_DEPTH:
            raise Refused(value, f"It is nested deeper than {MAX_DEPTH} levels: store it in flatter form.")
        write = _WRITERS.get(kind)
        return self._instance(value, depth) if write is None else write(self, value, depth)

    def items(self, out: list[object], values: Collection[object], depth: int, piece: str = "[{}]") -> list[object]:
        """Append the nodes of the values to `out`; `piece` says how a path names an item."""
        plain, node, inner = self.plain, self.node, depth + 1
        try:
            # A comprehension or generator would be a frame more at every level, and the stack bounds the depth.
            for item in values:
                out.append(item if type(item) in plain else node(item, inner))  # noqa: PERF401
        except Refused as refused:
            refused.inside(values, ((piece.format(index), item) for index, item in enumerate(values)))
            raise
        return out

    def named(self, values: Mapping[str, object], depth: int, piece: Callable[[object], str]) -> dict[str, object]:
        """Return the JSON object of a mapping from strings; `piece` says how a path names an item."""
        plain, node, inner = self.plain, self.node, depth + 1
        out: dict[str, object] = {}
        try:
            for name, item in values.items():
                out[name] = item if type(item) in plain else node(item, inner)
        except Refused as refused:
            refused.inside(values, ((piece(name), item) for name, item in values.items()))
            raise
        return out

    def pairs(self, out: list[object], values: Mapping[Any, object], depth: int) -> list[object]:
        """Append the nodes of the keys and values of a mapping to `out`, in turn."""
        inner = depth + 1
        try:
            for key, item in values.items():
                out.append(self.node(key, inner))
                out.append(self.node(item, inner))
        except Refused as refused:
            refused.inside(values, _places(values))
            raise
        return out

    def mapping(self, values: Mapping[Any, object], depth: int, piece: Callable[[object], str]) -> object:
        """Return the node of a plain dict; `piece` says how a path names an item."""
        if _TEXT_KEYS.issuperset(map(type, values)) and not (self.careful and any(map(_has_surrogates, values))):
            return self.named(values, depth, piece)
        return self.pairs(["dict"], values, depth)

    def _instance(self, value: Any, depth: int) -> object:
        """Return the node of an instance of a user's class, or of a URL of pydantic's."""
        layout = self._layout(type(value))
        if layout is None:
            scalar = url_scalar(type(value))
            if scalar is None:
                raise Refused(value, "")
            return _write_scalar(scalar)(self, value, depth)
        names, values, rest = layout.take_apart(value)
        row = self._row(layout, names)
        out: list[object] = [layout.tag, row.index]
        plain, inner = self.plain, depth + 1
        try:
            if rest is not None:
                out = [layout.tag + WITH_REST, row.index, self._rest(rest, inner)]
            for place, item in enumerate(values):
                if type(item) in plain:
                    out.append(item)
                    continue
                node = self.node(item, inner)
                out.append(node)
                if type(node) is list or type(node) is dict:
                    row.nested.add(place)
        except Refused as refused:
            refused.inside(value, ((f".{name}", item) for name, item in zip(names, values, strict=True)))
            raise
        return out

    def _rest(self, rest: Mapping[str, Any], depth: int) -> dict[str, object]:
        """Return what an instance holds beside its fields: names, or values by name."""
        return {
            part: self.mapping(held, depth, ".{}".format) if type(held) is dict else self.items(["list"], held, depth)
            for part, held in rest.items()
        }

    def _layout(self, cls: type) -> Layout | None:
        if cls not in self._layouts:
            self._layouts[cls] = self._layout_for(cls)
        return self._layouts[cls]

    def _row(self, layout: Layout, names: tuple[str, ...]) -> _Row:
        """Return the row of a class in the table; instances that lack some of the fields have a row of their own."""
        row = self._rows.get((layout.cls, names))
        if row is None:
            row = self._rows[layout.cls, names] = _Row(len(self._rows), layout, names)
        return row


def _places(values: Mapping[Any, object]) -> list[tuple[str, object]]:
    """Return how a path names each key and value of a mapping."""
    keys = [(f"<key {shown(key)}>", key) for key in values]
    return keys + [(_item(key), item) for key, item in values.items()]


def _item(key: object) -> str:
    return f"[{shown(key)}]"


def shown(key: object) -> str:
    """Return a key as a path shows it: short, and without running code of the user's."""
    if type(key) is str:
        return repr(key if len(key) <= 40 else key[:39] + "…")
    small = key is None or type(key) is bool or (type(key) is int and abs(key) <= _LARGEST)
    return repr(key) if small else f"<{type(key).__name__}>"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _write_scalar(scalar: Scalar) -> Write:
    """Return what writes one type of scalar."""

    def write(writer: Writer, value: Any, depth: int) -> object:
        parts = scalar.take(value)
        out: list[object] = [scalar.tag]
        try:
            for part in parts:
                out.append(writer.node(part, depth + 1))  # noqa: PERF401 - as above
        except Refused as refused:
            refused.inside(value, zip(scalar.parts, parts, strict=False))
            raise
        return out

    return write


def _write_text(_: Writer, value: str, __: int) -> object:
    return [TEXT, value.encode("utf-8", "surrogatepass").hex()] if _has_surrogates(value) else value


def _write_int(writer: Writer, value: int, depth: int) -> object:
    return value if _SMALLEST <= value <= _LARGEST else _BIG_INT(writer, value, depth)


def _write_float(writer: Writer, value: float, depth: int) -> object:
    return value if math.isfinite(value) else _ODD_FLOAT(writer, value, depth)


def _write_list(writer: Writer, value: list[Any], depth: int) -> object:
    """A list of nothing but plain values, or of numbers, says so, and is read without a look at each of them."""
    kinds = set(map(type, value))
    plain = (
        kinds <= writer.plain
        or (kinds == _FLOATS and all(map(math.isfinite, value)))
        or (kinds == _INTS and min(value) >= _SMALLEST and max(value) <= _LARGEST)
    )
    if plain:
        return [PLAIN, *value]
    return writer.items(["list"], value, depth)


def _write_tuple(writer: Writer, value: tuple[object, ...], depth: int) -> object:
    return writer.items(["tuple"], value, depth)


def _write_set(writer: Writer, value: frozenset[object], depth: int) -> object:
    """Sets that are equal are written alike, however their hashes order them."""
    return [type(value).__name__, *sorted(writer.items([], value, depth, "<member>"), key=to_json)]


def _write_deque(writer: Writer, value: deque[object], depth: int) -> object:
    return writer.items(["deque", value.maxlen], value, depth)


def _write_dict(writer: Writer, value: dict[object, object], depth: int) -> object:
    return writer.mapping(value, depth, _item)


def _write_special_dict(writer: Writer, value: Any, depth: int) -> object:
    if value.__dict__:
        raise Refused(value, "It has attributes besides its items, which would be lost: make it a dataclass.")
    return writer.pairs([type(value).__name__.lower()], value, depth)


def _write_defaultdict(writer: Writer, value: defaultdict[object, object], depth: int) -> object:
    factory: Any = value.default_factory
    if factory is not None and FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        refused = Refused(factory, "The factory of a stored defaultdict is a builtin type: return dict(...) of it.")
        refused.inside(value, [(".default_factory", factory)])
        raise refused
    return writer.pairs(["defaultdict", factory and factory.__name__], value, depth)


_BIG_INT: Final = _write_scalar(SCALARS[int])
_ODD_FLOAT: Final = _write_scalar(SCALARS[float])

_WRITERS: Final[Mapping[type, Write]] = {
    **{kind: _write_scalar(scalar) for kind, scalar in SCALARS.items()},
    str: _write_text,
    int: _write_int,
    float: _write_float,
    list: _write_list,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_set,
    deque: _write_deque,
    dict: _write_dict,
    OrderedDict: _write_special_dict,
    Counter: _write_special_dict,
    defaultdict: _write_defaultdict,
}
