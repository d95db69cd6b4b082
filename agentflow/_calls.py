"""One call of a step, from its arguments to its result: a procedure without colour (see `_drive`).

Look; if it is a hit, replay. Else take part in the flight of the key: wait for whoever executes it, in this process or another,
or execute it: attempt by attempt, then commit result, state and events in one transaction. Only then does the caller see the result.
"""

from __future__ import annotations

import contextlib
import time
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._drive import Ask, Commit, Pause, Perform, Until
from agentflow._flights import FLIGHTS, Failed, Flight, GivenUp, Landed, own_copy, waiting_for
from agentflow._frames import Frame, Token
from agentflow._keys import arguments_digest, encode, entry_key
from agentflow._logging import enabled, logger
from agentflow._memo import Policy, Remembered
from agentflow._retry import Retries
from agentflow._serialization import StaleValue
from agentflow._state import BodyState, StepState, conflict_error
from agentflow.events import StepCompleted, StepFailed, StepHit, StepRetried, StepStarted
from agentflow.exceptions import (
    ModelHTTPError,
    ModelTimeout,
    StepTimeout,
    StoreCorrupt,
    StoreError,
    UnserializableValue,
)
from agentflow.stores._base import Entry, StateChanged, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._fingerprint import CodeVersion
    from agentflow._frames import Home
    from agentflow._retry import RetryPolicy
    from agentflow._serialization import Codec
    from agentflow._signature import Shape
    from agentflow._waiting import Limiter
    from agentflow.events import Event
    from agentflow.stores._base import StateWrite
    from agentflow.types import Scope

__all__ = ["Hit", "StepCall", "StepSpec", "plain_transaction", "value_call"]

# A failure of these kinds says nothing against the answers that a step has had from its models: the next attempt uses them.
_KEEPS_ANSWERS: Final = (ModelHTTPError, ModelTimeout, StoreError)
_COPIED_BY_NOBODY: Final = (str, int, float, bool, bytes, complex, type(None))


@attrs.define(eq=False)
class StepSpec:
    """What a decorator was told about its step.

    Attributes:
        version: The fingerprint of its code, a text that pins it, or None for no version.
        key: Gives the key from the arguments, where the user chose it.
        ignore: Parameters that are not part of the key.
    """

    name: str
    shape: Shape
    scope: Scope
    version: CodeVersion | str | None
    key: Callable[..., object] | None
    ignore: frozenset[str]
    reads: frozenset[str]
    ttl: float | None
    cache_if: Callable[[Any], bool] | None
    retry: RetryPolicy | None
    timeout: float | None
    limiter: Limiter | None
    tags: tuple[str, ...]

    @property
    def version_text(self) -> str:
        """The version as it stands in keys."""
        if self.version is None:
            return ""
        return f"={self.version}" if isinstance(self.version, str) else self.version.digest


@attrs.frozen
class Hit:
    """A remembered result that answers the call.

    Attributes:
        body: Its encoding.
        value: What it decodes to; this caller's own.
    """

    body: bytes
    value: Any


