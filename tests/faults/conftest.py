"""What the tests of faults share: programs that live through faults and print counts, and a place for the counts seen."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Tells what was seen; `python -m tests.faults` prints it as a table. `figure("R1", kills=1000, lost=0)`."""

    def tell(name: str, **counts: object) -> None:
        record_property("figure", [name, counts])

    return tell


@pytest.fixture
def program(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Any]:
    """Runs a program of this directory in a process of its own, and gives what it printed as JSON: `program("kills.py", *arguments)`."""

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        return spawn("-W", "error", PROGRAMS / name, *arguments, path=ROOT)

    def run(name: str, *arguments: object, timeout: float = 600) -> Any:
        process = start(name, *arguments)
        printed, complaints = process.communicate(timeout=timeout)
        assert process.returncode == 0, complaints
        assert complaints == ""
        return json.loads(printed)

    run.start = start  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="session")
def strace() -> None:
    """Skips where system calls cannot be tampered with."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
