"""Durable, cached, streaming multi-agent workflows in plain Python functions.

```python
from agentflow import cached_step, workflow

@cached_step
def read(url: str) -> str:
    return f"page of {url}"

@workflow
def digest(urls: list[str]) -> str:
    return " ".join(read(url) for url in urls)

assert digest(["a", "b"]) == "page of a page of b"
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agentflow import events, exceptions, executors, messages, models, stores, testing, tools, types
    from agentflow._agent import Agent, AgentResult
    from agentflow._budget import Budget
    from agentflow._cached_step import cached_step
    from agentflow._context import Context, current_context
    from agentflow._display import print_run
    from agentflow._history import History
    from agentflow._keys import FileArg, NoKey, register_key
    from agentflow._retry import RetryPolicy
    from agentflow._runs import Run, get_run, list_runs
    from agentflow._serialization import register_type
    from agentflow._session import Session
    from agentflow._settings import configure
    from agentflow._step import Step
    from agentflow._team import Team
    from agentflow._workflow import Workflow
    from agentflow._workflow_decorator import workflow
    from agentflow.exceptions import ModelRetry
    from agentflow.tools import tool
    from agentflow.types import RunStatus

__all__ = [
    "Agent",
    "AgentResult",
    "Budget",
    "Context",
    "FileArg",
    "History",
    "ModelRetry",
    "NoKey",
    "RetryPolicy",
    "Run",
    "RunStatus",
    "Session",
    "Step",
    "Team",
    "Workflow",
    "cached_step",
    "configure",
    "current_context",
    "events",
    "exceptions",
    "executors",
    "get_run",
    "list_runs",
    "messages",
    "models",
    "print_run",
    "register_key",
    "register_type",
    "stores",
    "testing",
    "tool",
    "tools",
    "types",
    "workflow",
]

# Loaded when first asked for (PEP 562): who only caches pays for no agents, and the pytest plugin costs a project that does not use it nothing.
_MODULES: Final = {
    "Agent": "_agent",
    "AgentResult": "_agent",
    "Budget": "_budget",
    "Context": "_context",
    "FileArg": "_keys",
    "History": "_history",
    "ModelRetry": "exceptions",
    "NoKey": "_keys",
    "RetryPolicy": "_retry",
    "Run": "_runs",
    "RunStatus": "types",
    "Session": "_session",
    "Step": "_step",
    "Team": "_team",
    "Workflow": "_workflow",
    "cached_step": "_cached_step",
    "configure": "_settings",
    "current_context": "_context",
    "get_run": "_runs",
    "list_runs": "_runs",
    "print_run": "_display",
    "register_key": "_keys",
    "register_type": "_serialization",
    "tool": "tools",
    "workflow": "_workflow_decorator",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"agentflow.{_MODULES[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"agentflow.{name}")
    else:
        raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
