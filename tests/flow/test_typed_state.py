"""A state with a model: fields with types, defaults and rules, one row each."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    ValidationError,
    field_validator,
    model_validator,
)

from agentflow import Context, cached_step, workflow
from agentflow._active_run import Home
from agentflow._body_state import BodyState
from agentflow._calls import plain_transaction
from agentflow._settings import default_store
from agentflow._state_values import ModelValues
from agentflow.exceptions import IncompatibleStore, StateConflict, UnserializableValue, UsageError
from agentflow.stores import Store
from agentflow.testing import make_context
from agentflow.types import StateModel

pytestmark = pytest.mark.usefixtures("store")


class Article(BaseModel):
    title: str
    words: int = 0


class Blog(StateModel):
    posts: dict[str, Article] = {}
    tags: list[str] = Field(default=["news"], max_length=3)
    written: int = Field(default=0, ge=0)
    author: str | None = None

    @field_validator("author")
    @classmethod
    def _trimmed(cls, author: str | None) -> str | None:
        return author and author.strip()


bodies: list[Callable[[Any], Any]] = []


@workflow(session="s", state=Blog)
def flow(ctx: Context[Blog], number: int) -> Any:
    return bodies[number](ctx)


def run(body: Callable[[Context[Blog]], Any]) -> Any:
    """Run a body as a workflow of its own call."""
    bodies.append(body)
    return flow(len(bodies) - 1)


def stored() -> dict[str, Any]:
    return dict(flow.session("s").state)


FRESH = {"posts": {}, "tags": ["news"], "written": 0, "author": None}


def rows(store: Store) -> dict[str, bool]:
    """Which fields have a row."""
    return dict.fromkeys(store.state_keys(flow.name, "s"), True)


def test_fields_are_read_and_set_and_kept(store):
    """An assignment is durable at once, in a row of its own; the other fields have none."""

    def body(ctx: Context[Blog]) -> Any:
        before = ctx.state.written, ctx.state.posts, ctx.state.author
        ctx.state.written = 3
        return [before, rows(store)]

    assert run(body) == [(0, {}, None), {"written": True}]
    assert stored() == {**FRESH, "written": 3}


def test_reading_a_default_stores_nothing_and_changing_it_does(store):
    """A default belongs to the model, until something is changed in it; then all of it is kept."""
    run(lambda ctx: ctx.state.tags)
    assert rows(store) == {}

    run(lambda ctx: ctx.state.tags.append("cats"))

    assert rows(store) == {"tags": True}
    assert stored()["tags"] == ["news", "cats"]
    assert Blog().tags == ["news"]


def test_nested_changes_are_kept_at_the_next_boundary():
    """What is changed inside a value is found, with its types, as in a state without a model."""

    def body(ctx: Context[Blog]) -> Any:
        ctx.state.posts["cats"] = Article(title="Cats")
        before = stored()["posts"]
        ctx.state.save()
        ctx.state.posts["cats"].words = 7
        return before

    assert run(body) == {}
    assert stored()["posts"] == {"cats": Article(title="Cats", words=7)}


def test_an_assignment_is_validated():
    """The field's type, its limits and the model's validators hold, and a refused value changes nothing."""

    def body(ctx: Context[Blog]) -> None:
        ctx.state.author = "  Ada "
        assert ctx.state.author == "Ada"
        for field, value in [("written", -1), ("written", "many"), ("tags", ["a"] * 4), ("posts", {"a": 1})]:
            with pytest.raises(ValidationError):
                setattr(ctx.state, field, value)
        with pytest.raises(ValidationError):
            ctx.state.increment("written", -1)
        with pytest.raises(UsageError, match="no such field"):
            ctx.state.unknown = 1  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = ctx.state.unknown  # type: ignore[attr-defined]

    run(body)

    assert stored() == {**FRESH, "author": "Ada"}


def test_it_is_an_instance_of_the_model():
    """It prints, compares, dumps and copies as one; a copy is plain, and no longer bound to the state."""

    def body(ctx: Context[Blog]) -> None:
        ctx.state.written = 2
        plain = Blog(written=2)
        assert isinstance(ctx.state, Blog)
        assert ctx.state == plain
        assert plain == ctx.state
        assert ctx.state != Blog()
        assert repr(ctx.state) == repr(plain)
        assert ctx.state.model_dump() == plain.model_dump()
        assert json.loads(ctx.state.model_dump_json()) == json.loads(plain.model_dump_json())
        for copied in (ctx.state.model_copy(), ctx.state.model_copy(deep=True), copy.copy(ctx.state)):
            assert type(copied) is Blog
            copied.written = 9
        assert ctx.state.written == 2

    run(body)


def test_a_step_has_an_overlay_of_the_model():
    """What it changes commits with its result, and is discarded if it fails; nested steps see their caller's."""

    @cached_step(reads=("written",))
    def inner(ctx: Context[Blog]) -> int:
        ctx.state.written += 1
        return ctx.state.written

    @cached_step(reads=("written", "posts"))
    def outer(ctx: Context[Blog], fails: bool) -> Any:
        ctx.state.posts["a"] = Article(title="A")
        ctx.state.written += 10
        seen = inner()
        assert stored()["posts"] == {}
        if fails:
            raise OSError
        return seen

    with pytest.raises(OSError):
        run(lambda ctx: outer(True))
    assert stored() == {**FRESH, "written": 11}

    assert run(lambda ctx: [outer(False), ctx.state.posts["a"].title, ctx.state.written]) == [22, "A", 22]


