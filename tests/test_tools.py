"""Typed functions become tools: schema, checked arguments, calls in both colours."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

import agentflow.tools
from agentflow.exceptions import ModelRetry, UsageError
from agentflow.tools import Tool, tool
from agentflow.tools._base import make_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nowhere import Context, Unseen  # type: ignore[import-not-found]


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    name: str
    price: float = 0.0


@dataclass
class Size:
    width: int


def schema(fn: Callable[..., Any]) -> dict[str, Any]:
    return dict(make_tool(fn).parameters)


async def call(colour: str, made: Tool[..., Any], arguments: str) -> str:
    """Call a tool as a driver of that colour does."""
    checked = made.read_arguments(arguments)
    return made.call(checked) if colour == "sync" else await made.acall(checked)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what the model sees


def test_the_schema_comes_from_signature_and_docstring() -> None:
    """Types and defaults come from the signature, descriptions from the docstring's sections."""

    def search(query: str, limit: int = 5) -> list[str]:
        """Search the web.

        Finds pages, newest first.

        Args:
            query (str): What to search for:
                words, not sentences.
            limit: How many pages.

        Returns:
            The addresses.
        """
        return [query] * limit

    made = make_tool(search)

    assert made.name == "search"
    assert made.description == "Search the web.\n\nFinds pages, newest first."
    assert made.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to search for: words, not sentences."},
            "limit": {"type": "integer", "default": 5, "description": "How many pages."},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_a_description_in_the_annotation_wins_over_the_docstring() -> None:
    """`Annotated[..., Field(description=)]` and other constraints reach the schema."""

    def search(query: Annotated[str, Field(description="words", min_length=2)]) -> str:
        """Search.

        Args:
            query: from the docstring
        """
        return query

    assert schema(search)["properties"]["query"] == {"type": "string", "description": "words", "minLength": 2}


def test_nested_types_are_described_by_definitions() -> None:
    """Models, dataclasses, enums, literals and containers of them are described."""

    def buy(items: list[Item], size: Size, colour: Colour, how: Literal["air", "sea"], on: date | None = None) -> str:
        return ""

    found = schema(buy)

    assert found["properties"]["items"] == {"type": "array", "items": {"$ref": "#/$defs/Item"}}
    assert set(found["$defs"]) == {"Item", "Size", "Colour"}
    assert found["required"] == ["items", "size", "colour", "how"]


@pytest.mark.parametrize("name", ["schema", "model_config", "copy", "_private", "json", "self_", "class_"])
def test_any_parameter_name_works(name: str) -> None:
    """A parameter may be named like an attribute of a pydantic model, or start with an underscore."""
    scope: dict[str, Any] = {}
    exec(f"def fn({name}: int) -> int:\n    return {name} + 1", scope)

    made = make_tool(scope["fn"])

    assert made.call(made.read_arguments(f'{{"{name}": 1}}')) == "2"


def test_a_default_that_json_cannot_say_stays_out_of_the_schema() -> None:
    """Such a default is not shown to the model and is still what the function gets."""
    nothing = object()

    def fn(mode: str = nothing) -> bool:  # type: ignore[assignment]
        return mode is nothing

    made = make_tool(fn)

    assert "default" not in made.parameters["properties"]["mode"]
    assert made.call(made.read_arguments("{}")) == "true"


def test_the_decorator_takes_a_name_and_a_description() -> None:
    """`@tool(name=, description=)` says what the model reads; the function can still be called."""

    @tool(name="add-up", description="Sum.")
    def add(a: int, b: int) -> int:
        """Not this."""
        return a + b

    assert (add.name, add.description) == ("add-up", "Sum.")
    assert add(1, b=2) == 3
    assert repr(add) == "<tool add-up(a: 'int', b: 'int') -> 'int'>"


def test_the_bare_decorator_keeps_the_function() -> None:
    """`@tool` without parentheses works, and the signature stays visible."""

    @tool
    def add(a: int, b: int = 2) -> int:
        return a + b

    assert add.name == "add"
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 2) -> 'int'"
    assert add.fn(1) == 3


