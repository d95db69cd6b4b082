"""The program `agentflow`: what it says of a store to a person, to a pipe and as JSON, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentflow import Agent, cached_step, list_runs, workflow
from agentflow._settings import store_at, using_store
from agentflow.messages import ModelResponse, TextPart, Usage
from agentflow.testing import ScriptedModel
from tests.programs.hostile import HOSTILE

ROOT = Path(__file__).parent.parent
HELP = ROOT / "docs" / "cli.md"

FLOWS = """
from agentflow import Context, cached_step, workflow

HOSTILE = {hostile!r}

@cached_step
def write(topic: str):
    yield "About "
    yield topic

@workflow(session="demo")
def post(ctx: Context, topic: str):
    ctx.state["topic"] = {{"name": topic}}
    yield from write(topic)

@workflow(session="demo")
def fragile(ctx: Context):
    ctx.emit(HOSTILE)
    ctx.state[HOSTILE[0]] = HOSTILE[1]
    if ctx.attempt == 1:
        raise ValueError(" ".join(HOSTILE))
    return HOSTILE

if __name__ == "__main__":
    list(post("cats"))
    list(post("dogs"))
    try:
        fragile()
    except ValueError:
        pass
"""


def a_program_was_run_in(directory: Path) -> Iterator[Path]:
    (directory / "flows.py").write_text(FLOWS.format(hostile=HOSTILE))
    subprocess.run([sys.executable, "flows.py"], cwd=directory, env=environment(), check=True, timeout=60)
    yield directory
    store_at(str(directory / ".agentflow")).close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a program that was run in it."""
    yield from a_program_was_run_in(tmp_path_factory.mktemp("cli"))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "TERM": "xterm-256color"}


