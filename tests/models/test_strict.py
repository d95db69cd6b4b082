"""JSON schemas in strict form, and which have none."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agentflow.models._strict import strict_schema


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Circle(BaseModel):
    """Round."""

    kind: Literal["circle"]
    radius: float = Field(gt=0, description="in metres")


class Square(BaseModel):
    kind: Literal["square"]
    side: int | None = None


class Node(BaseModel):
    name: str = "root"
    parent: Node | None = Field(default=None, description="above")
    children: list[Node] = []


class Drawing(BaseModel):
    shapes: list[Annotated[Circle | Square, Field(discriminator="kind")]]
    color: Color = Color.RED
    made: dt.date
    price: Decimal
    tree: Node


class Empty(BaseModel):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int


class Holds(BaseModel):
    value: dict[str, int]


class Anything(BaseModel):
    value: Any


class Pair(BaseModel):
    value: tuple[int, str]


KNOWN = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "title",
    "description",
}


def subschemas(schema):
    """Every schema inside a schema, itself first."""
    yield schema
    for part in (schema.get("properties", {}), schema.get("$defs", {})):
        for value in part.values():
            yield from subschemas(value)
    for value in [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from subschemas(value)


@pytest.mark.parametrize("kind", [Drawing, Node, Square, Empty, Closed])
def test_the_strict_form_follows_the_rules(kind):
    """All fields are required, no others allowed, no keyword is unknown, and references stand alone and lead somewhere."""
    strict = strict_schema(kind.model_json_schema())

    assert strict["type"] == "object"
    for part in subschemas(strict):
        assert set(part) <= KNOWN
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
        if "$ref" in part:
            assert set(part) == {"$ref"}
            assert part["$ref"].removeprefix("#/$defs/") in strict["$defs"]


def test_what_is_optional_is_nullable_not_absent():
    """A field that may be None is required, with null among its types."""
    strict = strict_schema(Square.model_json_schema())

    assert strict["required"] == ["kind", "side"]
    assert strict["properties"]["side"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]


def test_what_strict_cannot_say_is_told_to_the_model():
    """A limit, a format and a default become part of the description."""
    radius = strict_schema(Circle.model_json_schema())["properties"]["radius"]
    name = strict_schema(Node.model_json_schema())["properties"]["name"]

    assert radius == {"title": "Radius", "type": "number", "description": "in metres (exclusiveMinimum: 0)"}
    assert name["description"] == '(default: "root")'


def test_a_union_told_apart_by_a_field_is_a_plain_one():
    """`oneOf` with a discriminator is not known; `anyOf` is."""
    items = strict_schema(Drawing.model_json_schema())["properties"]["shapes"]["items"]

    assert items == {"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}]}


def test_a_reference_with_a_default_keeps_to_itself():
    """Nothing may stand beside `$ref`."""
    color = strict_schema(Drawing.model_json_schema())["properties"]["color"]

    assert color == {"anyOf": [{"$ref": "#/$defs/Color"}], "description": '(default: "red")'}


def test_a_recursive_model_has_an_object_at_its_root():
    """pydantic writes a reference there."""
    schema = Node.model_json_schema()

    strict = strict_schema(schema)

    assert "$ref" in schema
    assert strict["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize(
    "kind",
    [dict[str, int], dict, Open, Holds, list[Holds], Anything, Pair, Any, list[int], int, Circle | Square, Any | None],
)
def test_free_form_has_no_strict_form(kind):
    """What may hold anything, and what is no object, is sent as it is."""
    assert strict_schema(TypeAdapter(kind).json_schema()) is None


@pytest.mark.parametrize(
    "part",
    [
        True,
        {},
        {"$ref": "other.json"},
        {"allOf": [{"type": "integer"}, {"minimum": 1}]},
        {"allOf": [{"type": "integer"}, {"type": "number"}]},
        {"anyOf": [{"type": "integer"}], "oneOf": [{"type": "string"}]},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
        {"type": ["object", "null"]},
        {"type": "object", "properties": {}, "patternProperties": {"x": {}}},
        {"type": "integer", "not": {"const": 3}},
        {"description": "anything"},
    ],
)
def test_a_part_without_strict_form_spoils_the_whole(part):
    """Also deep inside, and among the definitions."""
    whole = {"type": "object", "properties": {"list": {"type": "array", "items": part}}}
    defined = {"type": "object", "properties": {}, "$defs": {"Part": part}}

    assert strict_schema(whole) is None
    assert strict_schema(defined) is None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"enum": [1, "a"]}, {"enum": [1, "a"]}),
        ({"const": None}, {"const": None}),
        ({"allOf": [{"type": "integer"}]}, {"anyOf": [{"type": "integer"}]}),
        ({"type": "string", "deprecated": True, "default": None}, {"type": "string"}),
    ],
)
def test_these_parts_have_a_strict_form(part, expected):
    """The rest of what generators write."""
    strict = strict_schema({"type": "object", "properties": {"part": part}})

    assert strict["properties"]["part"] == expected


def test_the_schema_itself_is_not_changed():
    """It is the agent's, and may be shared."""
    schema = Drawing.model_json_schema()

    strict_schema(schema)

    assert schema == Drawing.model_json_schema()
