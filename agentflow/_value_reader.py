"""JSON nodes as Python values: `_value_writer` read backwards.

Every tag has one reader in a closed table, and classes are those that the caller knows by name. What does not
fit this format raises one of `DAMAGE`; what fits it, but not the classes as they are now, raises `StaleValue`.
`shown` is for those who have none of the classes and want to look at a value: it gives ordinary JSON.
"""

from __future__ import annotations

import functools
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from pydantic_core import to_json

from agentflow._scalars import MAKERS
from agentflow._type_changes import StaleValue
from agentflow._type_layout import KINDS
from agentflow._value_writer import CLASSES, FACTORIES, PLAIN, TEXT, WITH_REST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentflow._layout import Layout, Rest
    from agentflow._type_changes import Same

__all__ = ["DAMAGE", "Row", "read", "shown"]

DAMAGE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What reading raises if the nodes are not of this format."""


Make: TypeAlias = "Callable[[Sequence[Any], Rest], object]"


@attrs.frozen
class Row:
    """One class of a document's table, found in this process.

    Attributes:
        stored: The row as it is stored.
        layout: How its instances are put together.
        tag: The kind of class it is here.
        nested: The places of fields that are lists or objects in some instance.
        size: How many fields the stored instances have.
        make: Makes an instance of their values and the rest.
    """

    stored: list[Any]
    layout: Layout
    tag: str
    nested: list[int]
    size: int
    make: Make

    @classmethod
    def of(cls, stored: list[Any], layout: Layout, same: Same) -> Row:
        """Hold a row against the class as it is now.

        Args:
            stored: The row.
            layout: The layout of its class.
            same: Compares a stored value with what a changed class makes of it.
        """
        name, digest, nested, names = stored
        make: Make = layout.maker(tuple(names))
        if digest != layout.digest:
            make = functools.partial(layout.adapt, tuple(names), same=same)
        elif not set(names).issubset(layout.fields):
            raise ValueError(name)
        return cls(stored, layout, layout.tag, nested, len(names), make)


def read(document: Any, row_for: Callable[[list[Any]], Row]) -> object:
    """Return the value of a JSON document.

    Args:
        document: What a `Writer` gave.
        row_for: Finds the class of a stored row.

    Raises:
        StaleValue: If the value no longer fits the classes that it names.
    """
    if type(document) is list and document[0] == CLASSES:
        _, table, node = document
        return Reader([row_for(row) for row in table]).node(node)
    return Reader([]).node(document)


class Reader:
    """Reads the nodes of one document.

    Args:
        rows: The classes that it names.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def node(self, node: Any) -> object:
        """Return the value of a node; lists and objects are used up."""
        if type(node) is list:
            return _READERS[node[0]](self, node)
        return self.named(node) if type(node) is dict else node

    def items(self, node: list[Any]) -> list[Any]:
        """Return the values of a list's nodes after its tag, in the list itself."""
        del node[0]
        for index, item in enumerate(node):
            if type(item) is list:
                node[index] = _READERS[item[0]](self, item)
            elif type(item) is dict:
                node[index] = self.named(item)
        return node

    def named(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the dict of a JSON object, which is the object itself."""
        for name, item in node.items():
            if type(item) is list:
                node[name] = _READERS[item[0]](self, item)
            elif type(item) is dict:
                node[name] = self.named(item)
        return node


Read: TypeAlias = "Callable[[Reader, list[Any]], object]"


def _read_instance(reader: Reader, node: list[Any]) -> object:
    row = reader.rows[node[1]]
    rest: Any = None
    if node[0] != row.tag:
        if node[0] != row.tag + WITH_REST:
            raise StaleValue(f"{row.layout.name} is another kind of class now: {row.tag}, and was {node[0]}")
        rest = reader.named(node.pop(2))
    del node[:2]
    if len(node) != row.size:
        raise ValueError(row.layout.name)
    for place in row.nested:  # the table says where to look, since looking at every field takes as long as all the rest
        item = node[place]
        if type(item) is list:
            node[place] = _READERS[item[0]](reader, item)
        elif type(item) is dict:
            node[place] = reader.named(item)
    return row.make(node, rest)


def _read_text(_: Reader, node: list[Any]) -> object:
    (text,) = node[1:]
    return bytes.fromhex(text).decode("utf-8", "surrogatepass")


def _read_plain(_: Reader, node: list[Any]) -> object:
    del node[0]
    return node


def _read_tuple(reader: Reader, node: list[Any]) -> object:
    return tuple(reader.items(node))


def _read_set(reader: Reader, node: list[Any]) -> object:
    return _collected(set, reader.items(node))


def _read_frozenset(reader: Reader, node: list[Any]) -> object:
    return _collected(frozenset, reader.items(node))


def _read_deque(reader: Reader, node: list[Any]) -> object:
    maxlen = node.pop(1)
    return deque(reader.items(node), maxlen)


def _read_pairs(reader: Reader, node: list[Any], make: Callable[[Any], Any] = dict) -> object:
    """Read a kind of dict from keys and values in turn."""
    parts = reader.items(node)
    return _collected(make, [*zip(parts[::2], parts[1::2], strict=True)])


def _read_counter(reader: Reader, node: list[Any]) -> object:
    return _read_pairs(reader, node, lambda pairs: Counter(dict(pairs)))


def _read_defaultdict(reader: Reader, node: list[Any]) -> object:
    factory = node.pop(1)
    return _read_pairs(reader, node, functools.partial(defaultdict, None if factory is None else FACTORIES[factory]))


def _collected(make: Callable[[Any], Any], members: list[Any]) -> object:
    """Make a collection that tells its members apart by hash and equality, which may be the user's and have changed."""
    try:
        made = make(members)
    except TypeError:
        raise StaleValue("a member of a set or a key of a dict cannot be hashed any more") from None
    if len(made) != len(members):
        raise StaleValue("members of a set or keys of a dict that were different are equal now")
    return made


def _read_scalar(make: Callable[..., object]) -> Read:
    def read(reader: Reader, node: list[Any]) -> object:
        return make(*reader.items(node))

    return read


_READERS: Final[Mapping[str, Read]] = {
    **{tag: _read_scalar(make) for tag, make in MAKERS.items()},
    **{tag: _read_instance for kind in KINDS for tag in (kind.tag, kind.tag + WITH_REST)},
    TEXT: _read_text,
    PLAIN: _read_plain,
    "list": Reader.items,
    "tuple": _read_tuple,
    "set": _read_set,
    "frozenset": _read_frozenset,
    "deque": _read_deque,
    "dict": _read_pairs,
    "ordereddict": lambda reader, node: _read_pairs(reader, node, OrderedDict),
    "counter": _read_counter,
    "defaultdict": _read_defaultdict,
}


def shown(document: Any) -> object:
    """Return a document as JSON that says what is in it, and no longer of which types.

    Instances are objects of their fields, without what is private; members of enums are their names, and scalars
    are their texts.
    """
    if type(document) is list and document[0] == CLASSES:
        _, table, document = document
        return _Show([names for _, _, _, names in table]).node(document)
    return _Show([]).node(document)


@attrs.frozen
class _Show:
    """Shows the nodes of one document.

    Attributes:
        fields: The names of the fields of each class in its table.
    """

    fields: list[list[str]]

    def node(self, node: Any) -> Any:
        """Return what a node shows."""
        if type(node) is dict:
            return {name: self.node(item) for name, item in node.items()}
        return self._tagged(*node) if type(node) is list else node

    def _tagged(self, tag: str, *parts: Any) -> Any:
        if tag in {PLAIN, "frozenset", "list", "set", "tuple"}:
            return [self.node(part) for part in parts]
        if tag == "deque":
            return [self.node(part) for part in parts[1:]]
        if tag in {"counter", "dict", "ordereddict"}:
            return self._pairs(parts)
        if tag == "defaultdict":
            return self._pairs(parts[1:])
        return self._scalar(tag, parts) if tag in MAKERS or tag == TEXT else self._instance(tag, *parts)

    def _pairs(self, parts: Sequence[Any]) -> Any:
        """Return an object, or pairs where keys that differ would look alike."""
        keys = [key if type(key) is str else to_json(key).decode() for key in map(self.node, parts[::2])]
        items = [self.node(item) for item in parts[1::2]]
        return dict(zip(keys, items, strict=True)) if len({*keys}) == len(items) else [*zip(keys, items, strict=True)]

    @staticmethod
    def _scalar(tag: str, parts: Sequence[Any]) -> Any:
        if tag in {"bytes", "bytearray"}:
            return parts[0]  # base64
        value = _READERS[tag](Reader([]), [tag, *parts])
        return value if type(value) is int else str(value).encode("utf-8", "backslashreplace").decode()

    def _instance(self, tag: str, row: int, *parts: Any) -> Any:
        rest, *values = parts if tag.endswith(WITH_REST) else (None, *parts)
        if tag in {"enum", "scalar"}:
            return self.node(values[0])
        more: dict[str, Any] = rest or {}
        named = zip(self.fields[row], values, strict=True)
        others = {**(more.get("extra") or {}), **(more.get("attributes") or {})}
        return {name: self.node(item) for name, item in (*named, *others.items())}
