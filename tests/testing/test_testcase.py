"""`agentflow testcase`: a test made of a run passes as it is, needs no network, has no secrets and can be read."""

from __future__ import annotations

import datetime as dt
import enum
import os
import subprocess
import sys
import zoneinfo
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from agentflow.testing._recordings import Masking
from agentflow.testing._source import Imports, Unwritable, Writer, laid_out

ROOT = Path(__file__).parent.parent.parent

FLOWS = '''
import datetime as dt
import sys
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from pydantic import BaseModel

from agentflow import Agent, Context, cached_step, workflow

sys.modules[__name__].online = False

class Tone(Enum):
    DRY = "dry"

class Article(BaseModel):
    url: str
    words: list[str] = []
    at: dt.date | None = None

class Found(BaseModel):
    urls: list[str]

@dataclass(frozen=True)
class Price:
    amount: Decimal
    tone: Tone

class Odd:
    pass

def network() -> None:
    if not online:
        raise ConnectionError("there is no network here")

def web_search(query: str) -> str:
    """Search the web."""
    network()
    return "found"

searcher = Agent("openai:gpt-4o", output_type=Found)
writer = Agent("openai:gpt-4o")
researcher = Agent("openai:gpt-4o", tools=[web_search])

@cached_step
def find(topic: str) -> Found:
    return searcher.run(topic).output

@cached_step(name="read a page")
def read(ctx: Context, url: str, *, limit: int = 3) -> Article:
    network()
    return Article(url=url, words=["about", "cats"], at=dt.date(2026, 1, 2))

@cached_step
def write(ctx: Context, topic: str, articles: list[Article]):
    yield "# "
    return (yield from writer.stream(topic)).output

@workflow(session=lambda topic: topic)
def post(ctx: Context, topic: str, *, style: str = "plain"):
    found = find(topic)
    articles = ctx.map(read, found.urls)
    read(found.urls[0])
    text = yield from write(topic, articles)
    yield writer.run("a title for " + text).output

@cached_step
async def price(items: list[Article], tone: Tone) -> Price:
    network()
    return Price(Decimal("1.50"), tone)

@cached_step
async def lines(n: int):
    network()
    for number in range(n):
        yield f"line {number} "

@cached_step
async def ask(topic: str) -> str:
    return (await writer.arun(topic)).output

@workflow
async def inner(topic: str) -> str:
    return await ask(topic)

@workflow
async def offer(topics: list[str], at: dt.datetime) -> dict[str, list[str] | list[Price]]:
    texts = [await inner(topic) for topic in topics]
    prices = [await price([Article(url=topic)], Tone.DRY) for topic in topics]
    return {"texts": texts, "prices": prices, "lines": [each async for each in lines(2)]}

@cached_step
def research(topic: str) -> str:
    return researcher.run(topic).output

@cached_step
def headline(topic: str) -> str:
    return writer.run(topic).output

@cached_step
def count(ctx: Context, upto: int):
    network()
    yield from range(upto)
    return {"upto": upto}

@workflow
def report(topics: list[str], count_to: int = 2) -> tuple[object, ...]:
    both = headline.map(topics)
    return (*both, research(topics[0]), (yield from count(count_to)), "say \\"it's\\"")

@cached_step
def odd(n: int) -> object:
    return n

@workflow
def odds(n: int) -> int:
    odd.with_options(ttl=0)
    return odd(n) + refused(n)

@cached_step(cache_if=lambda found: False)
def refused(n: int) -> int:
    return n

@cached_step
def breaks(n: int) -> int:
    raise ValueError("broken")

@workflow
def caught(n: int) -> int:
    try:
        return breaks(n)
    except ValueError:
        return 0

@workflow
def fails(n: int) -> int:
    return breaks(n)

@workflow(session=lambda session: session)
def counted(ctx: Context, session: str) -> int:
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    return ctx.state["count"]

@workflow(name="odd \\"\\"\\" name\\n")
def named(n: int) -> int:
    return n

def local():
    @workflow
    def hidden(n: int) -> int:
        return n
    return hidden
'''

