"""What there is to see of a run, decided from its events alone."""

from __future__ import annotations

import math
import re

import pytest

from agentflow._display._markdown import Growing
from agentflow._display._notebook import NotebookScreen
from agentflow._display._prose import prose
from agentflow._display._view import Line, View, Words
from agentflow._words import duration, short
from agentflow.events import (
    Event,
    MapProgressed,
    ModelAnswered,
    RunCompleted,
    RunFailed,
    RunStarted,
    RunYielded,
    StepCompleted,
    StepFailed,
    StepHit,
    StepRetried,
    StepStarted,
    StepYielded,
)
from agentflow.messages import Usage

CALL = {"step": "flows:read", "key": "k", "run_id": "r", "attempt": 1}


def begun(**fields) -> RunStarted:
    return RunStarted(
        **{"run_id": "r", "attempt": 1, "at": 10.0, "workflow": "flows:post", "session_id": "s", **fields}
    )


def seen(*told: Event) -> tuple[View, list]:
    view = View()
    return view, [said for event in told for said in view.take(event)]


def test_a_step_is_under_way_and_then_a_line():
    """While it runs it may change; when it is over it is said once, with how long it took."""
    view, _ = seen(begun(), StepStarted(at=11.0, **CALL))
    assert [(each.name, each.since, each.depth) for each in view.doing] == [("read", 11.0, 1)]

    said = view.take(StepCompleted(at=12.5, seconds=1.5, **CALL))

    assert said == [Line("done", "read", "", 1, 1.5)]
    assert view.doing == []


def test_retries_and_failures_say_why():
    """Each failed attempt is a line, and the end says how many there were."""
    retried = StepRetried(at=11.5, error="OSError: no", pause=2.0, **CALL)
    _, said = seen(
        begun(), StepStarted(at=11.0, **CALL), retried, StepFailed(at=14.0, error="OSError: no", attempts=2, **CALL)
    )

    assert said[1:] == [
        Line("retried", "read", "OSError: no; again in 2.0 s", 1),
        Line("failed", "read", "after 2 attempts, OSError: no", 1, 3.0),
    ]


def test_a_map_is_one_line_however_many_its_calls():
    """Its calls are counted, not listed; those that fail are told all the same."""
    progress = {"name": "read", "run_id": "r", "attempt": 1, "total": 3}
    view, said = seen(
        begun(),
        MapProgressed(at=11.0, done=0, **progress),
        StepHit(at=11.1, **CALL),
        StepStarted(at=11.2, **CALL),
        StepRetried(at=11.3, error="OSError: no", pause=0.0, **CALL),
        MapProgressed(at=11.4, done=1, **progress),
    )
    assert [(each.name, each.done, each.total) for each in view.doing] == [("read", 1, 3)]
    assert [each.mark for each in said] == ["begun", "retried"]

    said = view.take(StepCompleted(at=12.0, seconds=1.0, **CALL)) + view.take(
        MapProgressed(at=12.0, done=3, **progress)
    )

    assert said == [Line("done", "map read", "3 of 3, 1 hit", 1, 1.0)]
    assert view.take(StepHit(at=12.1, **CALL)) == [Line("hit", "read", "hit", 1)]


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "ends"])
def test_an_error_in_a_map_is_told_and_ends_it_unless_it_goes_on(goes_on):
    """What follows is told line by line again; a map that collects errors is told as a whole in the end."""
    progress = {"name": "read", "run_id": "r", "attempt": 1, "total": 2}
    view, said = seen(
        begun(),
        MapProgressed(at=11.0, done=0, **progress),
        StepHit(at=11.1, **CALL),
        StepStarted(at=11.2, **CALL),
        StepFailed(at=11.3, error="OSError: no", **CALL),
    )
    assert [line.mark for line in said] == ["begun", "failed"]

    said = view.take(MapProgressed(at=12.0, done=2, **progress) if goes_on else StepHit(at=12.0, **CALL))

    assert said == [Line("done", "map read", "2 of 2, 1 hit", 1, 1.0) if goes_on else Line("hit", "read", "hit", 1)]


def test_a_workflow_called_inside_is_shown_inside():
    """Its lines stand deeper; what it yields is its caller's to show."""
    child = {"run_id": "c", "attempt": 1}
    _, said = seen(
        begun(),
        begun(run_id="c", workflow="flows:rate", parent_id="r", at=11.0),
        StepHit(step="flows:read", key="k", **child),
        RunYielded(items=("words",), **child),
        RunCompleted(at=13.0, **child),
    )

    assert said[1:] == [
        Line("begun", "rate", "run c, session s", 1),
        Line("hit", "read", "hit", 2),
        Line("done", "rate", "completed", 1, 2.0),
    ]


