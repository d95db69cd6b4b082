"""What joblib promises of its `Memory` between processes, asked of `@cached_step`; see `test_joblib_memory.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/programs/remembering.py"


def start(directory: Path, command: str, seed: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), str(directory), command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> object:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def executed(directory: Path) -> list[str]:
    return (directory / "executed").read_text().splitlines()


def test_a_function_of_a_script_is_remembered_by_the_scripts_name(tmp_path):
    """joblib, `test_memory_integration` (its last part): a function of the main module has a name that outlives the process."""
    results = [answer(start(tmp_path, "squared", seed)) for seed in (1, 2)]

    assert results == [49, 49]
    assert executed(tmp_path) == ["squared 7"]


@pytest.mark.parametrize("command", ["cell", "cell-without-source"])
def test_a_notebooks_function_outlives_its_kernel(tmp_path, command):
    """joblib, `test_cached_jupyter_function_persists_across_sessions`: a cell's function is the same in the next kernel."""
    results = [answer(start(tmp_path, command, seed)) for seed in (1, 2)]

    assert results == [42, 42]
    assert executed(tmp_path) == ["doubled"]


def test_a_pool_of_processes_shares_what_a_step_remembers(tmp_path):
    """joblib, `test_persistence`, for what it is good: a step is the function of a process pool, and is executed once an argument."""
    results = answer(start(tmp_path, "pool"))

    assert results == [1, 4, 9, 1, 4, 9]
    assert sorted(executed(tmp_path)) == ["squared 1", "squared 2", "squared 3"]


def test_processes_that_store_one_large_result(tmp_path):
    """joblib, `test_cached_function_race_condition_when_persisting_output` and `..._2`: no half-written result is read. Here only one executes."""
    processes = [start(tmp_path, "large") for _ in range(3)]
    (tmp_path / "go").touch()

    answers = [answer(process) for process in processes]

    assert answers == [[1000, 20_000, "small"]] * 3
    assert sorted(executed(tmp_path)) == ["large", "large_or_small False", "large_or_small True"]