def test_a_tool_is_returned_as_it_is_or_renamed() -> None:
    """A tool made once more stays the same object; under another name it is a copy."""

    @tool
    def add(a: int) -> int:
        """Add."""
        return a

    renamed = tool(name="plus")(add)

    assert tool(add) is add
    assert isinstance(renamed, Tool)
    assert (renamed.name, renamed.description, add.name) == ("plus", "Add.", "add")


class StepLike:
    """What a cached step looks like from outside: an object with a signature that hides the context."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        own = inspect.signature(fn)
        self.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn("the context", *args, **kwargs)


def test_a_cached_step_is_a_tool_without_its_context() -> None:
    """An object with `__wrapped__` and `__signature__` is described by the signature, and called itself."""

    def find(ctx: Context, topic: str, limit: int = 3) -> Unseen:
        """Find articles."""
        return f"{ctx}: {topic} {limit}"

    made = make_tool(StepLike(find))

    assert made.name == "find"
    assert made.description == "Find articles."
    assert list(made.parameters["properties"]) == ["topic", "limit"]
    assert made.call(made.read_arguments('{"topic": "cats"}')) == "the context: cats 3"


def test_bound_methods_partials_and_callable_objects_are_tools() -> None:
    """What can be called and described can be a tool."""

    class Shop:
        """A shop."""

        def price(self, name: str) -> str:
            """Tell a price."""
            return f"{name}: 1"

        def __call__(self, name: str) -> str:
            """Sell."""
            return f"sold {name}"

    shop = Shop()
    made = [
        make_tool(shop.price),
        make_tool(functools.partial(Shop.price, shop), name="partial"),
        make_tool(shop, name="sell"),
    ]

    assert [each.description for each in made] == ["Tell a price.", "Tell a price.", "Sell."]
    assert [each.call(each.read_arguments('{"name": "a"}')) for each in made] == ["a: 1", "a: 1", "sold a"]


def test_positional_only_parameters_behind_a_default_are_filled() -> None:
    """A model names every argument, also those that Python takes by position only."""

    def fn(a: int = 1, b: int = 2, /, *, c: int = 3) -> list[int]:
        return [a, b, c]

    made = make_tool(fn)

    assert made.call(made.read_arguments('{"b": 5}')) == "[1,5,3]"


# --- what is refused when it is defined


def no_type(query) -> str:  # type: ignore[no-untyped-def]
    return str(query)


def many(*queries: str) -> str:
    return ""


def anything(**options: str) -> str:
    return ""


def by_name(ctx: str, topic: str) -> str:
    return ""


def by_annotation(topic: str, where: Context) -> str:
    return ""


def by_generic_annotation(where: agentflow.tools.Context[int]) -> str:  # type: ignore[name-defined]
    return ""


def unresolved(topic: Unseen) -> str:
    return ""


def a_client(ready: threading.Event, topic: str) -> str:
    return ""


def generator(topic: str) -> Iterator[str]:
    yield topic


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (no_type, r"'no_type' has parameter 'query' without a type.*annotate it"),
        (many, r"'many' takes \*queries.*write them out"),
        (anything, r"'anything' takes \*\*options.*write them out"),
        (by_name, r"takes the context as 'ctx'.*call current_context\(\) inside the tool"),
        (by_annotation, r"takes the context as 'where'.*call current_context\(\) inside the tool"),
        (by_generic_annotation, r"takes the context as 'where'.*call current_context\(\) inside the tool"),
        (unresolved, r"types of tool 'unresolved' cannot be resolved.*Unseen.*module level"),
        (a_client, r"'a_client' has a parameter that cannot be described.*close over clients"),
        (generator, r"'generator' is a generator.*return the text"),
        (lambda: "", r"'<lambda>' cannot be the name of a tool.*tool\(name="),
        (Item, r"cannot be a tool: it is no function"),
        (42, r"cannot be a tool: it is no function.*\.as_tool\(\)"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_a_way_out(fn: Any, sentence: str) -> None:
    """A function that a model could not call safely is a UsageError where it is made a tool."""
    with pytest.raises(UsageError, match=f"(?s){sentence}"):
        make_tool(fn)


def test_a_context_class_of_agentflow_is_refused_when_resolved() -> None:
    """The context is found by its class, whatever the parameter is called."""
    context_class = type("Context", (), {"__module__": "agentflow._context"})

    def fn(where: str) -> str:
        return where

    fn.__annotations__["where"] = context_class

    with pytest.raises(UsageError, match="takes the context as 'where'"):
        make_tool(fn)


@pytest.mark.parametrize("name", ["a b", "ä", "", "x" * 65, "a.b"])
def test_names_that_providers_refuse_are_refused_here(name: str) -> None:
    """A tool's name has letters, digits, '_' and '-', at most 64."""
    with pytest.raises(UsageError, match="cannot be the name of a tool"):
        tool(name=name or " ")(lambda: "")


