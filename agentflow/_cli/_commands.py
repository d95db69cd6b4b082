"""All commands, each registered by its module."""

from agentflow._cli._acting import forget
from agentflow._cli._app import agentflow, completion
from agentflow._cli._looking import events, runs, show, state, steps
from agentflow._cli._running import cancel, resume
from agentflow._cli._testing import testcase
from agentflow._cli._upkeep import doctor, prune

__all__ = [
    "agentflow",
    "cancel",
    "completion",
    "doctor",
    "events",
    "forget",
    "prune",
    "resume",
    "runs",
    "show",
    "state",
    "steps",
    "testcase",
]
