"""One value, one byte string: the encoding under keys, fingerprints and digests.

It knows scalars, their tuples and frozensets, and how parts are joined so that no two lists of
parts give the same bytes. It does not know arguments, steps, models or arrays: `_keys` does.

Theory of operation. Every node is its tag, the number of its parts, the length of each and then the
parts, so neither user text nor a neighbour can imitate a boundary. Nothing here asks a value for
its `repr`, `str`, `hash` or equality: those belong to the user's classes, change between processes
and may lie. A value is recognised by its exact type, found by the identity of that type (a metaclass
may define `__eq__` and `__hash__` too). The bytes are a format: what is in a store was found by
them, so they may only change together with the key format number in `_keys`.
"""

from __future__ import annotations

__all__ = [
    "LEAVES",
    "MAX_DEPTH",
    "digest",
    "fold",
    "is_enum",
    "member",
    "module_name",
    "node",
    "qualified_name",
    "scalar",
]

import os.path
import struct
import sys
from enum import EnumType, Flag
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH: Final = 200
"""Values nested deeper than this are not encoded; it stays well below Python's recursion limit."""

_FOLD_ABOVE: Final = 1 << 16
"""An encoding longer than this is represented by its digest, so nothing large is copied at every level above it."""


def node(tag: bytes, *parts: bytes) -> bytes:
    """Join `parts` under `tag` so that no other tag or parts give the same bytes.

    Args:
        tag: What the parts are; shorter than 256 bytes.
        *parts: Encoded parts, in the order that counts.
    """
    count = len(parts)
    pack = _SIZES[count] if count < len(_SIZES) else struct.Struct(f">{count + 1}Q").pack
    return b"".join((len(tag).to_bytes(1), tag, pack(count, *map(len, parts)), *parts))


_SIZES: Final = tuple(struct.Struct(f">{count + 1}Q").pack for count in range(17))


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of `parts` in hexadecimal; ("ab", "c") and ("a", "bc") differ."""
    return sha256(node(b"digest", *parts)).hexdigest()


def fold(encoded: bytes) -> bytes:
    """Return `encoded`, or in place of a long one a node with its digest."""
    return encoded if len(encoded) <= _FOLD_ABOVE else node(b"folded", sha256(encoded).digest())


def scalar(value: object) -> bytes | None:
    """Return the canonical bytes of a scalar, or None for anything else.

    Scalars are None, bool, int, float, complex, str, bytes, members of enums at the top of a module, and tuples and
    frozensets of scalars, each by its *exact* type: 1, True and 1.0 differ, and a subclass of `str` is no scalar.
    All NaNs are one value; -0.0 is not 0.0.
    """
    return _scalar(value, 0)


def _scalar(value: object, depth: int) -> bytes | None:
    """Encode a scalar that is inside `depth` tuples."""
    cls = type(value)
    leaf = LEAVES.get(id(cls))
    if leaf is not None:
        return leaf(value)
    if cls is tuple or cls is frozenset:
        return _collection(value, depth)
    return member(value) if is_enum(cls) else None


def _collection(value: Any, depth: int) -> bytes | None:
    """Encode a tuple or frozenset if all its members are scalars."""
    if depth >= MAX_DEPTH:
        return None
    parts: list[bytes] = []
    for item in value:
        part = _scalar(item, depth + 1)
        if part is None:
            return None
        parts.append(part)
    return fold(node(b"tuple", *parts) if type(value) is tuple else node(b"frozenset", *sorted(parts)))


def is_enum(cls: type) -> bool:
    """Say whether `cls` is an enum, by the type of the class: a class may say anything about itself."""
    return issubclass(type(cls), EnumType)


def member(value: Any) -> bytes | None:
    """Encode a member of an enum by class, name and value; None if that would be a guess.

    An alias is its member; a flag counts by its value. The value stands beside the name so that an edited constant
    moves the key; where it is no scalar, the name alone counts, unless the enum made the member up at run time.
    """
    cls = cast("Any", type(value))
    if "<locals>" in cls.__qualname__:
        return None
    content = scalar(value._value_)
    if issubclass(cls, Flag):
        return content and node(b"flag", qualified_name(cls).encode(), content)
    name: str = value._name_
    if content is None and cls._member_map_.get(name) is not value:
        return None
    return node(b"enum", qualified_name(cls).encode(), name.encode("utf-8", "surrogatepass"), content or b"")


def qualified_name(obj: Any) -> str:
    """Return `module:qualname` of a class or function, the same in a script and in its import.

    A function that was compiled without a module has none.
    """
    return f"{module_name(obj.__module__ or '')}:{obj.__qualname__}"


def module_name(name: str) -> str:
    """Return the name by which everybody else would import the module `name`.

    A script is `__main__` only for itself: it is found under the name it was started by, or else its file's. A module
    of the standard library loses its private parts, which move between releases (`pathlib._local`).
    """
    if name in {"__main__", "__mp_main__"}:
        return _script_name(name)
    package, _, rest = name.partition(".")
    if rest.startswith("_") and package in sys.stdlib_module_names:
        return package
    return name


def _script_name(name: str) -> str:
    """Return the importable name of the running script; in a notebook or the REPL, `__main__`."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(module, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"  # noqa: PTH119, PTH122 - cheap, per call