# --- what a model may write


@tool
def order(item: Item, count: int, colour: Colour = Colour.RED, on: date | None = None) -> str:
    """Order something."""
    return f"{count} {colour.name} {item.name} {on!r} {type(item).__name__}"


def test_arguments_arrive_as_their_types() -> None:
    """JSON becomes models, enums and dates before the function sees it."""
    written = '{"item": {"name": "hat"}, "count": 2, "colour": "red", "on": "2026-01-02"}'

    assert order.call(order.read_arguments(written)) == "2 RED hat datetime.date(2026, 1, 2) Item"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ('{"item": {"name": "hat"}}', "count"),
        ('{"item": {"name": "hat"}, "count": "2"}', "count"),
        ('{"item": {"name": "hat"}, "count": 2.5}', "count"),
        ('{"item": {"name": "hat"}, "count": true}', "count"),
        ('{"item": {"name": "hat"}, "count": 2, "colour": "blue"}', "colour"),
        ('{"item": {"name": 1}, "count": 2}', "item"),
        ('{"item": {"name": "hat"}, "count": 2, "ctx": "mine"}', "ctx"),
        ('{"item": {"name": "hat"}, "count": 2, "fn": "os.system"}', "fn"),
        ("[]", ""),
        ("not json", ""),
        ('{"item": ' + "[" * 5000, ""),
        ('{"item": {"name": "\ud800"}, "count": 2}', ""),
    ],
)
def test_arguments_that_do_not_fit_are_refused(written: str, place: str) -> None:
    """Types are strict, nothing may be missing or added, and broken JSON is the same kind of mistake."""
    with pytest.raises(ValidationError) as caught:
        order.read_arguments(written)

    assert ".".join(map(str, caught.value.errors()[0]["loc"])).startswith(place)


def test_no_arguments_may_be_written_as_nothing() -> None:
    """Some models write an empty text for a tool without parameters."""

    def today() -> str:
        return "Monday"

    made = make_tool(today)

    assert made.call(made.read_arguments(" ")) == "Monday"
    assert made.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


# --- the call


async def test_answers_become_text(colour: str) -> None:
    """A str is passed on as it is, everything else as JSON."""
    answers = ["plain", None, 3, [Item(name="a")], Size(2), {"on": date(2026, 1, 2)}, "ü"]

    def fn(which: int) -> Any:
        return answers[which]

    texts = [await call(colour, make_tool(fn), f'{{"which": {which}}}') for which in range(len(answers))]

    assert texts == ["plain", "null", "3", '[{"name":"a","price":0.0}]', '{"width":2}', '{"on":"2026-01-02"}', "ü"]


async def test_an_answer_that_json_cannot_say_is_a_usage_error(colour: str) -> None:
    """The message names the tool and the type."""

    def fn() -> Any:
        return object()

    with pytest.raises(UsageError, match="tool 'fn' returned a object that cannot be written as JSON"):
        await call(colour, make_tool(fn), "{}")


async def test_an_async_tool_is_awaited() -> None:
    """In an async run, an async function is awaited on the loop."""
    loops = []

    async def fn(a: int) -> int:
        loops.append(asyncio.get_running_loop())
        return a + 1

    assert await call("async", make_tool(fn), '{"a": 1}') == "2"
    assert loops == [asyncio.get_running_loop()]


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        return a


async def plain_async(a: int) -> int:
    return a