def called(directory: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentflow._cli", *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def said(directory: Path, *arguments: str) -> str:
    """Return what the program says, without a process of its own."""
    from agentflow._cli._commands import agentflow

    store = [] if arguments[0] == "completion" else ["--store", str(directory / ".agentflow")]
    done = CliRunner().invoke(agentflow, [*arguments, *store], prog_name="agentflow", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def run_of(directory: Path, workflow: str) -> dict[str, Any]:
    return json.loads(said(directory, "runs", "--json", "--workflow", f"flows:{workflow}"))[0]


def at_a_terminal(directory: Path, *arguments: str) -> bytes:
    """Return what the program writes to a terminal of its own."""
    written = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return b""

    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execve(sys.executable, [sys.executable, "-m", "agentflow._cli", *arguments], environment())
    try:
        while True:
            read(descriptor)
    except OSError:  # the terminal is closed: the program has ended
        pass
    os.waitpid(pid, 0)
    os.close(descriptor)
    return bytes(written)


def test_runs_are_listed(made):
    """Newest first, whole and lined up in a pipe, without colours and boxes."""
    text = called(made, "runs").stdout

    assert "\x1b" not in text
    head, *rows = text.splitlines()
    assert head.split() == ["id", "workflow", "session_id", "status", "attempt", "started_at", "seconds"]
    assert [row.split()[1] for row in rows] == ["flows:fragile", "flows:post", "flows:post"]
    assert [row.split()[3] for row in rows] == ["failed", "completed", "completed"]
    assert all(len(row.split()[0]) == 32 for row in rows)


def test_runs_are_chosen(made):
    """By status, workflow, session and number."""
    assert len(json.loads(said(made, "runs", "--json", "--status", "completed"))) == 2
    assert len(json.loads(said(made, "runs", "--json", "--status", "completed", "--limit", "1"))) == 1
    assert json.loads(said(made, "runs", "--json", "--session", "other")) == []


def test_a_run_is_shown_by_the_beginning_of_its_id(made):
    """With its steps and its result; as JSON, one document."""
    run = run_of(made, "post")

    text, facts = said(made, "show", run["id"][:10]), json.loads(said(made, "show", run["id"], "--json"))

    assert run["id"] in text
    assert "About dogs" in text
    assert facts["result"] == facts["output"] == "About dogs"
    assert [step["step"] for step in facts["steps"]] == ["flows:write"]


def test_events_are_lines(made):
    """One JSON document a line, or one line for a person; `--after` goes on after a number."""
    run = run_of(made, "post")["id"]

    events = [json.loads(line) for line in said(made, "events", run, "--json").splitlines()]
    lines = said(made, "events", run, "--after", "2").splitlines()

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run_completed"
    assert len(lines) == len(events) - 2


@pytest.mark.parametrize(("workflow", "code"), [("post", 0), ("fragile", 10)])
def test_following_exits_as_the_run_ended(made, workflow, code):
    """So that a script knows."""
    assert called(made, "events", "--follow", run_of(made, workflow)["id"]).returncode == code


def test_steps_are_shown(made):
    """The step calls of a run."""
    assert "flows:write" in said(made, "steps", run_of(made, "post")["id"])


def test_what_a_step_has_cost_is_shown(tmp_path):
    """In tokens and dollars, beside each step call, if any has asked a model."""
    usage = Usage(requests=1, input_tokens=100, output_tokens=20, cost=0.0125)
    agent = Agent(ScriptedModel([ModelResponse(parts=(TextPart(text="yes"),), usage=usage)]))

    @cached_step(name="asks")
    def asks() -> str:
        return agent.run("?").output

    @cached_step(name="counts")
    def counts() -> int:
        return 1

    @workflow(name="flow")
    def flow() -> None:
        asks()
        counts()

    with using_store(store_at(str(tmp_path / ".agentflow"))):
        flow()
        run = list_runs()[0].id

    head, *rows = [line.split() for line in said(tmp_path, "steps", run).splitlines()]
    assert head == ["step", "status", "hit", "attempts", "seconds", "tokens", "cost", "error"]
    assert [(row[0], *row[5:7]) for row in rows] == [("asks", "120", "0.0125"), ("counts", "0", "-")]
    assert json.loads(said(tmp_path, "steps", run, "--json"))[0]["usage"]["cost"] == 0.0125
    store_at(str(tmp_path / ".agentflow")).close()


def test_state_is_shown_without_its_classes(made):
    """A whole session, or one key."""
    assert json.loads(said(made, "state", "flows:post", "demo", "--json")) == {"topic": {"name": "dogs"}}
    assert said(made, "state", "flows:post", "demo", "topic") == 'topic  {"name":"dogs"}\n'
    assert called(made, "state", "flows:post", "demo", "nothing").returncode == 2


@pytest.mark.parametrize("command", ["show", "events", "steps", "state"])
@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_hostile_text_is_shown_and_not_obeyed(made, command, where):
    """What a model or a tool said may not steer the terminal, nor be taken for markup; all that can be seen of it stays."""
    run = run_of(made, "fragile")["id"]
    arguments = ["state", "flows:fragile", "demo"] if command == "state" else [command, run]

    text = said(made, *arguments) if where == "pipe" else at_a_terminal(made, *arguments).decode()

    ours = re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r\n", "\n") if where == "terminal" else text
    assert not [letter for letter in ours if letter != "\n" and (ord(letter) < 32 or 127 <= ord(letter) < 160)]
    assert not set(ours) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\u200e\u200f")
    if command in ("show", "events"):
        assert "[bold red]markup[/bold red]" in ours
        assert "[/]" in ours
    if (
        where == "terminal"
    ):  # colours are ours alone: those of the one word that says how the run stands, and of headings
        assert set(re.findall("\x1b\\[[0-9;]*m", text)) <= {"\x1b[1m", "\x1b[0m", "\x1b[31m"}
        assert "\x1b[31mred" not in text


def test_a_terminal_gets_colours_and_short_ids(made):
    """A person sees a status at once; the id is as short as commands take it."""
    text = at_a_terminal(made, "runs").decode()

    assert "\x1b[" in text
    assert run_of(made, "post")["id"][:12] in text
    assert run_of(made, "post")["id"] not in text


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["show", "nothing"], 3, "there is no run 'nothing'"),
        (["runs", "--store", "elsewhere"], 4, "there is no store at"),
        (["show"], 2, "Missing argument"),
        (["dance"], 2, "No such command"),
        (["runs", "--status", "happy"], 2, "'happy' is not one of"),
        (["resume", "--import", "no_such_module", "x"], 2, "there is no module 'no_such_module'"),
    ],
    ids=["run", "store", "argument", "command", "option", "module"],
)
def test_what_cannot_be_done_has_a_reason_and_a_code(made, arguments, code, reason):
    """On the error stream, in one sentence."""
    done = called(made, *arguments)

    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A directory of one test's own."""
    yield from a_program_was_run_in(tmp_path)


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_a_run_is_resumed_here(own, is_first):
    """By the module that defines it, which is named: a name that stands in the store is not imported."""
    imported = ("--import", "flows")
    run = run_of(own, "fragile")["id"]

    without = called(own, "resume", run)
    done = called(own, *(imported * is_first), "resume", run[:8], *(imported * (not is_first)))

    assert (without.returncode, "not imported" in without.stderr) == (1, True)
    assert (done.returncode, done.stdout) == (0, f"run {run}: completed\n")
    assert run_of(own, "fragile")["attempt"] == 2


def test_a_run_that_has_ended_is_not_cancelled(own):
    """And that is said, for each."""
    run = run_of(own, "post")["id"]

    assert said(own, "cancel", run) == f"run {run}: had ended already\n"
    assert json.loads(said(own, "cancel", run, "--json")) == [{"id": run, "cancelled": False}]


def test_remembered_results_are_listed_and_forgotten(own):
    """Those of a step, or all of a session."""
    assert len(json.loads(said(own, "forget", "flows:post", "demo", "--list", "--json"))) == 2
    assert said(own, "forget", "flows:post", "demo", "--older-than", "1h") == "forgotten: 0\n"
    assert json.loads(said(own, "forget", "flows:post", "demo", "--step", "flows:write", "--json")) == {"forgotten": 2}
    assert json.loads(said(own, "forget", "flows:post", "demo", "--list", "--json")) == []


