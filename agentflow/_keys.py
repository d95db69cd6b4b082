"""Arguments of a call as a key: equal calls have equal keys, however they are spelled; different calls never do.

Knows the rules' outside: names of parameters, what to say when a value is refused, and the means to change what counts.
What values consist of is told by `_key_values`, `_key_code`, `_key_arrays` and `_key_objects`; `_key_walk` puts them together.

The principle: if plain code could tell two arguments apart, they get different keys. A missed hit costs one call, a
wrong one is a wrong answer, so what cannot be keyed is refused and never guessed.
"""

from __future__ import annotations

__all__ = [
    "FileArg",
    "NoKey",
    "arguments_digest",
    "arguments_parts",
    "encode",
    "entry_key",
    "mark",
    "not_keyed",
    "parts_digest",
    "register_key",
]

import os
import typing
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

import attrs

from agentflow._canonical import LEAVES, node
from agentflow._key_code import CODE
from agentflow._key_objects import classify, register
from agentflow._key_values import EXACT
from agentflow._key_walk import Kinds, Refused, Shape, Walk, type_of
from agentflow._options import path
from agentflow.exceptions import UnkeyableArgument, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from hashlib import _Hash

T = TypeVar("T")

_FORMAT: Final = b"1"
"""The number of the key format; another one makes every stored result a miss."""


@final
class NoKey:
    """Marks a parameter whose value is not part of the key: a client, a logger, a progress bar.

    A step is found by its other arguments; it must give the same result whatever is passed here.

    ```python
    from typing import Annotated

    from agentflow import NoKey, cached_step

    @cached_step
    def read(url: str, client: Annotated[object, NoKey] = None) -> str:
        return f"the page at {url}"
    ```
    """


