"""What griffe is told of attrs classes for the API reference: that their fields are the parameters of `__init__`."""

from __future__ import annotations

from typing import Any

import griffe


class Fields(griffe.Extension):
    """Gives each attrs class the `__init__` that attrs makes for it."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the `__init__` of a class that has been read."""
        maker = next((str(decorator.value) for decorator in cls.decorators if "attrs." in str(decorator.value)), "")
        if maker and "__init__" not in cls.members and "init=False" not in maker:
            init = griffe.Function(
                "__init__", parameters=griffe.Parameters(*_parameters(cls, keywords_only="kw_only=True" in maker))
            )
            init.labels.add("attrs")
            cls.set_member("__init__", init)


def _parameters(cls: griffe.Class, *, keywords_only: bool) -> list[griffe.Parameter]:
    kind = griffe.ParameterKind.keyword_only if keywords_only else griffe.ParameterKind.positional_or_keyword
    fields = [member for member in cls.members.values() if member.is_attribute and member.annotation]
    first = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    return [first, *(_parameter(field, kind) for field in fields if "ClassVar" not in str(field.annotation))]


def _parameter(field: Any, kind: griffe.ParameterKind) -> griffe.Parameter:
    value = field.value
    if str(value).startswith("attrs.field"):
        value = "..." if "default" in str(value) or "factory" in str(value) else None
    return griffe.Parameter(field.name.lstrip("_"), annotation=field.annotation, kind=kind, default=value)
