"""Which model answers in a test: `TestModel`, `override_models`, `no_model_requests`."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import AnyUrl, BaseModel, Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from agentflow import Agent, Context, cached_step, workflow
from agentflow.exceptions import UsageError
from agentflow.testing import ScriptedModel, TestModel, fresh_store, no_model_requests, override_models
from agentflow.testing._samples import sample


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"]
    size: int


class Tree(BaseModel):
    kind: Literal["tree"]
    left: Tree | Leaf
    right: Tree | Leaf = Field(discriminator="kind")


class Node(BaseModel):
    name: str
    children: list[Node]
    parent: Node | None


@dataclass
class Point:
    x: float
    y: float = 1.0


class Movie(TypedDict, total=False):
    title: str


KINDS: dict[str, Any] = {
    "text": str,
    "short text": Annotated[str, StringConstraints(max_length=0)],
    "long text": Annotated[str, StringConstraints(min_length=12)],
    "slug": Annotated[str, StringConstraints(pattern=r"^[a-z]{3}-\d{2,4}(?:x|y)+$")],
    "not a digit": Annotated[str, StringConstraints(pattern=r"^[^0-9a][^\d]\D\w\W\s\S.$")],
    "one of two": Annotated[str, StringConstraints(pattern=r"^(?:cat|dog)s?\b")],
    "whole": int,
    "at least": Annotated[int, Field(ge=5)],
    "above": Annotated[int, Field(gt=5)],
    "at most": Annotated[int, Field(le=-5)],
    "below": Annotated[int, Field(lt=-5)],
    "multiple": Annotated[int, Field(multiple_of=7, gt=10)],
    "multiple below": Annotated[int, Field(multiple_of=7, lt=-10)],
    "between": Annotated[float, Field(gt=0.25, lt=0.5)],
    "positive": Annotated[float, Field(gt=0)],
    "decimal": Decimal,
    "truth": bool,
    "nothing": None,
    "date": date,
    "moment": datetime,
    "duration": timedelta,
    "uuid": UUID,
    "url": AnyUrl,
    "choice": Literal["a", 2, None],
    "enum": Colour,
    "union": int | str,
    "optional": int | None,
    "list": list[int],
    "three": Annotated[list[str], Field(min_length=3)],
    "three different": Annotated[set[int], Field(min_length=3)],
    "two colours": Annotated[set[Colour], Field(min_length=2)],
    "two texts": Annotated[frozenset[str], Field(min_length=2)],
    "pair": tuple[int, str],
    "mapping": dict[str, int],
    "two keys": Annotated[dict[str, int], Field(min_length=2)],
    "dataclass": Point,
    "typed dict": Movie,
    "recursive": Node,
    "recursive by a union": Tree,
    "list of models": Annotated[list[Leaf], Field(min_length=1)],
    "anything": Any,
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_valid_output_from_the_schema_alone(kind):
    """Whatever pydantic can describe, the answer validates."""
    adapter = TypeAdapter(KINDS[kind])
    made = sample(adapter.json_schema(), owner=kind)

    adapter.validate_json(
        adapter.dump_json(made, warnings=False) if kind == "anything" else TypeAdapter(Any).dump_json(made)
    )


bounds = st.integers(-1000, 1000)


@given(low=bounds, width=st.integers(1, 50), step=st.none() | st.integers(1, 20))
@settings(deadline=None)
def test_a_number_lies_within_its_bounds(low, width, step):
    """With any bounds between which there is a number."""
    kind = Annotated[int, Field(ge=low, lt=low + width, multiple_of=step)]
    adapter = TypeAdapter(kind)
    possible = any(number % (step or 1) == 0 for number in range(low, low + width))

    if possible:
        adapter.validate_python(sample(adapter.json_schema(), owner="it"))
    else:
        with pytest.raises(UsageError, match="a number within its bounds"):
            sample(adapter.json_schema(), owner="it")


def test_a_type_without_an_end_is_refused():
    """A model that needs itself has no finite value."""

    class Endless(BaseModel):
        inner: Endless

    with pytest.raises(UsageError, match=r"an end of what contains itself at inner"):
        sample(Endless.model_json_schema(), owner="it")


def test_it_says_what_it_cannot_work_out():
    """A schema beyond it is a usage error that names the place, never a value that does not fit."""

    class Ticket(BaseModel):
        code: Annotated[str, Field(json_schema_extra={"pattern": r"^(?=.*\d)[a-z]+(?<!a)$"})]

    with pytest.raises(UsageError, match=r"a text that matches .* at code in the schema of 'Ticket'.*ScriptedModel"):
        sample(Ticket.model_json_schema(), owner="'Ticket'")


@pytest.mark.parametrize("by_tool", [False, True])
@pytest.mark.parametrize("awaited", [False, True])
def test_it_calls_every_tool_once_and_then_answers(awaited, by_tool):
    """The tools get arguments that are valid, in one turn; the second turn is the output, by schema or by tool."""
    seen: list[object] = []

    def look_up(word: str, times: Annotated[int, Field(ge=2)]) -> str:
        """Look a word up."""
        seen.append((word, times))
        return "found"

    def today() -> str:
        """Say the date."""
        seen.append("today")
        return "2026-11-22"

    model = TestModel()
    model.supports_json_schema = not by_tool
    agent = Agent(model, tools=[look_up, today], output_type=Point)

    result = asyncio.run(agent.arun("Go")) if awaited else agent.run("Go")

    assert sorted(map(str, seen)) == ["('a', 2)", "today"]
    assert result.output == Point(0.0)
    assert result.usage.requests == 2


def test_it_streams_its_text_and_leaves_tools_alone_if_told():
    """Free text is what it was given."""

    def never() -> str:
        """Fail."""
        raise AssertionError

    agent = Agent(TestModel("All is well.", call_tools=False), tools=[never])

    assert "".join(agent.stream("Go")) == "All is well."


def test_an_override_holds_for_every_agent_in_steps_maps_and_threads():
    """One model answers for agents of other models, wherever the workflow's code runs, and no longer than the block."""
    one, other = Agent("openai:gpt-4o"), Agent("openai:gpt-4o-mini")

    @cached_step
    def ask(number: int) -> str:
        return (one if number % 2 else other).run("Go").output

    @workflow
    def flow(ctx: Context) -> list[str]:
        return ctx.map(ask, range(4))

    with fresh_store(), override_models(TestModel("Yes.")):
        assert flow() == ["Yes."] * 4
    with no_model_requests("the block has ended"), pytest.raises(UsageError, match="the block has ended"):
        one.run("Go")


def test_an_override_of_one_agent_leaves_the_others():
    """By agent, and the inner one counts."""
    one, other = Agent("openai:gpt-4o"), Agent("openai:gpt-4o")

    with (
        no_model_requests(),
        override_models({one: TestModel("outer")}),
        override_models({one: ScriptedModel(["inner"])}),
    ):
        assert one.run("Go").output == "inner"
        with pytest.raises(UsageError, match="refused: this test makes none"):
            other.run("Go")


def test_requests_are_refused_in_every_thread():
    """Also in one that was started without its caller's context; and before anything is sent."""
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            Agent("openai:gpt-4o").run("Go")
        except UsageError as error:
            errors.append(error)

    with no_model_requests("not here"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    assert "a request to openai:gpt-4o was refused: not here" in str(errors[0])


def test_blocks_of_refusal_nest():
    """The inner reason is shown inside, the outer one again after it; a refusal without a reason is itself refused."""
    agent = Agent("openai:gpt-4o")

    with no_model_requests("outer"):
        with no_model_requests("inner"), pytest.raises(UsageError, match="inner"):
            agent.run("Go")
        with pytest.raises(UsageError, match="outer"):
            agent.run("Go")
    with pytest.raises(UsageError, match="say why"), no_model_requests(""):
        pass
