"""ctx.state: durable at assignment, merged by path, committed with a step's result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from agentflow import Context, cached_step, register_type, workflow
from agentflow.exceptions import StateConflict, UnserializableValue, UsageError

pytestmark = pytest.mark.usefixtures("store")


@register_type
class Note(BaseModel):
    words: list[str] = []


bodies: list[Callable[[Context], Any]] = []


@workflow(session="s")
def flow(ctx: Context, number: int) -> Any:
    return bodies[number](ctx)


def run(body: Callable[[Context], Any]) -> Any:
    """Run a body as a workflow of its own call."""
    bodies.append(body)
    return flow(len(bodies) - 1)


def stored() -> dict[str, Any]:
    return dict(flow.session("s").state)


def test_an_assignment_is_durable_at_once():
    """Somebody else sees it while the body still runs."""

    def body(ctx: Context) -> Any:
        ctx.state["a"] = 1
        return stored()

    assert run(body) == {"a": 1}


def test_an_attribute_of_a_state_without_a_model_is_refused():
    """`state.a = 1` would be lost without a word, in a body, in a step, in a transaction and outside of runs."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state.a = 1

    def transaction(ctx: Context) -> None:
        with ctx.state.transaction() as state:
            state.a = 1

    def body(ctx: Context) -> None:
        ctx.state.a = 1

    for mistake in (body, transaction, lambda _: step()):
        with pytest.raises(UsageError, match=r"state\.a = .*write state\['a'\]"):
            run(mistake)
    with pytest.raises(UsageError, match=r"write state\['a'\]"):
        flow.session("s").state.a = 1
    assert stored() == {}


def test_a_nested_change_is_kept_at_the_next_boundary():
    """A step's call, save() and the end of the run keep what was changed inside a value."""

    @cached_step
    def step() -> None: ...

    def body(ctx: Context) -> list[Any]:
        posts = ctx.state.setdefault("posts", {})
        posts["a"] = 1
        before = stored()
        step()
        after_step = stored()
        posts["b"] = [1]
        ctx.state.save()
        after_save = stored()
        posts["b"].append(2)
        return [before, after_step, after_save]

    assert run(body) == [{"posts": {}}, {"posts": {"a": 1}}, {"posts": {"a": 1, "b": [1]}}]
    assert stored() == {"posts": {"a": 1, "b": [1, 2]}}


def test_types_come_back():
    """Values in the state are of the types they were."""

    def body(ctx: Context) -> None:
        ctx.state["note"] = Note(words=["a"])
        ctx.state["tuple"] = (1, {2}, b"3")

    run(body)

    assert stored() == {"note": Note(words=["a"]), "tuple": (1, {2}, b"3")}
    assert type(stored()["note"]) is Note


def test_what_cannot_be_stored_is_refused_at_the_assignment():
    """The error names the key and the path, and nothing else is lost."""

    def body(ctx: Context) -> None:
        ctx.state["good"] = 1
        with pytest.raises(UnserializableValue, match=r"state\['bad'\]") as caught:
            ctx.state["bad"] = {"lock": threading.Lock()}
        assert "lock" in caught.value.path
        with pytest.raises(UsageError, match="is a str"):
            ctx.state[1] = 2

    run(body)

    assert stored() == {"good": 1}


def test_deleted_stays_deleted():
    """A deleted key is gone, for iteration too, and can be set again."""

    def body(ctx: Context) -> None:
        ctx.state["a"], ctx.state["b"] = 1, 2
        del ctx.state["a"]
        assert "a" not in ctx.state
        assert list(ctx.state) == ["b"]
        with pytest.raises(KeyError):
            del ctx.state["a"]

    run(body)

    assert stored() == {"b": 2}
    run(lambda ctx: ctx.state.__setitem__("a", 3))
    assert stored() == {"b": 2, "a": 3}


def test_mapping_methods_work():
    """get, pop, update, setdefault, items, len."""

    def body(ctx: Context) -> Any:
        ctx.state.update({"a": 1}, b=2)
        return ctx.state.get("c", 0), ctx.state.pop("a"), len(ctx.state), list(ctx.state.items())

    assert run(body) == (0, 1, 1, [("b", 2)])


