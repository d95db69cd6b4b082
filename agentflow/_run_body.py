"""The body of a run while it is executed: the frame of its code, its boundaries, and the record of how it ended.

Which run it is, and whose, is settled before (`_execution`). Procedures without colour, see `_drive`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import attrs

from agentflow._body_state import BodyState
from agentflow._cancelling import heeding
from agentflow._claims import run_lock, wish_key
from agentflow._clock import wall_time
from agentflow._drive import Ask, Commit
from agentflow._failures import Failure
from agentflow._frames import Frame, counted_as_active
from agentflow._logging import enabled, logger
from agentflow._memo import Remembered
from agentflow._outbox import BODY, run_note
from agentflow._run import annotate, status_after, told
from agentflow.events import RunCancelled, RunCompleted, RunFailed, RunInterrupted
from agentflow.exceptions import (
    AgentflowError,
    RunCancelled as RunCancelledError,
    RunInterrupted as RunInterruptedError,
    StateConflict,
    StoreError,
    UnserializableValue,
)
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._active_run import ActiveRun
    from agentflow._listening import Note
    from agentflow._workflow_spec import WorkflowSpec
    from agentflow.events import Event
    from agentflow.stores._base import StateWrite, Transaction

__all__ = ["RunBody"]


class RunBody:
    """The body of a run that is open, until it has ended.

    Args:
        spec: The workflow.
        run: The run.
        arguments: The bound arguments.
        caller: The frame that calls, if this is a child run.

    Attributes:
        token: Whether it may go on.
        frame: Where its code is running.
        state: Its view of the session's state.
    """

    def __init__(
        self, spec: WorkflowSpec, run: ActiveRun, arguments: Mapping[str, Any], caller: Frame | None = None
    ) -> None:
        self.spec = spec
        self.run = run
        self.arguments = arguments
        self.caller = caller
        self.token = run.token
        self.is_open = True
        # The state checks by its frame and the frame has the state, so one of them is filled in later.
        tokens = (*caller.lineage, run.token) if caller else (run.token,)
        flights, steps = (caller.flights, caller.steps) if caller else ((), ())
        self.frame = Frame(run.home, _NO_STATE, run, flights=flights, steps=steps, tokens=tokens)
        self.frame.state = self.state = BodyState(
            run.home, self._transact, self.frame.use_state, values=spec.values, of_async=spec.shape.is_async
        )
        self._resources = contextlib.ExitStack()

    def begin(self) -> None:
        """Take in that the attempt is written: from now on the run is to be ended."""
        self._resources.enter_context(counted_as_active())
        self._resources.enter_context(heeding(self.run.home.store, self.run.record.id, self.token))
        self._log("run.started", attempt=self.run.record.attempt)

    def stop_to_tell(self) -> BaseException | None:
        """Return why the body may not go on, if nothing has raised that in it yet: a `yield` is a boundary as others are."""
        try:
            self.frame.use_state()
        except AgentflowError as error:
            return error
        return None

    def _transact(self, writes: Sequence[StateWrite]) -> AbstractContextManager[Transaction]:
        return self.run.transaction(state=writes)

    def yielding(self) -> Callable[[Any], bool]:
        """Return what takes in an item that the body yields, and says whether there is something to do first (see `at_yield`)."""
        chunk, state = self.run.outbox.chunk, self.state

        def yields(item: Any) -> bool:
            return chunk(item, BODY) or state.is_touched

        return yields

    def at_yield(self) -> Generator[Ask, None, None]:
        """Keep what the body has changed, since a yield is a boundary; and let those who write and listen keep up."""
        yield from self.state.saving()
        yield from self.run.relieved(self.frame.check)

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
            yield from self._ended(RunStatus.COMPLETED, run_note(RunCompleted, "run_completed"), result=result)
        except (
            BaseException
        ) as error:  # however the end cannot be recorded, the run is given back, with the error as its own
            if isinstance(error, StoreError | StateConflict | UnserializableValue):
                error.result = value
            yield from self._failed(error, _status_after(error))
            raise

    def _result(self, encode_result: Callable[[], bytes]) -> bytes | None:
        # A direct call gives its caller any value; only who asks the store for it later must do without one that cannot be stored.
        try:
            return Remembered(encode_result(), wall_time(), self.run.record.id).pack()
        except UnserializableValue as error:
            self._log("run.result_not_stored", reason=str(error))
            return None

    def failed(self, error: BaseException, *, closed: bool = False) -> Generator[Ask, None, None]:
        """Record that the body raised, was cancelled or was left; what goes wrong meanwhile becomes a note of the error.

        Args:
            error: The exception.
            closed: Whether it is the closing of the stream by its consumer.
        """
        status = self._revoked_status() or (RunStatus.INTERRUPTED if closed else _status_after(error))
        if isinstance(error, Exception):
            record = self.run.record
            annotate(
                error,
                f"in workflow {self.spec.name!r} (session {record.session_id!r}, run {record.id}, attempt {record.attempt})",
            )
        late: BaseException | None = None
        try:
            yield from self.state.saving()
        except GeneratorExit:
            raise
        except BaseException as also:  # noqa: BLE001 - a second Ctrl-C or cancellation, too: the run must not stay open
            annotate(error, f"and the state of the session could not be saved: {also!r}")
            late = None if isinstance(also, Exception) else also
        yield from self._failed(error, status)
        if late is not None:
            raise late

    def _revoked_status(self) -> RunStatus | None:
        """Return the status of a run that was told to stop, None for one that was not."""
        tokens = (*self.caller.lineage, self.token) if self.caller else (self.token,)
        reasons = [token.reason for token in tokens]
        if any(isinstance(reason, RunCancelledError) for reason in reasons):
            return RunStatus.CANCELLED
        if any(isinstance(reason, RunInterruptedError) for reason in reasons):
            return RunStatus.INTERRUPTED
        return RunStatus.CANCELLED if self._is_wanted_no_more() else None

    def _is_wanted_no_more(self) -> bool:
        """Whether another process has cancelled the run since it was last asked: code without boundaries never met it."""
        with contextlib.suppress(StoreError):
            return self.run.home.store.read(wish_key(self.run.record.id)) is not None
        return False

    def _failed(self, error: BaseException, status: RunStatus) -> Generator[Ask, None, None]:
        text = told(error)
        try:
            if self.frame.spoiled:
                with self.run.transaction(forget=self.frame.spoiled) as transaction:
                    yield Commit(self.run.home.store, transaction)
            failure = Failure.of(error).to_text() if status is RunStatus.FAILED else ""
            yield from self._ended(status, _ending(status, text), error=failure)
        except Exception as also:  # noqa: BLE001 - the error that is on its way is the one to raise
            annotate(error, f"and the end of run {self.run.record.id} could not be recorded: {also}")
        finally:
            self._released()

    def _ended(
        self,
        status: RunStatus,
        event: Event | Note,
        *,
        result: bytes | None = None,
        error: str = "",
    ) -> Generator[Ask, None, None]:
        run = self.run
        record = attrs.evolve(run.record, status=status, finished_at=wall_time(), result=result, error=error)
        with run.transaction(record=record, saying=event) as transaction:
            yield Commit(self.run.home.store, transaction)
        run.record = record
        self._released()
        self._log("run.ended", status=status.value)

    def _released(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.frame.token.end()
        self.run.outbox.close()
        with contextlib.suppress(StoreError):
            self.run.home.store.unlock(run_lock(self.run.record.id))
        self._resources.close()
        if self.caller and self.caller.home == self.run.home and isinstance(self.caller.state, BodyState):
            self.caller.state.reload()

    def __del__(self) -> None:
        # A loop that is closed without its generators throws them away without running any more of their code.
        if getattr(self, "is_open", False):
            with contextlib.suppress(StoreError):
                self.run.home.store.unlock(run_lock(self.run.record.id))

    def _log(self, event: str, **values: object) -> None:
        if enabled():
            record = self.run.record
            logger(workflow=self.spec.name, session_id=record.session_id, run_id=record.id).debug(event, **values)


def _status_after(error: BaseException) -> RunStatus:
    return status_after(error, task_cancelled=isinstance(error, asyncio.CancelledError))


def _ending(status: RunStatus, told: str) -> Event:
    match status:
        case RunStatus.CANCELLED:
            return RunCancelled()
        case RunStatus.INTERRUPTED:
            return RunInterrupted()
        case _:
            return RunFailed(error=told)


_NO_STATE: Any = None
