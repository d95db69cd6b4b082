"""What the tests of the flow tower share beside the stores."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow import Agent, _step_state
from agentflow.stores import DiskStore
from tests._ways import CALLED

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.fixture(params=CALLED)
def ask(request: pytest.FixtureRequest) -> Callable[[Agent[Any], str], Any]:
    """What an agent answers in one of the four ways to run it, called by a sync body."""
    return lambda agent, prompt: CALLED[request.param](agent, prompt).output


@pytest.fixture
def background(disk: DiskStore) -> ModuleType:
    """The program of background runs, imported under the name that it has when it is run."""
    spec = importlib.util.spec_from_file_location("background", PROGRAMS / "background.py")
    assert spec
    assert spec.loader
    module = sys.modules["background"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _warn_again() -> None:
    """What a process is told once is told once in every test."""
    _step_state._warned.clear()
