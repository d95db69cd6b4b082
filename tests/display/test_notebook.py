"""Notebooks, with a real kernel: what cells show, what a function does that a cell defines anew, and what an interrupt leaves behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("ipykernel", reason="needs ipykernel, of the dependency group `test`")

import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "notebook.ipynb"

SETUP = """
import asyncio, time
from agentflow import Context, cached_step, configure, get_run, list_runs, print_run, workflow
configure(store="memory:")

@workflow
def endless(ctx: Context):
    while True:
        ctx.check()
        time.sleep(0.01)
        yield "again "

@workflow
async def aendless(ctx: Context):
    while True:
        await asyncio.sleep(0.01)
        yield "again "
"""


class Kernel:
    """A kernel, and what its cells gave."""

    def __init__(self, directory: Path) -> None:
        self._manager = KernelManager()
        self._manager.start_kernel(
            cwd=str(directory), env={**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        )
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, code: str, *, interrupt_at: str = "") -> list[dict]:
        """Run a cell, and return what it gave; interrupt it when a text is seen."""
        said: list[dict] = []
        waiting = [interrupt_at] if interrupt_at else []

        def heard(message: dict) -> None:
            said.append({"type": message["msg_type"], **message["content"]})
            if waiting and waiting[0] in str(message["content"]):
                waiting.clear()
                self._manager.interrupt_kernel()

        self._client.execute_interactive(code, timeout=60, output_hook=heard, allow_stdin=False)
        return [each for each in said if each["type"] not in ("status", "execute_input")]

    def value(self, expression: str) -> str:
        """Return the text of what an expression is."""
        return self.run(expression)[-1]["data"]["text/plain"]

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    made = Kernel(tmp_path_factory.mktemp("kernel"))
    made.run(SETUP)
    yield made
    made.close()


def test_the_example_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """In a kernel of its own; it shows what it says, and what is committed has no outputs, and so nobody's paths."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(notebook)
    assert [cell.get("outputs", []) for cell in notebook.cells if cell.get("outputs")] == []

    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "\n".join(str(output.get("text") or output["data"]["text/plain"]) for output in outputs)
    for part in (
        "map read: 8 of 8",
        "| post: completed, 10 hits",
        "Hello, Ada.",
        "doubling 4",
        "Run post: completed",
        "Session cats",
        "raised: nothing",
    ):
        assert part in shown
    assert shown.count("doubling") == 1  # the second cell is a hit, and the third only asks
    assert "code `__main__:double`" in shown or "has changed" in shown
    assert str(tmp_path) not in shown
    assert "<b>16 hours</b>" in "".join(output.get("data", {}).get("text/html", "") for output in outputs)


def test_one_output_is_kept_up_to_date(kernel):
    """It is displayed once, and updated as the run goes on."""
    said = kernel.run(
        "@workflow\ndef slow():\n    for n in range(5):\n        yield f'{n} '\n        time.sleep(0.06)\nprint_run(slow());"
    )

    assert [each["type"] for each in said][:1] == ["display_data"]
    assert {each["type"] for each in said[1:]} == {"update_display_data"}
    assert {each["transient"]["display_id"] for each in said} == {said[0]["transient"]["display_id"]}
    assert "0 1 2 3 4" in said[-1]["data"]["text/plain"]
    assert "completed" in said[-1]["data"]["text/html"]


def test_what_is_under_way_moves_in_a_notebook(kernel):
    """A map has a bar with its numbers while it goes on, and a line afterwards."""
    kernel.run("def nap(n: int) -> int:\n    time.sleep(0.15)\n    return n")
    said = kernel.run(
        "@workflow\ndef mapped(ctx: Context):\n    ctx.map(nap, range(4), max_concurrency=1)\n    yield 'done'\nprint_run(mapped());"
    )

    pages = [each["data"]["text/html"] for each in said]
    assert any('<progress style="' in page and 'max="4" value="2"' in page for page in pages)
    assert "<progress" not in pages[-1]
    assert "map nap" in pages[-1]


DEFINED = "@cached_step\ndef double(n: int) -> int:\n    print('doubling')\n    return {body}\ndouble(4)"


