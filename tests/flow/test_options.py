"""Options that cannot be what they are, and names of steps that do not exist, are refused where they are given."""

from __future__ import annotations

import pytest

from agentflow import Context, FileArg, RetryPolicy, cached_step, configure, get_run, list_runs, workflow
from agentflow.exceptions import UsageError

pytestmark = pytest.mark.usefixtures("store")


@cached_step(name="shop.options:search", tags="web")
def search(topic: str) -> str:
    return f"a page about {topic}"


@cached_step(name="shop.options:shared", scope="global")
def shared(topic: str) -> str:
    return topic


@workflow(name="shop.options:report", session="s")
def report(ctx: Context, topic: str) -> str:
    return search(topic)


WRONG = {
    "workflow of a step": lambda: search.with_options(workflow=3),
    "session of a step": lambda: search.with_options(session_id=3),
    "refresh of a step": lambda: search.with_options(refresh="yes"),
    "ttl of a step": lambda: search.with_options(ttl="1h"),
    "timeout of a step": lambda: search.with_options(timeout=-1),
    "retry of a step": lambda: search.with_options(retry=1.5),
    "concurrency of a step": lambda: search.with_options(max_concurrency=1.5),
    "store of a step": lambda: search.with_options(store=3),
    "key of a decorator": lambda: cached_step(key="url")(lambda url: url),
    "cache_if of a decorator": lambda: cached_step(cache_if=True)(lambda url: url),
    "ctx of a decorator": lambda: cached_step(ctx="no")(lambda url: url),
    "ctx of a workflow": lambda: workflow(ctx="no")(lambda url: url),
    "reads of a decorator": lambda: cached_step(name="odd", reads=3)(search.fn),
    "ignore of a decorator": lambda: cached_step(name="odd", ignore=3)(search.fn),
    "tags of a decorator": lambda: cached_step(name="odd", tags=3)(search.fn),
    "ignore of a workflow": lambda: workflow(name="odd", ignore=3)(search.fn),
    "errors to retry": lambda: RetryPolicy(on=3),
    "one of the errors to retry": lambda: RetryPolicy(on=(OSError, "ValueError")),
    "path of a file": lambda: FileArg(3),
    "what to map over": lambda: search.map(3),
    "ttl of a decorator": lambda: cached_step(ttl=[])(lambda url: url),
    "max_attempts": lambda: workflow(max_attempts=2.0)(lambda url: url),
    "key of a workflow": lambda: workflow(key="url")(lambda url: url),
    "refresh of a workflow": lambda: report.with_options(refresh=3),
    "refresh among steps": lambda: report.with_options(refresh=[search, 3]),
    "debug of a workflow": lambda: report.with_options(debug="yes"),
    "map at once": lambda: search.map(["a"], max_concurrency=1.5),
    "map none at once": lambda: search.map(["a"], max_concurrency=0),
    "limit of runs": lambda: report.session("s").runs(limit=-1),
    "limit of sessions": lambda: report.sessions(limit="3"),
    "limit of list_runs": lambda: list_runs(limit=-1),
    "workflow of list_runs": lambda: list_runs(workflow=3),
    "status of list_runs": lambda: list_runs(status="done"),
    "id of a run": lambda: get_run(3),
    "tag to forget": lambda: report.session("s").forget(tag=3),
    "age to forget": lambda: report.session("s").forget(older_than="1h"),
    "version to forget": lambda: report.session("s").forget(version=2),
    "step to forget": lambda: report.session("s").forget(lambda: None),
    "debug": lambda: configure(debug="yes"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_option_that_cannot_be_is_refused_at_once(wrong):
    """A `UsageError` where it is written, not a strange one later."""
    with pytest.raises(UsageError) as refused:
        wrong()

    assert len(str(refused.value)) < 300


def test_runs_are_listed_by_the_workflow_or_its_name():
    """`list_runs` takes what is at hand, as `Session.forget` does."""
    report("cats")

    assert [run.id for run in list_runs(workflow=report)] == [run.id for run in list_runs(workflow=report.name)]
    assert len(list_runs(workflow=report)) == 1


def test_a_number_of_an_event_that_cannot_be_is_refused():
    """`Run.events(after=)` counts from 0."""
    report("cats")

    with pytest.raises(UsageError, match="after=-1"):
        list_runs(workflow=report.name)[0].events(after=-1)


def test_no_runs_are_asked_for():
    """A limit of 0 is a limit."""
    report("cats")

    assert report.session("s").runs(limit=0) == list_runs(limit=0) == report.sessions(limit=0) == []


@pytest.mark.parametrize("typo", ["serch", "shop.options:serch", "search", "shop.option:search"])
def test_a_misspelled_step_is_refused_and_the_right_one_named(typo):
    """By `forget` at once, by `refresh` when the workflow is called and its store is known."""
    report("cats")

    for ask in (lambda: report.session("s").forget(typo), lambda: report.with_options(refresh=[typo])("cats")):
        with pytest.raises(UsageError, match="did you mean 'shop.options:search'"):
            ask()


def test_a_name_that_is_like_no_other_is_refused():
    """Then there is nothing to propose."""
    with pytest.raises(UsageError, match=r"a step's name is its \.name"):
        report.session("s").forget("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz")


def test_a_step_that_only_the_store_knows_can_be_named(monkeypatch):
    """Its module may not be imported here, and its results are there all the same."""
    from agentflow import _registry

    other = cached_step(name="gone.module:step")(lambda topic: topic)
    other.with_options(session_id="s", workflow=report.name)("cats")
    monkeypatch.delitem(_registry._places, ("cached_step", "gone.module:step"))

    report.with_options(refresh="gone.module:step")("cats")

    assert report.session("s").forget("gone.module:step") == 1
    with pytest.raises(UsageError, match="no step 'gone.module:step'"):
        report.session("s").forget("gone.module:step")


def test_a_step_that_only_this_process_knows_can_be_named():
    """It has simply remembered nothing yet."""
    assert report.session("s").forget(search.name) == 0
    assert report.with_options(refresh=[search.name])("cats") == "a page about cats"


def test_what_is_remembered_is_administered_by_step_tag_age_and_version():
    """Each condition narrows; a result that is forgotten is executed again."""
    for topic in ("cats", "dogs"):
        report(topic)
    session = report.session("s")
    (version,) = {remembered.version for remembered in session.steps()}

    assert session.forget(tag="news") == session.forget(version="2") == session.forget(older_than=3600) == 0
    assert session.forget(search, tag="web", version=version, older_than=0) == 2
    assert session.steps() == []


def test_a_pinned_version_is_forgotten_by_its_text():
    """Also for the closures of one factory, which are told apart by what they have captured."""

    def make(factor: int):
        @cached_step(name="shop.options:scaled", version="7")
        def scaled(number: int) -> int:
            return number * factor

        return scaled

    plain = cached_step(name="shop.options:plain", version="7")(_same)
    for step in (make(2), make(3), plain):
        step.with_options(session_id="s", workflow=report.name)(1)
    session = report.session("s")

    assert {remembered.version.partition("+")[0] for remembered in session.steps()} == {"7"}
    assert session.forget(version="8") == 0
    assert session.forget(plain, version=session.steps()[-1].version) == 1
    assert session.forget(version="7") == 2


def _same(number: int) -> int:
    return number


def test_a_global_result_is_forgotten_by_its_step():
    """It belongs to no session."""
    shared("cats")

    assert report.session("s").forget(shared) == 0
    assert shared.forget("cats") == 1
    assert not shared.is_cached("cats")


def test_a_seeded_result_is_explained_as_any_other():
    """What it was seeded for is kept beside it."""
    search.seed("a page", "cats")

    assert search.explain("cats").hit
    assert str(search.explain("dogs").differences[0]) == "argument topic: 'dogs' here, 'cats' there"


@pytest.mark.parametrize("decorator", [cached_step, workflow])
def test_a_decorator_that_is_refused_claims_no_name(decorator):
    """The name is free for the function that was meant, once the option is mended somewhere else."""

    def meant(url: str) -> str:
        return url

    def other(url: str) -> str:
        return url

    with pytest.raises(UsageError):
        decorator(name=f"refused {decorator.__name__}", ignore="nobody")(meant)

    assert decorator(name=f"refused {decorator.__name__}")(other)("a") == "a"
