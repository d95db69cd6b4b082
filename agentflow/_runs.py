"""Runs as they are recorded, seen from any process that can open their store."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import pydantic_core

from agentflow import _following
from agentflow._answers import answered, checked_timeout, result_json, result_of
from agentflow._cancelling import cancelling
from agentflow._claims import run_not_found, status_of
from agentflow._drive import adrive, drive, in_thread
from agentflow._failures import Failure
from agentflow._options import text, whole
from agentflow._resuming import resuming
from agentflow._run_steps import RunStep, steps_of
from agentflow._settings import default_store, store_at
from agentflow._shared_stream import stream_result
from agentflow._spending import spent_by
from agentflow._threads import THREADS
from agentflow.exceptions import AgentflowError, RunNotFound, UsageError
from agentflow.stores._base import RunFilter
from agentflow.types import RunStatus

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Generator, Iterable

    from agentflow._drive import Ask
    from agentflow._usage import Usage
    from agentflow.events import Event
    from agentflow.stores._base import RunRecord, Store

__all__ = ["Run", "RunStep", "get_run", "list_runs"]


class Run:
    """One run: what the store knows of it, read at each access.

    ```python
    from agentflow import list_runs, workflow

    @workflow
    def greet(name: str) -> str:
        return f"hello {name}"

    greet("Ada")
    newest = list_runs(workflow=greet.name)[0]
    assert newest.status == "completed"
    ```
    """

    def __init__(self, run_id: str, store: Store) -> None:
        self.id = run_id
        self._store = store

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.workflow} {self.status}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook shows: how it stands now, its steps, what it gave, and where it failed."""
        from agentflow._cards import bundle  # noqa: PLC0415 - only notebooks need them
        from agentflow._pictures import run_card  # noqa: PLC0415 - as above

        try:
            record = self._record()
        except RunNotFound:
            return {"text/plain": f"<Run {self.id}, which was deleted>"}
        children = [(child.id, child.workflow, child.status.value) for child in self.children()]
        card = run_card(record, self.status, self.usage, steps=self.steps(), children=children, output=self._given())
        return bundle(card)

    def _given(self) -> Any:
        """Return as JSON what it has yielded, else what it returned; None if it gave nothing."""
        if given := self.output():
            return given
        with suppress(AgentflowError):  # it has not ended, or its result could not be stored
            return pydantic_core.from_json(self.result_json(timeout=0))
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and (self.id, self._store.identity) == (other.id, other._store.identity)

    def __hash__(self) -> int:
        return hash((self.id, self._store.identity))

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._record().workflow

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._record().session_id

    @property
    def status(self) -> RunStatus:
        """Where it stands. A run that was being executed when its process died is `interrupted` for whoever looks."""
        return status_of(self._record(), self._store)

    @property
    def attempt(self) -> int:
        """Its latest attempt, from 1; 0 if none has begun yet."""
        return self._record().attempt

    @property
    def error(self) -> str | None:
        """The type and message of the exception that it failed with, or None."""
        error = self._record().error
        return str(Failure.from_text(error)) if error else None

    @property
    def usage(self) -> Usage:
        """What the model requests of all its attempts have used, those of its children included; answers that were replayed cost nothing."""
        self._record()
        return spent_by(self._store, self.id).usage

    @property
    def started_at(self) -> datetime:
        """When its first attempt began, in UTC."""
        return datetime.fromtimestamp(self._record().started_at, UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When its latest attempt ended, in UTC; None while it runs, or if its process died."""
        finished = self._record().finished_at
        return None if finished is None else datetime.fromtimestamp(finished, UTC)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end, and return its result.

        A workflow that yields gives what it returned, if that is not None; else what it yielded, joined if all of it is text.

        ```python
        from agentflow import workflow

        @workflow
        def shout(text: str) -> str:
            return text.upper()

        assert shout.start("hello").result(timeout=10) == "HELLO"
        ```

        Args:
            timeout: For how many seconds to wait at most; 0 to look only. None: as long as it takes.

        Raises:
            RunTimeout: If it has not ended in time; it goes on.
            RunFailed: If its function raised; it carries the type, the message and the traceback.
            RunCancelled: If it was cancelled.
            RunInterrupted: If its process is gone.
            RunNotFound: If it was deleted.
            WorkflowNotLoaded: If the result is of classes that this process has not imported; see `result_json`.
            UnserializableValue: If the result could not be stored.
        """
        return result_of(self._completed(timeout))

    async def aresult(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the twin of result()
        """Wait for its end without blocking the loop; see `result`."""
        return result_of(await self._acompleted(timeout))

    def result_json(self, timeout: float | None = None) -> str:
        """Wait for its end, and return its result as ordinary JSON text: for this no class needs to be imported.

        Raises:
            RunError: As `result` does.
        """
        return result_json(self._completed(timeout))

    async def aresult_json(self, timeout: float | None = None) -> str:  # noqa: ASYNC109 - the twin of result_json()
        """Wait for its end without blocking the loop; see `result_json`."""
        return result_json(await self._acompleted(timeout))

    def _completed(self, timeout: float | None) -> RunRecord:
        with THREADS.waiting_for_another():
            return drive(self._answered(timeout))

    async def _acompleted(self, timeout: float | None) -> RunRecord:  # noqa: ASYNC109 - the twin of _completed()
        with THREADS.waiting_for_another():
            return await adrive(self._answered(timeout))

    def _answered(self, timeout: float | None) -> Generator[Ask, None, RunRecord]:
        return answered(self._record, self._store, checked_timeout(timeout))

    def cancel(self) -> bool:
        """Cancel it and the runs of the workflows that it called, in whatever process they are executed.

        A task is cancelled at once; other code is told at its next boundary (a step, state, `yield`, event, model request, or `ctx.check()`), by
        a `RunCancelled` that is raised there. `finally` blocks run, finished steps are kept, and a run that is pending never begins.
        This does not wait for it: `result()` does, and raises `RunCancelled` then.

        Returns:
            Whether there was anything to cancel; False if it had ended already.

        Raises:
            RunNotFound: If it was deleted.
        """
        return drive(self._cancelling())

    async def acancel(self) -> bool:
        """Cancel it without blocking the loop; see `cancel`."""
        return await adrive(self._cancelling())

    def _cancelling(self) -> Generator[Ask, None, bool]:
        cancelled = yield from cancelling(self._store, self.id)
        THREADS.withdraw(self._store, self.id)
        return cancelled

    def resume(self) -> Self:
        """Let it go on in the background, in the executor that it was started in, where it failed, was cancelled or lost its process.

        Finished steps are not repeated, and the body runs again. If somebody executes it already, or it has completed, nothing happens:
        of two who resume it at once, one does, and both get its one outcome.

        ```python
        from agentflow import Context, list_runs, workflow

        @workflow
        def moody(ctx: Context) -> str:
            if ctx.attempt == 1:
                raise ValueError("not today")
            return "fine"

        run = moody.start()
        try:
            run.result(timeout=10)
        except Exception:
            assert run.resume().result(timeout=10) == "fine"
        ```

        Returns:
            This very run.

        Raises:
            TooManyAttempts: If it was tried `max_attempts` times.
            WorkflowNotLoaded: If this process has not imported its workflow.
            UsageError: If an argument was not stored and has no default: then only the same call continues it; or if it is a
                child, which goes on with its parent.
            RunNotFound: If it was deleted.
        """
        drive(resuming(self._store, self.id))
        return self

    async def aresume(self) -> Self:
        """Let it go on without blocking the loop; see `resume`."""
        return await in_thread(self.resume)

    def steps(self) -> list[RunStep]:
        """List the step calls of all its attempts, in the order in which they began.

        Of a hit it is known with the next thing that the run records.
        """
        return steps_of(self._recorded_events(), is_over=self.status not in (RunStatus.PENDING, RunStatus.RUNNING))

    def children(self) -> list[Run]:
        """List the runs of the workflows that it called, oldest first."""
        records = self._store.runs(RunFilter(parent_id=self.id))
        return [Run(record.id, self._store) for record in reversed(records)]

    def events(self, after: int = 0, *, follow: bool = True) -> Generator[Event, None, None]:
        """Yield what happens in it, in order, each event once; while it goes on, wait for more, and end when it ends.

        Events are recorded within a moment after they happened, and can be read by any process. Whoever reads again after the number
        of the last event that it saw (`event.seq`) misses none and sees none twice. If the process that executed the run has died,
        the last event is a `RunInterrupted` with the number 0: nobody could record it.

        ```python
        from agentflow import list_runs, workflow

        @workflow
        def greet(name: str) -> str:
            return f"hello {name}"

        greet("Ada")
        run = list_runs(workflow=greet.name)[0]
        assert [event.type for event in run.events()] == ["run_started", "run_completed"]
        assert [event.type for event in run.events(after=1)] == ["run_completed"]
        ```

        Args:
            after: Only what came after the event of this number.
            follow: Whether to wait for what comes while the run goes on.

        Raises:
            UsageError: If that is no number of an event.
        """
        return _following.follow(self._reading(after, follow=follow), THREADS.waiting_for_another)

    def aevents(self, after: int = 0, *, follow: bool = True) -> AsyncGenerator[Event, None]:
        """Yield what happens in it, as `events` does, for `async for`."""
        return _following.afollow(self._reading(after, follow=follow), THREADS.waiting_for_another)

    def output(self) -> Any:
        """Return what the latest attempt of a generator workflow has yielded so far: joined if all of it is text, else a list.

        Items are JSON values here, as in `agentflow.events.RunYielded`.
        """
        items = _following.recorded_items(self._reading(0, follow=False), self._record().attempt)
        return stream_result(items, None)

    async def aoutput(self) -> Any:
        """Return what it has yielded so far, as `output` does."""
        return await in_thread(self.output)

    def _reading(self, after: int, *, follow: bool) -> _following.Reading:
        """Return what reads its events page by page."""
        whole(after, "after", least=0)
        return _following.Reading(self._store, self.id, lambda: self.status, after, follow)

    def _recorded_events(self) -> list[Event]:
        return list(self.events(follow=False))

    def _record(self) -> RunRecord:
        record = self._store.run(self.id)
        if record is None:
            raise run_not_found(self.id, self._store)
        return record


def get_run(run_id: str, *, store: str | os.PathLike[str] | Store | None = None) -> Run:
    """Return a run by its id.

    Raises:
        RunNotFound: If the store has no such run; the message names the store.
        UsageError: If the id is none.
    """
    place = default_store() if store is None else store_at(store)
    if place.run(text(run_id, "run_id")) is None:
        raise run_not_found(run_id, place)
    return Run(run_id, place)


def list_runs(
    *,
    workflow: Any | str | None = None,
    session_id: str | None = None,
    status: RunStatus | str | Iterable[RunStatus | str] | None = None,
    limit: int | None = 100,
    store: str | os.PathLike[str] | Store | None = None,
) -> list[Run]:
    """List runs, newest first.

    Args:
        workflow: Only those of this workflow, as an object or by name.
        session_id: Only those of this session.
        status: Only those of this status, or of one of these.
        limit: At most so many; None for all.
        store: Where to look, instead of the default store.

    Raises:
        UsageError: If one of these cannot be what it is.
    """
    place = default_store() if store is None else store_at(store)
    limit = None if limit is None else whole(limit, "limit", least=0)
    which = RunFilter(
        workflow=None if workflow is None else text(getattr(workflow, "name", workflow), "workflow"),
        session_id=None if session_id is None else text(session_id, "session_id"),
    )
    found = place.runs(which, None if status is not None else limit)
    runs = [Run(record.id, place) for record in found]
    if status is None:
        return runs
    # By the status as it is, not as it was last written: a dead process writes no more.
    try:
        wanted = {RunStatus(one) for one in ([status] if isinstance(status, str) else status)}
    except ValueError as error:
        raise UsageError(f"status={status!r}: {error}; a status is one of: {', '.join(RunStatus)}") from None
    return [run for run in runs if run.status in wanted][:limit]