def test_a_step_takes_it_as_an_argument_by_its_values():
    """Its key is made of the values of that moment."""
    calls = []

    @cached_step
    def count(blog: Blog) -> int:
        calls.append(blog.written)
        return blog.written

    def body(ctx: Context[Blog]) -> list[int]:
        ctx.state.written = 1
        first = [count(ctx.state), count(ctx.state)]
        ctx.state.written = 2
        return [*first, count(ctx.state)]

    assert run(body) == [1, 1, 2]
    assert calls == [1, 2]


def test_conflicts_are_per_path():
    """Disjoint keys of a field merge; the same path changed on both sides is named."""

    def merged(ctx: Context[Blog]) -> None:
        ctx.state.posts["a"] = Article(title="A")
        flow.session("s").state["posts"] = {"b": Article(title="B")}

    def refused(ctx: Context[Blog]) -> None:
        ctx.state.posts["a"].words = 1
        flow.session("s").state["posts"] = {"a": Article(title="other")}

    run(merged)
    assert set(stored()["posts"]) == {"a", "b"}
    with pytest.raises(StateConflict) as caught:
        run(refused)
    assert caught.value.keys == ("posts.a",)


def test_increments_and_transactions_know_the_model():
    """The block gets an instance of it; increments count over the default."""

    def body(ctx: Context[Blog]) -> Any:
        sums = [ctx.state.increment("written"), flow.session("s").state.increment("written", 10)]
        with ctx.state.transaction() as blog:
            assert isinstance(blog, Blog)
            blog.written *= 2
            blog.tags.append("cats")
        return [*sums, ctx.state.written]

    assert run(body) == [1, 11, 22]
    assert stored()["tags"] == ["news", "cats"]


def test_a_deleted_field_has_its_default_again():
    """There is no field without a value."""

    def body(ctx: Context[Blog]) -> Any:
        ctx.state.tags = ["a"]
        del ctx.state.tags
        return ctx.state.tags

    assert run(body) == ["news"]


