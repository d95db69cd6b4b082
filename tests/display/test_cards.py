"""What runs, sessions, steps and answers show of themselves in a notebook, without one."""

from __future__ import annotations

import math
import re

import pytest

from agentflow import Agent, AgentResult, Context, cached_step, workflow
from agentflow._blame import blamed
from agentflow._cards import Card, Table, bundle
from agentflow._html import COLOURS, Markup, tag
from agentflow.exceptions import RunFailed
from agentflow.messages import Usage
from agentflow.testing import ScriptedModel, fresh_store


@pytest.fixture(autouse=True)
def store():
    with fresh_store() as made:
        yield made


@cached_step(ttl=60, retry=3, tags=("web",))
def find(topic: str) -> str:
    if topic == "bad":
        raise ValueError("a bad topic")
    return f"a page about {topic}"


@cached_step(version="7", scope="global")
def pinned(topic: str) -> str:
    return topic


@workflow
def rate(topic: str) -> int:
    return len(topic)


@workflow(session="demo")
def post(ctx: Context, topic: str):
    ctx.state["topic"] = {"name": topic}
    ctx.map(find, [topic, f"{topic} again"])
    rate(topic)
    yield "About "
    yield topic


def text_of(thing) -> str:
    shown = thing._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    return shown["text/plain"]


def newest(flow):
    return flow.session("demo").runs()[0]


def test_a_run_shows_how_it_stands_and_what_it_gave():
    """Its steps, those that went alike in one row, the workflows that it called, and its output."""
    list(post("cats"))

    text = text_of(newest(post))

    assert text.startswith("Run post: completed\n")
    assert re.search(r"find × 2 +completed", text)
    assert re.search(r"rate +completed", text)
    assert text.endswith("\nAbout cats")


def test_a_run_that_failed_shows_the_users_line():
    """The line of their own code, then the message."""
    with pytest.raises(RunFailed):
        rate_badly.start().result(timeout=10)

    text = text_of(rate_badly.session("demo").runs()[0])

    assert text.startswith("Run rate_badly: failed\n")
    assert re.search(
        r'  tests/display/test_cards.py, line \d+, in rate_badly\n +raise LookupError\("no rate"\)\n  LookupError: no rate$',
        text,
    )


@workflow(session="demo")
def rate_silently() -> int:
    raise LookupError


def test_an_error_without_a_message_is_its_type():
    """No colon stands before nothing: in what is raised, in the events, and in what is shown of the run."""
    run = rate_silently.start()
    with pytest.raises(RunFailed, match=r"with LookupError: \.traceback says where") as caught:
        run.result(timeout=10)

    assert (caught.value.error_type, caught.value.error_message) == ("LookupError", "")
    assert blamed(caught.value)[-1] == blamed(LookupError())[-1] == "LookupError"
    assert text_of(rate_silently.session("demo").runs()[0]).endswith("\n  LookupError")


@workflow(session="demo")
def rate_badly() -> int:
    raise LookupError("no rate")


def test_a_result_that_was_returned_is_shown_as_json():
    """No class needs to be imported for it."""
    rate.with_options(session_id="demo")("cats")

    assert text_of(newest(rate)).endswith("\n4")


def test_a_run_that_was_deleted_says_so():
    """A cell does not fail for it."""
    list(post("cats"))
    run = newest(post)
    post.session("demo").delete()

    assert run._repr_mimebundle_() == {"text/plain": f"<Run {run.id}, which was deleted>"}


def test_a_session_shows_its_state_and_its_runs():
    """And how much its steps remember."""
    list(post("cats"))

    text = text_of(post.session("demo"))

    assert 'topic  {"name":"cats"}' in text
    assert re.search(rf"{newest(post).id[:12]} +completed", text)
    assert re.search(r"find +2\n?", text)


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        (find, ["Step find", "in each session", "follows its code", "1 min 00 s", "at most 3 times", "web"]),
        (pinned, ["Step pinned", "for all", "version     7"]),
    ],
    ids=["find", "pinned"],
)
def test_a_step_shows_what_it_remembers(step, parts):
    """How, for how long, and the newest results."""
    step("cats")

    text = text_of(step)

    assert [part for part in parts if part not in text] == []
    assert "newest results:" in text


def test_an_answer_shows_its_text():
    """And what it used."""
    assert text_of(Agent(ScriptedModel(["Hello!"])).run("Say hello")) == "Answer\n  used  1 request\nHello!"


def test_an_answer_of_any_bytes_and_numbers_shows_itself():
    """Also those that no JSON has: a cell does not fail for them."""
    result = AgentResult({"picture": b"\xff", "share": math.nan}, (), Usage(), ())

    assert text_of(result).endswith('{\n  "picture": "_w==",\n  "share": "NaN"\n}')


def test_long_tables_are_cut_and_say_so():
    """What a page cannot hold is counted."""
    shown = bundle(Card("Run", "x", tables=(Table("steps", ("step",), (("a",), ("b",)), left_out=3),)))

    assert shown["text/plain"] == "Run x\n  steps:\n    step\n    a\n    b\n    and 3 more"
    assert "and 3 more" in shown["text/html"]


def test_only_what_is_marked_as_html_is_html():
    """Text is escaped in content and in attributes."""
    assert tag("b", '<i>"', tag("i", "&"), title='"><x') == Markup(
        '<b title="&quot;&gt;&lt;x">&lt;i&gt;&quot;<i>&amp;</i></b>'
    )


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("page", ["#ffffff", "#111111"], ids=["light", "dark"])
def test_colours_can_be_read_in_both_themes(page):
    """Each stands out from white and from what JupyterLab's dark theme has, by 4 to 1."""
    for colour in set(COLOURS.values()):
        low, high = sorted([luminance(colour), luminance(page)])
        assert (high + 0.05) / (low + 0.05) >= 4, colour
