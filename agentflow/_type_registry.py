"""Which classes a stored value may name, and how it names them.

Data never decides what is imported or looked up: a name found in a stored value only chooses among
the classes that a declared annotation reaches, their subclasses that exist in this process, and the
classes that were registered. How instances are stored is not known here.
"""

from __future__ import annotations

import inspect
import re
import sys
import threading
import typing
from enum import Enum
from types import GenericAlias, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Final, ForwardRef, Literal, TypeGuard, TypeVar, Union, cast

from pydantic import BaseModel

from agentflow._canonical import module_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "KnownTypes",
    "class_name",
    "describe",
    "field_types",
    "is_class",
    "reachable",
    "real_module",
    "register",
    "settled",
]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class _Registry:
    """The registered classes by name, in a dict that is replaced and never changed."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}
        self._lock = threading.Lock()

    def add(self, classes: Iterable[type]) -> None:
        with self._lock:
            self.classes = {**self.classes, **{class_name(cls): cls for cls in classes}}


_REGISTRY: Final = _Registry()


def register(classes: Iterable[type]) -> None:
    """Make classes known to every codec; one that is defined again replaces the older one."""
    _REGISTRY.add(classes)


def is_class(annotation: object) -> TypeGuard[type]:
    """Say whether an annotation is a class, where `list[int]` is none."""
    return isinstance(annotation, type) and not isinstance(annotation, GenericAlias)


def real_module(obj: object) -> str:
    """Return the name by which a class's or function's module can be imported; a script has the name of its file."""
    return module_name(getattr(obj, "__module__", None) or "builtins")


def class_name(cls: type) -> str:
    """Return the name under which a class stands in stored values: `module:qualname`."""
    generic: Any = cls.__dict__.get("__pydantic_generic_metadata__") or {}
    if origin := generic.get("origin"):
        # The qualified name of `Box[Item]` does not say which Item, so it is composed again.
        return f"{class_name(origin)}[{_described(generic['args'], ())}]"
    return f"{real_module(cls)}:{cls.__qualname__}"


def describe(annotation: Any, _inside: tuple[object, ...] = ()) -> str:
    """Return an annotation as text that is the same in every process.

    A `TypedDict` is described with its keys, since its instances are plain dicts that carry no class.
    """
    required = getattr(annotation, "__required_keys__", None)  # of typing's TypedDict and of its backport
    if required is not None and annotation not in _inside:
        kinds, inside = field_types(annotation), (*_inside, annotation)
        keys = (f"{key}{'' if key in required else '?'}:{describe(kinds[key], inside)}" for key in sorted(kinds))
        return f"{class_name(annotation)}{{{','.join(keys)}}}"
    if is_class(annotation):
        return class_name(annotation)
    if isinstance(annotation, str | ForwardRef):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    return _describe_alias(annotation, _inside)


def _describe_alias(annotation: Any, inside: tuple[object, ...]) -> str:
    """Describe what is no class: a union, a generic alias, a literal, a `NewType`, a type variable."""
    if isinstance(annotation, list | tuple):
        return f"({_described(annotation, inside)})"
    origin = typing.get_origin(annotation)
    if origin in {None, Literal}:
        return settled(annotation)
    if origin in {Union, UnionType}:
        return f"({_described(typing.get_args(annotation), inside, '|')})"
    if metadata := getattr(annotation, "__metadata__", ()):
        return f"{describe(annotation.__origin__, inside)}{settled(metadata)}"
    return f"{describe(origin, inside)}[{_described(typing.get_args(annotation), inside)}]"


def settled(value: object) -> str:
    """Return the `repr` of a value without the addresses in it, which differ in every process."""
    return _ADDRESS.sub("", repr(value))


def _described(annotations: Sequence[object], inside: tuple[object, ...], separator: str = ",") -> str:
    return separator.join(describe(part, inside) for part in annotations)


def field_types(cls: type) -> dict[str, Any]:
    """Return the annotations of a class and its bases, each resolved if its names can be found, else as text."""
    if issubclass(cls, BaseModel):
        cls.model_rebuild(raise_errors=False)
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is not BaseModel:
            found.update({name: _resolve(base, kind) for name, kind in inspect.get_annotations(base).items()})
    if issubclass(cls, BaseModel):
        # pydantic has seen the namespace of the function around a local class, and replaced type variables.
        found.update({name: field.annotation for name, field in cls.model_fields.items()})
    return found


def _resolve(owner: type, annotation: object) -> object:
    """Resolve the names of one annotation, so that one that cannot be found does not hide the others."""
    spaces = vars(sys.modules.get(owner.__module__, owner)), dict(vars(owner))
    one = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(one, *spaces, include_extras=True)["it"]
    except (AttributeError, NameError, SyntaxError, TypeError):
        return annotation


def reachable(annotation: object) -> tuple[type, ...]:
    """Return every class that an annotation names, itself or in the fields of those it names."""
    found: dict[type, None] = {}
    seen: dict[int, object] = {}
    waiting = [annotation]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part  # kept, so that no other part takes its id
        if is_class(part):
            found[part] = None
        waiting.extend(_parts(part))
    return tuple(found)


def _parts(annotation: Any) -> Iterator[object]:
    """Yield the annotations directly inside one annotation."""
    if is_class(annotation):
        if not _belongs_to_python(annotation):
            yield from field_types(annotation).values()
    elif isinstance(annotation, list | tuple):
        yield from annotation
    elif typing.get_origin(annotation) is Literal:
        yield from (type(value) for value in typing.get_args(annotation) if isinstance(value, Enum))
    else:
        yield from _parts_of_alias(annotation)


def _parts_of_alias(annotation: Any) -> Iterator[object]:
    """Yield what an alias, a `NewType` or a type variable stands for, and its arguments."""
    if isinstance(annotation, TypeVar):
        yield from (annotation.__bound__, *annotation.__constraints__)
    elif hasattr(annotation, "__metadata__"):
        yield annotation.__origin__
    else:
        yield from (getattr(annotation, "__supertype__", None), getattr(annotation, "__value__", None))
        yield from (typing.get_origin(annotation), *typing.get_args(annotation))


def _belongs_to_python(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in sys.stdlib_module_names


class KnownTypes:
    """The classes that values of one annotation may name.

    Args:
        annotation: What the values are declared to be; `Any` for nothing but registered classes.
    """

    def __init__(self, annotation: object) -> None:
        self._annotation = annotation
        self._declared: tuple[type, ...] | None = None
        self._found: dict[str, type] = {}
        self._registered = _REGISTRY.classes

    def find(self, name: str) -> type | None:
        """Return the known class of that name, or None."""
        if self._registered is not _REGISTRY.classes:
            self._found, self._registered = {}, _REGISTRY.classes
        found = self._found.get(name)
        if found is None or _current(found) is not found:
            found = self._search(name)
            # A class inside a function is another one in every call, and no module says which is the last.
            if found is not None and "<locals>" not in name:
                self._found[name] = found
        return found

    def _search(self, name: str) -> type | None:
        registered = self._registered.values()
        known = (*_descendants(registered), *registered, *_descendants(self.declared), *self.declared)
        # The last one: the annotation goes first, and a class that was defined again comes after the one it replaced.
        found = next((cls for cls in reversed(known) if class_name(cls) == name), None)
        return None if found is None else _current(found)

    @property
    def declared(self) -> tuple[type, ...]:
        """The classes of the annotation; found at the first use, when names further down the file exist too."""
        if self._declared is None:
            self._declared = reachable(self._annotation)
        return self._declared


def _descendants(classes: Iterable[type]) -> Iterable[type]:
    """Return the subclasses of classes, except of Python's own, which are everybody's."""
    found: dict[type, None] = {}
    waiting: list[type] = [cls for cls in classes if not _belongs_to_python(cls)]
    while waiting:
        children: list[type] = type.__subclasses__(waiting.pop())
        waiting.extend(child for child in children if child not in found)
        found.update(dict.fromkeys(children))
    return found


def _current(cls: type) -> type:
    """Return the class that stands where `cls` was defined: a cell or a module may have run again since."""
    found: Any = sys.modules.get(cls.__module__)
    names: dict[str, object] = getattr(found, "__dict__", {})
    if names.get(cls.__name__) is cls:
        return cls  # by far the most frequent case, and asked for at every value
    for part in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    same = is_class(found) and (found.__module__, found.__qualname__) == (cls.__module__, cls.__qualname__)
    return cast("type[object]", found) if same else cls