TWINS = """
from dataclasses import dataclass
from enum import Enum

import other
from agentflow import cached_step, workflow

class Tone(Enum):
    DRY = "dry"

@dataclass
class Size:
    width: int

@cached_step
def fetch(url: str) -> str:
    return "A" + url

@cached_step
def numbers(n: int):
    yield n
    return "A"

@workflow
def both(tone: Tone, size: Size):
    return fetch("q") + other.fetch("q") + (yield from numbers(1)) + (yield from other.numbers(1))
"""

OTHER = """
from agentflow import cached_step

@cached_step
def fetch(url: str) -> str:
    return "B" + url

@cached_step
def numbers(n: int):
    yield n + 1
    return "B"
"""

MAKE = """
import asyncio, contextlib, datetime as dt, sys
import flows
from agentflow.messages import ModelResponse, ToolCall
from agentflow.testing import FunctionModel, ScriptedModel, override_models

flows.online = True
runs = {}

def scripted(*answers):
    return override_models(ScriptedModel(answers))

with scripted(flows.Found(urls=["https://a.example/1", "https://b.example/2"]), ["All about cats. " * 10, "sk-abcdefghijklmnopqrstuvwx"], " Cats!"):
    list(flows.post("cats"))
with scripted("About cats.", "About dogs."):
    asyncio.run(flows.offer.with_options(session_id="ada")(["cats", "dogs"], dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)))

def answer(messages, info):
    text = messages[-1].text if hasattr(messages[-1], "text") else ""
    tools = [tool.name for tool in info.tools]
    return ToolCall.of("web_search", query="cats") if tools and len(messages) < 3 else f"Headline {text}"

with override_models(FunctionModel(answer)):
    list(flows.report(["cats", "dogs"]))
flows.odds(1)
flows.caught(1)
with contextlib.suppress(ValueError):
    flows.fails(1)
flows.named(1)
for session in ("one", "two", "one"):
    flows.counted(session)
flows.local()(1)
import twins
list(twins.both(twins.Tone.DRY, twins.Size(3)))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose program has run, by a store on disk."""
    project = tmp_path_factory.mktemp("project")
    (project / "flows.py").write_text(FLOWS)
    (project / "twins.py").write_text(TWINS)
    (project / "other.py").write_text(OTHER)
    (project / "make.py").write_text(MAKE)
    (project / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = program(project, "make.py")
    assert done.returncode == 0, done.stderr
    return project


def program(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def made_by(project: Path, workflow: str, *more: str, modules: tuple[str, ...] = ("--import", "flows")):
    from agentflow import list_runs

    [run] = list_runs(workflow=workflow, store=project / ".agentflow")
    return program(project, "-m", "agentflow._cli", "testcase", run.id[:14], *modules, *more)


@pytest.fixture(scope="module")
def written(made: Path) -> dict[str, str]:
    """The tests of the runs, by workflow."""
    texts = {}
    for name in ("post", "offer", "report", "odds"):
        path = made / f"test_{name}.py"
        done = made_by(made, f"flows:{name}", "--output", path.name)
        assert (done.returncode, done.stdout) == (0, f"wrote {path.name}\n"), done.stderr
        texts[name] = path.read_text()
    return texts


def test_they_pass_as_they_are(made: Path, written: dict[str, str]):
    """Without a network, without a store and in a process of their own; and they fail when the code does something else."""
    done = program(made, "-m", "pytest", "-q", "-p", "agentflow._pytest_plugin", "-p", "no:cacheprovider")
    flows = made / "flows.py"
    flows.write_text(
        FLOWS.replace('"a title for "', '"a name for "').replace("read(found.urls[0])", "read('https://a.example/3')")
    )
    changed = program(
        made, "-m", "pytest", "-q", "-p", "agentflow._pytest_plugin", "-p", "no:cacheprovider", "test_post.py"
    )
    flows.write_text(FLOWS)

    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    assert "KeyError: ('https://a.example/3', 3)" in changed.stdout


def test_a_test_can_be_read(written: dict[str, str]):
    """What answers stands above, the call in the middle, what is expected below."""
    assert written["post"] == EXPECTED.replace("HEAD", written["post"].partition("\n")[0])
    assert written["post"].startswith('"""Run ')


EXPECTED = '''HEAD

import datetime

from agentflow.testing import assert_hit, assert_ran, replace_step
from flows import Article, find, post, read, write

READ = {
    ("https://a.example/1", 3): Article(
        url="https://a.example/1",
        words=["about", "cats"],
        at=datetime.date(2026, 1, 2),
    ),
    ("https://b.example/2", 3): Article(
        url="https://b.example/2",
        words=["about", "cats"],
        at=datetime.date(2026, 1, 2),
    ),
}
"""What read gave, by its arguments."""

ANSWERS = [
    '{"urls":["https://a.example/1","https://b.example/2"]}',
    (
        "All about cats. All about cats. All about cats. All about cats. All about cats. "
        "All about cats. All about cats. All about cats. All about cats. All about cats. "
        "[redacted]"
    ),
    " Cats!",
]
"""What the models answered, in the order in which they were asked."""

RESULT = (
    "# All about cats. All about cats. All about cats. All about cats. All about "
    "cats. All about cats. All about cats. All about cats. All about cats. All about "
    "cats. [redacted] Cats!"
)
"""What the run gave."""


def test_post(scripted_model):
    scripted_model(ANSWERS)

    with replace_step(read, lambda url, *, limit: READ[url, limit]):
        result = "".join(post("cats"))

    assert result == RESULT
    assert_ran(find, times=1)
    assert_ran(read, times=2)
    assert_hit(read, times=1)
    assert_ran(write, times=1)
'''


def test_async_workflows_sessions_children_and_values_are_written(written: dict[str, str]):
    """Calls whose arguments are no plain values give their results in turn; one stream gives its text at once."""
    text = written["offer"]

    assert 'offer.with_options(session_id="ada")(' in text
    assert "datetime.datetime(2026, 1, 2, 0, 0, tzinfo=datetime.timezone.utc)" in text
    assert 'replace_step(price, lambda *_: Price(amount=Decimal("1.50"), tone=Tone.DRY))' in text
    assert 'replace_step(lines, lambda *_: ["line 0 ", "line 1 "])' in text
    assert 'ANSWERS = ["About cats.", "About dogs."]' in text
    assert "assert_ran(ask, times=2)" in text


def test_what_cannot_be_scripted_gives_what_it_gave(written: dict[str, str]):
    """Steps whose models called tools, or were asked at once; a stream that returns something is a function."""
    text = written["report"]

    assert "ANSWERS" not in text
    assert "replace_step(research, " in text
    assert 'HEADLINE = {"cats": "Headline cats", "dogs": "Headline dogs"}' in text
    assert "replace_step(headline, lambda topic: HEADLINE[topic])" in text
    assert (
        'def replayed_count(*_):\n    items, value = ([0, 1], {"upto": 2})\n    yield from items\n    return value\n'
        in text
    )
    assert "sk-abc" not in text


def test_what_is_not_in_the_store_is_told(written: dict[str, str]):
    """The step then runs as it is, and the test says so."""
    assert (
        "# Step refused is executed as it is, whatever it needs: what it gave is not in the store.\ndef test_odds():"
        in written["odds"]
    )


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ("flows:caught", "step 'flows:breaks' failed in this run and the workflow went on"),
        ("flows:fails", "is failed: only a completed run has a result"),
        ("flows:local.<locals>.hidden", "which this process has not imported"),
    ],
)
def test_a_run_that_cannot_be_replayed_is_refused(made: Path, workflow: str, said: str):
    """With the reason."""
    done = made_by(made, workflow)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""