def not_keyed(annotation: object) -> bool:
    """Say whether a resolved annotation is marked with `NoKey`, also inside a union such as `Annotated[T, NoKey] | None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *notes = typing.get_args(annotation)
        return any(note is NoKey or type(note) is NoKey for note in notes) or not_keyed(inner)
    if origin is typing.Union or origin is UnionType:
        return any(not_keyed(each) for each in typing.get_args(annotation))
    return False


def _path(given: str | os.PathLike[str]) -> Path:
    return Path(path(given, "path"))


@attrs.frozen
class FileArg:
    """A file as an argument, keyed by its content.

    A path is keyed as it is spelled: the same path after an edit would be a hit.
    A `FileArg` is keyed by the size and SHA-256 of what the file holds when the step is called, and not by its name.
    It can be given to `open()` and to whatever else takes a path.

    Raises:
        OSError: When a step is called with it and the file cannot be read.

    ```python
    from pathlib import Path

    from agentflow import FileArg, cached_step

    @cached_step
    def count_words(report: FileArg) -> int:
        return len(report.path.read_text().split())

    Path("report.txt").write_text("two words")
    count_words(FileArg("report.txt"))
    ```
    """

    path: Path = attrs.field(converter=_path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)


_CHUNK: Final = 1 << 20


def _file(value: FileArg) -> Shape:
    hasher, size, buffer = sha256(), 0, bytearray(_CHUNK)
    with value.path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size += count
            hasher.update(memoryview(buffer)[:count])
    return Shape(b"file", (size, hasher.digest()))


_KINDS: Final = Kinds({**EXACT, **CODE, FileArg: _file}, classify)


def register_key(type_: type[T], fn: Callable[[T], object]) -> None:
    """Say what makes two objects of a type the same argument.

    Call it where the program starts, before any step is called with such an object: another function gives other keys.
    A class of your own can have a method `__agentflow_key__(self)` instead, which does the same.

    Args:
        type_: The class; its subclasses are included, unless one has a key of its own.
        fn: Given the object, returns something that can be keyed, such as a string or a tuple.

    Raises:
        UsageError: If the type is a scalar, whose key cannot be changed, or these are no class and no function.

    ```python
    from agentflow import register_key

    class Database:
        def __init__(self, url: str) -> None:
            self.url = url

    register_key(Database, lambda database: database.url)
    ```
    """
    if not isinstance(cast("object", type_), type) or not callable(fn):
        raise UsageError(
            f"register_key({type_!r}, {fn!r}): write a class, and a function that is given an object of it"
        )
    if id(type_) in LEAVES:
        raise UsageError(
            f"register_key() cannot change the key of {type_.__qualname__}: give a class of your own a key"
        )
    _KINDS.set(type_, register(type_, fn))


def arguments_digest(owner: str, arguments: Mapping[str, object]) -> str:
    """Return the SHA-256 of bound arguments, in hexadecimal; their order does not count.

    Args:
        owner: The step or workflow, for the message.
        arguments: The arguments by parameter, with defaults filled in, less those that do not count.

    Raises:
        UnkeyableArgument: If one of them cannot be keyed.
    """
    return parts_digest(arguments_parts(owner, arguments))


def parts_digest(parts: Sequence[bytes]) -> str:
    """Return the digest of arguments from their `arguments_parts`."""
    return sha256(node(b"arguments", _FORMAT, *parts)).hexdigest()


def arguments_parts(owner: str, arguments: Mapping[str, object]) -> list[bytes]:
    """Return the name and the canonical bytes of each argument in turn, in the order of the names; see `arguments_digest`."""
    parts: list[bytes] = []
    for name in sorted(arguments):
        value = arguments[name]
        leaf = LEAVES.get(id(type(value)))
        encoded = leaf(value) if leaf is not None else encode(value, owner=owner, parameter=name)
        parts += (name.encode(), encoded)  # a parameter's name is an identifier, so it always has UTF-8
    return parts


def mark(encoded: bytes | str) -> str:
    """Return a short mark of a value, by which two that differ can (nearly always) be told apart, and no more.

    It has 16 bits, so it cannot confirm a guess: of all the passwords there are, one in 65 536 has the same mark.
    """
    return sha256(encoded.encode() if isinstance(encoded, str) else encoded).hexdigest()[:4]


def encode(value: object, *, owner: str, parameter: str) -> bytes:
    """Return the canonical bytes of one value; long ones are represented by their digests.

    Args:
        value: The value.
        owner: The step or workflow, for the message.
        parameter: The parameter or state key it belongs to, for the message.

    Raises:
        UnkeyableArgument: If it, or a part of it, cannot be keyed.
    """
    try:
        return Walk(_KINDS).encode(value)
    except Refused as refused:
        raise _unkeyable(refused, owner, parameter) from None
    except RecursionError as error:
        reason = "it is nested too deeply for what is left of Python's stack"
        raise _unkeyable(Refused(type_of(value), reason), owner, parameter) from error


def entry_key(*parts: str) -> str:
    """Return the SHA-256 of the parts, in hexadecimal, under which an entry is kept: ("ab", "c") and ("a", "bc") differ."""
    last = parts[-1]
    if len(last) != _DIGEST_LENGTH or not last.isascii():
        return sha256(_entry_node(parts)).hexdigest()
    # All calls of a step in a session differ in a last digest only: the hash of what stands before it is made once.
    hasher = _hashed_head(parts[:-1]).copy()
    hasher.update(last.encode())
    return hasher.hexdigest()


_DIGEST_LENGTH: Final = 64


@lru_cache(maxsize=1024)
def _hashed_head(parts: tuple[str, ...]) -> _Hash:
    """Return the hash of an entry's node up to its last part, which has the length of a digest."""
    return sha256(_entry_node((*parts, "0" * _DIGEST_LENGTH))[:-_DIGEST_LENGTH])


def _entry_node(parts: tuple[str, ...]) -> bytes:
    return node(b"entry", _FORMAT, *(part.encode("utf-8", "surrogatepass") for part in parts))


_PATH_SHOWN: Final = 6
_CONTEXT: Final = "agentflow._context.Context"  # which some pass by hand to a step that takes none


def _unkeyable(refused: Refused, owner: str, parameter: str) -> UnkeyableArgument:
    """Make the error that the user sees; it names types and places, never values."""
    steps = refused.path[::-1]
    path = "".join(steps[:_PATH_SHOWN]) + ("..." if len(steps) > _PATH_SHOWN else "")
    within = f" at {parameter}{path}" if path else ""
    bare = refused.type_name.rpartition(".")[2]
    ways = (
        f'Leave the argument out with ignore=("{parameter}",) or Annotated[..., NoKey], give {bare} a key with '
        "register_key() or __agentflow_key__(), or choose the whole key with key="
    )
    if refused.type_name == _CONTEXT:
        ways = "Call it without: a first parameter that is named ctx, or annotated Context, is given it by agentflow"
    return UnkeyableArgument(
        f"{owner!r} cannot build a cache key from argument {parameter!r}{within} ({refused.type_name}): {refused.reason}. {ways}",
        step=owner,
        parameter=parameter,
        path=path,
        type_name=refused.type_name,
    )
