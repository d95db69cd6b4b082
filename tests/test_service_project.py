"""The sample project of a service: installed afresh, as its users would, its tests pass without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALONE = ["unshare", "--map-root-user", "--net"]
"""Runs a program without a network, where that is allowed."""


def without_network() -> list[str]:
    """Return what to put before a command; nothing where it cannot be had, and only the plugin refuses requests."""
    if shutil.which(ALONE[0]) is None:
        return []
    tried = subprocess.run([*ALONE, sys.executable, "-c", ""], capture_output=True, check=False)
    return ALONE if tried.returncode == 0 else []


@pytest.mark.slow
def test_its_tests_pass_in_a_fresh_environment_without_a_network(tmp_path: Path):
    """With agentflow from this checkout and nothing else that its `pyproject.toml` does not ask for; no store is left behind."""
    project = shutil.copytree(ROOT / "examples" / "service_project", tmp_path / "project")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, ROOT, f"{project}[test]"], check=True, timeout=600)

    done = subprocess.run(
        [*without_network(), python, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert not list(project.rglob(".agentflow"))
    print(done.stdout.splitlines()[-1])
