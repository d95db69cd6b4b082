"""The names of this process's workflows and steps, and the classes their signatures speak of."""

from __future__ import annotations

import contextlib
import inspect
import threading
import typing
from collections import abc
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._canonical import qualified_name
from agentflow._serialization import register_annotation
from agentflow._signature import Colour
from agentflow.exceptions import NameConflict, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow._signature import Shape

__all__ = ["Returns", "claim_name", "learn_types", "names_given_back", "names_of", "returns"]

_places: Final[dict[tuple[str, str], str]] = {}
_unlearned: Final[list[Shape]] = []
_mutex: Final = threading.Lock()


def claim_name(kind: str, name: str | None, shape: Shape) -> str:
    """Return the name of a step or workflow, and note it as taken.

    The same place (module and qualified name) may take its name again: a notebook cell, a reload, an inner function.

    Raises:
        NameConflict: If a function at another place has the name.
        UsageError: If there is none to give.
    """
    place = qualified_name(shape.fn)
    if name is None and shape.fn.__name__ == "<lambda>":
        raise UsageError(f"@{kind} on a lambda: results are remembered by name, so give it one with name=...")
    if name is not None and (not isinstance(name, str) or not name):
        raise UsageError(f"@{kind}(name={name!r}): a name is a str with something in it")
    name = name or place
    with _mutex:
        other = _places.setdefault((kind, name), place)
        _unlearned.append(shape)
    if other != place:
        raise NameConflict(
            f"{kind} {name!r} is {other} already, and {place} claims the name too, so that their results would mix: "
            "give one of them another name="
        )
    return name


@contextlib.contextmanager
def names_given_back() -> Iterator[None]:
    """Free, at the end of a block, the names that functions defined inside other functions have claimed in it: they are gone."""
    with _mutex:
        before = set(_places)
    try:
        yield
    finally:
        with _mutex:
            for claim in [claim for claim, place in _places.items() if claim not in before and "<locals>" in place]:
                del _places[claim]


def names_of(kind: str) -> list[str]:
    """Return the names that workflows, or steps, of this process have."""
    with _mutex:
        return [name for holder, name in _places if holder == kind]


def learn_types() -> None:
    """Make the classes in the signatures of all decorated functions known to the codec.

    At the first call rather than at decoration, since annotations may name what is defined further down.
    """
    while _unlearned:
        try:
            shape = _unlearned.pop()
        except IndexError:  # another thread was faster
            return
        for annotation in shape.hints.values():
            register_annotation(annotation)


@attrs.frozen
class Returns:
    """What a function gives, by its annotation; `Any` where it does not say.

    Attributes:
        value: What it returns.
        item: What it yields.
    """

    value: Any = Any
    item: Any = Any


def returns(shape: Shape) -> Returns:
    """Read what a function gives from its return annotation."""
    annotation = shape.hints.get("return", Any)
    if not shape.is_stream:
        return Returns(value=annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    item = args[0] if args else Any
    if shape.colour is Colour.STREAM and inspect.isclass(origin) and issubclass(origin, abc.Generator):
        return Returns(value=args[2] if len(args) > 2 else Any, item=item)
    return Returns(item=item)
