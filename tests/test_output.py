"""Output types: the schema for the model, the value for the user, and its beginnings."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from agentflow._output import Output, problems
from agentflow.exceptions import UsageError
from agentflow.types import UNSET

if TYPE_CHECKING:
    from collections.abc import Iterator


class Article(BaseModel):
    title: str
    url: str


class SearchResults(BaseModel):
    articles: list[Article]


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    on: date
    tags: set[str] = set()


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    left: int
    right: int


def output(output_type: Any) -> Output[Any]:
    return Output[Any].of(output_type)


def json_schema(output_type: Any) -> dict[str, Any]:
    found = output(output_type).schema
    assert found is not None
    return found.json_schema


# --- schema


def test_text_has_no_schema_and_is_taken_as_it_is() -> None:
    """`str` is the answer itself, also where it looks like JSON or is fenced."""
    text = '```json\n{"a": 1}\n```'

    assert output(str).schema is None
    assert output(str).read(text) == text


@pytest.mark.parametrize("output_type", [Article, SearchResults, Tree, Point, Movie, dict[str, int]])
def test_an_object_is_asked_for_as_it_is(output_type: Any) -> None:
    """The root of the schema says itself that it is an object, also of a recursive type."""
    schema = json_schema(output_type)

    assert schema["type"] == "object"
    assert "$ref" not in schema
    assert "answer" not in schema.get("properties", {})


@pytest.mark.parametrize(
    "output_type",
    [
        int,
        bool,
        None,
        list[Article],
        Article | Point,
        Article | None,
        Literal["a", "b"],
        Annotated[str, Field(min_length=3)],
        Pair,
        tuple[int, str],
        date,
    ],
)
def test_what_is_no_object_is_wrapped_in_one(output_type: Any) -> None:
    """Providers want an object at the root, so there is one with the single field `answer`."""
    schema = json_schema(output_type)

    assert schema["type"] == "object"
    assert list(schema["properties"]) == schema["required"] == ["answer"]
    assert schema["additionalProperties"] is False


def test_definitions_of_a_wrapped_type_stay_reachable() -> None:
    """References point to definitions at the root of the schema."""
    schema = json_schema(list[Tree])

    assert schema["properties"]["answer"]["items"] == {"$ref": "#/$defs/Tree"}
    assert "Tree" in schema["$defs"]


def test_fields_have_no_titles() -> None:
    """A title that only repeats the field's name is not paid for in every request."""
    schema = json_schema(SearchResults)

    assert "title" not in json.dumps(schema["properties"])
    assert schema["$defs"]["Article"]["properties"]["title"] == {"type": "string"}


@pytest.mark.parametrize(
    ("output_type", "name"),
    [(Article, "Article"), (list[int], "list_int"), (int | None, "int_None"), (Literal["ä", "é"], "typing_Literal")],
)
def test_the_schema_has_a_name_that_providers_accept(output_type: Any, name: str) -> None:
    """It has letters, digits, '_' and '-', at most 64."""
    found = output(output_type).schema

    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("output_type", [type(threading.Lock()), "Nowhere", list["Nowhere"]])  # noqa: F821 - meant
def test_what_pydantic_cannot_describe_is_refused(output_type: Any) -> None:
    """The message says which type, why, and what to use instead."""
    with pytest.raises(UsageError, match="(?s)output_type=.* cannot be described to a model: .*Use a pydantic model"):
        output(output_type)


# --- value


@pytest.mark.parametrize(
    ("output_type", "text", "value"),
    [
        (Article, '{"title": "a", "url": "b"}', Article(title="a", url="b")),
        (Article, '```json\n{"title": "a", "url": "b"}\n```', Article(title="a", url="b")),
        (Article, '\n```\n{"title": "``` is a fence", "url": "b"}\n```\n', Article(title="``` is a fence", url="b")),
        (Article, '{"title": "a", "url": "ends in ```"}', Article(title="a", url="ends in ```")),
        (Point, '{"x": 1}', Point(1)),
        (Movie, '{"title": "a"}', {"title": "a"}),
        (Strict, '{"on": "2026-01-02", "tags": ["a"]}', Strict(on=date(2026, 1, 2), tags={"a"})),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (list[Article], '{"answer": [{"title": "a", "url": "b"}]}', [Article(title="a", url="b")]),
        (Article | Point, '{"answer": {"x": 1}}', Point(1)),
        (int | None, '{"answer": null}', None),
        (bool, '{"answer": false}', False),
        (Pair, '{"answer": [1, 2]}', Pair(1, 2)),
        (tuple[int, str], '{"answer": [1, "b"]}', (1, "b")),
        (Annotated[str, Field(min_length=3)], '{"answer": "abc"}', "abc"),
    ],
)
def test_an_answer_becomes_a_value_of_the_type(output_type: Any, text: str, value: object) -> None:
    """The value is of the very type that was asked for."""
    read = output(output_type).read(text)

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("output_type", "text"),
    [
        (Article, "I could not find any."),
        (Article, '{"title": "a"}'),
        (Article, '"text"'),
        (Annotated[str, Field(min_length=3)], '{"answer": "a"}'),
        (Annotated[str, Field(min_length=3)], "long enough"),
        (list[int], '{"answer": [1], "more": 1}'),
        (list[int], '[1, "x"]'),
        (int, ""),
        (int, "[" * 100_000),
        (Article, '{"title": "\ud800", "url": "b"}'),
    ],
)
def test_what_is_no_value_of_the_type_never_passes(output_type: Any, text: str) -> None:
    """Prose, missing fields and values without their wrapper are errors, never a str in place of a model."""
    with pytest.raises(ValidationError):
        output(output_type).read(text)


