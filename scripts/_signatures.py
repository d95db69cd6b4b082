"""What griffe cannot see when it reads the package for the API reference: parameters that are fields, and decorators that are cast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe


class Signatures(griffe.Extension):
    """Gives a signature to attrs classes, to models, and to what is a function but was cast to a protocol."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the `__init__` that attrs or pydantic makes for a class."""
        maker = _maker(cls)
        if maker and "__init__" not in cls.members and "init=False" not in maker:
            kind = griffe.ParameterKind.positional_or_keyword
            if maker == "pydantic" or "kw_only=True" in maker:
                kind = griffe.ParameterKind.keyword_only
            fields = [_parameter(field, kind) for field in _fields(cls).values()]
            own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
            cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(own, *fields)))

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        """Show `name: Final = cast("Protocol", function)` as the function, with the widest of the protocol's signatures."""
        for name, attribute in [(name, each) for name, each in mod.members.items() if _is_attribute(each)]:
            cast = re.match(r"""cast\(["'](\w+)["'], (\w+)\)$""", str(attribute.value))
            if cast and cast[1] in mod.members:
                *_, widest = mod.members[cast[1]].overloads["__call__"]
                widest.parameters = griffe.Parameters(*(each for each in widest.parameters if each.name != "self"))
                widest.name, widest.returns = name, None
                bare = mod.members[cast[2]]
                shown = griffe.Function(name, parameters=bare.parameters, docstring=bare.docstring)
                shown.overloads = [widest]
                mod.set_member(name, shown)


def _maker(cls: griffe.Class) -> str:
    """Return what makes the class's `__init__`: the decorator of attrs, or pydantic; nothing, if it does so itself."""
    decorator = next((str(each.value) for each in cls.decorators if "attrs." in str(each.value)), "")
    return decorator or (
        "pydantic" if any(str(base) == "BaseModel" for each in _line(cls) for base in each.bases) else ""
    )


def _line(cls: griffe.Class) -> Iterator[griffe.Class]:
    """Yield a class's bases of the same module, and then the class."""
    for base in cls.bases:
        found = cls.module.members.get(str(base))
        if found and not found.is_alias:
            yield from _line(found)
    yield cls


def _fields(cls: griffe.Class) -> dict[str, griffe.Attribute]:
    members = (member for each in _line(cls) for member in each.members.values())
    return {
        member.name: member
        for member in members
        if _is_attribute(member) and member.annotation and "ClassVar" not in str(member.annotation)
    }


def _is_attribute(member: griffe.Object | griffe.Alias) -> bool:
    return not member.is_alias and member.is_attribute


def _parameter(field: griffe.Attribute, kind: griffe.ParameterKind) -> griffe.Parameter:
    value: Any = field.value
    if str(value).startswith("attrs.field("):
        plain = re.search(r"\bdefault=([\w.'-]+)[,)]", str(value))
        value = plain[1] if plain else "..." if "default" in str(value) or "factory" in str(value) else None
    return griffe.Parameter(field.name.lstrip("_"), annotation=field.annotation, kind=kind, default=value)
