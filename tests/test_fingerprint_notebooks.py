"""Code versions at a prompt: Python's own, IPython's shell, and the compiler of its kernel, which names cells by files that do not exist."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("kind", "file"), [("shell", "<ipython-input-"), ("kernel", "ipykernel_")])
def test_cells_have_the_version_of_what_they_say(kind, file, tmp_path):
    """Cells that are run again, moved or commented change nothing; another prompt, helper or step does, and a kernel that is started anew finds it all."""
    if importlib.util.find_spec("ipykernel") is None:
        pytest.skip("IPython's kernel is not installed")

    first, second = (in_ipython(kind, tmp_path) for _ in range(2))

    assert file in first["file"]
    assert first["executed"] == first["expected"]
    assert set(second["executed"].values()) == {0}


def in_ipython(kind: str, directory: Path) -> dict[str, dict[str, int]]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/programs/in_ipython.py"), kind, str(directory / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(directory / "ipython")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TYPED = """
from agentflow import cached_step
PROMPT = "Be kind."
def polite(text): return PROMPT + text

@cached_step(name="ask")
def ask(text: str) -> str:
    print(PROMPT)
    return polite(text)

"""


def test_what_is_typed_at_a_prompt_has_a_version(tmp_path):
    """Python's own prompt keeps no source of it (before 3.13): another prompt or helper is seen all the same, and the next session finds what is remembered."""
    edits = ["PROMPT = 'Be brief.'", "PROMPT = 'Be kind.'", "def polite(text): return text\n"]
    asked = [line for edit in ("", *edits) for line in (edit, "_ = ask('why?')")]

    first, second = (typed([*TYPED.splitlines(), *asked], tmp_path) for _ in range(2))

    assert first == ["Be kind.", "Be brief.", "Be kind."]
    assert second == []


def typed(lines: list[str], directory: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input="\n".join([*lines, ""]),
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTFLOW_STORE": str(directory / "store")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Error" not in done.stderr, done.stderr
    return done.stdout.splitlines()
