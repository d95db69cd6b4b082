"""Where code is running: which run, which step call, whose state; carried by one context variable.

A frame belongs to one body or one attempt of one step call. Frames are made per call and never kept on a
decorated function, an agent or a module, so that nothing of one run can reach another.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import attrs

from agentflow._clock import wall_time
from agentflow._drive import Ask, Commit, adrive, drive
from agentflow._keys import entry_key
from agentflow._memo import Policy, Remembered
from agentflow._recording import RECORDING, Slot, Turn
from agentflow._tokens import Token
from agentflow.events import ModelAnswered, ModelRetried
from agentflow.exceptions import NoActiveRun
from agentflow.stores._base import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from agentflow._active_run import ActiveRun, Home
    from agentflow._flights import Flight
    from agentflow._recording import Recording
    from agentflow._state import State
    from agentflow._usage import Usage
    from agentflow.types import Scope

__all__ = [
    "FRAME",
    "Frame",
    "counted_as_active",
    "current_frame",
    "ended_error",
]


@attrs.define(eq=False)
class Frame:
    """One body, or one attempt of one step call.

    Attributes:
        home: Whose memory it works in.
        state: Its view of the session's state.
        run: The run, None outside one.
        step: The step's name, `""` for a body.
        key: The key of the step call, `""` for a body or a call that is not remembered.
        place: Where equal model requests are counted: the body, or a step call, refined by each item of `ctx.map`.
        samples: How many equal requests each place has made, counted anew in every attempt.
        attempt: The attempt of the step call, from 1.
        flights: The calls in flight that this one is part of, outermost first.
        steps: The names of the steps that this one is part of.
        requests: The keys of the model answers it has used.
        spoiled: Those of them that led to something that cannot be used.
        token: Whether it may go on.
    """

    home: Home
    state: State
    run: ActiveRun | None = None
    step: str = ""
    key: str = ""
    place: str = "body"
    attempt: int = 1
    flights: tuple[Flight, ...] = ()
    steps: tuple[str, ...] = ()
    requests: list[str] = attrs.field(factory=list)
    spoiled: list[str] = attrs.field(factory=list)
    samples: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    token: Token = attrs.field(factory=Token)
    tokens: tuple[Token, ...] = ()
    identify: Callable[[], str] | None = None

    @property
    def idempotency_key(self) -> str:
        """What names the step call to systems outside, `""` for a body; made when it is asked for."""
        return self.identify() if self.identify else ""

    def count(self, kind: str, what: str) -> int:
        """Return how many equal things this place has asked for before in this attempt."""
        with _counting:
            self.samples[f"{self.place}\0{kind}", what] += 1
            return self.samples[f"{self.place}\0{kind}", what] - 1

    def check(self) -> None:
        """Raise if this frame or one that it is part of may not go on."""
        self.token.check()
        for token in self.tokens:
            token.check()

    def use(self) -> None:
        """Raise if code may not work in this frame: it has ended, or may not go on."""
        if self.token.ended:
            raise ended_error(self)
        self.check()

    def use_state(self) -> None:
        """Raise if a body may not use its state: as `use`, but `finally` blocks may, once it was said why they run."""
        if self.token.ended:
            raise ended_error(self)
        self.token.check_once()
        for token in self.tokens:
            token.check_once()

    @property
    def lineage(self) -> tuple[Token, ...]:
        """The tokens that a frame inside this one obeys, beside its own."""
        return (*self.tokens, self.token)

    def at_item(self, index: int | str) -> Frame:
        """Return this frame as one item of `ctx.map`, or one call of an agent's tool, has it: the same, with a place of its own."""
        return attrs.evolve(self, place=f"{self.place}/{index}")

    def entered(self) -> Entered:
        """Make this the frame in force for a block."""
        return Entered(self)

    def install(self) -> None:
        """Make this the frame in force in the current `contextvars.Context` for good: one made for a generator."""
        FRAME.set(self)
        RECORDING.set(self.recording())

    def recording(self) -> Recording | None:
        """Return what remembers the model requests made in this frame, None outside a run."""
        return None if self.run is None else FrameRecording(self, self.run)


class Entered:
    """Makes a frame the one in force for a block.

    Not of contextlib's kind, which sets `__traceback__` of the user's exceptions: those of a frozen class refuse.
    """

    __slots__ = ("_frame", "_tokens")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        self._tokens = FRAME.set(self._frame), RECORDING.set(self._frame.recording())

    def __exit__(self, *_: object) -> None:
        frame, recording = self._tokens
        try:
            RECORDING.reset(recording)
            FRAME.reset(frame)
        except ValueError:
            pass  # another context, where they were never set: of a task that is thrown away with its loop