def _head(tag: bytes) -> bytes:
    """Return how a node of one part begins, up to the length of that part."""
    return len(tag).to_bytes(1) + tag + (1).to_bytes(8)


_NONE: Final = node(b"none")
_FALSE, _TRUE = node(b"bool", b"\0"), node(b"bool", b"\1")
_INT, _FLOAT, _COMPLEX, _STR, _BYTES = (_head(tag) for tag in (b"int", b"float", b"complex", b"str", b"bytes"))
_NAN: Final = struct.pack(">d", float("nan"))
_pack_float = struct.Struct(">d").pack


def _none(_: None) -> bytes:
    return _NONE


def _bool(value: bool) -> bytes:  # noqa: FBT001 - the value itself
    return _TRUE if value else _FALSE


def _int(value: int) -> bytes:
    """Two's complement of any size: decimal text has a limit of 4300 digits."""
    size = value.bit_length() // 8 + 1
    return _INT + size.to_bytes(8) + value.to_bytes(size, signed=True)


def _float_bits(value: float) -> bytes:
    """IEEE bits, with one pattern for all NaNs."""
    return _pack_float(value) if value == value else _NAN  # noqa: PLR0124 - NaN is not itself


def _float(value: float) -> bytes:
    return _FLOAT + b"\0\0\0\0\0\0\0\x08" + _float_bits(value)


def _complex(value: complex) -> bytes:
    return _COMPLEX + b"\0\0\0\0\0\0\0\x10" + _float_bits(value.real) + _float_bits(value.imag)


def _str(value: str) -> bytes:
    """UTF-8 as it is: no normalisation, no newline change; lone surrogates pass."""
    try:
        payload = value.encode()  # a third of the time of the next one, with the same bytes
    except UnicodeEncodeError:
        payload = value.encode("utf-8", "surrogatepass")
    size = len(payload)
    return _STR + size.to_bytes(8) + payload if size < _FOLD_ABOVE else _long(_STR, payload)


def _bytes(value: bytes) -> bytes:
    size = len(value)
    return _BYTES + size.to_bytes(8) + value if size < _FOLD_ABOVE else _long(_BYTES, value)


def _long(head: bytes, payload: bytes) -> bytes:
    """Return what `fold` would give for the node, without building the node."""
    hasher = sha256(head)
    hasher.update(len(payload).to_bytes(8))
    hasher.update(payload)
    return node(b"folded", hasher.digest())


LEAVES: Final[dict[int, Callable[[Any], bytes]]] = {
    id(type(None)): _none,
    id(bool): _bool,
    id(int): _int,
    id(float): _float,
    id(complex): _complex,
    id(str): _str,
    id(bytes): _bytes,
}
"""How each scalar type is encoded, by the identity of the type: these types never go away, so an id is theirs alone."""
