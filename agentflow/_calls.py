"""One call of a step: what identifies it, whose memory it lands in, and how long it may take.

Looks for a remembered result, takes the key's lock among processes, and makes the entry that is kept. Executing is `_attempts`.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Final, Literal

from agentflow._body_state import BodyState
from agentflow._clock import Deadline, in_force, wall_time
from agentflow._detail import Counted, Detail
from agentflow._drive import Ask, Pause
from agentflow._flights import waiting_for
from agentflow._interventions import WITNESSES, called
from agentflow._keys import arguments_parts, encode, entry_key, parts_digest
from agentflow._logging import enabled, logger
from agentflow._memo import Hit, Miss, Policy, Remembered
from agentflow._outbox import step_note
from agentflow._serialization import StaleValue
from agentflow._settings import debug
from agentflow.events import StepHit, StepStarted
from agentflow.exceptions import BudgetExceeded, RunError, StepTimeout, StoreCorrupt, StoreError
from agentflow.stores._base import Entry, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._active_run import Home
    from agentflow._flights import Flight
    from agentflow._frames import Frame
    from agentflow._listening import Note
    from agentflow._step_spec import StepSpec
    from agentflow.events import Event
    from agentflow.stores._base import StateWrite


__all__ = ["StepCall", "plain_transaction"]

_NEW: Final = Miss()
_releasing: Final = threading.RLock()
_NOT_PART_OF_ANY: Final = contextlib.nullcontext()
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between two looks whether another process has finished


class StepCall:
    """One call of one step.

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
        run = caller.run
        self.spec = spec
        self.caller = caller
        self.home = home
        self.run = run
        self.arguments = arguments
        self.run_id = run.record.id if run else ""
        self.refresh = refresh or (run is not None and run.refresh.covers(spec.name))
        self.digest = ""
        self.version = ""
        self.miss = _NEW
        self._counted: list[Counted] = []
        self._detail: Detail | None = None
        self._owner: tuple[str, ...] = ()
        self.key = self._key()
        self._stream = (spec.name, self.key)
        self._name = "" if self.key else uuid.uuid4().hex
        self._deadline: Deadline | None = None
        self._own_timeouts: list[StepTimeout] = []
        self._has_lock = False

    # Identity

    def _key(self) -> str:
        """Return the key of the call, or `""` if it is remembered nowhere."""
        scope, home = self.spec.scope, self.home
        if scope == "session":
            owner: tuple[str, ...] = ("session", home.workflow, home.session_id)
        elif scope == "global":
            owner = ("global",)
        elif self.run:
            owner = ("run", self.run_id)
        else:
            return ""
        self._owner = owner
        self.digest = self._arguments_digest()
        self.version = self.spec.version_text
        return entry_key("step", *owner, self.spec.name, self.version, self.digest)

    def idempotency_key(self) -> str:
        """Return what names the call to systems outside, in every attempt; of a call that is remembered nowhere, no other call has it.

        The same for an edited step, too, whose call it still is; but what is meant to happen again after its time is another call.
        """
        if not self.key:
            return self._name
        again = self.run_id if self.spec.ttl is not None else ""
        return entry_key("idempotency", *self._owner, self.spec.name, self.digest, again)

    def _arguments_digest(self) -> str:
        """Return the digest of those arguments (and of the declared state) that count."""
        spec, counting = self.spec, self.arguments
        if spec.key is not None:
            args, kwargs = spec.shape.spread(self.arguments)
            chosen = spec.key(*args, **kwargs)
            encoded = encode(chosen, owner=spec.name, parameter="key=")
            self._counted.append(Counted("key", {"": chosen}, (b"", encoded)))
            digest = encoded.hex()
        else:
            if spec.ignore:
                counting = {name: value for name, value in counting.items() if name not in spec.ignore}
            parts = arguments_parts(spec.name, counting)
            self._counted.append(Counted("argument", counting, parts))
            digest = parts_digest(parts)
        if spec.reads:
            values = {key: self.caller.state.get(key) for key in sorted(spec.reads)}
            parts = arguments_parts(f"{spec.name} (reads)", values)
            self._counted.append(Counted("state", values, parts))
            digest += parts_digest(parts)
        return digest

    @property
    def detail(self) -> Detail:
        """What identifies the call, in short: made when it is first asked for, so before its body can change the arguments."""
        if self._detail is None:
            self._detail = Detail.of(self._counted)
            self._counted.clear()
        return self._detail

    @property
    def pieces(self) -> Mapping[str, str] | None:
        """A mark for each piece of code that the version is made of; None for a version that is pinned."""
        return self.spec.marks_of(self.version)

    @property
    def flight_name(self) -> tuple[str, str]:
        """Under which name its execution is known in this process."""
        return self.home.store.identity, self.key

    @property
    def _lock_name(self) -> str:
        """Under which name its execution is known to other processes."""
        return f"step:{self.key}"

    # Time

    def begin(self) -> Generator[Ask, None, None]:
        """Begin, some time after the call was made: whether the caller may go on is asked again."""
        self.start()
        self.caller.check()
        yield from self.settling()

    def start(self) -> None:
        """Let its time run from now on."""
        if self.spec.timeout is not None:
            self._deadline = Deadline(self.spec.timeout, in_force())

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left that a boundary has to see to first, as nearly always."""
        state = self.caller.state
        return not (isinstance(state, BodyState) and state.is_touched) and not (self.run and self.run.outbox.is_pressed)

    def settling(self) -> Generator[Ask, None, None]:
        """Keep what the calling body has changed and write what it has said too much of, since a step's call is a boundary."""
        state = self.caller.state
        if isinstance(state, BodyState) and state.is_touched:
            yield from state.saving()
        if self.run and self.run.outbox.is_pressed:
            yield from self.run.relieved(self.caller.check)

    @property
    def is_debugged(self) -> bool:
        """Whether a miss is to tell why it is none."""
        asked = self.run.debug if self.run else None
        return enabled() and (debug() if asked is None else asked)

    def remaining(self) -> float | None:
        """Return the seconds that the call may still take, or None for as long as it likes.

        Raises:
            StepTimeout: If there are none.
        """
        if self._deadline is None:
            return None
        left = self._deadline.left
        if left <= 0:
            raise self.too_late()
        return left

    @property
    def is_late(self) -> bool:
        """Whether it has taken longer than it may."""
        return self._deadline is not None and self._deadline.left <= 0

    def too_late(self, seconds: float | None = None) -> StepTimeout:
        """Return the error of a call, or of an attempt, that took too long."""
        limit = self.spec.timeout if seconds is None else seconds
        error = StepTimeout(
            f"step {self.spec.name!r} took longer than {limit:g} s: nothing of it is kept; raise its timeout, or make it smaller",
            step=self.spec.name,
            seconds=limit,
        )
        self._own_timeouts.append(error)
        return error

    @property
    def own_timeout(self) -> StepTimeout | None:
        """The error it took too long with, if it did."""
        return self._own_timeouts[-1] if self._own_timeouts else None

    def is_own_fate(self, error: BaseException) -> bool:
        """Whether an error tells of this caller (it was cancelled, lost its run, ran out of time or money) and not of the step."""
        if not isinstance(error, Exception) or isinstance(error, RunError | BudgetExceeded):
            return True
        if any(error is own for own in self._own_timeouts):
            return True
        try:
            self.caller.check()
        except BaseException:  # noqa: BLE001 - whatever it is: it is what the caller was told
            return True
        return False

    # Remembered results

    def look(self, decode: Callable[[bytes], Any]) -> Hit | None:
        """Return the remembered result if it answers the call."""
        found = self.examined(decode)
        if type(found) is Hit:
            return found
        assert isinstance(found, Miss)
        known, self.miss = self.miss, found
        if found.why == "stale":
            if known.why != "stale":  # a call looks twice: before it waits for others, and after
                self.log("step.stale", reason=str(found.error))
        elif isinstance(found.error, StoreCorrupt):
            if self.raises_damaged:
                raise self._damaged(found.error) from found.error
            warnings.warn(
                f"a result of step {self.spec.name!r} was damaged and is made anew: {found.error}", stacklevel=2
            )
        return None

    def examined(self, decode: Callable[[bytes], Any]) -> Hit | Miss:
        """Return what a look at the store finds; says and changes nothing."""
        payload = self.home.store.read(self.key)
        if payload is None:
            return _NEW
        remembered = None
        try:
            remembered = Remembered.unpack(payload)
            del payload  # a huge one should not stay in memory beside what it becomes
            if (self.refresh or self.spec.ttl is not None) and (why := self._refusal(remembered)):
                return Miss(why, remembered)
            return Hit(remembered, decode(remembered.body))
        except StaleValue as stale:
            return Miss("stale", remembered, stale)
        except StoreCorrupt as corrupt:
            return Miss("damaged", remembered, corrupt)

    def _refusal(self, remembered: Remembered) -> Literal["expired", "refresh"] | None:
        now = wall_time()
        if Policy(self.spec.ttl, self.refresh, self.run_id).accepts(remembered, now):
            return None
        return "refresh" if Policy(self.spec.ttl).accepts(remembered, now) else "expired"

    @property
    def raises_damaged(self) -> bool:
        """Whether a damaged result is an error for whoever calls, instead of a miss."""
        return getattr(self.home.store, "on_corrupt", "raise") != "recompute"

    def _damaged(self, corrupt: StoreCorrupt) -> StoreCorrupt:
        return StoreCorrupt(
            f"the remembered result of step {self.spec.name!r} (key {self.key[:12]}) in the store at {self.home.store.location} "
            f"is damaged: {corrupt}. Forget it with step.forget(...), or open the store with on_corrupt='recompute'",
            path=self.home.store.location,
            hint="forget it, or open the store with on_corrupt='recompute'",
        )

    def entry(self, body: bytes) -> Entry:
        """Return a result as the store keeps it."""
        spec, scope = self.spec, self.spec.scope
        now = wall_time()
        return Entry(
            key=self.key,
            payload=Remembered(body, now, self.run_id).pack(),
            workflow="" if scope == "global" else self.home.workflow,
            session_id="" if scope == "global" else self.home.session_id,
            scope=scope,
            step=spec.name,
            version=self.version,
            arguments=self.digest,
            run_id=self.run_id,
            created_at=now,
            tags=spec.tags,
            detail=self.detail.pack(),
            pieces=self.pieces,
        )

    # Claiming and following

    def claim(self, decode: Callable[[bytes], Any]) -> Generator[Ask, None, Hit | None]:
        """Take the key's lock among processes; return what another process has made meanwhile, if it did."""
        pause = _FIRST_PAUSE
        while not self._try_lock():
            left = self.remaining()
            yield Pause(pause if left is None else min(pause, left))
            self.caller.check()
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            if hit := self.look(decode):
                return hit
        try:
            self.caller.check()
            hit = self.look(decode)
        except BaseException:  # whoever has asked for the lock gives it back, however it stops; others wait for it
            self.release()
            raise
        if hit:
            self.release()
        return hit

    def _try_lock(self) -> bool:
        self._has_lock = self.home.store.try_lock(self._lock_name)
        return self._has_lock

    def release(self) -> None:
        """Give the key's lock back, if it is had; a store that is gone has none to give back."""
        with _releasing:
            had, self._has_lock = self._has_lock, False
        if had:
            with contextlib.suppress(StoreError):
                self.home.store.unlock(self._lock_name)

    def on_revoke(self, then: Callable[[], None]) -> None:
        """Have something done at once should this caller lose its rights: a thread that nobody waits for may never come back."""
        for token in self.caller.lineage:
            token.on_revoke(then)

    def off_revoke(self, then: Callable[[], None]) -> None:
        """Have it done no more."""
        for token in self.caller.lineage:
            token.off_revoke(then)

    def waiting(self, flight: Flight) -> AbstractContextManager[None]:
        """Wait for a flight for a block."""
        within = self.caller.flights
        return waiting_for(flight, within) if within else _NOT_PART_OF_ANY

    # Saying what happens

    def note_start(self) -> None:
        """Say that the call is executed."""
        if WITNESSES:
            called(self.spec.name, self.arguments, hit=False)
        self.note(step_note(StepStarted, "step_started", self.spec.name, self.key))

    def note_hit(self) -> None:
        """Say that the call was answered without executing it."""
        if WITNESSES:
            called(self.spec.name, self.arguments, hit=True)
        if self.run:
            self.run.note(step_note(StepHit, "step_hit", self.spec.name, self.key))
        if enabled():
            self.log("step.hit")

    def note(self, event: Event | Note) -> None:
        """Add an event to the run, if there is one."""
        if self.run:
            self.run.note(event)

    def yields(self, item: Any) -> bool:
        """Say that the step has yielded an item; True if the run has said so much that it should be `relieved`."""
        if self.run is None:
            return False
        return self.run.outbox.chunk(item, self._stream)

    def relieved(self) -> Generator[Ask, None, None]:
        """Wait until what the run has said is written and heard."""
        if self.run:
            yield from self.run.relieved(self.caller.check)

    def log(self, event: str, **values: object) -> None:
        """Write a line of debugging."""
        if enabled():
            logger(step=self.spec.name, session_id=self.home.session_id, run_id=self.run_id or None).debug(
                event, **values
            )


def plain_transaction(writes: Sequence[StateWrite]) -> AbstractContextManager[Transaction]:
    """Return the transaction of state that no run changes."""
    return contextlib.nullcontext(Transaction(state=tuple(writes)))