@attrs.frozen
class FrameRecording:
    """Remembers the model requests of one frame."""

    frame: Frame
    run: ActiveRun

    def slot(self, request: bytes, scope: Scope | None, model: str) -> Slot:
        """Return the slot of a request, and count it among its equals in this place.

        Raises:
            BudgetExceeded: If it is not remembered, and nothing is left to ask it with.
        """
        self.frame.check()
        key = self._key(hashlib.sha256(request).hexdigest(), scope) if scope else ""
        remembered = self._read(key) if key else None
        if remembered is None:
            self.run.account.check(asking=True)
            return Slot(key, None, scope, model)
        self.frame.requests.append(key)
        self.run.note(ModelAnswered(model=model, replayed=True, step=self.frame.step, key=self.frame.key))
        return Slot(key, remembered.body, scope, model)

    def spoil(self, slots: Sequence[Slot]) -> None:
        """Say that answers led to something that cannot be used."""
        self.frame.spoiled.extend(slot.key for slot in slots if slot.key)

    def inside(self, place: str) -> Entered:
        """Count what is asked in a block in a place of its own."""
        return self.frame.at_item(place).entered()

    def turn(self, agent: str) -> Turn:
        """Return the turn that an agent takes now, counted in this place."""
        run_id = self.run.record.id
        return Turn(
            entry_key("turn", run_id, self.frame.place, str(self.frame.count("turn", agent))), run_id, self.frame.state
        )

    def save(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        """Keep an answer and what it used; both are durable when this returns."""
        drive(self._saving(slot, answer, usage))

    async def asave(self, slot: Slot, answer: bytes, usage: Usage) -> None:
        """Keep an answer without blocking the loop."""
        await adrive(self._saving(slot, answer, usage))

    def retried(self, model: str, error: str, *, pause: float = 0.0, next_model: str | None = None) -> None:
        """Say that an attempt of a request failed and another one follows."""
        self.run.note(ModelRetried(model=model, error=error, pause=pause, next_model=next_model))

    def _key(self, digest: str, scope: Scope) -> str:
        home, place = self.run.home, self.frame.place
        # Whoever asks for a wider scope wants to share: then the place does not part equal requests.
        owner = {
            "run": ("run", self.run.record.id, place),
            "session": ("session", home.workflow, home.session_id),
            "global": ("global",),
        }[scope]
        return entry_key("request", *owner, digest, str(self.frame.count("request", digest)))

    def _read(self, key: str) -> Remembered | None:
        payload = self.run.home.store.read(key)
        if payload is None:
            return None
        remembered = Remembered.unpack(payload)
        policy = Policy(refresh=self.run.refresh.everything, run_id=self.run.record.id)
        return remembered if policy.accepts(remembered, wall_time()) else None

    def _saving(self, slot: Slot, answer: bytes, usage: Usage) -> Generator[Ask, None, None]:
        self.run.account.add(usage)  # it is paid, whatever becomes of it
        self.run.note(
            ModelAnswered(
                model=slot.model,
                usage=usage,
                step=self.frame.step,
                key=self.frame.key,
                agent=slot.agent,
                calls=slot.calls,
            )
        )
        self.frame.check()
        # Also where nothing is remembered: what was paid counts in later attempts.
        with self.run.transaction(
            entries=[] if slot.scope is None else [self._entry(slot, slot.scope, answer)]
        ) as transaction:
            yield Commit(self.run.home.store, transaction)
        if slot.key:
            self.frame.requests.append(slot.key)

    def _entry(self, slot: Slot, scope: Scope, answer: bytes) -> Entry:
        home, remembered = self.run.home, Remembered(answer, wall_time(), self.run.record.id)
        return Entry(
            key=slot.key,
            payload=remembered.pack(),
            kind="request",
            workflow="" if scope == "global" else home.workflow,
            session_id="" if scope == "global" else home.session_id,
            scope=scope,
            step=slot.model,
            run_id=self.run.record.id,
            created_at=remembered.created_at,
        )


FRAME: Final[ContextVar[Frame | None]] = ContextVar("agentflow_frame", default=None)

_counting: Final = threading.RLock()  # as above
_active: Final[set[int]] = set()
_numbers: Final = itertools.count()


@contextmanager
def counted_as_active() -> Iterator[None]:
    """Count a run as active in this process for a block."""
    number = next(_numbers)
    _active.add(number)
    try:
        yield
    finally:
        _active.discard(number)


def current_frame(what: str) -> Frame | None:
    """Return the frame in force, or None outside a run.

    Args:
        what: Who asks, for the message.

    Raises:
        NoActiveRun: If there is none although a run is active: this is a thread that lost its context.
    """
    frame = FRAME.get()
    if frame is None:
        if _active:
            raise NoActiveRun(
                f"{what} found no run here, while a run is active in this process: its result could land in another session's memory. "
                "In a thread: start it with ctx.map, asyncio.to_thread or contextvars.copy_context().run. Beside a stream of a workflow "
                "that is not finished: finish or close it first, or make the call inside the workflow. "
                "Or say whose memory is meant with with_options(workflow=..., session_id=...)"
            )
        return None
    frame.use()
    return frame


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_active.clear)  # the parent executes them, and nobody here


def ended_error(frame: Frame) -> NoActiveRun:
    """Return the error of code that outlives the body or step call that it belongs to."""
    name = f"step {frame.step!r}" if frame.step else f"workflow {frame.home.workflow!r}"
    return NoActiveRun(
        f"this context belongs to {name}, which has ended: await or join what it starts before it returns, "
        "and use the context of the code that is running (agentflow.current_context())"
    )