class StepCall:
    """One call of one step: what identifies it, where it lands, and what it has done so far.

    Args:
        spec: The step.
        caller: The frame that calls.
        home: Whose memory it lands in.
        arguments: The bound arguments.
        refresh: Whether it asks for a new result.
    """

    def __init__(
        self, spec: StepSpec, caller: Frame, home: Home, arguments: Mapping[str, Any], *, refresh: bool = False
    ) -> None:
        self.spec = spec
        self.caller = caller
        self.home = home
        self.run = caller.run
        self.arguments = arguments
        self.run_id = self.run.record.id if self.run else ""
        self._digest = self._arguments_digest() if self._owner() else ""
        self.key = self._key()
        self.policy = Policy(
            spec.ttl, refresh or (self.run is not None and self.run.refresh.covers(spec.name)), self.run_id
        )
        self._retries = Retries(spec.retry) if spec.retry else None
        self._deadline = None if spec.timeout is None else time.monotonic() + spec.timeout
        self._attempt = 0
        self._began = 0.0

    # Identity

    def _key(self) -> str:
        """Return the key of the call, or `""` if it is remembered nowhere."""
        owner = self._owner()
        if owner is None:
            return ""
        return entry_key("step", *owner, self.spec.name, self.spec.version_text, self._digest)

    def _owner(self) -> tuple[str, ...] | None:
        if self.spec.scope == "run":
            return ("run", self.run_id) if self.run else None
        if self.spec.scope == "session":
            return ("session", self.home.workflow, self.home.session_id)
        return ("global",)

    def _arguments_digest(self) -> str:
        """Return the digest of those arguments (and of the declared state) that count."""
        spec = self.spec
        if spec.key is not None:
            args, kwargs = spec.shape.spread(self.arguments)
            digest = encode(spec.key(*args, **kwargs), owner=spec.name, parameter="key=").hex()
        else:
            counting = {name: value for name, value in self.arguments.items() if name not in spec.ignore}
            digest = arguments_digest(spec.name, counting)
        if spec.reads:
            values = {key: self.caller.state.get(key) for key in sorted(spec.reads)}
            digest += arguments_digest(f"{spec.name} (reads)", values)
        return digest

    @property
    def flight_name(self) -> tuple[str, str]:
        """Under which name its execution is known in this process."""
        return self.home.store.identity, self.key

    @property
    def lock_name(self) -> str:
        """Under which name its execution is known to other processes."""
        return f"step:{self.key}"

    # Remembered results

    def look(self, decode: Callable[[bytes], Any]) -> Hit | None:
        """Return the remembered result if it answers the call."""
        payload = self.home.store.read(self.key)
        if payload is None:
            return None
        try:
            remembered = Remembered.unpack(payload)
            if not self.policy.accepts(remembered, time.time()):
                return None
            return Hit(remembered.body, decode(remembered.body))
        except StaleValue as stale:
            self._log("step.stale", reason=str(stale))
        except StoreCorrupt as corrupt:
            if getattr(self.home.store, "on_corrupt", "raise") != "recompute":
                raise self._damaged(corrupt) from corrupt
            warnings.warn(f"a result of step {self.spec.name!r} was damaged and is made anew: {corrupt}", stacklevel=2)
        return None

    def _damaged(self, corrupt: StoreCorrupt) -> StoreCorrupt:
        return StoreCorrupt(
            f"the remembered result of step {self.spec.name!r} (key {self.key[:12]}) in the store at {self.home.store.location} "
            f"is damaged: {corrupt}. Forget it with step.forget(...), or open the store with on_corrupt='recompute'",
            path=self.home.store.location,
            hint="forget it, or open the store with on_corrupt='recompute'",
        )

    def note_hit(self) -> None:
        """Say that the call was answered without executing it."""
        self._note(StepHit(step=self.spec.name, key=self.key))
        self._log("step.hit")

    # Time

    def remaining(self) -> float | None:
        """Return the seconds that the call may still take, or None for as long as it likes.

        Raises:
            StepTimeout: If there are none.
        """
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.too_late()
        return left

    def too_late(self, seconds: float | None = None) -> StepTimeout:
        """Return the error of a call, or of an attempt, that took too long."""
        limit = self.spec.timeout if seconds is None else seconds
        return StepTimeout(
            f"step {self.spec.name!r} took longer than {limit:g} s: nothing of it is kept; raise its timeout, or make it smaller",
            step=self.spec.name,
            seconds=limit,
        )

    @property
    def _own_limit(self) -> float | None:
        return self.spec.retry.timeout if self.spec.retry else None

    def _attempt_limit(self) -> float | None:
        limits = (self._own_limit, self.remaining())
        return min((limit for limit in limits if limit is not None), default=None)

    # Claiming and following

    def claim(self, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Hit | None]:
        """Take the key's lock among processes; meanwhile another process may have made the result."""
        pause = 0.001
        while not self.home.store.try_lock(self.lock_name):
            left = self.remaining()
            yield Pause(pause if left is None else min(pause, left))
            self.caller.check()
            pause = min(pause * 1.5, 0.05)
            if hit := self.look(decode):
                return hit
        try:
            hit = self.look(decode)
        except BaseException:
            self.release()
            raise
        if hit:
            self.release()
        return hit

    def release(self) -> None:
        """Give the key's lock back; a store that is gone has none to give back."""
        with contextlib.suppress(StoreError):
            self.home.store.unlock(self.lock_name)

    @contextlib.contextmanager
    def waiting(self, flight: Flight) -> Iterator[None]:
        """Wait for a flight for a block."""
        with waiting_for(flight, self.caller.flights):
            yield

    # Executing

    def frame(self, flight: Flight | None) -> Frame:
        """Return the frame of the next attempt."""
        self._attempt += 1
        caller, spec, token = self.caller, self.spec, Token()
        tokens = (*caller.lineage, *((self.run.token,) if self.run else ()))
        reads = spec.reads if self.key else None
        frame = Frame(
            home=self.home,
            state=caller.state,
            run=self.run,
            step=spec.name,
            key=self.key,
            place=self.key,
            attempt=self._attempt,
            flights=(*caller.flights, flight) if flight else caller.flights,
            steps=(*caller.steps, spec.name),
            token=token,
            tokens=tokens,
            idempotency_key=self.key or uuid.uuid4().hex,
        )
        frame.state = StepState(caller.state, spec.name, reads, frame.check)
        return frame

    def attempts(
        self, flight: Flight | None, attempt: Callable[[Frame], Any]
    ) -> Generator[Ask, None, tuple[Frame, Any]]:
        """Execute until an attempt succeeds or the policy gives up; return its frame and its value."""
        self._began = time.monotonic()
        self._note(StepStarted(step=self.spec.name, key=self.key))
        while True:
            frame = self.frame(flight)
            try:
                value = yield from self._one_attempt(frame, attempt)
            except BaseException as error:
                pause = yield from self._after_failure(frame, error)
                if pause is None:
                    raise
                yield Pause(pause)
            else:
                return frame, value

    def _one_attempt(self, frame: Frame, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
        limit = self._attempt_limit()
        late: list[StepTimeout] = []

        def abandon() -> None:
            late.append(self.too_late(limit if limit == self._own_limit else None))
            frame.token.revoke(late[0])

        perform = Perform(lambda: attempt(frame), limit, abandon)
        try:
            yield perform
        except TimeoutError:
            if late:
                raise late[0] from None
            raise
        return perform.result

    def perform(self, frame: Frame, work: Callable[[], Any]) -> Generator[Ask, None, Any]:
        """Go on with an attempt that has begun to give items, and cannot be repeated any more."""
        try:
            return (yield from self._one_attempt(frame, lambda _: work()))
        except BaseException as error:
            self._retries = None
            yield from self._after_failure(frame, error)
            raise

    def _after_failure(self, frame: Frame, error: BaseException) -> Generator[Ask, None, float | None]:
        """Return the pause before the next attempt, or None if there is none."""
        told = f"{type(error).__qualname__}: {error}"
        if isinstance(error, Exception) and not isinstance(error, _KEEPS_ANSWERS):
            yield from self.forget_answers(frame)
        pause = None
        if self._retries and not (isinstance(error, StepTimeout) and self._deadline_passed()):
            pause = self._retries.pause_after(error)
        if pause is None:
            self._note(StepFailed(step=self.spec.name, key=self.key, error=told, attempts=self._attempt))
            error.add_note(self._whereabouts())
        else:
            self._note(StepRetried(step=self.spec.name, key=self.key, error=told, pause=pause))
            self._log("step.retry", error=type(error).__qualname__, pause=pause)
        return pause

    def _deadline_passed(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _whereabouts(self) -> str:
        of = f" of {self.spec.retry.attempts}" if self.spec.retry else ""
        return f"agentflow: in step {self.spec.name!r} (session {self.home.session_id!r}, attempt {self._attempt}{of})"

    def forget_answers(self, frame: Frame) -> Generator[Ask, None, None]:
        """Forget the model answers that an attempt has used, so that the next one asks anew."""
        if self.run and frame.requests:
            with self.run.transaction(forget=frame.requests) as transaction:
                yield Commit(self.home.store, transaction)
            frame.requests.clear()

    def place_taken(self) -> Generator[Ask, None, Callable[[], None]]:
        """Take one of the step's places in this process; return what gives it back."""
        limiter = self.spec.limiter
        if limiter is None or self.spec.name in self.caller.steps:
            return lambda: None
        place = limiter.enter()
        try:
            until = Until(place, self.remaining())
            yield until
            self.remaining()
        except BaseException:
            limiter.leave(place)
            raise
        return lambda: limiter.leave(place)

    # Keeping

    def keep(self, frame: Frame, value: Any, encode_value: Callable[[], bytes]) -> Generator[Ask, None, bytes | None]:
        """Commit a result with the state it changed; return its encoding, or None if it is not one to remember.

        Raises:
            UnserializableValue: If it cannot be stored; carries it.
            StoreError: If the store cannot write; carries it.
            StateConflict: If state that the step has read and changed was changed elsewhere.
        """
        frame.check()
        wanted = bool(self.key) and (self.spec.cache_if is None or self.spec.cache_if(value))
        try:
            body = encode_value() if wanted else None
            yield from self._commit(frame, [] if body is None else [self.entry(body)])
        except (UnserializableValue, StoreError) as error:
            error.result = value
            raise
        if not wanted:
            yield from self.forget_answers(frame)
        return body

    def entry(self, body: bytes) -> Entry:
        """Return a result as the store keeps it."""
        spec, scope = self.spec, self.spec.scope
        now = time.time()
        return Entry(
            key=self.key,
            payload=Remembered(body, now, self.run_id).pack(),
            workflow="" if scope == "global" else self.home.workflow,
            session_id="" if scope == "global" else self.home.session_id,
            scope=scope,
            step=spec.name,
            version=spec.version_text,
            arguments=self._digest,
            run_id=self.run_id,
            created_at=now,
            tags=spec.tags,
        )

    def _commit(self, frame: Frame, entries: Sequence[Entry]) -> Generator[Ask, None, None]:
        writes = frame.state.writes()
        self._note(
            StepCompleted(
                step=self.spec.name,
                key=self.key,
                seconds=time.monotonic() - self._began,
                attempts=self._attempt,
                remembered=bool(entries),
            )
        )
        while entries or writes:
            try:
                with self._transaction(entries, writes) as transaction:
                    yield Commit(self.home.store, transaction)
            except StateChanged as changed:
                writes, conflicts = frame.state.rebase(changed.rows)
                if conflicts:
                    raise conflict_error(conflicts, self.home) from None
            else:
                frame.state.committed(writes)
                break
        self._log("step.completed", seconds=time.monotonic() - self._began)

    def _transaction(
        self, entries: Sequence[Entry], writes: Sequence[StateWrite]
    ) -> AbstractContextManager[Transaction]:
        if self.run:
            return self.run.transaction(entries=entries, state=writes)
        return contextlib.nullcontext(Transaction(entries=tuple(entries), state=tuple(writes)))

    def save_caller(self) -> Generator[Ask, None, None]:
        """Keep what the calling body has changed inside its state: a step's call is a boundary."""
        self.caller.check()
        if isinstance(self.caller.state, BodyState):
            yield from self.caller.state.saving()

    def _note(self, event: Event) -> None:
        if self.run:
            self.run.note(event)

    def _log(self, event: str, **values: object) -> None:
        if enabled():
            logger(step=self.spec.name, session_id=self.home.session_id, run_id=self.run_id or None).debug(
                event, **values
            )


def plain_transaction(writes: Sequence[StateWrite]) -> AbstractContextManager[Transaction]:
    """Return the transaction of state that no run changes."""
    return contextlib.nullcontext(Transaction(state=tuple(writes)))


def value_call(call: StepCall, codec: Codec, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
    """The procedure of a step that returns one value.

    Args:
        call: The call.
        codec: Encodes its result.
        attempt: Executes the function in a frame.
    """
    yield from call.save_caller()
    if not call.key:
        return (yield from _execute(call, codec, None, attempt))[1]
    while True:
        if hit := call.look(codec.loads):
            call.note_hit()
            return hit.value
        flight, mine = FLIGHTS.join(call.flight_name, lambda: Flight(call.spec.name), call.caller.flights)
        if mine:
            return (yield from _fly(call, codec, flight, attempt))
        yield from _await_landing(call, flight)
        match flight.done.result():
            case Landed(body) if not call.policy.refresh:
                call.note_hit()
                return codec.loads(body)
            case Failed(error):
                raise own_copy(error)
            case _:  # given up, or a new result is wanted: look again
                pass


def _await_landing(call: StepCall, flight: Flight) -> Generator[Ask, None, None]:
    with call.waiting(flight):
        while not flight.done.done():
            yield Until(flight.done, call.remaining())
            call.caller.check()


def _fly(call: StepCall, codec: Codec, flight: Flight, attempt: Callable[[Frame], Any]) -> Generator[Ask, None, Any]:
    outcome: Landed | Failed | GivenUp = GivenUp()
    try:
        if hit := (yield from call.claim(codec.loads)):
            call.note_hit()
            outcome = Landed(hit.body)
            return hit.value
        try:
            body, value = yield from _execute(call, codec, flight, attempt)
        finally:
            call.release()
        outcome = _landed(call, codec, value) if body is None else Landed(body)
        return value  # noqa: TRY300 - the outcome is settled in `finally`
    except StepTimeout:
        raise  # of this caller's patience: somebody else may have more
    except Exception as error:
        outcome = Failed(error)
        raise
    finally:
        FLIGHTS.leave(call.flight_name, flight)
        flight.end(outcome)


def _landed(call: StepCall, codec: Codec, value: Any) -> Landed | GivenUp:
    # A value that `cache_if` refused still answers those who asked for it at the same time, if it can be copied for them.
    try:
        return Landed(codec.dumps(value, owner=call.spec.name))
    except UnserializableValue:
        return GivenUp()


def _execute(
    call: StepCall, codec: Codec, flight: Flight | None, attempt: Callable[[Frame], Any]
) -> Generator[Ask, None, tuple[bytes | None, Any]]:
    leave = yield from call.place_taken()
    try:
        frame, value = yield from call.attempts(flight, attempt)
    finally:
        leave()
    body = yield from call.keep(
        frame, value, lambda: codec.dumps(value, owner=f"the result of step {call.spec.name!r}")
    )
    if body is None or type(value) in _COPIED_BY_NOBODY:
        return body, value
    return body, codec.loads(body)
