"""A function that is the entry point of a durable program: called as before, in its own colour, inside a run."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

import attrs

from agentflow._active_run import Home
from agentflow._budget import checked_budget
from agentflow._context import Context
from agentflow._decorated import Decorated
from agentflow._drive import Ask, Perform, drive, in_thread
from agentflow._event_streams import AsyncEventStream, stream_events
from agentflow._execution import Execution, Recorded
from agentflow._fingerprint import function_digest
from agentflow._frames import FRAME
from agentflow._loading import Loaded, refuse_while_loading
from agentflow._memo import StreamCodec, mark_stream
from agentflow._options import whole
from agentflow._registry import learn_types, returns
from agentflow._runs import Run
from agentflow._serialization import codec_for
from agentflow._session import Session, check_step_name
from agentflow._settings import default_store, require_session
from agentflow._shared_stream import decode_stream, stream_result
from agentflow._signature import call_by_name
from agentflow._starting import start
from agentflow._step_options import checked_session
from agentflow._stored_call import StoredCall
from agentflow._tracebacks import without_our_frames
from agentflow._workflow_options import WorkflowOptions
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable

    from agentflow._budget import Budget
    from agentflow._frames import Frame
    from agentflow._jobs import Executor
    from agentflow._run_body import RunBody
    from agentflow._step import Step
    from agentflow._workflow_spec import WorkflowSpec
    from agentflow.events import Event
    from agentflow.stores._base import RunRecord, Store

__all__ = ["Workflow", "WorkflowOptions"]

P = ParamSpec("P")
T = TypeVar("T")
Y = TypeVar("Y")


class Workflow(Decorated, Generic[P, T]):
    """A function decorated with `@workflow`.

    It is called as the function is, less the context, and keeps its colour: `inspect.iscoroutinefunction` and
    `inspect.isgeneratorfunction` tell the truth. `.fn` is the bare function.
    """

    _decorator = "workflow"

    def __init__(self, spec: WorkflowSpec, options: WorkflowOptions) -> None:
        super().__init__(spec.name, spec.shape)
        self.description = spec.description
        self._spec = spec
        self._options = options

    def __agentflow_version__(self) -> str:
        """Return what a step that calls this workflow counts it by."""
        return function_digest(self.fn)

    # Verbs

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await the result, whatever the colour: a sync workflow runs in a thread, a streamed one is consumed to its end."""
        raise NotImplementedError  # pragma: no cover - the four colours below say

    def stream_events(self, *args: P.args, **kwargs: P.kwargs) -> Generator[Event, None, T]:
        """Run it here, and yield every event of its run as it happens; then return its result, or raise what it raised.

        It runs in a worker thread with the caller's context variables, and begins with the first `next()`. Chunks come one by one.
        These events are not recorded yet, so that they have no number; `Run.events()` gives them with numbers. Closing the stream
        early leaves the run `interrupted`, and waits until its code has come to its next boundary.

        ```python
        from agentflow import workflow

        @workflow
        def count(to: int):
            yield from range(to)

        told = [event.type for event in count.stream_events(2)]
        assert told == ["run_started", "run_yielded", "run_yielded", "run_completed"]
        ```

        Raises:
            UsageError: If it is async: then it has `astream_events`.
        """
        self._spec.shape.bind(args, kwargs)
        if self._spec.shape.is_async:
            raise UsageError(
                f"workflow {self.name!r} is async, so its events are awaited: write "
                f"`async for event in {self.__name__}.astream_events(...)`"
            )
        return stream_events(lambda: self._whole(*args, **kwargs))

    def astream_events(self, *args: P.args, **kwargs: P.kwargs) -> AsyncEventStream[T]:
        """Run it here, and give every event of its run as it happens, for `async for`; its result is then in `.result`.

        An async workflow runs in a task of this loop, a sync one in a worker thread; otherwise as `stream_events`.
        """
        self._spec.shape.bind(args, kwargs)
        if self._spec.shape.is_async:
            return AsyncEventStream.of_task(lambda: self.acall(*args, **kwargs))
        return AsyncEventStream.of_thread(lambda: self._whole(*args, **kwargs))

    def _whole(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it to its end in this thread, and return what it gives."""
        raise NotImplementedError  # pragma: no cover - the two sync colours say

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Have it executed in the background, and return its run at once.

        The run begins, or is continued, as by a call: the newest unfinished one of the same session and arguments goes on.
        Also inside another run it is a run of its own, which that one neither waits for nor takes with it.

        ```python
        from agentflow import workflow

        @workflow
        def greet(name: str) -> str:
            return f"hello {name}"

        run = greet.start("Ada")
        assert run.result(timeout=10) == "hello Ada"
        ```

        Raises:
            UsageError: If the executor cannot execute it; the message says what to change.
        """
        return drive(self._starting(self._spec.shape.bind(args, kwargs)))

    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Have it executed in the background, and return its run, without blocking the loop."""
        return await in_thread(lambda: self.start(*args, **kwargs))

    def _starting(self, arguments: dict[str, Any]) -> Generator[Ask, None, Run]:
        execution = self._execution(arguments, apart=True)
        run_id = yield from start(execution, self._perform, self._options.executor)
        return Run(run_id, execution.home.store)

    def _perform(self, execution: Execution) -> None:
        """Execute in this thread, to the end."""
        raise NotImplementedError  # pragma: no cover - the four colours below say

    def _result(self, body: bytes) -> Any:
        """Return what a recorded result gives to who asks a run for it."""
        if self._spec.shape.is_stream:
            return stream_result(*self._decode(body))
        return self._codec.loads(body)

    def _recorded_execution(self, record: RunRecord, store: Store) -> Execution:
        learn_types()
        call = StoredCall.of(record)
        arguments = call.bound(self._spec.shape, self._spec.ignore, record.id)
        spec = attrs.evolve(self._spec, call_budget=call.budget)
        return Execution(spec, Home(store, self.name, record.session_id), arguments, call.refresh)

    def loaded(self) -> Loaded:
        """Return this workflow as those need it who do not call it."""
        return Loaded(self._spec, self._result, self._recorded_execution, self._perform)

    def session(self, session_id: str) -> Session:
        """Return the memory of one session of this workflow: its state, its runs and its remembered steps."""
        return Session(Home(self._store(), self.name, checked_session(session_id)), self._spec.values)

    def sessions(self, limit: int | None = None) -> list[Session]:
        """List the sessions that this workflow has, by their ids; so many at most.

        Raises:
            UsageError: If the limit is no whole number.
        """
        store = self._store()
        limit = None if limit is None else whole(limit, "limit", least=0)
        return [
            Session(Home(store, self.name, session_id), self._spec.values)
            for session_id in store.sessions(self.name, limit)
        ]

    def with_options(
        self,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        refresh: bool | str | Step[Any, Any] | Iterable[str | Step[Any, Any]] | None = None,
        store: str | os.PathLike[str] | Store | None = None,
        executor: str | Executor | None = None,
        debug: bool | None = None,
        budget: Budget | None = None,
    ) -> Self:
        """Return the same workflow with other options; what is not named stays.

        ```python
        from agentflow import workflow

        @workflow
        def greet(name: str) -> str:
            return f"hello {name}"

        assert greet.with_options(session_id="guests")("Ada") == "hello Ada"
        ```

        Args:
            session_id: The session, instead of what the workflow's `session=` gives.
            run_id: The run's id, as an idempotency key: the first call of the id begins the run; a later one, from whatever process, gets its
                recorded result or items, waits for it if it is executed, and goes on with it if it has stopped short.
            refresh: Steps to run again although they are remembered, as objects or names; True for all of them, those they call
                and model requests too. Each call of a step is made anew once per run; the old result stays until the new one is durable.
                A name that neither this process nor the store knows is refused by the call.
            store: Which store to use.
            executor: Where `start` has it executed, as `configure(executor=)` takes it.
            debug: Whether every miss of a step in the run, and in those of the workflows that it calls, logs why it was none;
                see `agentflow.configure`.
            budget: What a run may spend, instead of what the workflow's `budget=` says.

        Raises:
            UsageError: If an option cannot be what it is.
        """
        options = self._options.changed(
            session_id=session_id, run_id=run_id, refresh=refresh, store=store, executor=executor, debug=debug
        )
        spec = self._spec if budget is None else attrs.evolve(self._spec, call_budget=checked_budget(budget))
        return type(self)(spec, options)

    # Shared by the colours

    def _store(self) -> Store:
        frame = current_frame_or_none()
        return self._options.store or (frame.home.store if frame else default_store())

    def _execution(self, arguments: dict[str, Any], *, apart: bool = False) -> Execution:
        try:
            return self._execution_of(arguments, apart=apart)
        except UsageError as error:
            raise without_our_frames(error)  # noqa: B904 - the same error, not one that it has caused

    def _execution_of(self, arguments: dict[str, Any], *, apart: bool) -> Execution:
        refuse_while_loading(self.name)
        learn_types()
        frame = current_frame_or_none()
        home = Home(self._store(), self.name, self._session_id(arguments, frame))
        # A step that no run calls has a frame, too, but no session to hand on.
        is_child = not apart and frame is not None and frame.home.store.identity == home.store.identity
        options, caller = self._options, frame if is_child else None
        for name in options.refresh.steps:
            check_step_name(home, name, "refresh")
        return Execution(
            self._spec, home, arguments, options.refresh, caller, run_id=options.run_id, debug=options.debug
        )

    def _session_id(self, arguments: dict[str, Any], frame: Frame | None) -> str:
        session_id = self._session_named(arguments, frame)
        if session_id or (session_id is not None and not require_session()):
            return session_id
        if require_session():
            found = "without a session" if session_id is None else "with an empty session id"
            raise UsageError(
                f"workflow {self.name!r} was called {found}, and this program requires one (require_session): "
                'write with_options(session_id="...") or @workflow(session=...)'
            )
        return "default"

    def _session_named(self, arguments: dict[str, Any], frame: Frame | None) -> str | None:
        if self._options.session_id is not None:
            return self._options.session_id
        session = self._spec.session
        if callable(session):
            what = f"session= of workflow {self.name!r}"
            return checked_session(call_by_name(session, arguments, what=what), what)
        if session is not None:
            return session
        if frame is not None and frame.run is not None:
            return frame.home.session_id
        return None

    def _arguments(self, body: RunBody) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = self._spec.shape.spread(body.arguments)
        return ([Context(body.frame), *args] if self._spec.shape.takes_ctx else args), kwargs

    @functools.cached_property
    def _codec(self) -> Any:
        gives = returns(self._spec.shape)
        value = codec_for(gives.value)
        return StreamCodec(codec_for(gives.item), value) if self._spec.shape.is_stream else value

    def _value_call(self, execution: Execution, code: Callable[[RunBody], Any]) -> Generator[Ask, None, Any]:
        """The procedure of a workflow that returns one value."""
        body = yield from execution.opening(self._codec.loads)
        if isinstance(body, Recorded):
            return body.value
        perform = Perform(lambda: code(body))
        try:
            yield perform
            _refuse_unawaited(perform.result, self.name)
        except GeneratorExit as left:
            drive(body.failed(left))  # its task is thrown away, perhaps with its loop: nobody goes on with this
            raise
        except BaseException as error:  # however it ends, the run is told
            yield from body.failed(error)
            raise
        value = perform.result
        owner = f"the result of workflow {self.name!r}"
        yield from body.completed(value, lambda: cast("bytes", self._codec.dumps(value, owner=owner)))
        return value

    def _decode(self, body: bytes) -> tuple[list[Any], Any]:
        return decode_stream(self._codec, body[1:])

    def _encoded_stream(self, items: list[Any], value: Any) -> bytes:
        codec, owner = cast("StreamCodec", self._codec), f"the result of workflow {self.name!r}"
        return mark_stream(codec.dumps([codec.items.dumps(item, owner=owner) for item in items], value, owner=owner))


def _refuse_unawaited(value: object, name: str) -> None:
    """Refuse a coroutine as what a workflow returns: it was meant to be awaited, and nothing of it has run."""
    if inspect.iscoroutine(value):
        value.close()
        raise UsageError(
            f"workflow {name!r} returned the coroutine of {value.__qualname__}, which has not run: write `return await ...`, in an `async def`"
        )


def current_frame_or_none() -> Frame | None:
    """Return the frame in force: a workflow may begin anywhere, so that there may be none."""
    frame = FRAME.get()
    if frame is not None:
        frame.check()
    return frame