def test_problems_say_where_and_what_but_not_the_value() -> None:
    """The model is told places and reasons, one line each."""
    with pytest.raises(ValidationError) as caught:
        output(SearchResults).read('{"articles": [{"title": "secret", "url": 7}, {"title": 1}]}')

    assert problems(caught.value) == (
        "- articles.0.url: Input should be a valid string\n"
        "- articles.1.title: Input should be a valid string\n"
        "- articles.1.url: Field required"
    )


def test_many_problems_are_cut() -> None:
    """A long wrong list does not become a long message."""
    with pytest.raises(ValidationError) as caught:
        output(list[int]).read(json.dumps({"answer": ["x"] * 1000}))

    assert problems(caught.value).count("\n") == 20
    assert problems(caught.value).endswith("- and 980 more")


@pytest.mark.parametrize(
    ("output_type", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (Article | Point, '{"x": 1}', Point(1)),
        (int, "```\n7\n```", 7),
        (str | int, '"7"', "7"),
    ],
)
def test_a_value_without_its_wrapper_is_as_good(output_type: Any, text: str, value: object) -> None:
    """Models that write the value itself are understood, as is the plain value in a script."""
    assert output(output_type).read(text) == value


# --- partials


def beginnings(output_type: Any, text: str) -> Iterator[Any]:
    """Yield each partial value of a text that comes character by character, less repetitions."""
    last: Any = UNSET
    for end in range(1, len(text) + 1):
        value = output(output_type).partial(text[:end])
        if value is not UNSET and value != last:
            last = value
            yield value


def test_partial_text_is_the_text() -> None:
    """Text is valid as far as it is written."""
    assert list(beginnings(str, "cat")) == ["c", "ca", "cat"]


def test_a_model_appears_when_its_required_fields_have_begun() -> None:
    """Strings grow; nothing is made up for what is missing."""
    found = list(beginnings(Article, '{"title": "ab", "url": "cd"}'))

    assert found == [Article(title="ab", url=""), Article(title="ab", url="c"), Article(title="ab", url="cd")]


def test_a_list_grows_by_valid_items() -> None:
    """An item that is not valid yet is left out, and the ones before it are already there."""
    found = list(beginnings(SearchResults, '{"articles": [{"title": "a", "url": "b"}, {"title": "c", "url": "d"}]}'))

    assert [len(each.articles) for each in found] == [0, 1, 1, 2, 2]
    assert found[2] == SearchResults(articles=[Article(title="a", url="b")])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"articles": [{"title": "a", "url": "b"}, {"ti', SearchResults(articles=[Article(title="a", url="b")])),
        ('{"articles": [{"title": "a"', SearchResults(articles=[])),
        ('{"arti', UNSET),
    ],
)
def test_an_unfinished_item_does_not_hide_the_finished_ones(text: str, value: object) -> None:
    """Pieces rarely end where an item does: what is before the unfinished one is shown all the same."""
    assert output(SearchResults).partial(text) == value


def test_an_unfinished_item_is_dropped_from_the_innermost_list() -> None:
    """Only if that does not help, the outer list loses its item too."""
    text = '{"answer": [{"name": "a"}, {"name": "b", "children": [{"name": "c"}, {"nam'
    hopeless = '{"answer": [{"name": "a"}, {"children": [{"name": "c"}, {"nam'

    assert output(list[Tree]).partial(text) == [Tree(name="a"), Tree(name="b", children=[Tree(name="c")])]
    assert output(list[Tree]).partial(hopeless) == [Tree(name="a")]


def test_partials_reach_into_nested_lists() -> None:
    """The inner list grows first; a wrapped type and a fence change nothing."""
    text = '```json\n{"answer": [{"name": "a", "children": [{"name": "b"}, {"name": "c"}]}, {"name": "d"}]}\n```'

    found = list(beginnings(list[Tree], text))

    assert found[-1] == output(list[Tree]).read(text)
    assert [Tree(name="a", children=[Tree(name="b")])] in found


def test_partials_read_dates_and_sets_as_the_end_does() -> None:
    """A strict model takes JSON's text for a date in a partial as in the whole."""
    found = list(beginnings(Strict, '{"on": "2026-01-02", "tags": ["a", "b"]}'))

    assert found[-1] == Strict(on=date(2026, 1, 2), tags={"a", "b"})


def test_prose_has_no_partials() -> None:
    """What will never be JSON gives nothing, and raises nothing."""
    assert list(beginnings(Article, "Sorry, I cannot do that.")) == []


trees = st.recursive(
    st.builds(Tree, name=st.text(max_size=3)),
    lambda inner: st.builds(Tree, name=st.text(max_size=3), children=st.lists(inner, max_size=3)),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.lists(trees, max_size=3))
def test_every_beginning_of_a_valid_answer_is_valid_or_nothing(value: list[Tree]) -> None:
    """Cut anywhere, a valid answer gives a value of the type or UNSET; the whole gives the whole."""
    reader = output(list[Tree])
    text = json.dumps({"answer": TypeAdapter(list[Tree]).dump_python(value)})

    found = [reader.partial(text[:end]) for end in range(len(text) + 1)]

    assert all(each is UNSET or TypeAdapter(list[Tree]).validate_python(each) == each for each in found)
    assert found[-1] == value
