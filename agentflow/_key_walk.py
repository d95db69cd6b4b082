"""The walk over one argument: depth, cycles, sharing, order and size, for values of every kind.

A kind says what a value of one class consists of, as a `Shape`; the walk encodes the parts. So a kind
knows one class and nothing of recursion, and the walk knows recursion and no class.
"""

from __future__ import annotations

__all__ = ["Kind", "Kinds", "Loose", "Order", "Refused", "Shape", "Walk", "type_name", "type_of"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

import attrs

from agentflow._canonical import LEAVES, MAX_DEPTH, fold, node

_REMEMBER_ABOVE: Final = 256
"""Encodings longer than this are remembered for the rest of the walk, should the same object be met again.

That keeps `x = [x, x]`, repeated a hundred times, linear, and costs a list of small values nothing.
"""


class Refused(Exception):  # noqa: N818 - a turn of the walk, which `_keys` makes into the user's error
    """A part of an argument cannot be keyed.

    Attributes:
        reason: Why, as the end of a sentence.
        type_name: The type of that part.
        path: The way to it, from the inside outwards.
    """

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(reason)
        self.reason, self.type_name = reason, type_name
        self.path: list[str] = []


class Order(Enum):
    """Whether the order of a value's parts counts."""

    KEPT = "kept"
    FREE = "free"
    FREE_PAIRS = "free pairs"


def _by_index(_: Shape, index: int) -> str:
    return f"[{index}]"


class Shape(NamedTuple):
    """What a value consists of.

    Attributes:
        tag: Its kind; no two kinds share one.
        children: Its parts, any values; for pairs: key, value, key, value.
        head: What else counts, already encoded, such as the class.
        order: Whether the order of the parts counts.
        names: The parts' names, where they have some.
        label: Says how to reach a part, for messages.
        secret: Whether only a digest of it may be in any encoding.
    """

    tag: bytes
    children: Iterable[object] = ()
    head: bytes = b""
    order: Order = Order.KEPT
    names: Sequence[str] = ()
    label: Callable[[Shape, int], str] = _by_index
    secret: bool = False


# A named tuple is made in half the time of an attrs class, and one is made for every part of every argument.

Kind: TypeAlias = Callable[[Any], Shape]


@attrs.frozen
class Loose:
    """A value that counts as far as it can be keyed, else by its type: a field's default, say."""

    value: object


def type_name(cls: type) -> str:
    """Return a type's name for a message: `module.qualname`, or the bare name of a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def type_of(value: object) -> str:
    """Return the name of a value's type for a message."""
    return type_name(type(value))


_REMEMBERED: Final = 1000
"""How many classes without an exact kind are remembered, so that a program that makes classes all day can lose them."""


class Kinds:
    """Which kind each class is, found once per class.

    Classes are told apart by identity alone: their metaclass may define equality and hash as it likes.
    """

    def __init__(self, exact: Mapping[type, Kind], classify: Callable[[type], Kind]) -> None:
        # The classes stand beside their ids so that no other can get the same one.
        self._exact = {id(cls): (cls, kind) for cls, kind in exact.items()}
        self._found: dict[int, tuple[type, Kind]] = {}
        self._classify = classify

    def of(self, cls: type) -> Kind:
        """Return the kind of a class.

        Raises:
            Refused: If its instances cannot be keyed.
        """
        entry = self._exact.get(id(cls)) or self._found.get(id(cls))
        if entry is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            entry = self._found[id(cls)] = (cls, self._classify(cls))
        return entry[1]

    def set(self, cls: type, kind: Kind) -> None:
        """Give a class a kind; what was found for others before, which may inherit from it, is looked for anew."""
        self._exact[id(cls)] = (cls, kind)
        self._found.clear()


@attrs.define
class _Seen:
    """An object met in this walk.

    Attributes:
        value: The object itself, so that nothing else can get its id.
        encoded: Its encoding, or None while it is still open.
        height: How deep it is nested itself.
    """

    value: object
    encoded: bytes | None = None
    height: int = 0


class Walk:
    """Encodes one argument; not to be used again after it refused."""

    __slots__ = ("_deepest", "_depth", "_kinds", "_seen")

    def __init__(self, kinds: Kinds, seen: dict[int, _Seen] | None = None, depth: int = 0) -> None:
        self._kinds = kinds
        self._seen = seen or {}
        self._depth = self._deepest = depth

    def encode(self, value: object) -> bytes:
        """Return the canonical bytes of a value.

        One Python frame per level, so that `MAX_DEPTH` levels fit below the recursion limit.

        Raises:
            Refused: If a part of it cannot be keyed.
        """
        leaf = LEAVES.get(id(type(value)))
        if leaf is not None:
            return leaf(value)
        if type(value) is Loose:
            return self._loosely(value.value)
        seen = self._seen.get(id(value))
        if seen is not None:
            return self._again(seen)
        outer, seen = self._enter(value)
        shape = self._kinds.of(type(value))(value)
        parts: list[bytes] = [shape.head]
        try:
            for child in shape.children:
                leaf = LEAVES.get(id(type(child)))
                parts.append(leaf(child) if leaf is not None else self.encode(child))
        except Refused as refused:
            refused.path.append(shape.label(shape, len(parts) - 1))
            raise
        return self._leave(seen, outer, _joined(shape, parts))

    def _again(self, seen: _Seen) -> bytes:
        """Return the encoding of an object met before, which is deeper down now, or inside itself."""
        if seen.encoded is None:
            raise Refused(type_of(seen.value), "it contains itself")
        self._deepest = max(self._deepest, self._depth + seen.height)
        if self._deepest > MAX_DEPTH:
            raise Refused(type_of(seen.value), f"it is nested more than {MAX_DEPTH} levels deep")
        return seen.encoded

    def _enter(self, value: object) -> tuple[int, _Seen]:
        """Go one level down; return how deep the walk has been, for the way back."""
        if self._depth >= MAX_DEPTH:
            raise Refused(type_of(value), f"it is nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        outer, self._deepest = self._deepest, self._depth
        seen = self._seen[id(value)] = _Seen(value)
        return outer, seen

    def _leave(self, seen: _Seen, outer: int, encoded: bytes) -> bytes:
        """Come back up with an encoding."""
        folded = fold(encoded)
        if len(encoded) > _REMEMBER_ABOVE:
            seen.encoded, seen.height = folded, self._deepest - self._depth + 1
        else:
            del self._seen[id(seen.value)]
        self._depth -= 1
        self._deepest = max(self._deepest, outer)
        return folded

    def _loosely(self, value: object) -> bytes:
        """Return the canonical bytes of a value, or if it has none, of its type's name."""
        leaf = LEAVES.get(id(type(value)))
        if leaf is not None:
            return leaf(value)
        inside = {key: seen for key, seen in self._seen.items() if seen.encoded is None}
        try:
            return Walk(self._kinds, inside, self._depth).encode(value)
        except Refused as refused:
            return node(b"type", refused.type_name.encode("utf-8", "surrogatepass"))


def _joined(shape: Shape, parts: list[bytes]) -> bytes:
    """Return the node of a shape from its head and encoded parts."""
    if shape.order is not Order.KEPT:
        head, *rest = parts
        parts = [head, *(_sorted_pairs(rest) if shape.order is Order.FREE_PAIRS else sorted(rest))]
    encoded = node(shape.tag, *parts)
    return node(b"secret", sha256(encoded).digest()) if shape.secret else encoded


def _sorted_pairs(parts: list[bytes]) -> list[bytes]:
    """Sort key, value, key, value by pair."""
    return [part for pair in sorted(zip(parts[::2], parts[1::2], strict=True)) for part in pair]
