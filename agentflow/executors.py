"""Where background runs are executed: `Executor` is what a place of your own implements.

`configure(executor=)`, or `with_options(executor=)` of a workflow, takes an object of these or a name:
`"thread"` (the default) executes runs in threads of this process, `max_runs` at once; `"process"` each in a process of its own.
"""

from __future__ import annotations

from agentflow._jobs import Executor, Job
from agentflow._processes import ProcessExecutor
from agentflow._starting import execute
from agentflow._threads import ThreadExecutor

__all__ = ["Executor", "Job", "ProcessExecutor", "ThreadExecutor", "execute"]