def test_a_cell_that_defines_a_step_anew(kernel):
    """The same text, comments aside, is a hit; another one is a miss; and the old one is remembered still."""
    ran = [
        "doubling" in str(kernel.run(DEFINED.format(body=body)))
        for body in ("2 * n", "2 * n", "2 * n  # twice", "n + n", "n + n", "2 * n")
    ]

    assert ran == [True, False, False, True, False, False]


def test_a_step_in_one_cell_and_its_helper_in_another(kernel):
    """A helper that changes changes what calls it."""
    kernel.run("def helper(n):\n    return n + 1")
    kernel.run("@cached_step\ndef helped(n: int) -> int:\n    return helper(n)")

    assert kernel.value("helped(1)") == "2"
    kernel.run("def helper(n):\n    return n + 10")
    assert kernel.value("helped(1)") == "11"


@pytest.mark.parametrize(
    ("run_id", "cell"),
    [
        ("items", "print_run(endless.with_options(run_id='items')())"),
        ("events", "print_run(endless.with_options(run_id='events').stream_events())"),
        ("async items", "await print_run(aendless.with_options(run_id='async items')())"),
        ("async events", "await print_run(aendless.with_options(run_id='async events').astream_events())"),
        ("bare", "for chunk in endless.with_options(run_id='bare')(): print(chunk)"),
    ],
)
def test_an_interrupt_leaves_a_true_status(kernel, run_id, cell):
    """What print_run shows is cancelled; a loop of one's own may have been told outside of the workflow, which is then only left."""
    said = kernel.run(cell, interrupt_at="again")

    assert [each["ename"] for each in said if each["type"] == "error"][0] in ("KeyboardInterrupt", "CancelledError")
    status = kernel.value(f"get_run({run_id!r}).status.value")
    assert status in (["'cancelled'", "'interrupted'"] if run_id == "bare" else ["'cancelled'"])


def test_an_interrupt_ends_only_the_looking_at_a_run_in_the_background(kernel):
    """It goes on, and can be cancelled."""
    said = kernel.run("background = endless.start()\nprint_run(background)", interrupt_at="again")

    assert said[-1]["ename"] == "KeyboardInterrupt"
    assert kernel.value("background.status.value") == "'running'"
    assert kernel.value("background.cancel()") == "True"


def test_a_run_in_the_background_does_not_wait_for_cells(kernel):
    """It is executed between them, too; a cell asks how it stands."""
    kernel.run(
        "import threading\nhere = threading.Event()\n@workflow\ndef waiting() -> int:\n    here.wait(30)\n    return 7\nrun = waiting.start()"
    )

    assert kernel.value("run.status.value") == "'running'"
    kernel.run("here.set()")
    assert kernel.value("run.result(timeout=30)") == "7"


def test_a_process_cannot_have_what_only_a_notebook_has(kernel, tmp_path):
    """It is refused before anything runs, and the message says where to put it."""
    said = kernel.run(f"endless.with_options(store={str(tmp_path / 'store')!r}, executor='process').start()")

    assert said[-1]["ename"] == "UsageError"
    assert "it is defined in a notebook" in said[-1]["evalue"]


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\\x1b[31m\\u202e"


def test_hostile_text_is_text(kernel):
    """In all that is shown: no element and no control character of another's making."""
    kernel.run(
        f"@cached_step\ndef taken(text: str) -> str:\n    return text\n"
        f"@workflow(session='{HOSTILE}')\ndef hostile(ctx: Context):\n    ctx.emit('{HOSTILE}')\n    ctx.state['{HOSTILE}'] = '{HOSTILE}'\n"
        f"    yield taken('{HOSTILE}')\n    raise ValueError('{HOSTILE}')\n"
    )
    shown = kernel.run("try: print_run(hostile())\nexcept ValueError: pass")
    for expression in ("hostile.session(hostile.sessions()[0].id)", "hostile.sessions()[0].runs()[0]", "taken"):
        shown += kernel.run(expression)

    pages = [each["data"]["text/html"] for each in shown if each["type"] != "error"]
    assert len(pages) >= 4
    assert "&lt;script&gt;" in "".join(pages)
    for page in pages:
        assert {*re.findall(r"<([a-z]+)", page)} <= {
            "b",
            "code",
            "div",
            "i",
            "pre",
            "progress",
            "span",
            "table",
            "td",
            "th",
            "tr",
        }
        assert not [
            letter for letter in page if letter in "\u202e\u2066" or (ord(letter) < 32 and letter not in "\n\t")
        ]
