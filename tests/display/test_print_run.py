"""`print_run`: what it takes, what it gives back, and the plain lines that it writes where nobody looks on."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys

import pytest

from agentflow import Agent, Context, cached_step, get_run, list_runs, print_run, workflow
from agentflow.exceptions import RunFailed, UsageError
from agentflow.stores import MemoryStore
from agentflow.testing import ScriptedModel, fresh_store


@pytest.fixture(autouse=True)
def store():
    with fresh_store() as made:
        yield made


@cached_step
def find(topic: str) -> str:
    if topic == "bad":
        raise ValueError("a bad topic")
    return f"a page about {topic}"


@workflow
def rate(topic: str) -> int:
    return len(find(topic))


@workflow
def post(topic: str):
    rate(topic)
    yield "About "
    yield find(topic)


@workflow
def plain(topic: str) -> str:
    return find(topic)


@workflow
async def awaited(topic: str) -> str:
    await asyncio.sleep(0)
    return find(topic)


@workflow
async def astreamed(topic: str):
    yield "About "
    yield find(topic)


def lines(capsys) -> list[str]:
    """What was written, less what differs from run to run."""
    written = re.sub(r"run [0-9a-f]{12}", "run ID", capsys.readouterr().out)
    return re.sub(r", [\d.]+ m?s$", "", written, flags=re.MULTILINE).splitlines()


STREAMED = [
    "| post: run ID, session default",
    "| | rate: run ID, session default",
    "| | | find: TIME",
    "| | rate: completed",
    "About ",
    "| | find: TIME",
    "a page about cats",
    "| post: completed",
]


@pytest.mark.parametrize("stream", ["items", "events", "run", "run events"])
def test_every_kind_of_stream_is_shown_alike(capsys, stream):
    """Items, events, a run in the background, and the events that one has recorded."""
    kinds = {
        "items": lambda: post("cats"),
        "events": lambda: post.stream_events("cats"),
        "run": lambda: post.start("cats"),
        "run events": lambda: finished(post.start("cats")).events(),
    }
    result = print_run(kinds[stream]())

    shown = [re.sub(r"find: [\d.]+ m?s", "find: TIME", line) for line in lines(capsys) if line.startswith("|")]
    expected = [line for line in STREAMED if line.startswith("|")]
    if stream == "run events":  # of this run alone, and they end without a result
        assert (shown, result) == ([line for line in expected if "rate" not in line and "| | |" not in line], None)
    else:
        assert (shown, result) == (expected, "About a page about cats")


def finished(run):
    run.result(timeout=10)
    return run


@pytest.mark.parametrize("stream", ["coroutine", "events", "items"])
async def test_what_is_async_is_awaited(capsys, stream):
    """The same lines and the same result."""
    kinds = {
        "coroutine": lambda: awaited("cats"),
        "events": lambda: awaited.astream_events("cats"),
        "items": lambda: astreamed("cats"),
    }

    result = await print_run(kinds[stream]())

    assert result == ("About " if stream == "items" else "") + "a page about cats"
    assert "a page about cats" in lines(capsys)


async def test_a_sync_workflow_is_shown_from_a_loop():
    """By its awaited events; its own thread does not hold up the loop."""
    assert await print_run(post.astream_events("cats")) == "About a page about cats"


def test_a_result_that_was_not_yielded_is_shown_if_it_is_text(capsys):
    """Before the line that says how it ended; what is no text is returned only."""
    assert print_run(plain.stream_events("cats")) == "a page about cats"
    assert lines(capsys)[-2:] == ["a page about cats", "| plain: completed"]

    assert print_run(rate.stream_events("cats")) == 17
    assert lines(capsys)[-1] == "| rate: completed"


def test_an_agent_is_shown_without_a_run(capsys):
    """Its text, and its result is returned."""
    result = print_run(Agent(ScriptedModel(["Hello!"])).stream("Say hello"))

    assert result.output == "Hello!"
    assert capsys.readouterr().out == "Hello!\n"


async def test_an_async_agent_is_shown_without_a_run(capsys):
    """As a sync one."""
    result = await print_run(Agent(ScriptedModel(["Hello!"])).astream("Say hello"))

    assert (result.output, capsys.readouterr().out) == ("Hello!", "Hello!\n")


def test_items_that_somebody_has_changed_are_shown_as_they_come(capsys):
    """Not as the run has yielded them; and of several runs in a row nothing is missing."""
    louder = (chunk.upper() for chunk in itertools.chain(post("cats"), post("dogs")))

    assert print_run(louder) == "ABOUT A PAGE ABOUT CATSABOUT A PAGE ABOUT DOGS"
    assert "A PAGE ABOUT DOGS" in capsys.readouterr().out


def test_an_error_shows_the_users_line_first(capsys):
    """The place in their code, its source, then the message; and it is raised unchanged."""
    with pytest.raises(ValueError, match="a bad topic"):
        print_run(post("bad"))

    written = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(written) if line.startswith("| post: failed"))
    assert re.fullmatch(r"\|   tests/display/test_print_run.py, line \d+, in find", written[at + 1])
    assert written[at + 2 :] == ['|       raise ValueError("a bad topic")', "|   ValueError: a bad topic"]


def test_the_error_of_a_run_in_the_background_shows_it_too(capsys):
    """From the traceback that the run has kept."""
    with pytest.raises(RunFailed):
        print_run(plain.start("bad"))

    assert re.search(r"\|   tests/display/test_print_run.py, line \d+, in find\n", capsys.readouterr().out)


@pytest.mark.parametrize("thing", ["text", 1, None, ["a"], plain])
def test_what_is_no_stream_is_refused(thing):
    """And the message says what is one."""
    with pytest.raises(UsageError, match=r"no stream: give it wf.stream_events"):
        print_run(thing)


@pytest.mark.parametrize("switch", ["markdown", "show_time"])
def test_a_switch_is_on_or_off(switch):
    """Anything else is a mistake."""
    with pytest.raises(UsageError, match=switch):
        print_run(post("cats"), **{switch: "yes"})


def test_show_time_leaves_times_out(capsys):
    """No line has one."""
    print_run(post("cats"), show_time=False)

    assert not re.search(r"\d m?s\b", capsys.readouterr().out)


def test_who_listens_inside_hears_no_more_than_before():
    """That print_run shows the workflows that a run calls is its own affair."""
    heard = []

    @workflow
    def listening() -> int:
        heard.extend(event.type for event in post.stream_events("cats"))
        return 1

    print_run(listening.stream_events())
    assert heard.count("run_started") == 1


def test_ctrl_c_cancels_what_is_listened_to():
    """A stream of events that is told of Ctrl-C leaves the run cancelled, as Ctrl-C in its own code does; closing it, interrupted."""
    for leave, status in [
        (lambda stream: stream.throw(KeyboardInterrupt), "cancelled"),
        (lambda stream: stream.close(), "interrupted"),
    ]:
        stream = endless.stream_events()
        next(stream)
        try:
            leave(stream)
        except KeyboardInterrupt:
            pass
        assert list_runs(workflow=endless.name, limit=1)[0].status == status


@workflow
def endless(ctx: Context):
    while True:
        ctx.check()
        yield "again "


@pytest.mark.parametrize("place", ["stream", "screen"])
def test_ctrl_c_leaves_a_true_status(capsys, monkeypatch, place):
    """Wherever it comes: while events are awaited, or while they are drawn."""
    seen = 0

    stream = endless.stream_events()
    if place == "stream":
        next(stream)  # begun, so that a throw into it counts

    def write(text: str) -> int:
        nonlocal seen
        seen += 1
        if seen == 5:
            raise KeyboardInterrupt
        return len(text)

    monkeypatch.setattr(sys.stdout, "write", write)
    with pytest.raises(KeyboardInterrupt):
        print_run(stream)

    assert list_runs(workflow=endless.name)[0].status == "cancelled"


def test_a_run_goes_on_when_nobody_looks_any_more(monkeypatch):
    """Ctrl-C ends only the looking at a run in the background."""
    run = endless.with_options(run_id="demo").start()
    monkeypatch.setattr(sys.stdout, "write", pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            print_run(run)
        assert get_run("demo").status == "running"
    finally:
        run.cancel()
        with pytest.raises(Exception, match="cancelled"):
            run.result(timeout=10)


def pressed(text: str) -> int:
    raise KeyboardInterrupt


def test_a_pipe_that_nobody_reads_is_one_error(tmp_path):
    """Not two, one in the middle of the other."""
    program = (
        "from agentflow import configure, print_run\nconfigure(store='memory:')\nprint_run(c for c in 'x' * 100_000)"
    )
    done = subprocess.run(
        f'{sys.executable} -c "{program}" | head -c 10', shell=True, capture_output=True, text=True, timeout=60
    )

    assert "During handling" not in done.stderr


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    """At a terminal, before anything runs; a pipe does without it."""
    monkeypatch.setitem(sys.modules, "rich", None)
    for name in [name for name in sys.modules if name.startswith("rich.") or name == "agentflow._display._terminal"]:
        monkeypatch.delitem(sys.modules, name)
    assert print_run(plain.stream_events("cats")) == "a page about cats"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(UsageError, match=r"pip install 'agentflow-workflows\[cli\]'"):
        print_run(plain.stream_events("dogs"))
    assert len(list_runs(workflow=plain.name)) == 1


def test_nothing_is_loaded_to_write_plain_lines(tmp_path):
    """Neither rich nor IPython."""
    program = (
        "import sys; from agentflow import configure, print_run; configure(store='memory:'); print_run(iter(['a']));"
        "assert not {'rich', 'IPython'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_store_of_its_own_is_no_matter():
    """The events say what is needed; the store is not asked."""
    elsewhere = MemoryStore()

    assert print_run(plain.with_options(store=elsewhere).stream_events("cats")) == "a page about cats"
    assert list_runs(store=elsewhere)[0].status == "completed"
