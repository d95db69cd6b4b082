"""Code as part of a key: functions, classes and type expressions, which count by name and by what they say.

A name is only good if it means one thing: a class or function made inside another function is refused, and so is
a class that another one of the same name has replaced.
"""

from __future__ import annotations

__all__ = [
    "CODE",
    "check",
    "class_name",
    "contents",
    "inherits",
    "is_expression",
    "lineage",
    "loaded",
    "named",
    "type_shape",
]

import dataclasses
import functools
import inspect
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from agentflow._canonical import is_enum, module_name, qualified_name
from agentflow._fingerprint import function_digest
from agentflow._key_walk import Loose, Order, Refused, Shape, type_name, type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agentflow._key_walk import Kind

# --- names ---

lineage: Final[Any] = type.__dict__["__mro__"].__get__
"""The classes that a class is made of, by `type` itself: a metaclass may answer `__mro__` as it likes."""

contents: Final[Any] = type.__dict__["__dict__"].__get__
"""What a class itself defines, by `type` itself."""


def inherits(cls: type, base: object) -> bool:
    """Say whether `base` is among the classes that `cls` is made of; virtual subclasses do not count."""
    return any(each is base for each in lineage(cls))


def loaded(module: str, name: str) -> Any:
    """Return an attribute of a module that the program has loaded, else None; nothing is imported."""
    return getattr(sys.modules.get(module), name, None)


def named(cls: type) -> str:
    """Return the name that stands for a class.

    Raises:
        Refused: If it does not stand for this class alone.
    """
    check(cls)
    return qualified_name(cls)


def check(cls: Any) -> None:
    """Refuse a class whose name does not stand for it alone."""
    module, name = cls.__module__, cls.__qualname__
    if type(module) is not str or "<locals>" in name:
        raise Refused(
            type_name(cls), "its class is made inside a function, and may be another one next time; move it out"
        )
    current = _at(module, name)
    if current is not cls and isinstance(current, type):
        raise Refused(type_name(cls), "its class has been replaced by another one of that name; make the value anew")