def test_a_steps_changes_commit_with_its_result():
    """Nothing is visible outside before the step's result is durable; then both are."""
    seen = []

    @cached_step
    def step(ctx: Context) -> str:
        ctx.state["by step"] = 1
        seen.append(stored())
        return "result"

    def body(ctx: Context) -> Any:
        step()
        return ctx.state["by step"]

    assert run(body) == 1
    assert seen == [{}]
    assert stored() == {"by step": 1}


def test_a_step_that_raises_changes_nothing():
    """The overlay of a failed step is discarded."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state["by step"] = 1
        raise ValueError

    def body(ctx: Context) -> None:
        ctx.state["by body"] = 1
        with pytest.raises(ValueError):
            step()
        assert "by step" not in ctx.state

    run(body)

    assert stored() == {"by body": 1}


def test_a_retried_step_begins_with_a_fresh_overlay():
    """What a failed attempt changed is not there in the next one."""
    seen = []

    @cached_step(retry=2, reads="n")
    def step(ctx: Context) -> None:
        seen.append(ctx.state.get("n"))
        ctx.state["n"] = 99
        if len(seen) == 1:
            raise ConnectionError

    run(lambda ctx: step.with_options(retry=2)())

    assert seen == [None, None]
    assert stored() == {"n": 99}


def test_a_hit_changes_no_state():
    """A replayed step leaves the state alone."""

    @cached_step
    def step(ctx: Context) -> None:
        ctx.state["n"] = 1

    run(lambda ctx: step())
    run(lambda ctx: ctx.state.__setitem__("n", 2))
    run(lambda ctx: step())

    assert stored() == {"n": 2}


def test_a_nested_step_commits_its_own_difference():
    """It sees its caller's changes, commits only its own, and keeps them if its caller fails."""

    @cached_step(reads=("outer", "shared"))
    def inner(ctx: Context) -> Any:
        seen = dict(ctx.state["shared"]), ctx.state["outer"]
        ctx.state["shared"]["inner"] = 1
        return seen

    @cached_step
    def outer(ctx: Context) -> Any:
        ctx.state["outer"] = "not committed"
        ctx.state["shared"] = {"outer": 1}
        seen = inner()
        assert ctx.state["shared"] == {"outer": 1, "inner": 1}
        raise ValueError(seen)

    with pytest.raises(ValueError) as caught:
        run(lambda ctx: outer())

    assert caught.value.args == (({"outer": 1}, "not committed"),)
    assert stored() == {"shared": {"inner": 1}}


def test_a_held_object_stays_the_current_one():
    """A body that holds a nested dict while a step changes it goes on with the changed one."""

    @cached_step(reads="posts")
    def step(ctx: Context) -> None:
        ctx.state["posts"]["by step"] = 1

    def body(ctx: Context) -> None:
        posts = ctx.state.setdefault("posts", {})
        posts["before"] = 1
        step()
        assert posts == {"before": 1, "by step": 1}
        posts["after"] = 1

    run(body)

    assert stored() == {"posts": {"before": 1, "by step": 1, "after": 1}}


def test_parallel_steps_merge_disjoint_keys():
    """Steps that change different keys of one dict at once all keep their changes."""
    together = threading.Barrier(8, timeout=10)

    @cached_step
    def step(ctx: Context, n: int) -> None:
        ctx.state.setdefault("found", {})[str(n)] = n
        together.wait()

    with pytest.warns(UserWarning, match="reads state"):
        run(lambda ctx: ctx.map(step, range(8)))

    assert stored() == {"found": {str(n): n for n in range(8)}}


def test_two_runs_that_change_disjoint_keys_both_keep_them():
    """Different keys, and different keys of nested dicts, merge."""

    def one(ctx: Context) -> None:
        ctx.state["tree"] = {"a": {"x": 1}, "b": 1}
        tree = ctx.state["tree"]
        run(two)
        tree["a"]["y"] = 2

    def two(ctx: Context) -> None:
        ctx.state["tree"]["a"]["z"] = 3
        ctx.state["tree"]["b"] = 4

    bodies.append(two)
    run(one_in_thread := lambda ctx: in_a_thread_around(ctx))  # noqa: F841

    assert stored() == {"tree": {"a": {"x": 1, "y": 2, "z": 3}, "b": 4}}


def in_a_thread_around(ctx: Context) -> None:
    ctx.state["tree"] = {"a": {"x": 1}, "b": 1}
    tree = ctx.state["tree"]

    def two(other: Context) -> None:
        other.state["tree"]["a"]["z"] = 3
        other.state["tree"]["b"] = 4

    elsewhere(two)
    tree["a"]["y"] = 2


