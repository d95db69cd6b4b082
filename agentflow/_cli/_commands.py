"""All commands, each registered by its module."""

from agentflow._cli._acting import forget
from agentflow._cli._app import agentflow, completion
from agentflow._cli._looking import events, runs, show, state, steps
from agentflow._cli._running import cancel, resume

__all__ = ["agentflow", "cancel", "completion", "events", "forget", "resume", "runs", "show", "state", "steps"]
