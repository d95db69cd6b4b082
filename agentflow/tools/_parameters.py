"""The parameters of a function as a JSON object, which is what a model can write: its schema, and what reads it."""

from __future__ import annotations

import inspect
import re
import typing
from inspect import Parameter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired, Required

import pydantic_core
from pydantic import Field, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter
from pydantic.fields import FieldInfo

from agentflow._output import PlainSchema, object_adapter
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["describe_parameters"]

_CONTEXT: Final = re.compile(r"(\w+\.)*Context(\[.*\])?")
"""An annotation that means the context where it is only text, and its class may be unknown here."""


def describe_parameters(
    owner: str, signature: inspect.Signature, bare: Any, described: Mapping[str, str]
) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    """Return what reads the arguments of a function, and their JSON schema.

    Args:
        owner: The tool's name, for messages.
        signature: The parameters.
        bare: The plain function, whose names its annotations use.
        described: What the docstring says of each.

    Raises:
        UsageError: If a parameter has no type, cannot be described to a model, or is the context.
    """
    fields = _fields(owner, signature, bare, described)
    try:
        adapter = object_adapter(owner, fields)
        schema = adapter.json_schema(schema_generator=PlainSchema)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise UsageError(
            f"tool {owner!r} has a parameter that cannot be described to a model: {error.message}. Models write JSON: "
            f"use scalars, containers, dataclasses or pydantic models, and close over clients and connections"
        ) from error
    schema.pop("title", None)
    return adapter, schema


def _fields(owner: str, signature: inspect.Signature, bare: Any, described: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters as fields of a JSON object."""
    parameters = signature.parameters.values()
    for parameter in parameters:
        _check_parameter(owner, parameter)
    hints = _hints(owner, parameters, bare)
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if _is_context(hints[parameter.name]):
            raise _takes_context(owner, parameter.name)
        typed = _described(hints[parameter.name], described.get(parameter.name), parameter.default)
        fields[parameter.name] = Required[typed] if parameter.default is Parameter.empty else NotRequired[typed]
    return fields


def _check_parameter(owner: str, parameter: Parameter) -> None:
    """Refuse a parameter that has no type or no name of its own."""
    if parameter.name == "ctx" or _CONTEXT.fullmatch(str(parameter.annotation)):
        raise _takes_context(owner, parameter.name)
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        raise UsageError(f"tool {owner!r} takes {parameter}: a model needs named parameters, so write them out")
    if parameter.annotation is Parameter.empty:
        raise UsageError(
            f"tool {owner!r} has parameter {parameter.name!r} without a type, so nothing a model writes for it could be "
            f"checked: annotate it"
        )


def _takes_context(owner: str, parameter: str) -> UsageError:
    """Return the refusal of a parameter that a model must never fill."""
    return UsageError(
        f"tool {owner!r} takes the context as {parameter!r}, which a model cannot supply: drop the parameter and call "
        f"current_context() inside the tool"
    )


def _is_context(hint: Any) -> bool:
    """Whether a type is our context; by its name, since tools know nothing of runs."""
    cls = typing.get_origin(hint) or hint
    return getattr(cls, "__name__", "") == "Context" and str(getattr(cls, "__module__", "")).startswith("agentflow.")


def _hints(owner: str, parameters: Iterable[Parameter], bare: Any) -> dict[str, Any]:
    """Return the types of the parameters, resolved where they are text."""
    # Only the parameters: an annotation beside them (the context of a step, the result) may be for type checkers alone.
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation for parameter in parameters})
    names = getattr(inspect.unwrap(bare), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"the types of tool {owner!r} cannot be resolved ({error}): define and import them at module level, "
            f"not under TYPE_CHECKING or inside a function"
        ) from error


def _described(hint: Any, text: str | None, default: object) -> Any:
    """Return a parameter's type with what its schema should say besides."""
    told = any(isinstance(extra, FieldInfo) and extra.description for extra in getattr(hint, "__metadata__", ()))
    besides: dict[str, Any] = {} if told or not text else {"description": text}
    if default is not Parameter.empty:
        besides["json_schema_extra"] = _default_in_schema(default)
    return Annotated[hint, Field(**besides)] if besides else hint


def _default_in_schema(default: object) -> dict[str, Any]:
    """Return the default for the schema, if JSON can say it: it is for the model to read, Python fills it in."""
    try:
        return {"default": pydantic_core.to_jsonable_python(default)}
    except ValueError:
        return {}