def elsewhere(body: Callable[[Context], Any]) -> None:
    """Run a body in a run of its own, in a thread that knows nothing of this one."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(body)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_the_same_path_changed_on_both_sides_is_a_conflict():
    """It names the path; all other keys are saved; the run is failed."""

    def body(ctx: Context) -> None:
        ctx.state["tree"] = {"a": 1}
        ctx.state["other"] = [1]
        tree, other = ctx.state["tree"], ctx.state["other"]
        elsewhere(lambda theirs: theirs.state["tree"].__setitem__("a", 2))
        tree["a"] = 3
        other.append(2)

    with pytest.raises(StateConflict, match=r"tree\.a") as caught:
        run(body)

    assert caught.value.keys == ("tree.a",)
    assert stored() == {"tree": {"a": 2}, "other": [1, 2]}
    assert flow.session("s").runs()[-1].status == "failed"


def test_a_conflict_is_a_note_of_an_exception_on_its_way():
    """The user's exception is raised; the conflict is told in its note."""

    def body(ctx: Context) -> None:
        ctx.state["tree"] = {"a": 1}
        tree = ctx.state["tree"]
        elsewhere(lambda theirs: theirs.state["tree"].__setitem__("a", 2))
        tree["a"] = 3
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        run(body)

    assert any("tree.a" in note for note in caught.value.__notes__)


def test_a_read_and_changed_key_conflicts_at_its_assignment():
    """n = n + 1 in two runs: the second is told, never silently lost; a fresh read makes it good."""

    def body(ctx: Context) -> None:
        n = ctx.state.setdefault("n", 0)
        elsewhere(lambda theirs: theirs.state.__setitem__("n", theirs.state["n"] + 1))
        with pytest.raises(StateConflict):
            ctx.state["n"] = n + 1
        ctx.state["n"] = ctx.state["n"] + 1

    run(body)

    assert stored() == {"n": 2}


def test_a_blind_assignment_overwrites():
    """What was not read may be overwritten: there is nothing to lose but what is meant to go."""

    def body(ctx: Context) -> None:
        elsewhere(lambda theirs: theirs.state.__setitem__("n", 1))
        ctx.state["n"] = 2

    run(body)

    assert stored() == {"n": 2}


def test_a_conflict_in_a_step_discards_the_step():
    """A step whose state was changed elsewhere commits nothing, and is not remembered."""

    @cached_step(reads="n")
    def step(ctx: Context) -> None:
        n = ctx.state["n"]
        elsewhere(lambda theirs: theirs.state.__setitem__("n", 5))
        ctx.state["n"] = n + 1
        ctx.state["also"] = 1

    def body(ctx: Context) -> None:
        ctx.state["n"] = 0
        with pytest.raises(StateConflict):
            step()

    run(body)

    assert stored() == {"n": 5}


def test_reads_are_part_of_the_key():
    """A step that declares a state key runs again when its value changes, and is a hit when it comes back."""
    calls = []

    @cached_step(reads="tone")
    def write(ctx: Context) -> str:
        calls.append(ctx.state["tone"])
        return ctx.state["tone"]

    def body(ctx: Context) -> list[str]:
        found = []
        for tone in ("soft", "loud", "soft"):
            ctx.state["tone"] = tone
            found.append(write())
        return found

    assert run(body) == ["soft", "loud", "soft"]
    assert calls == ["soft", "loud"]


def test_reading_undeclared_state_warns_once():
    """The warning names the step, the key and the way out."""

    @cached_step(name="peeking step")
    def peek(ctx: Context, n: int) -> object:
        return ctx.state.get("tone")

    def body(ctx: Context) -> None:
        ctx.state["tone"] = "soft"
        peek(1)
        peek(2)

    with pytest.warns(UserWarning, match="reads state") as caught:
        run(body)

    assert len(caught) == 1
    assert "peeking step" in str(caught[0].message)
    assert "reads=('tone',)" in str(caught[0].message)


async def test_assignments_in_async_code_are_durable_at_once():
    """Also on a running loop."""

    @workflow
    async def aflow(ctx: Context) -> dict[str, Any]:
        ctx.state["a"] = 1
        ctx.state.setdefault("b", []).append(2)
        await asyncio.sleep(0)
        return dict(aflow.session("default").state)

    assert await aflow() == {"a": 1, "b": []}
    assert dict(aflow.session("default").state) == {"a": 1, "b": [2]}


