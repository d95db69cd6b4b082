"""Values as bytes that come back as the same values, with the same types.

One codec without a fallback: a tagged JSON document (`_value_writer`, `_value_reader`), or the bare bytes of a
value that is only text or bytes. Nothing that is read decides what is imported or run: a class named in the data
is one of those that the annotation reaches, or that were registered (`_type_registry`). What could not come back
as it is, is refused when it is written, with the place inside the value.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import deque
from collections.abc import Awaitable, Iterator
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from agentflow._layout import Refused
from agentflow._type_changes import StaleValue
from agentflow._type_layout import layout_of
from agentflow._type_registry import KnownTypes, class_name, reachable, register
from agentflow._value_reader import DAMAGE, Row, read, shown
from agentflow._value_writer import Writer
from agentflow.exceptions import IncompatibleStore, StoreCorrupt, UnserializableValue, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentflow._layout import Layout

__all__ = [
    "Codec",
    "StaleValue",
    "codec_for",
    "plain_json",
    "register_annotation",
    "register_type",
    "seal",
    "unseal",
    "unsealed",
]

T = TypeVar("T", bound=type)


_MAGIC: Final = b"AGFV"
_VERSION: Final = 1
_HEAD: Final = len(_MAGIC) + 1 + hashlib.sha256().digest_size

# JSON begins with neither, so text and bytes need no quoting and no second copy.
_TEXT: Final = b"S"
_BYTES: Final = b"B"


def register_type(cls: T) -> T:
    """Make a class known, so that its instances can be stored where no annotation names it.

    Not needed for what the return annotation of a step reaches, and for subclasses of that.
    A class that is defined again, in a notebook say, replaces the older one of the same name.

    Args:
        cls: A pydantic model, dataclass, attrs class, named tuple, enum, or a subclass of a plain scalar.

    Returns:
        The class, so that this can be a decorator.

    Raises:
        UsageError: If instances of such a class cannot be stored.

    Example:
        ```python
        from dataclasses import dataclass

        from agentflow import register_type

        @register_type
        @dataclass
        class Article:
            title: str
        ```
    """
    if not isinstance(cast("object", cls), type):
        raise UsageError(f"register_type({cls!r}): write a class")
    if layout_of(cls) is None:
        raise UsageError(
            f"register_type: instances of {cls.__qualname__} cannot be stored, since what they hold is not declared. "
            f"{_PLAIN_DATA}"
        )
    register([cls])
    return cls


def register_annotation(annotation: object) -> None:
    """Register every class that an annotation reaches, in fields of fields too.

    Args:
        annotation: A type as it stands in a signature, such as `list[Article] | None`.
    """
    register(cls for cls in reachable(annotation) if layout_of(cls) is not None)


class Codec:
    """Turns the values of one annotation into bytes and back.

    Safe to share between threads. Use `codec_for`, which keeps what a codec has learned about its classes.

    Args:
        annotation: What the values are declared to be; `Any` or `Parameter.empty` for no declaration.
    """

    def __init__(self, annotation: object) -> None:
        self._known = KnownTypes(Any if annotation is Parameter.empty else annotation)
        self._layouts: dict[type, Layout | None] = {}
        self._rows: dict[str, Row] = {}

    def dumps(self, value: object, *, owner: str) -> bytes:
        """Return a value as bytes.

        Args:
            value: What to store.
            owner: What it belongs to, for messages, such as `"step 'read'"`.

        Raises:
            UnserializableValue: If it, or a part of it, would not come back as what it is.
        """
        if type(value) is str:
            return _TEXT + value.encode("utf-8", "surrogatepass")
        if type(value) is bytes:
            return _BYTES + value
        try:
            return self._written(value)
        except Refused as refused:
            raise self._explained(refused, owner) from None

    def loads(self, body: bytes) -> Any:
        """Return the value of the bytes that `dumps` gave.

        Raises:
            StaleValue: If it no longer fits the classes that it is made of.
            StoreCorrupt: If the bytes are not what `dumps` gave.
        """
        try:
            if body[:1] == _TEXT:
                return str(memoryview(body)[1:], "utf-8", "surrogatepass")
            if body[:1] == _BYTES:
                return body[1:]
            return read(from_json(body, allow_inf_nan=False), self._row_for)
        except DAMAGE as error:
            raise _corrupt("it is not in the format of this version of agentflow") from error

    def _written(self, value: object) -> bytes:
        try:
            return to_json(Writer(self._layout_for).document(value))
        except PydanticSerializationError:
            # There is a lone surrogate in some string; looking for them always would cost every other value.
            return to_json(Writer(self._layout_for, careful=True).document(value))
        except RecursionError:
            raise Refused(value, "The stack has no room left for its depth: store it nearer to the top.") from None

    def _layout_for(self, cls: type) -> Layout | None:
        """Return the layout of a class whose instances a reader of this annotation would find again."""
        layout = self._layouts.get(cls)
        if layout is None:
            layout = self._layouts[cls] = layout_of(cls)
        return layout if layout is not None and self._known.find(layout.name) is cls else None

    def _row_for(self, stored: list[Any]) -> Row:
        """Return a row of a stored table of classes, held against the class of that name as it is now."""
        name: str = stored[0]
        cls = self._known.find(name)
        row = self._rows.get(name)
        if row is None or row.layout.cls is not cls or row.stored != stored:
            layout = None if cls is None else self._layout_for(cls)
            if layout is None:
                raise StaleValue(f"no class {name} is known here: let the annotation name it, or register it")
            row = self._rows[name] = Row.of(stored, layout, self._same)
        return row

    def _same(self, one: object, other: object) -> bool:
        """Say whether two values are the same, by what is written of them."""
        try:
            return self._written(one) == self._written(other)
        except Refused:
            return False

    def _explained(self, refused: Refused, owner: str) -> UnserializableValue:
        path, cyclic = _path(refused)
        cls = type(refused.value)
        kind = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        why = "It contains itself: store it in a form without cycles." if cyclic else refused.why or self._advice(cls)
        return UnserializableValue(
            f"{owner}: {path or 'it'} cannot be stored, since it is a {kind}. {why}",
            owner=owner,
            path=path,
            type_name=kind,
        )

    def _advice(self, cls: type) -> str:
        """Say what to do about a value of a type that is not stored."""
        if layout_of(cls) is None:
            return next((advice for fits, advice in _ADVICE if fits(cls)), _PLAIN_DATA)
        if self._known.find(class_name(cls)) is not None:
            return (
                "Another class of that name is known: if it was defined again, define what is annotated with it again."
            )
        return "Let the return annotation name its class, or register the class with agentflow.register_type."


_PLAIN_DATA: Final = (
    "Use builtin types, pydantic models, dataclasses, attrs classes, named tuples and enums for what is stored."
)

_ADVICE: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (
        lambda cls: hasattr(cls, "get_secret_value"),
        "Secrets are never stored: return what was done with it, and read it again where it is needed.",
    ),
    (
        lambda cls: cls.__module__.partition(".")[0] in {"numpy", "pandas"},
        "Turn it into plain Python first, with .tolist(), .item() or .to_dict().",
    ),
    (lambda cls: issubclass(cls, Awaitable), "Await it, and return what it gives."),
    (lambda cls: issubclass(cls, Iterator), "Return a list of what it gives."),
    (lambda cls: issubclass(cls, BaseException), "Raise it, or return its text."),
    (
        lambda cls: issubclass(cls, str | int | float | bytes | list | tuple | dict | set | frozenset | deque),
        "It is a subclass of a builtin type: turn it into that type first.",
    ),
)


def _path(refused: Refused) -> tuple[str, bool]:
    """Return the path from the whole value to the part, and whether the value contains itself on it."""
    pieces: list[str] = []
    containers: set[int] = set()
    for piece, container in reversed(refused.trail):
        if id(container) in containers:
            return "".join(pieces), True
        containers.add(id(container))
        pieces.append(piece)
    path = "".join(pieces)
    return path if len(path) <= 200 else f"{path[:120]}…{path[-60:]}", False


@functools.lru_cache(maxsize=1024)
def _cached_codec(annotation: object) -> Codec:
    return Codec(annotation)


def codec_for(annotation: object) -> Codec:
    """Return the codec of an annotation; `Any` and `Parameter.empty` stand for none.

    Without an annotation, builtins, scalars of the standard library, their containers and instances of registered
    classes can be stored.
    """
    try:
        return _cached_codec(annotation)
    except TypeError:  # not hashable: an `Annotated` with a list in it
        return Codec(annotation)


def plain_json(body: bytes) -> str:
    """Return what `dumps` gave as ordinary JSON text, for readers that do not have the classes of the value.

    Which types the parts had is lost: the text is for looking at a value and is never read back.

    Raises:
        StoreCorrupt: If the bytes are not what `dumps` gave.
    """
    try:
        if body[:1] == _TEXT:
            return to_json(body[1:].decode("utf-8", "surrogatepass").encode("utf-8", "backslashreplace")).decode()
        if body[:1] == _BYTES:
            return to_json(base64.b64encode(body[1:])).decode()
        return to_json(shown(from_json(body, allow_inf_nan=False))).decode()
    except (*DAMAGE, StaleValue) as error:
        raise _corrupt("it is not in the format of this version of agentflow") from error


def _corrupt(why: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"a stored value is damaged, {why}: run `agentflow doctor`, or forget the value so that it is computed again"
    )


def seal(*parts: bytes) -> bytes:
    """Join the parts of a body and put a head before it: what it is, the version of the format, and a checksum.

    How large it may be is the store's business. In parts, since a huge body should not be copied twice.
    """
    return b"".join((_MAGIC, bytes([_VERSION]), _checksum(_VERSION, *parts), *parts))


def unseal(data: bytes) -> bytes:
    """Return the body that was sealed; raises as `unsealed` does."""
    return bytes(unsealed(data))


def unsealed(data: bytes) -> memoryview:
    """Return a view of the body that was sealed.

    Raises:
        StoreCorrupt: If it is not what was sealed.
        IncompatibleStore: If it was sealed whole, by a newer version.
    """
    head, body = data[:_HEAD], memoryview(data)[_HEAD:]
    whole = len(head) == _HEAD and head.startswith(_MAGIC)
    # The head keeps its form in every version, so that damage is told from a version that is only newer.
    if not whole or head[len(_MAGIC) + 1 :] != _checksum(head[len(_MAGIC)], body):
        raise _corrupt("its checksum does not fit")
    if head[len(_MAGIC)] > _VERSION:
        raise IncompatibleStore("a stored value was written by a newer agentflow: upgrade agentflow to read it")
    return body


def _checksum(version: int, *parts: bytes | memoryview) -> bytes:
    checksum = hashlib.sha256(bytes([version]))
    for part in parts:
        checksum.update(part)
    return checksum.digest()
