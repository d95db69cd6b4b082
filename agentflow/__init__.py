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

from agentflow import events, exceptions, messages, models, stores, testing, tools, types
from agentflow._agent import Agent, AgentResult
from agentflow._cached_step import cached_step
from agentflow._context import Context, current_context
from agentflow._keys import FileArg, NoKey, register_key
from agentflow._retry import RetryPolicy
from agentflow._runs import Run, get_run, list_runs
from agentflow._serialization import register_type
from agentflow._session import Session
from agentflow._settings import configure
from agentflow._step import Step
from agentflow._workflow import Workflow
from agentflow._workflow_decorator import workflow
from agentflow.exceptions import ModelRetry
from agentflow.tools import tool
from agentflow.types import RunStatus

__all__ = [
    "Agent",
    "AgentResult",
    "Context",
    "FileArg",
    "ModelRetry",
    "NoKey",
    "RetryPolicy",
    "Run",
    "RunStatus",
    "Session",
    "Step",
    "Workflow",
    "cached_step",
    "configure",
    "current_context",
    "events",
    "exceptions",
    "get_run",
    "list_runs",
    "messages",
    "models",
    "register_key",
    "register_type",
    "stores",
    "testing",
    "tool",
    "tools",
    "types",
    "workflow",
]