@pytest.mark.parametrize("fn", [plain_async, AsyncCallable(), functools.partial(plain_async), lambda: plain_async(1)])
def test_an_async_tool_in_a_sync_run_is_refused(fn: Any) -> None:
    """The message names the tool and `arun()`; no coroutine is left behind, which would warn."""
    made = make_tool(fn, name="slow")
    arguments = {} if inspect.isfunction(fn) and fn.__name__ == "<lambda>" else {"a": 1}

    with pytest.raises(UsageError, match=r"tool 'slow' is async.*arun\(\)"):
        made.call(arguments)


async def test_a_sync_tool_in_an_async_run_runs_in_a_thread_with_its_context() -> None:
    """It does not block the loop and sees the caller's context variables."""
    variable = contextvars.ContextVar("variable", default="none")
    threads = []

    def fn() -> str:
        threads.append(threading.current_thread())
        return variable.get()

    variable.set("caller's")

    assert await call("async", make_tool(fn), "{}") == "caller's"
    assert threads[0] is not threading.current_thread()


async def test_exceptions_pass_through(colour: str) -> None:
    """What a function raises is not wrapped: neither its own error nor a `ModelRetry`."""
    raised = [ModelRetry("again"), KeyError("mine"), ValidationError.from_exception_data("mine", [])]

    def fn(which: int) -> str:
        raise raised[which]

    for which, error in enumerate(raised):
        with pytest.raises(type(error)) as caught:
            await call(colour, make_tool(fn), f'{{"which": {which}}}')
        assert caught.value is error


async def test_stop_iteration_does_not_hang(colour: str) -> None:
    """A bare `next()` in a tool is an error in both colours; neither a future nor a generator could carry it."""

    def fn() -> str:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="tool 'fn' raised StopIteration"):
        await asyncio.wait_for(call(colour, make_tool(fn), "{}"), timeout=10)


# --- versions


def version(source: str, **options: Any) -> str:
    """Return the version of a tool made from source text, under one file name."""
    scope: dict[str, Any] = {}
    exec(compile(source, "<versions>", "exec"), scope)
    return make_tool(scope["fn"], **options).__agentflow_version__()


def test_the_version_follows_code_schema_and_name() -> None:
    """The same tool has the same version; another body, description or name has another."""
    one = "def fn(a: int) -> int:\n    return a"
    versions = [version(one), version(one.replace("return a", "return -a")), version(one, name="g")]
    versions += [version(one, description="x"), version(one.replace("a: int", "a: str"))]

    assert version(one) == versions[0]
    assert len(set(versions)) == 5


def located(engine: str, query: str) -> str:
    return engine + query


class Engine:
    def __init__(self, name: str) -> None:
        self.name = name

    def search(self, query: str) -> str:
        return self.name + query


def test_the_version_follows_what_a_function_is_bound_to() -> None:
    """The arguments of a partial and the object of a method are as much part of a tool as its code."""
    tools = [make_tool(functools.partial(located, engine), name="search") for engine in ("a", "b")]
    tools += [make_tool(Engine(name).search) for name in ("a", "b")]

    assert len({each.__agentflow_version__() for each in tools}) == 4


def test_the_version_of_a_versioned_object_counts_by_its_own() -> None:
    """A cached step is not looked into: it says itself what it counts by."""

    class Step:
        pinned = "1"

        def __call__(self, a: int) -> int:
            return a

        def __agentflow_version__(self) -> str:
            return self.pinned

    step = Step()
    made = make_tool(step, name="step")
    before = made.__agentflow_version__()
    step.pinned = "2"

    assert made.__agentflow_version__() != before


# --- the namespace


def test_the_namespace_loads_the_web_tools_only_when_asked() -> None:
    """Importing `agentflow.tools` imports neither web tool; unknown names are AttributeErrors."""
    script = (
        "import sys, agentflow.tools\n"
        "assert not {'agentflow.tools._search', 'agentflow.tools._article', 'ddgs', 'httpx'} & set(sys.modules)\n"
        "assert {'web_search', 'read_article', 'tool', 'Tool'} <= set(dir(agentflow.tools))\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        agentflow.tools.nothing  # noqa: B018
