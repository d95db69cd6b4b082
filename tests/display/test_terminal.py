"""`print_run` at a real terminal: what stands on its screen at three widths, what it was sent, and how it is left.

The captures in `tests/data/terminal` are what a person saw in tmux; `WRITE_CAPTURES=1` writes them anew, to be looked at before they are kept.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console

from agentflow._display._terminal import TerminalScreen
from agentflow._display._view import Line, View, Words
from agentflow.events import MapProgressed, ModelAnswered, RunStarted, StepStarted
from agentflow.messages import Usage

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "tests" / "programs" / "shown.py"
CAPTURES = ROOT / "tests" / "data" / "terminal"

COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3\d|4\d|9\d|10\d)(?:;[\d;]*)?m")
OURS = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]|\x1b\[\d*[ABCDGK]|\x1b\[2K|\r")
"""What rich writes: colours, the cursor moved, hidden and shown, lines erased."""


def environment(**more: str) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    }
    return {**clean, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8", **more}


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 80, **more: str) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, str(PROGRAM), *arguments], environment(**more))
        self.written = b""

    def read_until(self, text: bytes) -> None:
        """Read until a text has come."""
        while text not in self.written and self._read():
            pass

    def type(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.descriptor, keys)

    def end(self) -> str:
        """Read to the end, and return everything that was written."""
        while self._read():
            pass
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return self.written.decode()

    def _read(self) -> bool:
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # the program has ended
            return False
        self.written += data
        return bool(data)


def in_tmux(program: str, columns: int) -> str:
    """Return what stands in a window of tmux after a program has ended."""
    name = f"agentflow-{os.getpid()}-{columns}-{program}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    command = f"{sys.executable} {PROGRAM} {program}; tmux -L {name} wait-for -S done; sleep 60"
    size = ["-x", str(columns), "-y", "60"]
    subprocess.run([*tmux, "new-session", "-d", *size, command], cwd=ROOT, env=environment(), check=True, timeout=30)
    try:
        subprocess.run([*tmux, "wait-for", "done"], check=True, timeout=60)
        captured = subprocess.run(
            [*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=30)
    return "".join(f"{line.rstrip()}\n" for line in captured.rstrip().splitlines())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
@pytest.mark.parametrize(
    ("program", "columns"),
    [
        pytest.param("post", 40, marks=pytest.mark.slow),
        ("post", 80),
        pytest.param("post", 120, marks=pytest.mark.slow),
        ("broken", 80),
    ],
)
def test_a_person_sees_what_was_looked_at_and_kept(program, columns):
    """At every width: nothing overlaps, nothing is lost, and nothing of what moved stays."""
    seen, kept = in_tmux(program, columns), CAPTURES / f"{program}_{columns}.txt"
    if os.environ.get("WRITE_CAPTURES"):
        kept.write_text(seen, encoding="utf-8")

    assert seen == kept.read_text(encoding="utf-8")


def test_a_pipe_gets_what_was_kept():
    """Plain lines, without any control character."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "post"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    kept = CAPTURES / "post_piped.txt"
    if os.environ.get("WRITE_CAPTURES"):
        kept.write_text(done.stdout, encoding="utf-8")

    assert done.stdout == kept.read_text(encoding="utf-8")
    assert "\x1b" not in done.stdout


def test_the_page_shows_what_was_kept():
    """`docs/terminal.md` has the captures as they are, less what the program itself says at its end."""
    text = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")

    for name in ("post_80", "post_piped", "broken_80"):
        kept = (CAPTURES / f"{name}.txt").read_text(encoding="utf-8").partition("raised")[0].removesuffix("THE END\n")
        assert f"```text\n{kept}```" in text


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_who_wants_them(more, coloured):
    """`NO_COLOR` leaves the rest as it is; a terminal that can do nothing gets plain lines."""
    written = Terminal("post", **more).end()

    assert bool(COLOUR.search(written)) == coloured
    assert ("\x1b" in written) == (more.get("TERM") != "dumb")
    assert "THE END" in written