def test_state_that_earlier_runs_left_is_told(made: Path):
    """It is not recorded, so the test begins without; the first run of a session began without it too."""
    from agentflow import list_runs

    runs = list_runs(workflow="flows:counted", store=made / ".agentflow")
    texts = [program(made, "-m", "agentflow._cli", "testcase", run.id[:14], "--import", "flows").stdout for run in runs]

    assert ["assert result == 2" in text for text in texts] == [True, False, False]
    assert ['if the workflow reads it, set it first ("count").\ndef test_counted():' in text for text in texts] == [
        True,
        False,
        False,
    ]


def test_a_file_that_is_there_is_not_overwritten(made: Path, written: dict[str, str]):
    """A test that was changed is its owner's; without a file it is said, and an odd name harms nothing."""
    again = made_by(made, "flows:odds", "--output", "test_odds.py")
    said = made_by(made, 'odd """ name\n')

    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert (made / "test_odds.py").read_text() == written["odds"]
    compile(said.stdout, "said", "exec")
    assert "assert result == 1" in said.stdout
    assert made_by(made, "flows:odds", modules=()).returncode == 1


def test_a_call_that_takes_classes_and_steps_of_one_name_is_replayed(made: Path):
    """The classes are learnt before the call is read; the second of a name is imported by another, and replaced too."""
    path = made / "test_both.py"

    done = made_by(made, "twins:both", "--output", path.name, modules=("--import", "twins"))
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    for module in ("twins", "other"):
        source = made / f"{module}.py"
        source.write_text(source.read_text().replace("url: str) -> str:", "url: str) -> str:\n    raise OSError"))
    passed = program(made, "-m", "pytest", "-q", "-p", "agentflow._pytest_plugin", "-p", "no:cacheprovider", path.name)
    path.unlink()

    assert "(Tone.DRY, Size(width=3))" in text
    assert "from other import fetch as fetch_2, numbers as numbers_2" in text
    assert passed.returncode == 0, passed.stdout


