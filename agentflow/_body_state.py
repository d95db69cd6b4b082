"""The state of a session as a workflow's body, or code outside any run, has it: an assignment is durable at once."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from agentflow._drive import Ask, Commit, Until, commit_here, commit_or_withdraw, drive, on_a_loop
from agentflow._merge import patched
from agentflow._state import State
from agentflow._state_cells import UNREADABLE
from agentflow._state_changes import Conflict, conflict_error
from agentflow._state_transaction import StateTransaction
from agentflow._waiting import wait
from agentflow.exceptions import StateConflict
from agentflow.stores._base import StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence
    from contextlib import AbstractContextManager

    from agentflow._active_run import Home
    from agentflow._state_cells import Cell
    from agentflow._state_values import Values
    from agentflow.stores._base import StateRow, StateWrite, Transaction

__all__ = ["BodyState"]


class BodyState(State):
    """The state of a session as a workflow's body (or code outside any run) has it: durable at once.

    Args:
        home: The session.
        transact: Makes the transaction of some writes, with whatever else is to be committed then.
        boundary: Raises if the code may not go on.
        values: What its values may be.
        of_async: Whether it belongs to the body of an async workflow, which must not be held up by waiting.
    """

    _attributes = frozenset({"transact", "of_async"})

    def __init__(
        self,
        home: Home,
        transact: Callable[[Sequence[StateWrite]], AbstractContextManager[Transaction]],
        boundary: Callable[[], None],
        *,
        values: Values | None = None,
        of_async: bool = False,
    ) -> None:
        super().__init__(home, values)
        self.transact = transact
        self.of_async = of_async
        self._check = boundary
        self._unfinished: list[Future[None]] = []
        self._turn: Future[None] | None = None

    def save(self) -> None:
        """Keep what was changed inside loaded values.

        A step's call or return, a `yield` and the end of the run do the same.

        Raises:
            StateConflict: If a path changed here was changed elsewhere since; all other keys are saved.
            UnserializableValue: If a value cannot be stored any more; all other keys are saved.
        """
        drive(self.saving())

    @property
    def is_touched(self) -> bool:
        """Whether anything was loaded or set here, so that there may be something to save."""
        return bool(self._watched or self._unfinished)

    def saving(self) -> Generator[Ask, None, None]:
        """The procedure of `save`."""
        while turn := self._take_turn():
            yield Until(turn)
        try:
            yield from self._saving()
        finally:
            self._end_turn()

    def _take_turn(self) -> Future[None] | None:
        # One save at a time: two of them would make the same change twice, on one revision.
        with self._mutex:
            if self._turn is None:
                self._turn = Future()
                return None
            return self._turn

    def _end_turn(self) -> None:
        with self._mutex:
            turn, self._turn = self._turn, None
        if turn:
            turn.set_result(None)

    def _wait_for_turn(self) -> None:
        # An assignment cannot be awaited: where it stands on a loop, the save may be a task's of that very loop, and
        # what that has on its way is recognised instead.
        while (turn := self._turn) and not on_a_loop():
            wait(turn, None)

    def _saving(self) -> Generator[Ask, None, None]:
        while self._unfinished:
            unfinished = self._unfinished.pop(0)
            yield Until(unfinished)
            try:
                unfinished.result()
            except StateChanged as changed:
                raise conflict_error(tuple(changed.rows), self._home) from None
        writes, refused = self.savable()
        conflicts: tuple[str, ...] = ()
        while writes:
            try:
                with self.transact(writes) as transaction:
                    yield Commit(self._home.store, transaction)
            except StateChanged as changed:
                writes, found = self.rebase(changed.rows, writes)
                conflicts += found
            else:
                self.committed(writes)
                break
        if refused:
            raise refused
        if conflicts:
            raise conflict_error(conflicts, self._home)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, and set it before if it has none; whoever is first among several runs has set it."""
        while key not in self:
            try:
                self[key] = default
            except StateConflict:
                continue
        return self[key]

    def transaction(self) -> StateTransaction[State]:
        """Read and change the state with nobody in between: `with state.transaction() as s:`, `async with` in async code.

        It holds a lock of this session, which every other transaction of the session waits for, in other processes too; the store goes on
        serving everybody. `s` begins with what is stored now and commits once, at the end of the block; what raises in it commits nothing.
        Keep it short, and leave steps out of it: what they change is theirs. A process that dies in it frees the lock and has changed nothing.

        ```python
        from agentflow import Context, workflow

        @workflow(session="shop")
        def book(ctx: Context, seats: int) -> bool:
            with ctx.state.transaction() as state:
                free = state.get("free", 10)
                if free < seats:
                    return False
                state["free"] = free - seats
            return True

        assert [book(6), book(5), book(4)] == [True, False, True]
        ```

        Raises:
            UsageError: When it is entered, if it is inside another one of the same session, or plain `with` in an async workflow.
            StateConflict: At its end, if code without a transaction has changed the same path meanwhile; nothing is written.
        """
        return StateTransaction(self, lambda state: state)

    def typed_transaction(self) -> StateTransaction[Any]:
        """Return a transaction whose block gets an instance of the workflow's model."""
        return StateTransaction(self, lambda state: state.view)

    def reload(self, keys: Collection[str] | None = None) -> None:
        """See what others have changed in this session: keys unchanged here take the stored value, in place.

        Args:
            keys: Which keys; all if None.
        """
        with self._mutex:
            for key, cell in list(self._cells.items()):
                if (keys is None or key in keys) and not self._differs(key, cell):
                    body, cell.row = self._stored_row(key)
                    value, cell.before = self._values.loaded(key, body, self._home)
                    cell.value = patched(cell.value, value)
                    self._watch(key, cell)

    def check(self) -> None:
        """Raise if the code that it belongs to may not go on."""
        self._boundary()

    def _boundary(self) -> None:
        self._check()

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        return self._stored_row(key)

    def _stored_keys(self) -> Sequence[str]:
        return self._home.store.state_keys(self._home.workflow, self._home.session_id)

    def _assign(self, key: str, value: object) -> None:
        self._wait_for_turn()
        with self._mutex:
            cell = self._cell_to_set(key)
            before = cell.value, cell.added
            cell.value, cell.added = value, 0
            cell.blind = not cell.read
            self._watch(key, cell)
            try:
                self._save_key(key, cell)
            except BaseException:  # what was not saved, for whatever reason, must not stay as if it were
                cell.value, cell.added = before
                if cell.value is UNREADABLE:
                    self._drop(key)
                raise

    def _increment(self, key: str, by: float) -> int | float:
        self._wait_for_turn()
        with self._mutex:
            cell = self._cell(key)
            before = cell.value, cell.added, cell.before, cell.row
            try:
                self._add(key, by)
                self._save_key(key, cell, may_be_later=True)
            except BaseException:  # what was not saved, for whatever reason, must not stay as if it were
                if self._cells.get(key) is cell:
                    cell.value, cell.added, cell.before, cell.row = before
                    self._watch(key, cell)
                raise
            assert isinstance(cell.value, int | float)
            return cell.value

    def _save_key(self, key: str, cell: Cell, *, may_be_later: bool = False) -> None:
        now = cell.row
        while self._differs(key, cell):
            write = None
            try:
                write = self._write(key, cell, now)
                with self.transact([write]) as transaction:
                    unfinished = self._commit(transaction, may_be_later=may_be_later)
            except StateChanged as changed:
                self._recognise(changed.rows, [write] if write else [])
                now = changed.rows[key]
            except Conflict as conflict:
                self._drop(key)
                raise conflict_error(conflict.paths, self._home) from None
            except _Later:
                self._recognise({}, [write] if write else [])
                break
            else:
                self.committed([write])
                if unfinished:
                    self._unfinished.append(unfinished)

    def _commit(self, transaction: Transaction, *, may_be_later: bool) -> Future[None] | None:
        if not may_be_later:
            return commit_here(self._home.store, transaction)
        if not commit_or_withdraw(self._home.store, transaction):
            raise _Later
        return None

    def _passed_on(self, key: str, before: bytes | None, cell: Cell, added: float) -> None:
        pass  # nobody above


class _Later(Exception):  # noqa: N818 - takes what was to be committed back
    """It is to be committed at the next boundary."""