def test_a_session_is_used_outside_runs():
    """wf.session(id).state reads and writes; nested changes at save()."""
    session = flow.session("s")
    session.state["a"] = {"n": 1}
    session.state["a"]["n"] = 2
    assert stored() == {"a": {"n": 1}}

    session.state.save()

    assert stored() == {"a": {"n": 2}}


async def test_a_change_made_while_a_save_is_under_way_is_kept():
    """The save marks as kept what it wrote, not what was added meanwhile."""

    @cached_step
    async def astep() -> None:
        await asyncio.sleep(0)

    @workflow
    async def aflow(ctx: Context) -> None:
        log = ctx.state["log"] = []
        log.append("first")
        task = asyncio.create_task(astep())
        await asyncio.sleep(0)
        log.append("second")
        ctx.state["other"] = 1
        await task

    await aflow()

    assert dict(aflow.session("default").state) == {"log": ["first", "second"], "other": 1}


def test_threads_of_one_body_do_not_conflict_with_each_other():
    """Many threads change one value and reach boundaries at once: nothing is lost, nobody is told of a conflict."""

    @cached_step
    def echo(n: int) -> int:
        return n

    def body(ctx: Context) -> None:
        log = ctx.state["log"] = {}
        ctx.map(lambda n: log.__setitem__(str(n), echo(n)), range(32))

    for session in range(5):
        bodies.append(body)
        flow.with_options(session_id=f"threads {session}")(len(bodies) - 1)
        assert len(flow.session(f"threads {session}").state["log"]) == 32


def test_a_key_that_was_only_written_never_conflicts():
    """The last of several steps that set a key without reading it wins."""

    @cached_step
    def measure(ctx: Context, word: str) -> int:
        ctx.state["measured last"] = word
        return len(word)

    words = ["cats", "horses", "x", "yy"] * 3

    assert run(lambda ctx: ctx.map(measure, words)) == [len(word) for word in words]
    assert stored()["measured last"] in words


def test_one_value_that_cannot_be_stored_does_not_take_the_others_with_it():
    """All other keys are saved first; then the error is raised, once."""

    def body(ctx: Context) -> None:
        ctx.state["a"], ctx.state["b"] = {}, {}
        ctx.state["a"]["x"] = threading.Lock()
        ctx.state["b"]["paid"] = 1

    with pytest.raises(UnserializableValue) as caught:
        run(body)

    assert stored() == {"a": {}, "b": {"paid": 1}}
    assert not any("could not be saved" in note for note in getattr(caught.value, "__notes__", []))


def test_a_conflict_carries_the_steps_result():
    """What was paid for is not lost with the conflict."""

    @cached_step(reads="n")
    def step(ctx: Context) -> str:
        n = ctx.state["n"]
        elsewhere(lambda theirs: theirs.state.__setitem__("n", 5))
        ctx.state["n"] = n + 1
        return "paid"

    def body(ctx: Context) -> object:
        ctx.state["n"] = 0
        with pytest.raises(StateConflict) as caught:
            step()
        return caught.value.result

    assert run(body) == "paid"


def test_a_deleted_session_does_not_begin_its_revisions_anew():
    """A value read before the session was deleted is not overwritten by a change made on it."""

    def body(ctx: Context) -> None:
        n = ctx.state.setdefault("n", 1)
        flow.session("s").delete()
        flow.session("s").state["n"] = 100
        with pytest.raises(StateConflict):
            ctx.state["n"] = n + 1

    bodies.append(body)
    with pytest.raises(Exception):  # noqa: B017 - the run is deleted under its feet, and says so
        flow(len(bodies) - 1)

    assert stored()["n"] == 100


def test_a_session_outside_runs_notices_that_it_was_deleted():
    """A value read before is not overwritten by a change made on it, though the new one has been set as often."""
    mine, theirs = flow.session("s"), flow.session("s")
    mine.state["n"] = 1
    assert mine.state["n"] == 1

    theirs.delete()
    theirs.state["n"] = 100

    with pytest.raises(StateConflict):
        mine.state["n"] = mine.state["n"] + 1
    assert stored() == {"n": 100}
