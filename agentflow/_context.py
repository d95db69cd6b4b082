"""What a workflow's body and its steps get: their run, their session's state, and what they can say and do in it."""

# mypy: disable-error-code="overload-overlap"
# An `async def` is also a function that returns something: the overloads of map() overlap on purpose, from narrow to wide.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

import pydantic_core

from agentflow._drive import drive, on_a_loop
from agentflow._frames import current_frame, ended_error
from agentflow._logging import logger
from agentflow._mapping import map_over
from agentflow._usage import Usage
from agentflow.events import Emitted
from agentflow.exceptions import NoActiveRun, UnserializableValue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import CoroutineType

    from typing_extensions import TypeVar as TypeVarWithDefault

    from agentflow._budget import Budget
    from agentflow._frames import Frame
    from agentflow._logging import Logger
    from agentflow._state import State

    S = TypeVarWithDefault("S", default=State)
else:
    S = TypeVar("S")

T = TypeVar("T")

__all__ = ["Context", "current_context"]

_LONGEST_EMITTED: Final = 256 * 1024


class Context(Generic[S]):
    """The run that code is part of, and the session it works in.

    A function decorated with `@workflow` or `@cached_step` gets it as its first parameter, if that is annotated
    `Context` or named `ctx`; callers never pass it. It may be used until its body or step call ends, and not after.

    ```python
    from agentflow import Context, workflow

    @workflow
    def count(ctx: Context, word: str) -> int:
        ctx.state[word] = ctx.state.get(word, 0) + 1
        return ctx.state[word]

    assert count("cats") == 1
    assert count("cats") == 2
    ```
    """

    _agentflow_context = True

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        frame = self._frame
        where = f"step={frame.step!r}, " if frame.step else ""
        return f"Context({where}workflow={frame.home.workflow!r}, session_id={frame.home.session_id!r}, run_id={self.run_id!r})"

    @property
    def run_id(self) -> str | None:
        """The run's id, None outside a run."""
        return self._frame.run.record.id if self._frame.run else None

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._frame.home.session_id

    @property
    def workflow(self) -> str:
        """The workflow's name, `""` for a step that no workflow calls."""
        return self._frame.home.workflow

    @property
    def attempt(self) -> int:
        """The attempt, from 1: of the step call in a step, of the run in a body."""
        if self._frame.step or not self._frame.run:
            return self._frame.attempt
        return self._frame.run.record.attempt

    @property
    def state(self) -> S:
        """The session's state: a mutable mapping, or an instance of the model that `@workflow(state=...)` names.

        In a body an assignment is durable at once, and a change inside a value at the next step, `yield` or end.
        In a step all changes become durable with its result, or not at all.
        """
        self._usable()
        return cast("S", self._frame.state.view)

    @property
    def log(self) -> Logger:
        """A structlog logger that carries the run, the session and the step."""
        names = {"step": self._frame.step or None, "session_id": self.session_id, "run_id": self.run_id}
        return logger(**{name: value for name, value in names.items() if value is not None})

    @property
    def idempotency_key(self) -> str:
        """A text to hand to services that understand idempotency keys; only inside a step.

        It is the same each time this very call is executed in its scope, also after a crash and after the step's code was edited, so
        that a payment is made once. A step with a `ttl` is meant to happen again: there it is the same within one run.

        Raises:
            NoActiveRun: In a body, where there is no call to name.
        """
        if not self._frame.step:
            raise NoActiveRun("ctx.idempotency_key names a step call: do what must happen once in a step")
        return self._frame.idempotency_key

    @property
    def usage(self) -> Usage:
        """What the model requests of the run have used, in all its attempts and in the runs that it called; nothing outside a run.

        Answers that were replayed count nothing.
        """
        return self._frame.run.account.usage if self._frame.run else Usage()

    @property
    def budget(self) -> Budget | None:
        """What is left of the budgets in force, the run's own and those of the runs around it; None if there is none."""
        return self._frame.run.account.left if self._frame.run else None

    def check(self) -> None:
        """Raise if this code should not go on: its step timed out, its run was cancelled, or its budget is exceeded.

        Long loops without steps call it now and then; steps, state and model requests check by themselves.
        """
        self._usable()
        self._frame.check()
        if self._frame.run:
            self._frame.run.account.check(asking=False)

    def emit(self, value: Any) -> None:
        """Add an event of your own to the run; it is recorded with the next step, or a moment later.

        Raises:
            UnserializableValue: If JSON cannot say the value, or it is over 256 KiB.
        """
        self._usable()
        self._frame.check()
        try:
            encoded = pydantic_core.to_json(value)
            said, size = pydantic_core.from_json(encoded), len(encoded)
        except (pydantic_core.PydanticSerializationError, ValueError) as error:
            raise UnserializableValue(
                f"ctx.emit() was given something that JSON cannot say ({error}): emit text, numbers, lists, dicts or models",
                owner="ctx.emit()",
                type_name=type(value).__name__,
            ) from error
        if size > _LONGEST_EMITTED:
            raise UnserializableValue(
                f"ctx.emit() was given {size:,} bytes, and an event has {_LONGEST_EMITTED:,} at most: emit what to look at, not the thing",
                owner="ctx.emit()",
                type_name=type(value).__name__,
            )
        run = self._frame.run
        if run:
            run.note(Emitted(value=said))
            if (
                run.outbox.is_pressed and not on_a_loop()
            ):  # code that says very much, and nothing else: on a loop it cannot wait
                drive(run.relieved(self._frame.check))

    @overload
    def map(
        self,
        fn: Callable[..., CoroutineType[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        max_concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Awaitable[list[T]]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        max_concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> list[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        max_concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Any:
        """Call a function for each item at once, and return the results in order.

        Several iterables go in step, as with `zip`. A sync function runs in threads of this call's own, an `async def` in tasks:
        then `await` the result. After the first error nothing new starts, what is running is awaited (sync) or cancelled (async),
        and the error of the lowest index is raised; steps that finished stay remembered.

        ```python
        from agentflow import Context, cached_step, workflow

        @cached_step
        def read(url: str) -> str:
            return f"page of {url}"

        @workflow
        def read_all(ctx: Context, urls: list[str]) -> list[str]:
            return ctx.map(read, urls, max_concurrency=5)

        assert read_all(["a", "b"]) == ["page of a", "page of b"]
        ```

        Args:
            fn: The function; a generator function is refused.
            *iterables: Where its arguments come from.
            max_concurrency: How many at once. None: 32 threads, or as many tasks as there are items.
            return_exceptions: Put an `Exception` in its place into the list instead of raising it.

        Raises:
            UsageError: If the function yields, or there is nothing to go over.
        """
        self._usable()
        return map_over(
            self._frame, fn, iterables, max_concurrency=max_concurrency, return_exceptions=return_exceptions
        )

    def _usable(self) -> None:
        if self._frame.token.ended:
            raise ended_error(self._frame)


def current_context() -> Context:
    """Return the context of the workflow or step that is running, for code that was not handed one.

    ```python
    from agentflow import cached_step, current_context

    def session() -> str:
        return current_context().session_id

    @cached_step
    def where() -> str:
        return session()

    assert where() == "default"
    ```

    Raises:
        NoActiveRun: If none is.
    """
    frame = current_frame("current_context()")
    if frame is None:
        raise NoActiveRun("current_context() is for code that a workflow or a step calls, and none is running here")
    return Context(frame)
