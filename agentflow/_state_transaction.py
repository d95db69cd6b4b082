"""A transaction over a session's state: under a lock of that session, on fresh rows, committed once.

The lock is one of the store's named locks, which die with their holder; it keeps other transactions out and nobody else.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from agentflow._drive import Ask, Commit, Pause, adrive, drive
from agentflow._keys import entry_key
from agentflow._state import State
from agentflow._state_changes import conflict_error
from agentflow.exceptions import StoreError, UsageError
from agentflow.stores._base import StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from agentflow._body_state import BodyState
    from agentflow._state_cells import Cell
    from agentflow.stores._base import StateRow

__all__ = ["StateTransaction"]

V = TypeVar("V")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds between two looks whether the lock is free


class _LockedState(State):
    """The state as a transaction has it: read when it is first used there, committed at its end."""

    _attributes = frozenset({"is_over"})

    def __init__(self, body: BodyState) -> None:
        super().__init__(body._home, body._values)  # noqa: SLF001 - of the same family
        self._body = body
        self.is_over = False

    def _boundary(self) -> None:
        if self.is_over:
            raise UsageError("this state belongs to a transaction that has ended: use ctx.state, or open another one")
        self._body.check()

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        return self._stored_row(key)

    def _stored_keys(self) -> Sequence[str]:
        return self._home.store.state_keys(self._home.workflow, self._home.session_id)

    def _assign(self, key: str, value: object) -> None:
        self._overlaid(key, value)

    def _increment(self, key: str, by: float) -> int | float:
        with self._mutex:
            return self._add(key, by)

    def _passed_on(self, key: str, before: bytes | None, cell: Cell, added: float) -> None:
        pass  # the body's view reads what was committed

    def committing(self) -> Generator[Ask, None, None]:
        """The procedure of its end."""
        self._boundary()
        body, home = self._body, self._home
        writes = self.writes()
        while writes:
            try:
                with body.transact(writes) as transaction:
                    yield Commit(home.store, transaction)
            except StateChanged as changed:
                writes, conflicts = self.rebase(changed.rows, writes)
                if conflicts:
                    raise conflict_error(conflicts, home) from None
            else:
                body.reload({write.key for write in writes})
                break


class StateTransaction(Generic[V]):
    """What `state.transaction()` gives: entered with `with` or `async with`, once.

    Args:
        body: The state that it is a transaction of.
        view: Makes of the state what the block gets.
    """

    def __init__(self, body: BodyState, view: Callable[[State], V]) -> None:
        self._body = body
        self._view = view
        home = body._home  # noqa: SLF001 - of the same family
        self._store, self._session_id = home.store, home.session_id
        self._lock = f"state:{entry_key('state', home.workflow, home.session_id)}"
        self._identity = (home.store.identity, self._lock)
        self._state: _LockedState | None = None
        self._is_held = False

    def __enter__(self) -> V:
        if self._body.of_async:
            raise UsageError(
                "state.transaction() may have to wait, which would hold up the event loop of this async workflow: "
                "write `async with ctx.state.transaction() as state:`"
            )
        return drive(self._entering())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        drive(self._leaving(error))

    async def __aenter__(self) -> V:
        return await adrive(self._entering())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await adrive(self._leaving(error))

    def _entering(self) -> Generator[Ask, None, V]:
        if self._state is not None:
            raise UsageError("a transaction is entered once: call state.transaction() for another one")
        if any(outer._is_held and outer._identity == self._identity for outer in _around.get()):  # noqa: SLF001 - of this class
            raise UsageError(
                f"state.transaction() inside a transaction of the same session {self._session_id!r} would wait for itself: "
                "use the state that the outer one gave"
            )
        yield from self._body.saving()
        yield Pause(0)  # a cancellation that came during that commit arrives here, where no lock is held yet
        pause = _FIRST_PAUSE
        while not self._store.try_lock(self._lock):
            yield Pause(pause)
            self._body.check()
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        self._is_held = True
        _around.set((*(outer for outer in _around.get() if outer._is_held), self))  # noqa: SLF001 - of this class
        self._state = _LockedState(self._body)
        return self._view(self._state)

    def _leaving(self, error: BaseException | None) -> Generator[Ask, None, None]:
        assert self._state is not None
        try:
            if error is None:
                yield from self._state.committing()
        finally:
            self._state.is_over = True
            self._is_held = False
            with contextlib.suppress(StoreError):  # a store that is gone has no lock to give back
                self._store.unlock(self._lock)


_around: Final[ContextVar[tuple[StateTransaction[Any], ...]]] = ContextVar("agentflow_state_transactions", default=())
"""The transactions that code is inside of; those that a task took over and that have ended since say so themselves."""
