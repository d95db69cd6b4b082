"""One call of a workflow, from its arguments to its recorded outcome: procedures without colour (see `_drive`).

Open a run, or continue one that was left: its lock says whether somebody still has it, and the fence of every later write
says that it is still ours. Execute the body. Then record how it ended, with whatever the body left to save.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._body_state import BodyState
from agentflow._cancelling import heeding
from agentflow._claims import Claims, following, run_lock, wish_key
from agentflow._drive import Ask, Commit, Pause
from agentflow._failures import Failure
from agentflow._frames import ActiveRun, Frame, Home, Refresh, Token, counted_as_active
from agentflow._keys import arguments_digest, encode, entry_key
from agentflow._listening import claimed_listener
from agentflow._logging import enabled, logger
from agentflow._memo import Remembered
from agentflow._named_runs import NamedRun
from agentflow._outbox import BODY, run_note
from agentflow._run import annotate, status_after, told
from agentflow._serialization import StaleValue
from agentflow._spending import Account, spending
from agentflow._stored_call import StoredCall
from agentflow.events import RunCancelled, RunCompleted, RunFailed, RunInterrupted, RunStarted
from agentflow.exceptions import (
    AgentflowError,
    RunCancelled as RunCancelledError,
    RunConflict,
    RunInterrupted as RunInterruptedError,
    StateConflict,
    StoreError,
    UnserializableValue,
    UsageError,
)
from agentflow.stores._base import RunRecord, Transaction
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._budget import Budget
    from agentflow._claims import Claim
    from agentflow._listening import Note
    from agentflow._run import Continuation
    from agentflow._signature import Shape
    from agentflow._state_values import Values
    from agentflow.events import Event
    from agentflow.stores._base import StateWrite

__all__ = ["Execution", "Recorded", "WorkflowSpec"]

_BETWEEN_LOOKS: Final = 0.02  # seconds, at a child run that has not ended yet


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
    values: Values | None = None
    budget: Budget | None = None
    call_budget: Budget | None = None
    """The budget that a call has brought with it, in place of the workflow's."""


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
        run_id: The run's id, if the caller has chosen one.
        debug: Whether the misses of its steps tell why; None: as its parent's do, else as the settings say.

    Attributes:
        token: Whether it may go on.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        home: Home,
        arguments: Mapping[str, Any],
        refresh: Refresh,
        caller: Frame | None = None,
        *,
        run_id: str | None = None,
        debug: bool | None = None,
    ) -> None:
        self.spec = spec
        self.home = home
        self.arguments = arguments
        self.caller = caller if caller and caller.run else None
        self.refresh = refresh.joined(self.caller.run.refresh) if self.caller and self.caller.run else refresh
        self.debug = self.caller.run.debug if debug is None and self.caller and self.caller.run else debug
        self.call = self._call()
        self.run_id = run_id
        self.token = Token()
        self._claims = Claims(home, self.call, spec.continuation)
        self._waiting: Claim | None = None
        self._run: ActiveRun | None = None
        self._frame: Frame | None = None
        self._is_over = False
        self._resources = contextlib.ExitStack()
        self._listener = claimed_listener()
        if self._listener:
            self._listener.attach(self._left)

    def _left(self) -> None:
        """Take in that nobody listens any more."""
        self.token.revoke(
            RunInterruptedError(f"the stream of events of workflow {self.spec.name!r} was closed before its end")
        )

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
        """Begin or continue a run; return what it gave instead if it is one that has completed already."""
        if self._waiting is not None:
            yield from self._begun(self._waiting)
            return None
        if self.caller:
            self.caller.check()
            if isinstance(self.caller.state, BodyState):
                yield from self.caller.state.saving()
        if self.run_id is not None:
            return (yield from self._opening_named(decode, self.run_id))
        if self.caller:
            return (yield from self._opening_child(self.caller, decode))
        for claim in self._claims.left():
            if (yield from self._opened(claim)):
                return None
        yield from self._opening_new()
        return None

    def _opening_named(self, decode: Callable[[bytes], Any], run_id: str) -> Generator[Ask, None, Recorded | None]:
        parent_id = self.caller.run.record.id if self.caller and self.caller.run else ""
        if run_id == parent_id:
            raise UsageError(
                f"run {run_id} called its own workflow with its own run_id=, and would wait for itself for ever"
            )
        named: NamedRun[Recorded] = NamedRun(
            run_id, self._claims, lambda: self._claims.new(run_id, self._stored_call(), parent_id), self._opened
        )
        check = self.caller.check if self.caller else _nothing_to_check
        return (yield from named.opened(lambda record: self._recorded(record, decode), check))

    def _opening_new(self, run_id: str | None = None, parent_id: str = "") -> Generator[Ask, None, bool]:
        claim = self._claims.new(run_id or os.urandom(16).hex(), self._stored_call(), parent_id)
        return claim is not None and (yield from self._opened(claim))

    def _stored_call(self, executor: str = "") -> bytes | None:
        counting = {name: value for name, value in self.arguments.items() if name not in self.spec.ignore}
        return StoredCall(counting, self.refresh, executor, self.spec.call_budget).pack(self.spec.name)

    def _opening_child(self, caller: Frame, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Recorded | None]:
        assert caller.run
        names = (caller.run.record.id, caller.place, self.home.workflow, self.home.session_id, self.call)
        number = caller.count("run", entry_key(*names))
        run_id = entry_key("child", *names, str(number))[:32]
        while True:
            record = self.home.store.run(run_id)
            if record is not None and (recorded := self._recorded(record, decode)):
                return recorded
            if record is None:
                is_ours = yield from self._opening_new(run_id, caller.run.record.id)
            else:
                claim = self._claims.again(record)
                is_ours = claim is not None and (yield from self._opened(claim))
            if is_ours:
                return None
            # Whoever has our run has its children. So it is this process itself: an earlier attempt of the calling step,
            # which took too long, was left alone, and ends at its next boundary.
            yield Pause(_BETWEEN_LOOKS)
            caller.check()

    def _recorded(self, record: RunRecord, decode: Callable[[bytes], Any]) -> Recorded | None:
        if record.status is not RunStatus.COMPLETED or record.result is None:
            return None
        try:
            return Recorded(decode(Remembered.unpack(record.result).body))
        except StaleValue as stale:
            self._log("run.stale", reason=str(stale))
            return None

    def _opened(self, claim: Claim) -> Generator[Ask, None, bool]:
        """Begin an attempt of a run; False if somebody else has it."""
        try:
            yield from self._begun(claim)
        except RunConflict:
            return False
        return True

    def _begun(self, claim: Claim) -> Generator[Ask, None, None]:
        try:
            account = yield from self._account(claim.record)
            run = ActiveRun(claim.record, self.home, self.refresh, account, debug=self.debug, listener=self._listener)
            run.token = self.token
            self.token.check()
            with run.transaction(
                record=claim.record,
                fence=claim.fence,
                forget=claim.forgotten,
                saying=run_note(RunStarted, "run_started"),
            ) as transaction:
                yield Commit(self.home.store, transaction)
        except BaseException:
            self._claims.release(claim.record.id)
            raise
        self._run = run
        self._resources.enter_context(counted_as_active())
        self._resources.enter_context(heeding(self.home.store, claim.record.id, self.token))
        self._log("run.started", attempt=claim.record.attempt)

    def queued(self, executor: str) -> Generator[Ask, None, RunRecord | None]:
        """Claim a new run, or one that was left, for an executor; it is then this execution's to begin.

        Returns:
            The run as it waits; None if the run of the id that was chosen has ended, or is somebody else's.
        """
        if self.run_id is not None:
            new = partial(self._claims.new, self.run_id, self._stored_call(executor))
            named: NamedRun[Recorded] = NamedRun(self.run_id, self._claims, new, self._queued)
            chosen = yield from named.queued()
            return chosen.waiting if chosen else None
        for claim in self._claims.left():
            if (yield from self._queued(claim)):
                return claim.waiting
        fresh = self._claims.new(os.urandom(16).hex(), self._stored_call(executor))
        assert fresh
        yield from self._queued(fresh)
        return fresh.waiting

    def queued_again(self, record: RunRecord) -> Generator[Ask, None, RunRecord]:
        """Claim a run that stopped, for an executor.

        Raises:
            RunConflict: If somebody else has it.
        """
        claim = self._claims.again(record)
        if claim is None or not (yield from self._queued(claim)):
            raise RunConflict(f"run {record.id} is being executed by somebody else", run_id=record.id)
        return claim.waiting

    def _queued(self, claim: Claim) -> Generator[Ask, None, bool]:
        try:
            yield Commit(self.home.store, Transaction(run=claim.waiting, fence=claim.fence, forget=claim.forgotten))
        except RunConflict:
            self._claims.release(claim.record.id)
            return False
        except BaseException:
            self._claims.release(claim.record.id)
            raise
        self.take_up(claim.waiting)
        return True

    def take_up(self, record: RunRecord) -> None:
        """Make this the execution of a run that waits and whose lock this process holds."""
        self._waiting = following(record)

    def _account(self, record: RunRecord) -> Generator[Ask, None, Account]:
        """Return the account of a run that begins or goes on: what its earlier attempts have spent counts."""
        earlier = (yield from spending(self.home.store, record.id)) if record.attempt > 1 else None
        around = self.caller.run.account if self.caller and self.caller.run else None
        return Account(self.spec.call_budget or self.spec.budget, around, earlier)

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
            frame.state = BodyState(
                self.home, self._transact, frame.use_state, values=self.spec.values, of_async=self.spec.shape.is_async
            )
            self._frame = frame
        return self._frame

    @property
    def state(self) -> BodyState:
        """The body's view of the session's state."""
        state = self.frame.state
        assert isinstance(state, BodyState)
        return state

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
        yield from self.run.relieved()

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
        except BaseException as error:
            if isinstance(error, StoreError | StateConflict | UnserializableValue):
                error.result = value
            yield from self._failed(error, _status_after(error))
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
        status = self._revoked_status() or (RunStatus.INTERRUPTED if closed else _status_after(error))
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
            return self.home.store.read(wish_key(self.run.record.id)) is not None
        return False

    def _failed(self, error: BaseException, status: RunStatus) -> Generator[Ask, None, None]:
        text = told(error)
        try:
            if self.frame.spoiled:
                with self.run.transaction(forget=self.frame.spoiled) as transaction:
                    yield Commit(self.home.store, transaction)
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
        record = attrs.evolve(run.record, status=status, finished_at=time.time(), result=result, error=error)
        with run.transaction(record=record, saying=event) as transaction:
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
        self.run.outbox.close()
        with contextlib.suppress(StoreError):
            self.home.store.unlock(run_lock(self.run.record.id))
        self._resources.close()
        if self.caller and self.caller.home == self.home and isinstance(self.caller.state, BodyState):
            self.caller.state.reload()

    def __del__(self) -> None:
        # A loop that is closed without its generators throws them away without running any more of their code.
        if getattr(self, "_run", None) is not None and not self._is_over:
            with contextlib.suppress(StoreError):
                self.home.store.unlock(run_lock(self.run.record.id))

    def _log(self, event: str, **values: object) -> None:
        if enabled():
            run_id = self._run.record.id if self._run else None
            logger(workflow=self.spec.name, session_id=self.home.session_id, run_id=run_id).debug(event, **values)


def _nothing_to_check() -> None:
    """Outside a run nobody is told not to wait any more."""


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