class Perm(enum.Flag):
    R = 1
    W = 2


@pytest.mark.parametrize(
    "value",
    [
        TypeAdapter(dt.datetime).validate_json('"2026-01-01T00:00:00Z"'),
        TypeAdapter(dt.datetime).validate_json('"2026-01-01T00:00:00+05:30"'),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Oslo")),
        dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-1))),
        [dt.date(2026, 1, 1), dt.timedelta(1), dt.datetime(2026, 1, 1), dt.time(1)],
        [Perm.R, Perm.R | Perm.W, Perm(0)],
    ],
    ids=repr,
)
def test_times_and_flags_come_back(value: object):
    """With the imports that they need, also where a step has the name of a module or of another class."""
    imports = Imports()
    imports.add("os", "datetime")
    imports.add("pathlib", "Perm")
    source = laid_out("value = ", Writer(imports, Masking(()).text).write(value))
    needed = "\n".join(line for line in imports.text().splitlines() if "from os" not in line and "pathlib" not in line)
    found: dict[str, object] = {}

    exec(f"{needed}\n{source}", found)

    assert found["value"] == value
    assert repr(found["value"]).partition("tzinfo")[0] == repr(value).partition("tzinfo")[0]


def test_a_zone_that_says_nothing_of_itself_is_refused():
    """What is not the same at every time, and has no name."""

    class Moving(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta | None:
            return when and dt.timedelta(hours=when.day)

    with pytest.raises(Unwritable, match="a time zone of "):
        Writer(Imports(), Masking(()).text).write(dt.datetime(2026, 1, 1, tzinfo=Moving()))


def test_values_that_would_not_come_back_are_refused():
    """A class that is not at the top of a module, an object that says nothing of itself, a number that equals nothing."""
    writer = Writer(Imports(), Masking(()).text)

    class Local:
        pass

    for value in (Local(), object(), float("nan"), [Local()]):
        with pytest.raises(Unwritable):
            writer.write(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        (),
        (1,),
        {},
        set(),
        frozenset(),
        {3, 1},
        frozenset({2}),
        {"a": [None, True, 1.5, b"x"]},
        "it's",
        'say "it"',
        "a\x1b[31m\u202eb",
        "word " * 100,
        "x" * 300,
        "line\n" * 30 + "end",
        {"key": "long text " * 20},
        list(range(100)),
        [["a" * 90], ["b, c" * 20]],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_come_back_as_they_were(value: object):
    """However they are laid out, in lines of a length that can be read."""
    source = laid_out("value = ", Writer(Imports(), Masking(()).text).write(value))
    found: dict[str, object] = {}
    exec(source, found)

    assert found["value"] == value
    assert source.isprintable() or source.replace("\n", "").isprintable()
    assert isinstance(value, str) or max(map(len, source.splitlines())) <= 110