def test_a_store_is_examined(own):
    """A sound one has no problem, and a damaged one says what to do and exits with 1."""
    sound = json.loads(said(own, "doctor", "--json"))
    assert not [finding for finding in sound["findings"] if finding["severity"] == "problem"]
    assert sound["size"]["file_bytes"] > 0
    assert "findings" in said(own, "doctor")

    store_at(str(own / ".agentflow")).close()
    (own / ".agentflow" / "cache.db").write_bytes(b"no database")
    done = called(own, "doctor")

    assert done.returncode == 1
    assert "problem: " in done.stdout


def test_what_is_old_is_counted_first_and_then_removed(own):
    """Nothing is removed without `--yes`, and what is meant must be said."""
    counted = json.loads(said(own, "prune", "--older-than", "0s", "--json"))
    assert (counted["dry_run"], counted["entries"], counted["runs"]) == (True, 2, 3)
    assert len(json.loads(said(own, "runs", "--json"))) == 3

    assert "removed:" in said(own, "prune", "--older-than", "0s", "--yes")
    assert json.loads(said(own, "runs", "--json")) == []
    for mistake in ([], ["--old-versions", "--version", "2"]):
        refused = called(own, "prune", *mistake)
        assert refused.returncode == 2
        assert "--old-versions" in refused.stderr  # by the names that they have here, not by those of Python


@pytest.mark.parametrize("shell", ["zsh", "fish"])  # bash is asked for its version first, which takes a process
def test_shells_complete_commands(tmp_path, shell):
    """The program prints what the shell needs."""
    assert "_AGENTFLOW_COMPLETE" in said(tmp_path, "completion", shell)


def test_the_extra_is_named_where_it_is_missing(tmp_path):
    """Without click there is one sentence that says what to install."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')")
    done = called(tmp_path, "runs")

    assert done.returncode == 1
    assert done.stderr == (
        "the command line needs 'click', which the extra 'cli' brings: pip install 'agentflow-workflows[cli]'\n"
    )


def page() -> str:
    """Return the page that says what the program says of itself."""
    from agentflow._cli._commands import agentflow

    def said_of(*names: str) -> str:
        asked = [*names, "--help"]
        done = CliRunner().invoke(agentflow, asked, prog_name="agentflow", terminal_width=100, catch_exceptions=False)
        return block(" ".join(["agentflow", *asked]), done.stdout)

    return "\n".join([HELP_TOP, said_of(), *map(said_of, sorted(agentflow.commands))])


def block(command: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## `{command}`\n\n```text\n{lines}\n```\n"


HELP_TOP = """# Command line

`pip install 'agentflow-workflows[cli]'` brings the program `agentflow`.
It works on a store, wherever the program that fills it runs, and needs none of its code except to `resume`.

```console
$ agentflow runs --status failed
$ agentflow show 3746a3
$ agentflow events 3746a3 --follow
$ agentflow resume 3746a3 --import myapp.flows
$ agentflow events 3746a3 --json | jq 'select(.type == "step_failed")'
```

At a terminal tables have colours, and are blocks of names and values where it is too narrow for them; in a pipe they are whole, lined up and plain;
with `--json` every command says one JSON document, and `events` one a line. Shells complete commands, options and the ids of runs (`agentflow completion --help`).
Ctrl-C ends only the looking: a run that is followed goes on, one that is resumed here is left `interrupted`, unless it has a process of its own.
What models and tools have said is shown, never obeyed: control characters appear as escapes.

What follows is what the program says of itself; a test keeps it so.
"""


def test_the_page_says_what_the_program_says():
    """`docs/cli.md` is its help; `WRITE_HELP=1 pytest -k page_says` writes it anew."""
    if os.environ.get("WRITE_HELP"):
        HELP.write_text(page(), encoding="utf-8")

    assert HELP.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("command", [("forget", "flows:post", "demo"), ("prune",)])
@pytest.mark.parametrize("age", ["30", "d", "-1d", "1e9w", "99999999999w", "1 day"])
def test_an_age_has_a_unit(own: Path, command: tuple[str, ...], age: str) -> None:
    """The same age means the same for every command; a bare number, whose unit nobody can tell, removes nothing."""
    done = called(own, *command, "--older-than", age)

    assert done.returncode == 2
    assert "is no age: write a number and its unit" in done.stderr or "longer than any calendar" in done.stderr


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("flows:pots", "demo"), "this store has nothing of a workflow 'flows:pots'; there are: flows:post"),
        (("post", "demo"), "this store has nothing of a workflow 'post'; there are: "),
        (("flows:post", "dmo"), "workflow 'flows:post' has no session 'dmo'; there are: demo"),
    ],
)
@pytest.mark.parametrize("command", ["state", "forget"])
def test_a_misspelt_name_is_told(made: Path, command: str, names: tuple[str, str], said: str) -> None:
    """An empty answer would look like one."""
    done = called(made, command, *names)

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
