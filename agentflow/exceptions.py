"""Every error agentflow raises on purpose, as one tree.

```text
AgentflowError
├── UsageError                   the program is wrong; the message says what to write instead
│   ├── UnkeyableArgument        an argument cannot be part of a step's key
│   ├── UnserializableValue      a value cannot be stored and read back as what it was
│   ├── NameConflict             two functions claim one name
│   ├── NoActiveRun              a step or current_context() found no run where one was needed
│   └── WorkflowNotLoaded        a run's workflow is not imported in this process
├── RunError                     a run did not give an answer
│   ├── RunFailed                its function raised
│   ├── RunCancelled             somebody cancelled it
│   ├── RunInterrupted           its process is gone
│   ├── RunTimeout               it is not finished yet (also a TimeoutError)
│   ├── RunNotFound              no such run in this store (also a LookupError)
│   ├── RunConflict              the run belongs to somebody else, or to other arguments
│   └── TooManyAttempts          it was tried as often as it may be
├── StepTimeout                  a step took longer than it may (also a TimeoutError)
├── StateConflict                a state key was changed elsewhere since it was read here
├── StoreError                   the store did not answer; after a step ran, `.result` has its result
│   ├── StoreBusy                another process holds the write lock
│   ├── StoreFull                no room left
│   ├── StoreReadOnly            it may be read but not written
│   ├── StoreCorrupt             what is stored is not what was written
│   ├── StoreGone                its files were removed while it was open
│   ├── StoreLocation            no store can be kept at this place
│   ├── IncompatibleStore        written by a newer agentflow, or not by agentflow at all
│   └── PayloadTooLarge          one value is larger than the store accepts
├── ModelError                   the model's side
│   ├── ModelHTTPError           the provider answered with an error status
│   │   ├── RateLimited
│   │   └── AuthenticationFailed
│   ├── ModelTimeout             no answer in time (also a TimeoutError)
│   └── UnexpectedModelBehavior  an answer that cannot be used
│       ├── OutputInvalid
│       ├── TurnLimitExceeded
│       └── UnknownTool
└── BudgetExceeded               the run has spent what it may
```

`ModelRetry` is not an error: a tool raises it to speak to the model.
An exception of the user's own code is never wrapped by a direct call: it passes through with a note.
"""

from __future__ import annotations

__all__ = [
    "AgentflowError",
    "AuthenticationFailed",
    "BudgetExceeded",
    "IncompatibleStore",
    "ModelError",
    "ModelHTTPError",
    "ModelRetry",
    "ModelTimeout",
    "NameConflict",
    "NoActiveRun",
    "OutputInvalid",
    "PayloadTooLarge",
    "RateLimited",
    "RunCancelled",
    "RunConflict",
    "RunError",
    "RunFailed",
    "RunInterrupted",
    "RunNotFound",
    "RunTimeout",
    "StateConflict",
    "StepTimeout",
    "StoreBusy",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreGone",
    "StoreLocation",
    "StoreReadOnly",
    "TooManyAttempts",
    "TurnLimitExceeded",
    "UnexpectedModelBehavior",
    "UnkeyableArgument",
    "UnknownTool",
    "UnserializableValue",
    "UsageError",
    "WorkflowNotLoaded",
]


class AgentflowError(Exception):
    """The base of every error that agentflow raises on purpose.

    The message says what happened, to which thing, and what to do.
    What a program would want to read from it stands in attributes as well.
    """

    # Data beside the message is keyword-only with defaults, so that `cls(*self.args)`, which
    # is how copy and pickle rebuild an exception, always works; the attributes follow by `__dict__`.
    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class UsageError(AgentflowError):
    """The program uses agentflow in a way that cannot work; the message says what to write."""


class UnkeyableArgument(UsageError):
    """An argument cannot be part of a step's key, so the call is refused before it runs.

    Attributes:
        step: The step (or workflow) that was called.
        parameter: The parameter that holds the value.
        path: Where inside the argument the value is, such as `"[0].client"`; empty for the argument itself.
        type_name: The type that cannot be keyed.
    """

    def __init__(
        self, message: str = "", *, step: str = "", parameter: str = "", path: str = "", type_name: str = ""
    ) -> None:
        super().__init__(message)
        self.step, self.parameter, self.path, self.type_name = step, parameter, path, type_name


class UnserializableValue(UsageError):
    """A value cannot be stored and read back as what it was.

    Attributes:
        owner: What the value belongs to: a step, a state key, a workflow's argument.
        path: Where inside the value the part is that cannot be stored; empty for the value itself.
        type_name: The type that cannot be stored.
        result: After a step ran: what it returned, so that paid work is not lost. Else None.
    """

    def __init__(
        self, message: str = "", *, owner: str = "", path: str = "", type_name: str = "", result: object = None
    ) -> None:
        super().__init__(message)
        self.owner, self.path, self.type_name, self.result = owner, path, type_name, result


class NameConflict(UsageError):
    """Two functions at different places claim one name, so their results would mix."""


class NoActiveRun(UsageError):
    """A step or `current_context()` found no run, where guessing one could land in another's memory."""


class WorkflowNotLoaded(UsageError):
    """A run can only go on in a process that has imported its workflow."""


