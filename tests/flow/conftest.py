"""What the tests of the flow tower share beside the stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Agent, _step_state
from tests._ways import CALLED


@pytest.fixture(params=CALLED)
def ask(request: pytest.FixtureRequest) -> Callable[[Agent[Any], str], Any]:
    """What an agent answers in one of the four ways to run it, called by a sync body."""
    return lambda agent, prompt: CALLED[request.param](agent, prompt).output


@pytest.fixture(autouse=True)
def _warn_again() -> None:
    """What a process is told once is told once in every test."""
    _step_state._warned.clear()