def test_the_end_comes_last_and_counts():
    """How a run ended is held until everything else is shown; it says what was answered from memory and what was paid."""
    usage = Usage(requests=1, input_tokens=1000, output_tokens=234, cost=0.0021)
    asked = ModelAnswered(model="m", usage=usage, agent="writer", calls=("search",), run_id="r", attempt=1)
    view, said = seen(begun(), StepHit(**CALL), asked, RunCompleted(run_id="r", attempt=1, at=12.0))

    assert said[2:] == [Line("model", "writer (m)", "calls search, 1,234 tokens, $0.0021", 1)]
    assert view.ending == Line("done", "post", "completed, 1 hit, 1 request, 1,234 tokens, $0.0021", 0, 2.0)


def test_an_earlier_attempt_that_failed_stays_in_sight():
    """A run that goes on says first how it had ended."""
    failed = RunFailed(run_id="r", attempt=1, at=11.0, error="ValueError: no")
    view, said = seen(begun(), StepStarted(at=10.5, **CALL), failed, begun(attempt=2, at=20.0))

    assert [(line.mark, line.more) for line in said[1:2]] == [("failed", ("ValueError: no",))]
    assert said[2].said == "run r, session s, attempt 2"
    assert view.doing == []
    assert view.ending is None


def test_the_hits_at_the_end_are_those_of_the_attempt():
    """What an earlier one was answered from memory is not counted again."""
    failed = RunFailed(run_id="r", attempt=1, at=11.0, error="ValueError: no")
    completed = RunCompleted(run_id="r", attempt=2, at=22.0)
    view, _ = seen(begun(), StepHit(**CALL), failed, begun(attempt=2, at=20.0), StepHit(**CALL), completed)

    assert view.ending == Line("done", "post", "completed, 1 hit", 0, 2.0)


def test_what_is_yielded_is_words():
    """Text as it is; anything else as JSON, an item a line. A streamed step counts what it has yielded."""
    view, said = seen(begun(), StepStarted(at=11.0, **CALL), StepYielded(items=("abc", "d"), **CALL))
    assert [each.said for each in view.doing] == ["4 characters"]

    said = view.take(RunYielded(items=("a", {"b": 1}), run_id="r", attempt=1))

    assert said == [Words('a{"b":1}\n')]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0004, "0 ms"),
        (0.0123, "12 ms"),
        (0.12, "0.12 s"),
        (1.2, "1.2 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3700, "1 h 01 min"),
    ],
)
def test_a_time_is_told_as_people_tell_it(seconds, told):
    """With as many digits as anybody reads."""
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("name", "told"),
    [("flows:read", "read"), ("a.b:f.<locals>.read", "read"), ("read", "read"), ("m:A.read", "A.read")],
)
def test_a_name_is_told_without_its_module(name, told):
    """Nor the functions around it."""
    assert short(name) == told


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("a", ""),
        ("a\n\nb", "a\n\n"),
        ("a\n\n```\nb\n\nc", "a\n\n"),
        ("```py\na\n\n```\n\nb", "```py\na\n\n```\n\n"),
        ("````\n```\n\n````\n\nb", "````\n```\n\n````\n\n"),
    ],
)
def test_markdown_is_finished_block_by_block(text, finished, size):
    """A block ends with an empty line, but not inside of a fence; in whatever pieces it comes."""
    growing = Growing(markdown=True)

    assert "".join(growing.add(text[at : at + size]) for at in range(0, len(text), size)) == finished
    assert growing.tail(100, 80) == growing.end() == text[len(finished) :]
    assert growing.end() == ""


@pytest.mark.parametrize(
    ("pieces", "blocks"),
    [
        (["```py\na\n", "b\n```\n\n# c"], ["```py\na\n", "```py\nb\n```\n\n# c"]),
        (["```py\na", "", "b"], ["```py\na", "", "```py\nb"]),
        (["```py\na\n", "```\nb"], ["```py\na\n", "b"]),
        (["```py\na\n```", "\n\nb"], ["```py\na\n```", "\n\nb"]),
        (["a\n\n", "b"], ["a\n\n", "b"]),
    ],
    ids=["in code", "in a line", "at its end", "after it", "no code"],
)
def test_code_goes_on_below_a_line_that_is_shown_inside_of_it(pieces, blocks):
    """What follows is in the same fence again, until that is closed."""
    growing = Growing(markdown=True)

    assert [growing.add(piece) + growing.end() for piece in pieces] == blocks


