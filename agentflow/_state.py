"""A session's state as code sees it: a mapping whose changes are found, merged and made durable key by key.

In a body an assignment is durable at once; what is changed inside a loaded value is found at the next boundary by comparing its encoding.
In a step every call works on an overlay over its caller's view, which commits with the step's result or not at all.
The rules of merging are `_merge`; this module knows when to load, compare and commit.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._drive import Ask, Commit, Until, commit_here, drive, on_a_loop
from agentflow._merge import ABSENT, Merge, patched
from agentflow._serialization import StaleValue, codec_for, seal, unseal
from agentflow._waiting import wait
from agentflow.exceptions import StateConflict, StoreCorrupt, UnserializableValue, UsageError
from agentflow.stores._base import StateChanged, StateRow, StateWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from agentflow._frames import Home
    from agentflow.stores._base import Transaction

__all__ = ["BodyState", "State", "StepState"]

_CODEC: Final = codec_for(Any)
_SCALARS: Final = (str, int, float, bool, bytes, type(None))


def _encoded(value: object, key: str) -> bytes | None:
    return None if value is ABSENT else _CODEC.dumps(value, owner=f"state[{key!r}]")


def _same(one: object, other: object) -> bool:
    return _CODEC.dumps(one, owner="state") == _CODEC.dumps(other, owner="state")


@attrs.define
class _Cell:
    """One loaded key: the value that code holds, its encoding when last known equal to what was committed, and the stored row."""

    value: object
    before: bytes | None
    row: StateRow
    read: bool = False
    """Whether code has seen the value: only then can a change made elsewhere meanwhile be lost on it."""
    blind: bool = False
    """Whether it was assigned without having been read: then it is written whatever stands there."""
    sent: list[_Sent] = attrs.field(factory=list)
    """What is on its way to the store."""


@attrs.frozen(eq=False)
class _Sent:
    """A write that is on its way, and the encoding of the value that it was made of."""

    write: StateWrite
    after: bytes | None


class State(MutableMapping[str, Any]):
    """A session's state: a mutable mapping from `str` to any value that can be stored.

    Values are private to the code that loads them; changes inside them are found and kept too.
    Cost does not grow with the number of keys: only what is touched is read and written.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._cells: dict[str, _Cell] = {}
        self._mutex = threading.RLock()

    # The mapping

    def __getitem__(self, key: str) -> Any:
        self._boundary()
        cell = self._cell(key)
        cell.read = True
        if cell.value is ABSENT:
            raise KeyError(key)
        return cell.value

    def __contains__(self, key: object) -> bool:
        self._boundary()
        if not isinstance(key, str):
            return False
        cell = self._cell(key)
        cell.read = True
        return cell.value is not ABSENT

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str:
            raise UsageError(f"state[{key!r}]: a state key is a str, not {type(key).__name__}")
        self._boundary()
        _encoded(value, key)  # what cannot be stored is refused here, where it is assigned
        self._assign(key, value)

    def __delitem__(self, key: str) -> None:
        self[key]
        self._assign(key, ABSENT)

    def __iter__(self) -> Iterator[str]:
        self._boundary()
        with self._mutex:
            stored = self._stored_keys()
            return iter([key for key in dict.fromkeys([*stored, *self._cells]) if self._is_present(key)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def _is_present(self, key: str) -> bool:
        cell = self._cells.get(key)
        return cell is None or cell.value is not ABSENT

    # Loading

    def _cell(self, key: str) -> _Cell:
        with self._mutex:
            cell = self._cells.get(key)
            if cell is None:
                before, row = self._origin(key)
                cell = self._cells[key] = _Cell(ABSENT if before is None else self._decoded(before, key), before, row)
            return cell

    def _stored_row(self, key: str) -> tuple[bytes | None, StateRow]:
        row = self._home.store.state_row(self._home.workflow, self._home.session_id, key)
        return (None if row.value is None else unseal(row.value)), row

    def _decoded(self, body: bytes, key: str) -> object:
        try:
            return _CODEC.loads(body)
        except StaleValue as stale:
            raise StoreCorrupt(
                f"state[{key!r}] of session {self._home.session_id!r} cannot be read back: {stale}: import or register "
                "its class (agentflow.register_type) before the workflow runs, or delete the key",
                path=self._home.store.location,
            ) from stale

    def _value_of(self, row: StateRow, key: str) -> object:
        return ABSENT if row.value is None else self._decoded(unseal(row.value), key)

    # Changes

    def _changed(self) -> dict[str, _Cell]:
        return {key: cell for key, cell in self._cells.items() if self._differs(key, cell)}

    @staticmethod
    def _differs(key: str, cell: _Cell) -> bool:
        return _encoded(cell.value, key) != cell.before

    def writes(self) -> list[StateWrite]:
        """Return the changes made here, each on the revision it was made on.

        Raises:
            UnserializableValue: If a value cannot be stored any more; `savable` leaves those out.
        """
        with self._mutex:
            return [self._write(key, cell, cell.row) for key, cell in self._changed().items()]

    def savable(self) -> tuple[list[StateWrite], UnserializableValue | None]:
        """Return the changes made here that can be stored, and the first error of those that cannot."""
        writes: list[StateWrite] = []
        refused: UnserializableValue | None = None
        with self._mutex:
            for key, cell in self._cells.items():
                try:
                    if self._differs(key, cell):
                        writes.append(self._write(key, cell, cell.row))
                except UnserializableValue as error:
                    refused = refused or error
        return writes, refused

    def _write(self, key: str, cell: _Cell, now: StateRow) -> StateWrite:
        body = _encoded(self._merged(key, cell, now), key)
        write = StateWrite(
            workflow=self._home.workflow,
            session_id=self._home.session_id,
            key=key,
            value=None if body is None else seal(body),
            expected=now.revision,
        )
        cell.sent.append(_Sent(write, _encoded(cell.value, key)))
        return write

    def _merged(self, key: str, cell: _Cell, now: StateRow) -> object:
        if cell.blind:
            return cell.value
        base_body = None if cell.row.value is None else unseal(cell.row.value)
        if now is cell.row and cell.before == base_body:
            return cell.value
        before = ABSENT if cell.before is None else self._decoded(cell.before, key)
        merge = Merge(_same)
        merged = merge.merge(before, cell.value, self._value_of(cell.row, key), self._value_of(now, key))
        if merge.conflicts:
            raise _Conflict(tuple(".".join((key, *path)) for path in merge.conflicts))
        return merged

    def rebase(
        self, rows: Mapping[str, StateRow], refused: Sequence[StateWrite]
    ) -> tuple[list[StateWrite], tuple[str, ...]]:
        """Return the changes on newer rows, and the paths that were changed on both sides.

        Args:
            rows: What is stored now, of those keys that were changed elsewhere.
            refused: The writes that were refused for it, all of them.
        """
        writes: list[StateWrite] = []
        conflicts: list[str] = []
        with self._mutex:
            self._recognise(rows, refused)
            for key, cell in self._changed().items():
                try:
                    writes.append(self._write(key, cell, rows.get(key, cell.row)))
                except _Conflict as conflict:
                    conflicts += conflict.paths
                    del self._cells[key]  # the next read sees what is stored now
        return writes, tuple(conflicts)

    def _recognise(self, rows: Mapping[str, StateRow], refused: Sequence[StateWrite]) -> None:
        # A task beside this one may have committed a change of this very view and not said so yet.
        for write in refused:
            if cell := self._cells.get(write.key):
                cell.sent = [sent for sent in cell.sent if sent.write is not write]
        for key, row in rows.items():
            for sent in self._cells[key].sent if key in self._cells else ():
                if row == StateRow(sent.write.value, _expected(sent.write) + 1):
                    self._settle(key, sent)
                    break

    def committed(self, writes: Sequence[StateWrite]) -> None:
        """Note that changes are durable."""
        with self._mutex:
            for write in writes:
                cell = self._cells.get(write.key)
                for sent in cell.sent if cell else ():
                    if sent.write is write:
                        self._settle(write.key, sent)
                        break

    def _settle(self, key: str, sent: _Sent) -> None:
        cell = self._cells[key]
        # What was made on an older revision cannot have been committed as well.
        cell.sent = [other for other in cell.sent if _expected(other.write) > _expected(sent.write)]
        before, cell.before = cell.before, sent.after
        cell.row = StateRow(sent.write.value, _expected(sent.write) + 1)
        cell.blind = False
        self._passed_on(key, before, cell)

    def _absorb(self, key: str, before: bytes | None, nested: _Cell) -> None:
        """Take over a change that a nested step has committed, beside what was changed here."""
        was = ABSENT if before is None else self._decoded(before, key)
        became = ABSENT if nested.before is None else self._decoded(nested.before, key)
        with self._mutex:
            own = self._cells[key]
            known = ABSENT if own.before is None else self._decoded(own.before, key)
            own.before = _encoded(Merge(_same).merge(was, became, was, known), key)
            own.value = patched(own.value, Merge(_same).merge(was, became, was, own.value))
            if nested.row.revision > own.row.revision:
                own.row = nested.row
        self._passed_on(key, before, nested)

    # What bodies and steps do differently

    def _boundary(self) -> None:
        raise NotImplementedError  # pragma: no cover - the two classes below say

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        raise NotImplementedError  # pragma: no cover - the two classes below say

    def _stored_keys(self) -> Sequence[str]:
        raise NotImplementedError  # pragma: no cover - the two classes below say

    def _assign(self, key: str, value: object) -> None:
        raise NotImplementedError  # pragma: no cover - the two classes below say

    def _passed_on(self, key: str, before: bytes | None, cell: _Cell) -> None:
        raise NotImplementedError  # pragma: no cover - the two classes below say


def _expected(write: StateWrite) -> int:
    assert isinstance(write.expected, int)
    return write.expected


class _Conflict(Exception):  # noqa: N818 - leaves this module as StateConflict
    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__(paths)
        self.paths = paths


def conflict_error(paths: Sequence[str], home: Home) -> StateConflict:
    """Return the error of a change that was also made elsewhere."""
    named = ", ".join(paths)
    return StateConflict(
        f"state of session {home.session_id!r} was changed here and elsewhere since it was read here: {named}. "
        "Read it again and repeat the change",
        keys=tuple(paths),
    )


class BodyState(State):
    """The state of a session as a workflow's body (or code outside any run) has it: durable at once.

    Args:
        home: The session.
        transact: Makes the transaction of some writes, with whatever else is to be committed then.
        boundary: Raises if the code may not go on.
    """

    def __init__(
        self,
        home: Home,
        transact: Callable[[Sequence[StateWrite]], AbstractContextManager[Transaction]],
        boundary: Callable[[], None],
    ) -> None:
        super().__init__(home)
        self._transact = transact
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
        return bool(self._cells or self._unfinished)

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
                with self._transact(writes) as transaction:
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

    def reload(self) -> None:
        """See what a called workflow has changed in this session: keys unchanged here take the stored value, in place."""
        with self._mutex:
            for key, cell in self._cells.items():
                if not self._differs(key, cell):
                    cell.before, cell.row = self._stored_row(key)
                    new = ABSENT if cell.before is None else self._decoded(cell.before, key)
                    cell.value = patched(cell.value, new)

    def _boundary(self) -> None:
        self._check()

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        return self._stored_row(key)

    def _stored_keys(self) -> Sequence[str]:
        return self._home.store.state_keys(self._home.workflow, self._home.session_id)

    def _assign(self, key: str, value: object) -> None:
        self._wait_for_turn()
        with self._mutex:
            cell = self._cell(key)
            before, cell.value = cell.value, value
            cell.blind = not cell.read
            try:
                self._save_key(key, cell)
            except BaseException:
                cell.value = before
                raise

    def _save_key(self, key: str, cell: _Cell) -> None:
        now = cell.row
        while self._differs(key, cell):
            write = None
            try:
                write = self._write(key, cell, now)
                with self._transact([write]) as transaction:
                    unfinished = commit_here(self._home.store, transaction)
            except StateChanged as changed:
                self._recognise(changed.rows, [write] if write else [])
                now = changed.rows[key]
            except _Conflict as conflict:
                del self._cells[key]
                raise conflict_error(conflict.paths, self._home) from None
            else:
                self.committed([write])
                if unfinished:
                    self._unfinished.append(unfinished)

    def _passed_on(self, key: str, before: bytes | None, cell: _Cell) -> None:
        pass  # nobody above


class StepState(State):
    """The state as one attempt of one step call has it: an overlay that commits with the step's result.

    Args:
        parent: The view of whoever called the step.
        step: The step's name, for the warning.
        reads: The state keys that the step declares to read; None switches the warning off.
        boundary: Raises if the code may not go on.
    """

    def __init__(self, parent: State, step: str, reads: frozenset[str] | None, boundary: Callable[[], None]) -> None:
        super().__init__(parent._home)  # noqa: SLF001 - of the same family
        self._parent = parent
        self._step = step
        self._reads = reads
        self._check = boundary

    def __getitem__(self, key: str) -> Any:
        self._warn_of_read(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            self._warn_of_read(key)
        return super().__contains__(key)

    def _warn_of_read(self, key: str) -> None:
        if self._reads is None or key in self._reads or key in self._cells:
            return
        if self._step not in _warned:
            _warned.add(self._step)
            warnings.warn(
                f"step {self._step!r} reads state[{key!r}], which is not part of its key: a remembered result will not notice "
                f"when it changes. Declare it with reads=({key!r},), or pass it as an argument",
                stacklevel=_users_level(),
            )

    def _boundary(self) -> None:
        self._check()

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        parent = self._parent
        with parent._mutex:  # noqa: SLF001 - of the same family
            cell = parent._cell(key)  # noqa: SLF001
            return _encoded(cell.value, key), cell.row

    def _stored_keys(self) -> Sequence[str]:
        return list(self._parent)

    def _assign(self, key: str, value: object) -> None:
        with self._mutex:
            cell = self._cell(key)
            cell.value = value
            cell.blind = not cell.read

    def _passed_on(self, key: str, before: bytes | None, cell: _Cell) -> None:
        self._parent._absorb(key, before, cell)  # noqa: SLF001 - of the same family


_warned: Final[set[str]] = set()


def _users_level() -> int:
    """Return the `stacklevel` of the first caller outside this module and the mapping methods of the standard library."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - what warnings itself counts by
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "collections.abc", "_collections_abc"):
        level, frame = level + 1, frame.f_back
    return level
