"""The program `agentflow` where people meet it: in a terminal (a real one, of tmux), in pipes that end early, and completed by shells."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from agentflow import list_runs
from agentflow._settings import store_at

ROOT = Path(__file__).parent.parent
PATIENCE = 30
_NUMBERS = itertools.count()
PROGRAM = [sys.executable, "-m", "agentflow._cli"]

FLOWS = """
import pathlib, time
from agentflow import Context, cached_step, workflow

@cached_step
def read(url: str) -> str:
    return "page of " + url

@workflow(session="demo")
def slow(ctx: Context) -> int:
    read("https://example.org/a-rather-long-address-of-a-page")
    for number in range(10_000):
        ctx.emit(number)
        time.sleep(0.02)
        if pathlib.Path("enough").exists():
            break
    return 7

if __name__ == "__main__":
    slow()
"""


def wait_for(value: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := value()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # as people have it


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[Path]:
    """A directory in which a program runs until there is a file `enough`."""
    (tmp_path / "flows.py").write_text(FLOWS)
    place = str(tmp_path / ".agentflow")
    with subprocess.Popen([sys.executable, "flows.py"], cwd=tmp_path, env=environment()) as program:
        wait_for(lambda: Path(place).exists() and list_runs(store=place))
        yield tmp_path
        (tmp_path / "enough").touch()
        program.wait(PATIENCE)
    store_at(place).close()


@attrs.frozen
class Terminal:
    """A terminal of tmux, with a shell in it."""

    socket: Path
    directory: Path

    @classmethod
    def of(cls, directory: Path, width: int) -> Terminal:
        terminal = cls(directory / "tmux", directory)
        shell = ["env", "PS1=> ", "bash", "--norc", "--noprofile"]
        terminal.tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", "40", *shell)
        terminal.enter(f'agentflow() {{ {shlex.join(PROGRAM)} "$@"; }}; clear')
        wait_for(lambda: terminal.shown() == ">")
        return terminal

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout

    def enter(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        self.tmux("send-keys", key)

    def shown(self) -> str:
        """What a person sees."""
        return self.tmux("capture-pane", "-p").strip()

    def said(self, line: str) -> list[str]:
        """Enter a line, wait until it is done and the shell is back, and return what was said."""
        mark = f"code{next(_NUMBERS)}"
        self.enter(f"clear; {line}; echo {mark} $?")
        lines: list[str] = wait_for(lambda: self._lines_to(f"{mark} 0"))
        return lines

    def _lines_to(self, last: str) -> list[str]:
        *lines, mark, prompt = ["", "", *self.shown().splitlines()]
        return lines[2:] if (mark, prompt) == (last, ">") else []


@pytest.fixture
def open_terminal(under_way: Path) -> Iterator[Callable[[int], Terminal]]:
    """Opens a terminal of a width, in the directory of the program."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")
    opened: list[Terminal] = []

    def opener(width: int) -> Terminal:
        opened.append(Terminal.of(under_way, width))
        return opened[-1]

    yield opener
    for terminal in opened:
        terminal.tmux("kill-server")


def test_a_run_is_looked_at_in_a_terminal(open_terminal):
    """While it goes on: listed in a table, shown by its short id, and every line is within the terminal."""
    terminal = open_terminal(120)

    head, row = terminal.said("agentflow runs")
    shown = terminal.said(f"agentflow show {row.split()[0]}")

    assert head.split() == ["id", "workflow", "session_id", "status", "attempt", "started_at", "seconds"]
    assert row.split()[1:5] == ["flows:slow", "demo", "running", "1"]
    assert ["flows:read", "completed", "False", "1"] in [line.split()[:4] for line in shown]


def test_a_run_is_followed_in_a_terminal(open_terminal, under_way):
    """Its events appear while it goes on; Ctrl-C leaves it alone; without Ctrl-C it ends with the run, as the run ended."""
    terminal = open_terminal(100)
    run = list_runs(store=under_way / ".agentflow")[0]

    terminal.enter(f"clear; agentflow events {run.id[:8]} --follow; echo code $?")
    wait_for(lambda: terminal.shown().count("emitted") > 20)
    terminal.press("C-c")
    wait_for(lambda: "code 130" in terminal.shown())
    assert "Traceback" not in terminal.shown()
    assert run.status == "running"

    terminal.enter(f"clear; agentflow events {run.id[:8]} --follow; echo code $?")
    wait_for(lambda: "emitted" in terminal.shown())
    (under_way / "enough").touch()
    wait_for(lambda: "code 0" in terminal.shown())
    assert "run_completed" in terminal.shown().splitlines()[-3]