def test_the_end_of_code_that_goes_on_is_drawn_as_what_it_is():
    """Code in its fence; not the text after it; and nothing while there is none."""
    growing = Growing(markdown=True)
    growing.add("```py\na\n")
    growing.end()

    assert growing.tail(2, 40) == ""
    growing.add("b")
    assert growing.tail(2, 40) == "```py\nb"
    growing.add("\n```\nc\nd\n")
    assert growing.tail(2, 40) == "c\nd\n"


@pytest.mark.parametrize("rest", ["y = '# no heading'\n```\n\n# End\n", "```\n\n# End\n"], ids=["more", "closed"])
def test_code_goes_on_below_a_line_in_a_notebook(rest):
    """As code, of which a page has none that is empty; as plain lines it stands as it came."""
    screen, line = NotebookScreen(markdown=True, show_time=True), Line("done", "read", depth=1)
    screen._draw_at = math.inf

    screen.show([Words("```py\nx = 1\n"), line, line, Words(rest[:3]), Words(rest[3:])], View())

    bundle = screen._repr_mimebundle_()
    assert bundle["text/plain"] == f"```py\nx = 1\n| | read: done\n| | read: done\n{rest}"
    assert re.findall("<pre[^>]*>(.*?)</pre>", bundle["text/html"], re.DOTALL) == [
        "x = 1",
        *(["y = &#x27;# no heading&#x27;"] if rest.startswith("y") else []),
    ]
    assert ">End</div>" in bundle["text/html"]


def test_plain_text_is_finished_line_by_line():
    """Since nothing that follows changes a line."""
    growing = Growing(markdown=False)

    assert growing.add("a\nb") == "a\n"
    assert growing.end() == "b"


def test_of_what_is_not_finished_only_its_end_is_drawn():
    """However long it has grown; inside of a fence it stays code."""
    growing = Growing(markdown=True)
    growing.add("word " * 1000)
    assert len(growing.tail(2, 40)) == 80

    growing = Growing(markdown=True)
    growing.add("```py\n" + "x = 1\n" * 100)
    assert growing.tail(2, 40) == "```\nx = 1\nx = 1\n"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("# Cats", ">Cats</div>"),
        ("a **b** `c` *d*", "a <b>b</b> <code"),
        ("1. one\n2. two", ">1. one</div>"),
        ("```py\na < b\n```", ">a &lt; b</pre>"),
        ("a\nb\n\nc", ">a b</div>"),
        ("[x](https://evil.example)", "<span>x (https://evil.example)</span>"),
        ("![x](https://evil.example/p.png)", "<span>x (https://evil.example/p.png)</span>"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ('**<img src=x onerror="y">**', "<b>&lt;img src=x onerror=&quot;y&quot;&gt;</b>"),
        ("\u202eabc", "\\u202eabc"),
    ],
)
def test_prose_is_elements_of_our_own_around_text_that_is_escaped(text, part):
    """No HTML of a model's, no link to follow, no picture to load."""
    drawn = prose(text)

    assert part in drawn
    assert not {"<a", "<img", "<script", "href", 'src="'} & {
        piece for piece in ("<a", "<img", "<script", "href", 'src="') if piece in drawn
    }


@pytest.mark.parametrize(("length", "is_set"), [(400, True), (401, False)])
@pytest.mark.parametrize("mark", ["**", "__", "*", "_", "`"])
def test_the_end_of_an_emphasis_is_looked_for_nearby_only(mark, length, is_set):
    """So that what is never closed costs no more in a longer line."""
    text = f"{mark}{'a' * length}{mark}"

    assert (text not in prose(text)) == is_set


@pytest.mark.parametrize("piece", ["**a ", "__a ", "*a ", "_a ", "`", "`a ``", "~", "[a](", "![", "**_a *__b `"])
def test_a_long_line_of_what_is_never_closed_is_drawn(piece):
    """As text, or as what little of it can be closed; it would take minutes if each piece were compared with all that follow."""
    drawn = prose(piece * (100_000 // len(piece)))

    assert len(drawn) > 20_000