class RunError(AgentflowError):
    """A run did not give an answer.

    Attributes:
        run_id: The run.
    """

    def __init__(self, message: str = "", *, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailed(RunError):
    """The run's function raised.

    Attributes:
        error_type: The qualified name of the original exception's type.
        error_message: Its message.
        traceback: Its traceback as text, without local variables.
        attempts: How often the run was tried.
    """

    def __init__(
        self,
        message: str = "",
        *,
        run_id: str | None = None,
        error_type: str = "",
        error_message: str = "",
        traceback: str = "",
        attempts: int = 0,
    ) -> None:
        super().__init__(message, run_id=run_id)
        self.error_type, self.error_message, self.traceback = error_type, error_message, traceback
        self.attempts = attempts


class RunCancelled(RunError):
    """The run was cancelled."""


class RunInterrupted(RunError):
    """The run's process is gone; calling its workflow again goes on where it stopped."""


class RunTimeout(RunError, TimeoutError):
    """The run has not finished yet."""


class RunNotFound(RunError, LookupError):
    """There is no such run in this store."""


class RunConflict(RunError):
    """The run belongs to another process, or to a call with other arguments."""


class TooManyAttempts(RunError):
    """The run was tried as often as it may be."""


class StepTimeout(AgentflowError, TimeoutError):
    """A step took longer than its `timeout` allows; nothing of it is kept.

    Attributes:
        step: The step.
        seconds: The limit, in seconds.
    """

    def __init__(self, message: str = "", *, step: str = "", seconds: float | None = None) -> None:
        super().__init__(message)
        self.step, self.seconds = step, seconds


class StateConflict(AgentflowError):
    """A state key was read and changed here, and changed elsewhere in between.

    Attributes:
        keys: The paths in conflict, such as `"posts.cats"`.
        result: After a step ran: what it returned, so that paid work is not lost. Else None.
    """

    def __init__(self, message: str = "", *, keys: tuple[str, ...] = (), result: object = None) -> None:
        super().__init__(message)
        self.keys, self.result = keys, result


class StoreError(AgentflowError):
    """The store did not answer.

    Attributes:
        path: The directory or file of the store, or None for one without.
        hint: What to do about it.
        errno: The operating system's error number, where there is one.
        result: After a step ran: what it returned, so that paid work is not lost. Else None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | None = None,
        hint: str = "",
        errno: int | None = None,
        result: object = None,
    ) -> None:
        super().__init__(message)
        self.path, self.hint, self.errno, self.result = path, hint, errno, result


class StoreBusy(StoreError):
    """Another process holds the store's write lock for longer than `busy_timeout`."""


class StoreFull(StoreError):
    """There is no room left where the store is kept."""


class StoreReadOnly(StoreError):
    """The store can be read but not written."""


class StoreCorrupt(StoreError):
    """What is stored is not what was written."""


class StoreGone(StoreError):
    """The store's files were removed or replaced while it was open."""


class StoreLocation(StoreError):
    """No store can be kept at this place."""


class IncompatibleStore(StoreError):
    """The files were written by a newer agentflow or not by agentflow at all, or a value does not fit the code of today."""


class PayloadTooLarge(StoreError):
    """One value is larger than the store accepts."""


class ModelError(AgentflowError):
    """A model, or the way to it, failed.

    Attributes:
        model: The model, as `"provider:name"`, where known.
    """

    def __init__(self, message: str = "", *, model: str | None = None) -> None:
        super().__init__(message)
        self.model = model


class ModelHTTPError(ModelError):
    """The provider could not be reached or answered with an error status.

    Attributes:
        status: The HTTP status, or None if no answer came.
        body: The provider's error text, shortened.
        request_id: The provider's id of the request, where it gave one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        status: int | None = None,
        body: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, model=model)
        self.status, self.body, self.request_id = status, body, request_id


class RateLimited(ModelHTTPError):
    """The provider asks to wait (status 429).

    Attributes:
        retry_after: Seconds the provider asked to wait, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        status: int | None = 429,
        body: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, model=model, status=status, body=body, request_id=request_id)
        self.retry_after = retry_after


class AuthenticationFailed(ModelHTTPError):
    """The provider does not accept the key (status 401 or 403)."""


class ModelTimeout(ModelError, TimeoutError):
    """The model gave no answer in time."""


class UnexpectedModelBehavior(ModelError):
    """The model answered with something that cannot be used.

    Attributes:
        body: What it said, as text.
    """

    def __init__(self, message: str = "", *, model: str | None = None, body: str = "") -> None:
        super().__init__(message, model=model)
        self.body = body


class OutputInvalid(UnexpectedModelBehavior):
    """The model's answer is not of the agent's `output_type`, also after its corrections."""


class TurnLimitExceeded(UnexpectedModelBehavior):
    """The model kept calling tools for more than `max_turns` turns."""


class UnknownTool(UnexpectedModelBehavior):
    """The model called a tool that the agent does not have."""


class BudgetExceeded(AgentflowError):
    """The run has spent what its budget allows; raised before the next model request.

    Attributes:
        limit: What is exceeded: `"tokens"`, `"cost"`, `"requests"` or `"seconds"`.
        allowed: How much of it the budget allows.
        used: How much of it was used.
    """

    def __init__(self, message: str = "", *, limit: str = "", allowed: float = 0, used: float = 0) -> None:
        super().__init__(message)
        self.limit, self.allowed, self.used = limit, allowed, used


class ModelRetry(Exception):
    """Raised by a tool to tell the model something and let it try again.

    ```python
    from agentflow import ModelRetry

    def get_order(order_id: int) -> str:
        if order_id < 0:
            raise ModelRetry("order_id is a positive number; ask the customer for it")
        return "shipped"
    ```
    """
