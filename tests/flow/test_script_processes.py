"""One script in several processes: run directly, as a module, and imported by the process of a background run, it has one memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from pathlib import Path
from agentflow import Agent, cached_step, workflow
from agentflow.testing import FunctionModel

HERE = Path(__file__).parent
PROMPT = "Be kind."

def answer(messages, info):
    return "because"

agent = Agent(FunctionModel(answer), instructions=PROMPT)

def ending() -> str:
    return "."

@cached_step
def ask(question: str) -> str:
    with (HERE / "executed").open("a") as file:
        file.write(f"{PROMPT}{ending()}\\n")
    return agent.run(question).output + ending()

@workflow(session="s")
def flow(question: str) -> str:
    return ask(question)

if __name__ == "__main__":
    if sys.argv[1] == "background":
        print(flow.with_options(executor="process").start("why?").result(timeout=120))
    else:
        print(flow("why?"))
"""


@pytest.fixture
def script(tmp_path):
    """Runs the script in one of three ways and returns what it printed; `script.edit(old, new)` edits it before."""

    def run(way: str) -> str:
        named = ["-m", "flows"] if way == "module" else ["flows.py"]
        done = subprocess.run(
            [sys.executable, "-B", *named, way],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": str(tmp_path / "store")},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def edit(old: str, new: str) -> None:
        file = tmp_path / "flows.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    (tmp_path / "flows.py").write_text(SCRIPT)
    run.edit = edit
    run.executed = lambda: (tmp_path / "executed").read_text().splitlines()
    return run


def test_a_script_and_its_background_process_share_what_is_remembered(script):
    """Whichever comes first executes the step; for the others it is a hit."""
    answers = [script(way) for way in ("directly", "background", "module")]

    assert answers == ["because."] * 3
    assert script.executed() == ["Be kind.."]


def test_what_a_background_process_has_executed_is_a_hit_for_the_script(script):
    """The other way round, and after an edit that says nothing."""
    first = script("background")
    script.edit("def ending()", "# how it ends\n\n\ndef ending()")

    assert (script("directly"), first) == ("because.", "because.")
    assert script.executed() == ["Be kind.."]


@pytest.mark.parametrize(("old", "new"), [("Be kind.", "Be brief."), ('return "."', 'return "!"')])
def test_another_prompt_of_an_agent_or_another_helper_is_a_new_version_in_every_process(script, old, new):
    """The step that uses the agent or the helper is executed once more, by whoever comes first; the old version stays."""
    script("directly")
    script.edit(old, new)
    script("background")

    assert len(script.executed()) == 2
    script.edit(new, old)
    script("directly")
    assert len(script.executed()) == 2