def test_what_is_resumed_in_a_terminal_is_stopped_there(open_terminal, under_way):
    """Ctrl-C leaves the run `interrupted`, with its finished steps, and the shell comes back at once."""
    terminal = open_terminal(100)
    run = list_runs(store=under_way / ".agentflow")[0]
    run.cancel()
    wait_for(lambda: run.status == "cancelled")

    terminal.enter(f"clear; agentflow resume {run.id[:8]} --import flows; echo code $?")
    wait_for(lambda: run.status == "running")
    terminal.press("C-c")
    wait_for(lambda: "code 130" in terminal.shown())

    assert "Traceback" not in terminal.shown()
    assert (run.status, run.attempt) == ("interrupted", 2)


def test_a_narrow_terminal_loses_nothing(open_terminal, under_way):
    """Where a table does not fit, a run is a block of names and values; nothing is cut off."""
    terminal = open_terminal(50)
    run = list_runs(store=under_way / ".agentflow")[0]

    lines = terminal.said("agentflow runs")

    assert [line.split()[0] for line in lines[:5]] == ["id", "workflow", "session_id", "status", "attempt"]
    assert lines[0].split() == ["id", run.id[:12]]
    assert max(map(len, lines)) <= 50


def piped(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Let a shell do a line, in which `agentflow` is the program."""
    line = f'agentflow() {{ {shlex.join(PROGRAM)} "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_reader_may_leave_early(under_way):
    """`| head -1` ends the program, without a word, also while it follows a run that goes on."""
    run = list_runs(store=under_way / ".agentflow")[0].id

    done = piped(under_way, f"agentflow events {run} --follow --json | head -1")

    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["runs", "runs --json", "runs --help", "completion zsh"])
def test_output_that_cannot_be_written_is_told(under_way, command):
    """As on a full disk: in one sentence, with an exit code of 1."""
    done = piped(under_way, f"agentflow {command} > /dev/full")

    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


def test_output_may_be_closed(under_way):
    """Then nothing is said, and nothing goes wrong."""
    done = piped(under_way, "agentflow runs >&-")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


COMPLETED = ["runs", "resume"]
COMPLETING = {
    "bash": """
        eval "$(agentflow completion bash)"
        COMP_WORDS=(agentflow r) COMP_CWORD=1
        _agentflow_completion agentflow
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        autoload -U compinit; compinit -u
        eval "$(agentflow completion zsh)"
        compadd() { print -l -- $completions; }
        _describe() { print -l -- ${completions_with_descriptions%%:*}; }
        words=(agentflow r) CURRENT=2
        _agentflow_completion
    """,
    "fish": """
        agentflow completion fish | source
        complete -C 'agentflow r'
    """,
}


@pytest.mark.parametrize("shell", COMPLETING)
def test_a_shell_completes_commands(tmp_path, shell):
    """What the program prints is understood by the shell, which gets the commands that begin so."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "agentflow"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    (tmp_path / f"script.{shell}").write_text(COMPLETING[shell])

    done = subprocess.run(
        [shell, str(tmp_path / f"script.{shell}")],
        env={**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert sorted(line.split("\t")[0] for line in done.stdout.split("\n") if line) == sorted(COMPLETED), done.stderr


@pytest.mark.parametrize(
    ("shell", "answer"),
    [("bash", "plain,{name}"), ("zsh", "plain\n{name}\n{help}"), ("fish", "plain,{name}\t{help}")],
)
def test_shells_are_answered(tmp_path, shell, answer):
    """In what each of them asks and reads, also where the shell itself is not installed."""
    asked = {"_AGENTFLOW_COMPLETE": f"{shell}_complete", "COMP_WORDS": "agentflow can", "COMP_CWORD": "1"}
    if shell == "fish":
        asked["COMP_CWORD"] = "can"

    done = subprocess.run(
        PROGRAM, cwd=tmp_path, env={**environment(), **asked}, capture_output=True, text=True, check=True
    )

    said = done.stdout.replace("...", "").strip()  # click shortens what a command does
    assert said == answer.format(name="cancel", help="Cancel runs, wherever they are executed;")


def test_ids_of_runs_are_offered(under_way, tmp_path_factory):
    """The newest, with what they are of; where there is no store, there is nothing to offer, and no error."""
    run = list_runs(store=under_way / ".agentflow")[0]

    def offered(directory: Path, line: str) -> subprocess.CompletedProcess[str]:
        asked = {"_AGENTFLOW_COMPLETE": "zsh_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        return subprocess.run(
            PROGRAM, cwd=directory, env={**environment(), **asked}, capture_output=True, text=True, check=True
        )

    here = offered(under_way, f"agentflow show {run.id[:2]}")
    elsewhere = offered(tmp_path_factory.mktemp("empty"), "agentflow show 3")

    assert here.stdout.split("\n")[:3] == ["plain", run.id, "flows:slow running"]
    assert (elsewhere.stdout.strip(), elsewhere.stderr) == ("", "")
