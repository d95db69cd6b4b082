"""Executing one call of a step: attempt by attempt, then its result, state and events in one transaction.

A procedure without colour (see `_drive`). Who waits for the outcome, and who may see items before it, is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Any, Final

from agentflow._clock import Deadline, in_force
from agentflow._drive import Ask, Commit, Perform, Rest, Until, unwrapped
from agentflow._explain import begin_execution
from agentflow._flights import queueing
from agentflow._frames import Frame
from agentflow._outbox import step_note
from agentflow._retry import Retries
from agentflow._run import annotate, told
from agentflow._state_changes import conflict_error
from agentflow._step_state import StepState
from agentflow._tokens import Token
from agentflow.events import StepCompleted, StepFailed, StepRetried
from agentflow.exceptions import (
    BudgetExceeded,
    ModelHTTPError,
    ModelTimeout,
    RunConflict,
    StateConflict,
    StepTimeout,
    StoreError,
    UnserializableValue,
)
from agentflow.stores._base import StateChanged, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from agentflow._calls import StepCall
    from agentflow._flights import Flight
    from agentflow._listening import Note
    from agentflow._waiting import Place
    from agentflow.stores._base import Entry, StateWrite

__all__ = ["Attempts"]

# A failure of these kinds says nothing against the answers that a step has had from its models: the next attempt uses them.
_KEEPS_ANSWERS: Final = (ModelHTTPError, ModelTimeout, StoreError, BudgetExceeded)


class Attempts:
    """The execution of one call.

    Args:
        call: The call.
        flight: What others know the execution as.
        flights: The flights that it is part of, itself the last.

    Attributes:
        frame: The frame of the latest attempt, None before the first.
        place: Its place among the step's executions in this process, if they are counted.
        has_attempt_limit: Whether one attempt may take only so long.
    """

    def __init__(self, call: StepCall, flight: Flight, flights: tuple[Flight, ...]) -> None:
        self.call = call
        self.frame: Frame | None = None
        self.place: Place | None = None
        self._flight = flight
        self._flights = flights
        self.has_attempt_limit = bool(call.spec.retry and call.spec.retry.timeout is not None)
        self._retries = Retries(call.spec.retry) if call.spec.retry else None
        self._attempt = 0
        self._began = time.monotonic()
        self._attempt_deadline: Deadline | None = None

    # Places

    def enter(self) -> Generator[Ask, None, None]:
        """Take one of the step's places in this process; a call inside a call of the same step needs none."""
        limiter = self.call.spec.limiter
        if limiter is None or self.call.spec.name in self.call.caller.steps:
            return
        self.place = place = limiter.enter(self._flight)

        def check() -> None:
            self.call.caller.check()
            limiter.take_back()

        try:
            with queueing(self._flights, limiter, place):
                yield Until(place.granted, self.call.remaining(), check)
            self.call.remaining()
        except BaseException:  # whatever ends the wait, the place in the queue is for the next
            self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        place, self.place = self.place, None
        if place is not None and self.call.spec.limiter:
            self.call.spec.limiter.leave(place)

    # Attempts

    def run(self, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
        """Execute until an attempt succeeds or the policy gives up; return its value."""
        self._began = time.monotonic()
        begin_execution(self.call)
        self.call.note_start()
        pause = None
        while True:
            try:
                if pause is not None:
                    yield from self._rest(pause)
                self.frame = self._next_frame()
                return (yield from self._one(self.frame, attempt))
            except BaseException as error:  # a step may raise anything; what may be tried again is judged there
                pause = yield from self._judged(unwrapped(error))
                if pause is None:
                    raise

    def _next_frame(self) -> Frame:
        call, spec = self.call, self.call.spec
        self._attempt += 1
        if spec.retry and spec.retry.timeout is not None:
            self._attempt_deadline = Deadline(spec.retry.timeout, in_force())
        frame = Frame(
            home=call.home,
            state=call.caller.state,
            run=call.run,
            step=spec.name,
            key=call.key,
            place=call.key,
            attempt=self._attempt,
            flights=self._flights,
            steps=(*call.caller.steps, spec.name),
            token=Token(),
            tokens=(*call.caller.lineage, *((call.run.token,) if call.run else ())),
            identify=call.idempotency_key,
        )
        frame.state = StepState(call.caller.state, spec.name, spec.reads if call.key else None, frame.use)
        return frame

    def remaining(self) -> float | None:
        """Return the seconds that this attempt may still take, or None for as long as it likes.

        Raises:
            StepTimeout: If there are none.
        """
        whole = self.call.remaining()
        own = self.attempt_remaining()
        return own if whole is None else whole if own is None else min(own, whole)

    def attempt_remaining(self) -> float | None:
        """Return the seconds that are left of what one attempt may take, whoever asks.

        Raises:
            StepTimeout: If there are none.
        """
        if self._attempt_deadline is None:
            return None
        left = self._attempt_deadline.left
        if left <= 0:
            raise self._too_late()
        return left

    def _too_late(self) -> StepTimeout:
        """Return the error for the limit that was passed first: of the attempt, or of the whole call."""
        retry = self.call.spec.retry
        of_attempt = self._attempt_deadline is not None and self._attempt_deadline.left <= 0
        return self.call.too_late(retry.timeout if retry and of_attempt else None)

    def _one(self, frame: Frame, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
        late: list[StepTimeout] = []

        def abandon() -> None:
            late.append(self._too_late())
            frame.token.revoke(late[0])

        perform = Perform(lambda: attempt(frame), self.remaining(), abandon)
        try:
            yield perform
        except TimeoutError:
            if late:
                raise late[0] from None
            raise
        return perform.result

    def _judged(self, error: BaseException) -> Generator[Ask, None, float | None]:
        """Return the pause before the next attempt, or None if there is none."""
        pause = None
        is_late = isinstance(error, StepTimeout) and self.call.is_late
        if self._retries and not is_late and not self._may_not_go_on:
            pause = self._retries.pause_after(error)
        if pause is None:
            yield from self.failed(error)
        else:
            yield from self._forget_answers(error)
            self.call.note(StepRetried(step=self.call.spec.name, key=self.call.key, error=told(error), pause=pause))
            self.call.log("step.retry", error=type(error).__qualname__, pause=pause)
        return pause

    @property
    def _may_not_go_on(self) -> bool:
        """Whether whoever calls was told to stop: that says nothing against the answers, and another attempt would be told so too."""
        return any(token.reason for token in self.call.caller.lineage)

    def _rest(self, pause: float) -> Generator[Ask, None, None]:
        left = self.call.remaining()
        yield Rest(pause if left is None else min(pause, left), self.call.caller.check)

    def failed(self, error: BaseException) -> Generator[Ask, None, None]:
        """Say that the call ends without a result, and forget the model answers that led to it."""
        spec = self.call.spec
        of = f" of {spec.retry.attempts}" if spec.retry else ""
        where = f"in step {spec.name!r} (session {self.call.home.session_id!r}, attempt {self._attempt}{of})"
        annotate(error, where)
        try:
            yield from self._forget_answers(error)
        except (StoreError, RunConflict) as also:
            annotate(error, f"and what its models answered could not be forgotten: {also}")
        self.call.note(StepFailed(step=spec.name, key=self.call.key, error=told(error), attempts=self._attempt))

    def _forget_answers(self, error: BaseException | None = None) -> Generator[Ask, None, None]:
        if error is not None and (not isinstance(error, Exception) or isinstance(error, _KEEPS_ANSWERS)):
            return
        if self._may_not_go_on:
            return
        if self.call.run and self.frame and self.frame.requests:
            with self.call.run.transaction(forget=self.frame.requests) as transaction:
                yield Commit(self.call.home.store, transaction)
            self.frame.requests.clear()

    # Keeping

    def keep(self, value: Any, encode_value: Callable[[], bytes]) -> Generator[Ask, None, bytes | None]:
        """Commit a result with the state it changed; return its encoding, or None if it is not one to remember.

        Raises:
            UnserializableValue: If it cannot be stored; carries it.
            StoreError: If the store cannot write; carries it.
            StateConflict: If state that the step has read and changed was changed elsewhere; carries it.
        """
        assert self.frame
        self.frame.check()
        wanted = bool(self.call.key) and (self.call.spec.cache_if is None or self.call.spec.cache_if(value))
        try:
            body = encode_value() if wanted else None
            yield from self._commit(self.frame, [] if body is None else [self.call.entry(body)])
        except (UnserializableValue, StoreError, StateConflict) as error:
            error.result = value
            raise
        except MemoryError as error:
            raise self._no_memory(value) from error
        if not wanted:
            yield from self._forget_answers()
        return body

    def _no_memory(self, value: Any) -> StoreError:
        where, hint = self.call.home.store.location, "free some memory, or return less"
        return StoreError(
            f"there is not enough memory to keep the result of step {self.call.spec.name!r} in the store at {where}: {hint}",
            path=where,
            hint=hint,
            errno=errno.ENOMEM,
            result=value,
        )

    def _commit(self, frame: Frame, entries: Sequence[Entry]) -> Generator[Ask, None, None]:
        writes = frame.state.writes()
        seconds = time.monotonic() - self._began
        completed = step_note(
            StepCompleted,
            "step_completed",
            self.call.spec.name,
            self.call.key,
            seconds=seconds,
            attempts=self._attempt,
            remembered=bool(entries),
        )
        while entries or writes:
            try:
                with self._transaction(entries, writes, completed) as transaction:
                    yield Commit(self.call.home.store, transaction)
            except StateChanged as changed:
                writes, conflicts = frame.state.rebase(changed.rows, writes)
                if conflicts:
                    raise conflict_error(conflicts, self.call.home) from None
            else:
                frame.state.committed(writes)
                break
        else:
            self.call.note(completed)
        self.call.log("step.completed", seconds=seconds)

    def _transaction(
        self, entries: Sequence[Entry], writes: Sequence[StateWrite], completed: Note
    ) -> AbstractContextManager[Transaction]:
        if self.call.run:
            return self.call.run.transaction(entries=entries, state=writes, saying=completed)
        return contextlib.nullcontext(Transaction(entries=tuple(entries), state=tuple(writes)))
