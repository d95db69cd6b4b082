"""JSON schemas in the strict form that OpenAI's structured outputs can enforce.

There every property is required (one that may be left out is nullable instead), no object takes further properties,
and many keywords do not exist. What only narrows a value goes into its description: the answer is validated anyway.
A schema that says more than the strict form can say has no such form.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentflow.messages import OutputSchema

__all__ = ["named_form", "strict_schema"]

_Schema = dict[str, Any]

_KEPT: Final = ("title", "description", "type", "enum", "const")
_DESCRIBED: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "default", "examples"),
)
_INEXPRESSIBLE: Final = frozenset(
    {"prefixItems", "patternProperties", "propertyNames", "dependentSchemas", "contains", "not", "if", "$dynamicRef"}
)


class _NotStrict(Exception):  # noqa: N818 - an answer between two functions, never seen outside
    """The schema has no strict form."""


def named_form(output: OutputSchema) -> _Schema:
    """Return the form of an answer as OpenAI's formats have it: enforced where the schema has a strict form."""
    strict = strict_schema(output.json_schema) if output.strict else None
    return {
        "name": re.sub(r"[^a-zA-Z0-9_-]", "_", output.name)[:64] or "output",
        "schema": output.json_schema if strict is None else strict,
        "strict": strict is not None,
    }


def strict_schema(schema: Mapping[str, Any]) -> _Schema | None:
    """Return the strict form of a JSON schema, or None if it has none.

    Free-form dicts, tuples, `Any` and everything that contains them have none, nor has a schema that is no object.
    """
    try:
        strict = _strict(_with_root_in_place(schema))
        definitions = {name: _strict(definition) for name, definition in schema.get("$defs", {}).items()}
    except _NotStrict:
        return None
    if strict.get("type") != "object":
        return None
    return {**strict, "$defs": definitions} if definitions else strict


def _with_root_in_place(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with a reference at its root resolved, which pydantic writes for recursive models."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    root: Mapping[str, Any] = schema.get("$defs", {}).get(name, schema)
    return root


def _is_object(schema: object) -> TypeGuard[_Schema]:
    """Tell a schema with keywords from `true`, `false` and what is missing."""
    return isinstance(schema, dict)


def _strict(schema: object) -> _Schema:
    """Return the strict form of one (sub)schema."""
    if not _is_object(schema) or not _INEXPRESSIBLE.isdisjoint(schema):
        raise _NotStrict
    strict: _Schema = {key: schema[key] for key in _KEPT if key in schema}
    if notes := _notes(schema):
        strict["description"] = f"{schema.get('description', '')} ({notes})".strip()
    structure = _structure(schema)
    if not structure and not {"type", "enum", "const"} & strict.keys():
        raise _NotStrict
    return strict | structure


def _structure(schema: _Schema) -> _Schema:
    """Return what a schema says about its parts, in strict form."""
    if "$ref" in schema:
        return _reference(schema)
    if choices := [schema[key] for key in ("anyOf", "oneOf", "allOf") if key in schema]:
        return _choice(schema, choices)
    kinds = _kinds(schema)
    structure: _Schema = {}
    if "object" in kinds:
        structure |= _object(schema)
    if "array" in kinds:
        structure["items"] = _strict(schema.get("items"))
    return structure


def _kinds(schema: _Schema) -> set[str]:
    """Return the JSON types that a schema names."""
    kinds = schema.get("type", ())
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _reference(schema: _Schema) -> _Schema:
    """Return a reference; it stands alone in strict form, so one with a description becomes a choice of one."""
    if not str(schema["$ref"]).startswith("#/$defs/"):
        raise _NotStrict
    target = {"$ref": schema["$ref"]}
    return {"anyOf": [target]} if {"title", *_DESCRIBED, "description"} & schema.keys() else target


def _choice(schema: _Schema, choices: list[list[object]]) -> _Schema:
    """Return a choice between schemas; a union told apart by a discriminator is an ordinary one here."""
    alternatives = choices[0]
    if len(choices) > 1 or "properties" in schema or ("allOf" in schema and len(alternatives) > 1):
        raise _NotStrict
    return {"anyOf": [_strict(alternative) for alternative in alternatives]}


def _object(schema: _Schema) -> _Schema:
    """Return the properties of an object, all of them required and no others allowed."""
    if "properties" not in schema or schema.get("additionalProperties", False) is not False:
        raise _NotStrict
    properties = {name: _strict(value) for name, value in schema["properties"].items()}
    return {"properties": properties, "required": list(properties), "additionalProperties": False}


def _notes(schema: _Schema) -> str:
    """Return what the strict form cannot say about a value, as words."""
    said = {key: schema[key] for key in _DESCRIBED if schema.get(key) is not None}
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in said.items())
