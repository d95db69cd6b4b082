"""One call of a workflow, from its arguments to its recorded outcome: procedures without colour (see `_drive`).

Open a run, or continue one that was left: its lock says whether somebody still has it, and the fence of every later write
says that it is still ours. Execute the body. Then record how it ended, with whatever the body left to save.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import attrs

from agentflow._drive import Ask, Commit
from agentflow._frames import ActiveRun, Frame, Home, Refresh, counted_as_active
from agentflow._keys import arguments_digest, encode, entry_key
from agentflow._logging import enabled, logger
from agentflow._memo import Remembered
from agentflow._run import CONTINUABLE, Continuation, annotate, status_after, told
from agentflow._serialization import StaleValue
from agentflow._state import BodyState
from agentflow.events import RunCancelled, RunCompleted, RunFailed, RunInterrupted, RunStarted
from agentflow.exceptions import (
    RunConflict,
    StateConflict,
    StoreError,
    UnexpectedModelBehavior,
    UnserializableValue,
)
from agentflow.stores._base import Fence, RunFilter, RunRecord
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._signature import Shape
    from agentflow.events import Event
    from agentflow.stores._base import StateWrite, Transaction

__all__ = ["Execution", "Recorded", "WorkflowSpec", "run_lock"]

_MOST_CANDIDATES = 50


def run_lock(run_id: str) -> str:
    """Return the name of the lock that whoever executes a run holds."""
    return f"run:{run_id}"


@attrs.define(eq=False)
class WorkflowSpec:
    """What a decorator was told about its workflow."""

    name: str
    shape: Shape
    session: str | Callable[..., str] | None
    ignore: frozenset[str]
    key: Callable[..., object] | None
    continuation: Continuation
    description: str


@attrs.frozen
class Recorded:
    """What a completed child run gave."""

    value: Any


class Execution:
    """One call of a workflow.

    Args:
        spec: The workflow.
        home: Its session.
        arguments: The bound arguments.
        refresh: What it asks to run again.
        caller: The frame that calls, if it is part of a run: then this is a child run.
    """

    def __init__(
        self, spec: WorkflowSpec, home: Home, arguments: Mapping[str, Any], refresh: Refresh, caller: Frame | None
    ) -> None:
        self.spec = spec
        self.home = home
        self.arguments = arguments
        self.caller = caller if caller and caller.run else None
        self.refresh = refresh.joined(self.caller.run.refresh) if self.caller and self.caller.run else refresh
        self.call = self._call()
        self._run: ActiveRun | None = None
        self._frame: Frame | None = None
        self._is_over = False
        self._resources = contextlib.ExitStack()

    def _call(self) -> str:
        spec = self.spec
        if spec.key is not None:
            args, kwargs = spec.shape.spread(self.arguments)
            digest = encode(spec.key(*args, **kwargs), owner=spec.name, parameter="key=").hex()
        else:
            counting = {name: value for name, value in self.arguments.items() if name not in spec.ignore}
            digest = arguments_digest(spec.name, counting)
        return entry_key("call", digest, str(self.refresh.everything), *sorted(self.refresh.steps))

    # Opening

    def opening(self, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Recorded | None]:
        """Begin or continue a run; return what it gave instead if it is a child that has completed already."""
        if self.caller:
            self.caller.check()
            if isinstance(self.caller.state, BodyState):
                yield from self.caller.state.saving()
            return (yield from self._opening_child(self.caller, decode))
        for record in self._candidates():
            if (yield from self._continued(record)):
                return None
        yield from self._begun(uuid.uuid4().hex, "")
        return None

    def _candidates(self) -> Sequence[RunRecord]:
        return self.home.store.runs(
            RunFilter(
                workflow=self.home.workflow,
                session_id=self.home.session_id,
                call=self.call,
                parent_id="",
                statuses=CONTINUABLE,
            ),
            _MOST_CANDIDATES,
        )

    def _opening_child(self, caller: Frame, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Recorded | None]:
        assert caller.run
        names = (caller.run.record.id, caller.place, self.home.workflow, self.home.session_id, self.call)
        number = caller.count("run", entry_key(*names))
        run_id = entry_key("child", *names, str(number))[:32]
        record = self.home.store.run(run_id)
        if record is None:
            yield from self._begun(run_id, caller.run.record.id)
        elif recorded := self._recorded(record, decode):
            return recorded
        elif not (yield from self._taken(record)):
            raise RunConflict(
                f"run {run_id} of workflow {self.spec.name!r} is being executed by another process: wait for its end, then call again",
                run_id=run_id,
            )
        return None

    def _recorded(self, record: RunRecord, decode: Callable[[bytes], Any]) -> Recorded | None:
        if record.status is not RunStatus.COMPLETED or record.result is None:
            return None
        try:
            return Recorded(decode(Remembered.unpack(record.result).body))
        except StaleValue as stale:
            self._log("run.stale", reason=str(stale))
            return None

    def _continued(self, record: RunRecord) -> Generator[Ask, None, bool]:
        last = self.home.store.last_event(record.id)
        at = last.at if last else record.started_at
        if not self.spec.continuation.accepts(record, at, time.time()):
            return False
        return (yield from self._taken(record))

    def _taken(self, record: RunRecord) -> Generator[Ask, None, bool]:
        """Take over a run that nobody executes any more; False if somebody does after all."""
        if not self.home.store.try_lock(run_lock(record.id)):
            return False
        now = self.home.store.run(record.id)
        if now is None or (now.status, now.owner) != (record.status, record.owner):
            # It went on, or ended, between the look and the lock.
            self.home.store.unlock(run_lock(record.id))
            return False
        following = attrs.evolve(
            record,
            status=RunStatus.RUNNING,
            attempt=record.attempt + 1,
            owner=uuid.uuid4().hex,
            finished_at=None,
            error="",
        )
        try:
            yield from self._started(following, Fence(record.id, record.owner))
        except RunConflict:
            self.home.store.unlock(run_lock(record.id))
            return False
        except BaseException:
            self.home.store.unlock(run_lock(record.id))
            raise
        return True

    def _begun(self, run_id: str, parent_id: str) -> Generator[Ask, None, None]:
        record = RunRecord(
            id=run_id,
            workflow=self.home.workflow,
            session_id=self.home.session_id,
            call=self.call,
            owner=uuid.uuid4().hex,
            parent_id=parent_id,
            started_at=time.time(),
        )
        self.home.store.try_lock(run_lock(run_id))
        try:
            yield from self._started(record, Fence(run_id, ""))
        except BaseException:
            self.home.store.unlock(run_lock(run_id))
            raise

    def _started(self, record: RunRecord, fence: Fence) -> Generator[Ask, None, None]:
        run = ActiveRun(record, self.home, self.refresh)
        run.note(RunStarted())
        with run.transaction(record=record, fence=fence) as transaction:
            yield Commit(self.home.store, transaction)
        self._run = run
        self._resources.enter_context(counted_as_active())
        self._log("run.started", attempt=record.attempt)

    # The body

    @property
    def run(self) -> ActiveRun:
        """The run, once it is open."""
        assert self._run
        return self._run

    @property
    def frame(self) -> Frame:
        """The frame of the body, once the run is open."""
        if self._frame is None:
            tokens = (*self.caller.lineage, self.run.token) if self.caller else (self.run.token,)
            flights, steps = (self.caller.flights, self.caller.steps) if self.caller else ((), ())
            # The state checks by its frame and the frame has the state, so one of them is filled in later.
            frame = Frame(self.home, _NO_STATE, self.run, flights=flights, steps=steps, tokens=tokens)
            frame.state = BodyState(self.home, self._transact, frame.use)
            self._frame = frame
        return self._frame

    @property
    def state(self) -> BodyState:
        """The body's view of the session's state."""
        state = self.frame.state
        assert isinstance(state, BodyState)
        return state

    def _transact(self, writes: Sequence[StateWrite]) -> AbstractContextManager[Transaction]:
        return self.run.transaction(state=writes)

    # Ending

    def completed(self, value: Any, encode_result: Callable[[], bytes]) -> Generator[Ask, None, None]:
        """Record that the body returned a value.

        Raises:
            StateConflict: If state that it has changed was changed elsewhere; the run is then `failed`.
            StoreError: If the store cannot write.
        """
        try:
            yield from self.state.saving()
            result = self._result(encode_result)
            yield from self._ended(RunStatus.COMPLETED, RunCompleted(), result=result)
        except BaseException as error:
            if isinstance(error, StoreError | StateConflict | UnserializableValue):
                error.result = value
            yield from self._failed(error, RunStatus.FAILED)
            raise

    def _result(self, encode_result: Callable[[], bytes]) -> bytes | None:
        # A direct call gives its caller any value; only who asks the store for it later must do without one that cannot be stored.
        try:
            return Remembered(encode_result(), time.time(), self.run.record.id).pack()
        except UnserializableValue as error:
            self._log("run.result_not_stored", reason=str(error))
            return None

    def failed(self, error: BaseException, *, closed: bool = False) -> Generator[Ask, None, None]:
        """Record that the body raised, was cancelled or was left; what goes wrong meanwhile becomes a note of the error.

        Args:
            error: The exception.
            closed: Whether it is the closing of the stream by its consumer.
        """
        cancelled = isinstance(error, asyncio.CancelledError)
        status = RunStatus.INTERRUPTED if closed else status_after(error, task_cancelled=cancelled)
        if isinstance(error, Exception):
            record = self.run.record
            annotate(
                error,
                f"in workflow {self.spec.name!r} (session {record.session_id!r}, run {record.id}, attempt {record.attempt})",
            )
        try:
            yield from self.state.saving()
        except Exception as also:  # noqa: BLE001 - the error that is on its way is the one to raise
            annotate(error, f"and the state of the session could not be saved: {also}")
        yield from self._failed(error, status)

    def _failed(self, error: BaseException, status: RunStatus) -> Generator[Ask, None, None]:
        text = told(error)
        try:
            if isinstance(error, UnexpectedModelBehavior) and self.frame.requests:
                with self.run.transaction(forget=self.frame.requests) as transaction:
                    yield Commit(self.home.store, transaction)
            yield from self._ended(status, _ending(status, text), error=text if status is RunStatus.FAILED else "")
        except Exception as also:  # noqa: BLE001 - the error that is on its way is the one to raise
            annotate(error, f"and the end of run {self.run.record.id} could not be recorded: {also}")
        finally:
            self._released()

    def _ended(
        self,
        status: RunStatus,
        event: Event,
        *,
        result: bytes | None = None,
        error: str = "",
    ) -> Generator[Ask, None, None]:
        run = self.run
        run.note(event)
        record = attrs.evolve(run.record, status=status, finished_at=time.time(), result=result, error=error)
        with run.transaction(record=record) as transaction:
            yield Commit(self.home.store, transaction)
        run.record = record
        self._released()
        self._log("run.ended", status=status.value)

    @property
    def is_open(self) -> bool:
        """Whether it has a run that it must end."""
        return self._run is not None and not self._is_over

    def _released(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.frame.token.end()
        with contextlib.suppress(StoreError):
            self.home.store.unlock(run_lock(self.run.record.id))
        self._resources.close()
        if self.caller and self.caller.home == self.home and isinstance(self.caller.state, BodyState):
            self.caller.state.reload()

    def _log(self, event: str, **values: object) -> None:
        if enabled():
            run_id = self._run.record.id if self._run else None
            logger(workflow=self.spec.name, session_id=self.home.session_id, run_id=run_id).debug(event, **values)


def _ending(status: RunStatus, told: str) -> Event:
    match status:
        case RunStatus.CANCELLED:
            return RunCancelled()
        case RunStatus.INTERRUPTED:
            return RunInterrupted()
        case _:
            return RunFailed(error=told)


_NO_STATE: Any = None
