"""`step.explain(...)`: the verdict of a call that is not made, and what sets it apart from the nearest remembered one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import BaseModel, SecretStr

from agentflow import Context, NoKey, cached_step, configure, workflow
from agentflow._settings import using_store
from agentflow.exceptions import UnkeyableArgument, UsageError
from agentflow.stores import DiskStore, MemoryStore
from agentflow.stores._base import EntryFilter
from agentflow.types import Difference

pytestmark = pytest.mark.usefixtures("store")

ROOT = Path(__file__).parent.parent.parent


class Query(BaseModel):
    text: str
    filters: dict[str, int] = {}


@dataclass
class Account:
    user: str
    pin: int = field(default=0, repr=False)


FACTOR = 2


def helper(number: int) -> int:
    return number + 1


@cached_step(name="explained.scaled")
def scaled(number: int) -> int:
    return helper(number) * FACTOR


def told(explanation):
    return [str(difference) for difference in explanation.differences]


def test_a_hit_says_when_it_was_made_and_by_which_run():
    """The run, the key and the time are those of the remembered result."""

    @cached_step
    def double(number: int) -> int:
        return 2 * number

    @workflow
    def flow(number: int) -> int:
        return double(number)

    flow(2)
    run = flow.session("default").runs()[0]

    found = double.with_options(workflow=flow.name).explain(2)

    assert (found.hit, found.why, found.run_id, found.workflow) == (True, "remembered", run.id, flow.name)
    assert found.key == double.with_options(workflow=flow.name).key(2)
    assert run.started_at <= found.made_at <= run.finished_at
    assert f"by run {run.id}" in str(found)


def test_nothing_remembered_at_all():
    """A step that was never called here is new."""
    found = scaled.explain(1)

    assert (found.hit, found.why, found.differences, found.made_at) == (False, "new", (), None)
    assert str(found).startswith("miss: step 'explained.scaled' in session 'default'")


def test_explaining_changes_nothing(store):
    """It executes nothing, remembers nothing, and takes no lock that a call would need."""
    calls = []

    @cached_step
    def count(number: int) -> int:
        calls.append(count.explain(number).why)
        return number

    count.explain(1)

    assert (calls, store.entries(EntryFilter())) == ([], [])
    assert count(1) == 1
    assert calls == ["new"]


def test_the_argument_that_differs_is_named_with_both_values():
    """Of several remembered calls the one with the fewest differences is compared."""

    @cached_step
    def find(topic: str, limit: int = 10, lang: str = "en") -> str:
        return topic

    find("dogs", 5)
    find("cats", 10)
    find("birds", 1, "fr")

    found = find.explain("cats", 20)

    assert found.why == "differs"
    assert found.differences == (Difference(kind="argument", name="limit", here="20", there="10"),)
    assert found.compared == 3


def test_the_place_inside_an_argument_is_told():
    """A path leads to what differs inside a model."""

    @cached_step
    def find(query: Query) -> str:
        return query.text

    find(Query(text="cats", filters={"since": 2020, "to": 2024}))

    found = find.explain(Query(text="cats", filters={"since": 2021, "to": 2024}))

    assert told(found) == ["argument query.filters['since']: 2021 here, 2020 there"]


def test_values_that_begin_alike_are_told_apart():
    """Long texts are shortened, and still known to differ."""

    @cached_step
    def read(text: str) -> int:
        return len(text)

    read("a" * 5000 + "x")

    (difference,) = read.explain("a" * 5000 + "y").differences

    assert difference.name == "text"
    assert difference.there == "another that begins alike"
    assert len(str(difference)) < 200


def test_no_secret_is_kept_or_shown(store):
    """Not that of a parameter, key, field or type that is named like one, nor one that is known by its shape."""

    @cached_step(name="secrets")
    def ask(api_key: str, headers: dict, login: Account, url: str, held: SecretStr, more: list) -> str:
        return "answer"

    def arguments(mark: str):
        return {
            "api_key": f"hunter{mark}",
            "headers": {"Authorization": f"Basic hunter{mark}", "Accept": f"text/{mark}"},
            "login": Account("ada", 8765430 + int(mark)),
            "url": f"postgres://app:hunter{mark}@db/x?key=hunter{mark}",
            "held": SecretStr(f"hunter{mark}"),
            "more": [("password", f"hunter{mark}"), f"Bearer hunter{mark}", {"dbPassword": f"hunter{mark}"}],
        }

    ask(**arguments("1"))

    shown = str(ask.explain(**arguments("2")))
    (kept,) = store.recent(EntryFilter(), 10)

    for text in (shown, kept.detail):
        assert "hunter" not in text
        assert "876543" not in text
    assert "argument api_key: [hidden] here, another one there" in shown
    assert "headers['Accept']: 'text/2' here, 'text/1' there" in shown


def test_what_is_not_part_of_the_key_is_not_told():
    """Neither ignored arguments nor those marked `NoKey` are looked at."""
    from typing import Annotated

    @cached_step(ignore="loud")
    def say(text: str, loud: object = None, client: Annotated[object, NoKey] = None) -> str:
        return text

    say("a", loud=object(), client=object())

    assert say.explain("a", loud=object()).hit
    assert told(say.explain("b", loud=3)) == ["argument text: 'b' here, 'a' there"]


def test_the_piece_of_code_that_changed_is_named(monkeypatch):
    """A constant and a helper each show by name; the value of a constant is not told."""
    scaled(1)

    monkeypatch.setitem(globals(), "FACTOR", 3)
    by_constant = scaled.explain(1)
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "helper", lambda number: number - 1)
    by_helper = scaled.explain(1)

    assert by_constant.why == "differs"
    assert [(each.kind, each.name.partition(":")[2], each.here) for each in by_constant.differences] == [
        ("code", "FACTOR", "has changed")
    ]
    assert "helper" in " ".join(told(by_helper))


def test_digests_of_pieces_are_too_short_to_confirm_a_guess(store):
    """A constant may be a secret: of the digest of each piece 16 bits are kept."""
    scaled(1)
    (entry,) = store.entries(EntryFilter())

    pieces = store.pieces(entry.step, entry.version)

    assert {len(mark) for mark in pieces.values()} == {4}


def test_versions_that_are_pinned_are_told():
    """Both texts stand in the difference."""
    one = cached_step(name="explained.pinned", version="1")(_same)
    two = cached_step(name="explained.pinned", version="2")(_same)
    one(5)

    assert told(two.explain(5)) == ["version: '2' here, '1' there"]
    assert one.explain(5).hit


def _same(number: int) -> int:
    return number


def test_an_entry_in_another_session_is_named():
    """The same call is remembered elsewhere, and that is where."""
    scaled.with_options(session_id="ada", workflow="flow")(1)

    found = scaled.with_options(session_id="bob", workflow="flow").explain(1)

    assert found.why == "differs"
    assert told(found) == ["session: 'bob' here, 'ada' there"]


def test_an_entry_of_another_workflow_is_named():
    """Sessions of two workflows do not share."""
    scaled.with_options(workflow="one")(1)

    assert told(scaled.with_options(workflow="two").explain(1)) == ["workflow: 'two' here, 'one' there"]


def test_a_result_of_another_run_is_named():
    """`scope="run"` remembers inside one run, and outside one not at all."""

    @cached_step(scope="run")
    def once(number: int) -> int:
        return number

    seen = []

    @workflow
    def flow(ctx: Context, number: int) -> int:
        seen.append((ctx.run_id, once.explain(1)))
        once(1)
        assert once.explain(1).hit
        return number

    flow(1)
    flow(2)

    assert once.explain(1).why == "not_remembered"
    (first, new), (second, other) = seen
    assert new.why == "new"
    assert told(other) == [f"run: {second!r} here, {first!r} there"]


def test_global_results_have_no_session():
    """A step of scope "global" is a hit from every session."""

    @cached_step(scope="global")
    def shared(number: int) -> int:
        return number

    shared.with_options(session_id="ada")(1)

    assert shared.with_options(session_id="bob").explain(1).hit
    assert told(shared.explain(2)) == ["argument number: 2 here, 1 there"]


def test_an_expired_result_says_since_when():
    """The ttl in force counts, not the one that was in force when it was made."""
    scaled(1)

    found = scaled.with_options(ttl=1e-6).explain(1)

    assert found.why == "expired"
    assert "its ttl is 1e-06 s, over since" in str(found)
    assert scaled.with_options(ttl=3600).explain(1).hit


def test_a_refresh_in_force_is_told():
    """Of the step itself or of the run; what the run has made anew itself is a hit."""
    seen = []

    @workflow
    def flow() -> None:
        seen.append(scaled.explain(1).why)
        scaled(1)
        seen.append(scaled.explain(1).why)

    flow()
    flow.with_options(refresh=[scaled])()

    assert seen == ["new", "remembered", "refresh", "remembered"]
    assert scaled.with_options(workflow=flow.name, refresh=True).explain(1).why == "refresh"


def test_a_result_that_cache_if_refused_is_told():
    """In a run, its events tell; outside one, that there is a `cache_if` at all."""

    @cached_step(cache_if=bool)
    def find(topic: str) -> list[str]:
        return []

    @workflow
    def flow(topic: str) -> list[str]:
        return find(topic)

    flow("cats")
    run = flow.session("default").runs()[0]

    refused = find.with_options(workflow=flow.name).explain("cats")
    other = find.with_options(workflow=flow.name).explain("dogs")

    assert (refused.why, refused.run_id) == ("refused", run.id)
    assert other.why == "new"
    assert "cache_if" in str(other)


def test_a_key_of_ones_own_is_what_is_compared():
    """With `key=` the arguments do not count, and its result does."""

    @cached_step(key=lambda url: url.lower())
    def read(url: str) -> str:
        return url

    read("HTTP://A")

    assert read.explain("http://a").hit
    assert told(read.explain("http://b")) == ["key: 'http://b' here, 'http://a' there"]


def test_the_state_key_that_differs_is_named():
    """`reads=` makes state part of the key."""

    @cached_step(reads="language")
    def greet(ctx: Context, name: str) -> str:
        return f"{ctx.state.get('language')} {name}"

    seen = []

    @workflow
    def flow(ctx: Context, language: str) -> str:
        ctx.state["language"] = language
        seen.append(greet.explain("ada"))
        return greet("ada")

    flow("en")
    flow("fr")

    assert told(seen[1]) == ["state language: 'fr' here, 'en' there"]


def test_a_value_whose_type_changed_is_stale():
    """The old result is there and does not fit the new model."""

    def define(kind: type) -> object:
        class Page(BaseModel):
            title: kind

        def read(url: str):
            return Page(title="cats" if kind is str else 3)

        read.__annotations__["return"] = Page
        return cached_step(name="explained.stale", version="1")(read)

    define(str)("u")

    found = define(int).explain("u")

    assert found.why == "stale"
    assert found.made_at is not None


def test_a_damaged_result_is_told(tmp_path):
    """Explaining does not raise where the call would, and says what the call does."""
    import sqlite3

    for on_corrupt in ("raise", "recompute"):
        store = DiskStore(tmp_path / on_corrupt, on_corrupt=on_corrupt)
        with using_store(store):
            scaled(1)
            with sqlite3.connect(tmp_path / on_corrupt / "cache.db") as con:
                con.execute("UPDATE Cache SET value = substr(value, 1, 20)")
            con.close()

            found = scaled.explain(1)
        store.close()

        assert found.why == "damaged"
        assert ("StoreCorrupt" in found.detail) == (on_corrupt == "raise")


def test_all_colours_are_explained_without_waiting():
    """`explain` is an ordinary function for each of the four."""

    @cached_step
    async def awaited(n: int) -> int:
        return n

    @cached_step
    def streamed(n: int):
        yield n

    @cached_step
    async def astreamed(n: int):
        yield n

    steps = (awaited, streamed, astreamed)
    before = [step.explain(1).why for step in steps]

    async def call() -> None:
        for step in steps:
            await step.acall(1)
        assert [step.explain(1).hit for step in steps] == [True] * 3

    asyncio.run(call())

    assert before == ["new"] * 3
    assert [told(step.explain(2)) for step in steps] == [["argument n: 2 here, 1 there"]] * 3


def test_an_argument_that_cannot_be_keyed_is_refused():
    """As the call would."""
    with pytest.raises(UnkeyableArgument):
        scaled.explain(object())


def test_changes_that_the_body_makes_to_its_arguments_are_not_told():
    """What was called with is taken down before the body runs."""

    @cached_step
    def fill(items: list[int]) -> int:
        items.append(99)
        return len(items)

    fill([1])

    assert told(fill.explain([2])) == ["argument items[0]: 2 here, 1 there"]


PROGRAM = """
import sys
import agentflow
from agentflow import cached_step