def test_as_a_mapping_it_has_the_fields_and_no_other_keys():
    """A session's state is a mapping with the same rules."""
    state = flow.session("s").state
    state["author"] = " Ada "

    assert (len(state), state["author"], "posts" in state, "unknown" in state) == (4, "Ada", True, False)
    assert state.get("unknown") is None
    with pytest.raises(ValidationError):
        state["written"] = "many"
    with pytest.raises(UsageError, match="posts, tags, written, author"):
        state["unknown"] = 1


def as_seen_by(model: type[BaseModel]) -> BodyState:
    """The state as a later version of the workflow's code has it."""
    return BodyState(Home(default_store(), flow.name, "s"), plain_transaction, lambda: None, values=ModelValues(model))


def test_a_model_that_has_changed_reads_what_it_accepts():
    """A new field has its default, a removed one is left alone, a value that fits the new type is taken, and reading stores nothing."""

    class Later(BaseModel):
        written: float = 0.0
        new: list[int] = [1]

    run(lambda ctx: [setattr(ctx.state, "written", 3), setattr(ctx.state, "author", "Ada")])
    state = as_seen_by(Later)

    assert dict(state) == {"written": 3.0, "new": [1]}
    assert type(state["written"]) is float
    assert state.writes() == []
    assert stored() == {**FRESH, "written": 3, "author": "Ada"}


def test_a_value_that_the_model_does_not_accept_any_more_is_a_typed_error():
    """Nothing is half filled; it can be set anew or deleted, and the other fields are not concerned."""

    class Later(BaseModel):
        written: list[str] = []
        author: str | None = None

    run(lambda ctx: setattr(ctx.state, "written", 3))

    with pytest.raises(IncompatibleStore, match=r"Later\.written does not accept it.*delete it"):
        as_seen_by(Later)["written"]
    assert as_seen_by(Later)["author"] is None
    del (deleted := as_seen_by(Later))["written"]
    assert deleted["written"] == as_seen_by(Later)["written"] == []
    run(lambda ctx: flow.session("s").state.__setitem__("written", 4))
    (anew := as_seen_by(Later))["written"] = ["a"]
    assert anew["written"] == as_seen_by(Later)["written"] == ["a"]


def test_what_cannot_be_stored_is_refused_at_the_assignment():
    """A type that pydantic takes and no store keeps."""

    class Odd(BaseModel):
        thing: Any = None

    @workflow(name="odd", session="s", state=Odd)
    def odd(ctx: Context[Odd]) -> None:
        ctx.state.thing = object()

    with pytest.raises(UnserializableValue, match="thing"):
        odd()


def refused_models() -> dict[str, Any]:
    class Required(BaseModel):
        a: int

    class Whole(BaseModel):
        a: int = 0

        @model_validator(mode="after")
        def _checked(self) -> Whole:
            return self

    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        a: int = 0

    class Extra(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Private(BaseModel):
        _a: int = PrivateAttr(default=0)

    return {
        "no default": Required,
        "validator of the whole model": Whole,
        "frozen": Frozen,
        "extra fields": Extra,
        "private": Private,
        "derived from pydantic.BaseModel": RootModel[list[int]],
        "write a class": Blog(),
    }


@pytest.mark.parametrize("why", refused_models())
def test_a_model_that_cannot_be_a_state_is_refused_where_it_is_named(why):
    """The sentence says what to do about it."""
    with pytest.raises(UsageError, match=why):
        workflow(state=refused_models()[why])


def test_a_bare_function_gets_a_context_with_a_model():
    """An instance says what the state holds, and what it is."""

    def body(ctx: Context[Blog]) -> int | float:
        ctx.state.posts["a"] = Article(title="A")
        return ctx.state.increment("written")

    ctx = make_context(state=Blog(written=4))

    assert body(ctx) == 5
    assert ctx.state == Blog(written=5, posts={"a": Article(title="A")})


def test_an_instance_of_ones_own_has_the_methods_too():
    """A body can be tested with a plain model."""
    blog = Blog()
    with blog.transaction() as inside:
        inside.increment("written", 2)
    blog.save()

    assert blog.written == 2
