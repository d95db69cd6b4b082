"""One call of a workflow, from its arguments to the run that executes it: procedures without colour (see `_drive`).

Open a run, or continue one that was left: its lock says whether somebody still has it, and the fence of every later write
says that it is still ours. What happens in the run then is its body's business (`_run_body`).
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._active_run import ActiveRun, Home, Refresh
from agentflow._body_state import BodyState
from agentflow._claims import Claims, following
from agentflow._drive import Ask, Commit, Pause
from agentflow._keys import arguments_digest, encode, entry_key
from agentflow._listening import claimed_listener
from agentflow._logging import enabled, logger
from agentflow._memo import Remembered
from agentflow._named_runs import NamedRun
from agentflow._outbox import run_note
from agentflow._run_body import RunBody
from agentflow._serialization import StaleValue
from agentflow._spending import Account, spending
from agentflow._stored_call import StoredCall
from agentflow._tokens import Token
from agentflow.events import RunStarted
from agentflow.exceptions import (
    RunCancelled as RunCancelledError,
    RunConflict,
    RunInterrupted as RunInterruptedError,
    UsageError,
)
from agentflow.stores._base import RunRecord, Transaction
from agentflow.types import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from agentflow._claims import Claim
    from agentflow._frames import Frame
    from agentflow._listening import Note
    from agentflow._workflow_spec import WorkflowSpec

__all__ = ["Execution", "Recorded"]

_BETWEEN_LOOKS: Final = 0.02  # seconds, at a child run that has not ended yet


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
        self._body: RunBody | None = None
        self._listener = claimed_listener(is_child=self.caller is not None)
        if self._listener:
            self._listener.attach(self._left)

    def _left(self, by_ctrl_c: bool) -> None:  # noqa: FBT001 - called by the listener alone
        """Take in that nobody listens any more."""
        what = f"the stream of events of workflow {self.spec.name!r}"
        self.token.revoke(
            RunCancelledError(f"Ctrl-C was pressed at {what}")
            if by_ctrl_c
            else RunInterruptedError(f"{what} was closed before its end")
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

    def opening(self, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Recorded | RunBody]:
        """Begin or continue a run, and return its body; or what it gave, if it is one that has completed already."""
        recorded = yield from self._opening(decode)
        if recorded is not None:
            return recorded
        assert self._body
        return self._body

    def unopened(self, error: BaseException) -> Generator[Ask, None, None]:
        """Record that opening the run raised, if it is open all the same: whoever awaited it was cancelled meanwhile."""
        if self._body and self._body.is_open:
            yield from self._body.failed(error)

    def _opening(self, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Recorded | None]:
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
            if enabled():
                logger(workflow=self.spec.name, session_id=self.home.session_id).debug("run.stale", reason=str(stale))
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
                saying=_started(claim.record),
            ) as transaction:
                yield Commit(self.home.store, transaction)
        except (
            BaseException
        ):  # however it stops, the run's lock is given back: held, it would say that the run is alive
            self._claims.release(claim.record.id)
            raise
        self._body = RunBody(self.spec, run, self.arguments, self.caller)
        self._body.begin()

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
        except BaseException:  # as above
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


def _nothing_to_check() -> None:
    """Outside a run nobody is told not to wait any more."""


def _started(record: RunRecord) -> Note:
    return run_note(
        RunStarted,
        "run_started",
        workflow=record.workflow,
        session_id=record.session_id,
        parent_id=record.parent_id,
    )