FACTOR = {factor}

@cached_step(name="shared.step")
def scale(number: int) -> int:
    return number * FACTOR

agentflow.configure(store=sys.argv[1])
{action}
"""


def test_another_process_explains_as_well(tmp_path):
    """What differs is told from what stands in the store: arguments, and the piece of code that was edited between."""

    def run(factor: int, action: str) -> str:
        script = tmp_path / "program.py"
        script.write_text(textwrap.dedent(PROGRAM).format(factor=factor, action=action))
        command = [sys.executable, str(script), str(tmp_path / "store")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(2, "scale(1)")

    assert run(2, "print(scale.explain(1).hit)") == "True\n"
    assert "argument number: 5 here, 1 there" in run(2, "print(scale.explain(5))")
    assert "code program:FACTOR has changed" in run(3, "print(scale.explain(1))")


@pytest.fixture
def lines(caplog):
    """The texts of the misses that were logged."""
    caplog.set_level("DEBUG", logger="agentflow")
    yield lambda: [record.getMessage() for record in caplog.records if record.getMessage().startswith("step.miss")]
    configure(debug=None)


def test_every_miss_tells_why_if_it_is_asked_to(lines, monkeypatch):
    """By `configure(debug=True)` or the environment; a hit says nothing, and without being asked nobody does."""
    scaled(1)
    configure(debug=True)
    scaled(1)
    scaled(2)
    configure(debug=False)
    scaled(3)
    configure(debug=None)
    monkeypatch.setenv("AGENTFLOW_DEBUG", "1")
    scaled(4)

    first, second = lines()

    assert "argument number: 2 here, 1 there" in first
    assert "number: 4 here" in second
    assert "\n" not in first


def test_a_run_can_be_asked_to_tell_its_misses(lines):
    """`with_options(debug=)` holds for the run, for streams and async steps in it, and for the runs that it begins; over the setting."""

    @cached_step
    def items(n: int):
        yield n

    @workflow
    def inner(n: int) -> int:
        return scaled(n)

    @workflow
    def outer(n: int) -> int:
        list(items(n))
        return inner(n)

    outer(1)
    outer.with_options(debug=True)(2)
    configure(debug=True)
    outer.with_options(debug=False)(3)

    assert len(lines()) == 2
    assert all("2 here, 1 there" in line for line in lines())


def test_a_miss_that_cannot_be_explained_is_executed_all_the_same(lines, tmp_path):
    """What the log would tell is damaged: the step runs."""
    import sqlite3

    store = DiskStore(tmp_path / "other")
    with using_store(store):
        scaled(1)
        with sqlite3.connect(tmp_path / "other" / "cache.db") as con:
            con.execute("UPDATE af_entries SET detail = x'ff'")
        con.close()
        configure(debug=True)

        assert scaled(2) == 6
    store.close()

    assert "could not say more" in lines()[0]


@pytest.mark.parametrize("wrong", ["yes", 1])
def test_debug_is_true_false_or_none(wrong):
    """Anything else is refused."""
    with pytest.raises(UsageError, match="debug="):
        configure(debug=wrong)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, True, 1.0, "a", (1,), None]),
            st.sampled_from(["1", "2", "auto"]),
            st.sampled_from([None, 0.000001, 3600]),
            st.booleans(),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["run", "session", "global"]),
        ),
        max_size=12,
    )
)
def test_the_verdict_is_what_a_call_then_does(calls):
    """Over arguments, versions, ttl, refresh, sessions and scopes: `explain` says hit exactly if the body is not entered."""
    executed = []

    def body(value: object) -> object:
        executed.append(value)
        return value

    with using_store(MemoryStore()):
        for value, version, ttl, refresh, session, scope in calls:
            made = cached_step(name="explained.property", version=version, scope=scope)(body)
            step = made.with_options(ttl=ttl, refresh=refresh, session_id=session)
            executed.clear()

            found = step.explain(value)
            assert executed == []
            step(value)

            assert found.hit == (executed == [])
            assert found.hit == (found.why == "remembered")
            assert str(found)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([False, True, "one"]), st.lists(st.sampled_from("abc"), max_size=5)), max_size=4)
)
def test_the_verdict_in_a_run_is_what_a_call_then_does(runs):
    """What a run has asked to make anew is a miss until it has made it; then it is a hit."""
    executed, seen = [], []

    @cached_step(name="explained.one", cache_if=lambda value: value != "c")
    def one(value: str) -> str:
        executed.append(value)
        return value

    @cached_step(name="explained.two", scope="run")
    def two(value: str) -> str:
        executed.append(value)
        return value

    @workflow(name="explained.flow")
    def flow(number: int, values: list[str]) -> None:
        for step in (one, two):
            for value in values:
                executed.clear()
                found = step.explain(value)
                step(value)
                seen.append((found.hit, executed == []))

    with using_store(MemoryStore()):
        for number, (refresh, values) in enumerate(runs):
            flow.with_options(refresh=[one] if refresh == "one" else refresh)(number, values)

    assert [said for said, _ in seen] == [happened for _, happened in seen]