@pytest.mark.parametrize("how", ["markdown", "plain"])
def test_hostile_text_is_shown_and_not_obeyed(how):
    """Nothing of what a model, a tool or an error says steers the terminal: also not by Markdown's ways to write a character."""
    written = Terminal("hostile", how, columns=200).end()

    rest = OURS.sub("", written)
    assert not [letter for letter in rest if letter != "\n" and (ord(letter) < 32 or 127 <= ord(letter) < 160)]
    assert not set(rest) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\u200e\u200f")
    for visible in (
        "\\x1b[31mred",
        "[bold red]markup[/bold red]",
        "[/]",
        "https://evil.example",
        "<b>html</b>",
        "\\u202eeknod",
    ):
        assert visible in rest
    if how == "markdown":
        assert "\\u202ereordered" in rest  # what `&#x202e;` stands for


@pytest.mark.parametrize(("program", "under_way"), [("stuck", b"nap"), ("aslow", b"aslow")])
def test_ctrl_c_leaves_the_terminal_whole_and_the_status_true(program, under_way):
    """Also where the code never comes to a boundary: the cursor is back, what moved is gone, and the run is cancelled and says so."""
    terminal = Terminal(program)
    terminal.read_until(b"run demo")
    terminal.written, begun = b"", terminal.written
    terminal.read_until(under_way)
    terminal.type(b"\x03")
    written = begun.decode() + terminal.end()

    assert "status: cancelled" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "stopped by Ctrl-C" in written or "cancelled" in written.partition("status")[0]


@pytest.mark.parametrize(("columns", "bar"), [(80, True), (40, False)])
def test_what_is_under_way_says_how_far_it_is(columns, bar):
    """A map has its numbers, and a bar where there is room; a step how long it has been running; below it stands what it has cost."""
    view, step = View(), {"run_id": "r", "attempt": 1, "key": "k"}
    usage = Usage(requests=1, input_tokens=1234)
    view.take(RunStarted(run_id="r", attempt=1, at=time.time() - 75, workflow="flows:post"))
    view.take(ModelAnswered(run_id="r", attempt=1, model="m", usage=usage))
    view.take(StepStarted(step="flows:write", at=time.time() - 65, **step))
    screen, output = TerminalScreen(markdown=True, show_time=True), io.StringIO()
    screen._console = Console(file=output, width=columns, height=20, force_terminal=True, color_system=None)

    screen.show([Words("a paragraph that is not finished")], view)
    screen._console.print(screen._picture())
    view.take(MapProgressed(run_id="r", attempt=1, at=time.time() - 3, name="read", done=1, total=3))
    screen.show([], view)
    screen._console.print(screen._picture())

    drawn = output.getvalue()
    assert "write  1 min 05 s" in drawn
    assert "read  1 of 3, 3.0 s" in drawn
    assert ("━" in drawn) == bar
    assert "post, 1 request, 1,234 tokens" in drawn
    assert "a paragraph that is not finished" in drawn


def test_a_word_that_is_longer_than_a_line_goes_on_below():
    """The end of an error is not lost behind an address."""
    screen, output = TerminalScreen(markdown=True, show_time=True), io.StringIO()
    screen._console = Console(file=output, width=40, force_terminal=True, color_system=None)
    error = f"ValueError: cannot read https://example.com/{'a' * 90}?END, see docs"

    screen.show([Line("failed", "fetch", error, 1, more=(error,))], View())

    drawn = output.getvalue()
    assert (drawn.count("END"), drawn.count("see docs"), "…" in drawn) == (2, 2, False)


def test_text_that_is_higher_than_the_terminal_is_all_there():
    """Only its end moves; the rest has gone up, whole and once."""
    program = (
        "import time; from agentflow import configure, print_run; configure(store='memory:');"
        "print_run((f'line {n}\\n\\n' for n in range(100)))"
    )
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
        os.execve(sys.executable, [sys.executable, "-c", program], environment())
    written = b""
    try:
        while data := os.read(descriptor, 65536):
            written += data
    except OSError:
        pass
    os.waitpid(pid, 0)
    os.close(descriptor)

    lines = re.findall(r"line (\d+) *\r\n", OURS.sub("", written.decode().replace("\r\n", "\n")).replace("\n", "\r\n"))
    assert [int(number) for number in lines] == list(range(100))