def _at(module: str, qualname: str) -> object:
    """Return what a module holds under a dotted name, without running any code of it."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", _NOTHING).get(part)
    return found.__func__ if type(found) is staticmethod else found


_NOTHING: Final[Mapping[str, object]] = {}


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- functions ---


def _function(fn: types.FunctionType) -> Shape:
    """A function at the top of a module or class: its name and its code."""
    if fn.__name__ == "<lambda>":
        raise Refused(type_of(fn), "a lambda has no name; use a function defined with def at the top of a module")
    inner = "<locals>" in fn.__qualname__ or fn.__closure__ is not None
    if inner and _at(fn.__module__, fn.__qualname__) is not fn:
        raise Refused(type_of(fn), "a function made inside another one depends on it; define it at the top of a module")
    return Shape(b"function", (function_digest(fn),), _text(qualified_name(fn)))


def _builtin(fn: Any) -> Shape:
    """A function written in C: its name, and the module or class that it belongs to."""
    owner = fn.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return Shape(b"builtin", (fn.__module__, fn.__qualname__))
    if isinstance(owner, type):
        return Shape(b"builtin", (owner, fn.__qualname__))
    raise Refused(type_of(fn), "a bound method is a function and an object; pass the object")


def _descriptor(fn: Any) -> Shape:
    return Shape(b"descriptor", (fn.__objclass__, fn.__name__))


def _partial(value: functools.partial[Any]) -> Shape:
    return Shape(b"partial", (value.func, value.args, value.keywords, vars(value)), label=_partial_label)


def _partial_label(_: Shape, index: int) -> str:
    return (".func", ".args", ".keywords", ".__dict__")[index]


def _cached(value: Any) -> Shape:
    return Shape(b"cached", (value.__wrapped__,))


# --- type expressions ---

_EXPRESSIONS: Final = tuple(
    map(
        type,
        (
            list[int],
            int | None,
            typing.Union[list[int], str],
            typing.List,  # noqa: UP006 - the old spellings have types of their own
            typing.List[int],  # noqa: UP006
            typing.Tuple,  # noqa: UP006
            typing.Callable,
            typing.Callable[[int], int],
            typing.Literal[1],
            typing.Annotated[int, 1],
            typing.Union,
            typing.Literal,
            typing.NoReturn,
            typing.ForwardRef("int"),
            typing.NewType("_", int),
            typing.TypeVar("_"),
            typing.ParamSpec("_P"),
        ),
    )
)


def is_expression(cls: type) -> bool:
    """Say whether the instances of `cls` are type expressions, such as `list[int]` or `int | None`."""
    return any(inherits(cls, each) for each in _EXPRESSIONS) or cls is loaded("typing", "TypeAliasType")


@attrs.frozen
class _Reader:
    """Reads type expressions into values that can be keyed, in which classes count by name.

    Attributes:
        strict: Whether what has no name of its own is refused.
        classes: The classes and type aliases met so far.
    """

    strict: bool
    classes: list[Any] = attrs.Factory(list[Any])

    def read(self, expression: object) -> object:
        """Return what an expression says."""
        origin, arguments = typing.get_origin(expression), typing.get_args(expression)
        if type(expression) is list:  # the parameters of a Callable
            return ("parameters", *map(self.read, cast("list[object]", expression)))
        if origin is None:
            return self._class(expression) if isinstance(expression, type) else self._atom(expression)
        if origin is typing.Literal:
            return ("literal", *arguments)
        if origin is typing.Annotated:
            return ("annotated", self.read(arguments[0]), *map(self._note, arguments[1:]))
        if origin is typing.Union or origin is types.UnionType:  # two spellings that compare equal
            return ("union", *map(self.read, arguments))
        spelling = "builtin" if isinstance(expression, types.GenericAlias) else "typing"
        return ("generic", spelling, self.read(origin), *map(self.read, arguments))

    def _meet(self, cls: object) -> None:
        """Note that the schema of a class counts."""
        if not any(cls is each for each in self.classes):
            self.classes.append(cls)

    def _class(self, cls: type) -> object:
        """A class by name, and a parametrised pydantic model by its origin and parameters: its own name is cut short."""
        self._meet(cls)
        generic: Any = contents(cls).get("__pydantic_generic_metadata__") or {}
        if generic.get("origin") is not None:
            return ("model", self.read(generic["origin"]), *map(self.read, generic["args"]))
        return ("class", named(cls) if self.strict else qualified_name(cls))

    def _atom(self, expression: object) -> object:
        """A part that is neither a class nor made of others."""
        if expression is None or expression is Ellipsis or isinstance(expression, str):
            return ("atom", expression)
        if isinstance(expression, typing.ForwardRef):
            return ("forward", expression.__forward_arg__)
        if type(expression) is loaded("typing", "TypeAliasType"):
            self._meet(expression)
        name = getattr(expression, "__name__", None) or getattr(expression, "_name", None)
        if is_expression(type(expression)) and isinstance(name, str):
            return ("name", f"{module_name(expression.__module__)}:{name}")
        return self._note(expression)

    def _note(self, note: object) -> object:
        """What `Annotated` and field declarations add to a type."""
        if inherits(type(note), loaded("pydantic.fields", "FieldInfo")):
            return self.field(note)
        if type(note).__module__.startswith("pydantic.") and hasattr(note, "__dict__"):
            return (type_of(note), Loose(vars(note)))
        return note if self.strict else Loose(note)

    def field(self, info: Any) -> object:
        """Return what the declaration of a pydantic field says."""
        said = {name: Loose(each) for name in _FIELD_INFO if (each := getattr(info, name, None)) is not None}
        return ("field", self.read(info.annotation), [*map(self._note, info.metadata)], said)


_FIELD_INFO: Final = (
    "default",
    "default_factory",
    "alias",
    "validation_alias",
    "serialization_alias",
    "title",
    "description",
    "examples",
    "exclude",
    "discriminator",
    "json_schema_extra",
)


# --- classes ---


def class_name(cls: type) -> object:
    """Return what stands for a class, as a value that can be keyed; see `named`."""
    return _Reader(strict=True).read(cls)


def type_shape(expression: Any) -> Shape:
    """A class or type expression: its name, and the schemas of all models, dataclasses and enums that it reaches."""
    asked = _Reader(strict=True)
    said: list[object] = [("expression", asked.read(expression))]
    reader = _Reader(strict=False, classes=asked.classes)
    for cls in reader.classes:  # it grows while we read
        schema = _schema(cls, reader)
        if schema is not None:
            said.append(("schema", _spelled(cls), schema))
    return Shape(b"type", said, order=Order.FREE, label=_no_way)


def _spelled(cls: Any) -> str:
    return f"{module_name(cls.__module__)}:{getattr(cls, '__qualname__', cls.__name__)}"


def _no_way(_: Shape, __: int) -> str:
    return ""


def _schema(cls: Any, reader: _Reader) -> object:
    """Return what a class says about its instances; None if it is not of a kind that says it."""
    if not isinstance(cls, type):
        return ("alias", reader.read(cls.__value__))
    if inherits(cls, loaded("pydantic.main", "BaseModel")):
        return _model_schema(cls, reader)
    if is_enum(cls):
        members: Any = cls.__dict__["_member_map_"]
        return ("enum", {name: Loose(each._value_) for name, each in members.items()})
    if typing.is_typeddict(cls):
        said = {name: reader.read(each) for name, each in cls.__annotations__.items()}
        return ("typeddict", said, cls.__dict__["__required_keys__"])
    listed = declared(cls)
    if listed is None:
        return None
    return ("fields", {each.name: (reader.read(each.type), Loose(each.default)) for each in listed})


def _model_schema(cls: Any, reader: _Reader) -> object:
    described = inspect.cleandoc(contents(cls).get("__doc__") or "")  # it is part of the JSON schema
    return ("model", described, Loose(cls.model_config), {k: reader.field(v) for k, v in cls.model_fields.items()})


def declared(cls: Any) -> Iterable[Any] | None:
    """Return the fields of a dataclass or attrs class."""
    for base in lineage(cls):
        if "__attrs_attrs__" in contents(base):
            return tuple(base.__attrs_attrs__)
        if "__dataclass_fields__" in contents(base):
            return dataclasses.fields(base)
    return None


CODE: Final[Mapping[type, Kind]] = {
    types.FunctionType: _function,
    types.BuiltinFunctionType: _builtin,
    types.MethodDescriptorType: _descriptor,
    types.WrapperDescriptorType: _descriptor,
    types.ClassMethodDescriptorType: _descriptor,
    functools.partial: _partial,
    type(functools.lru_cache(_text)): _cached,
}
"""Kinds of callables by exact type; classes and type expressions have many, and are found by `_key_objects`."""
