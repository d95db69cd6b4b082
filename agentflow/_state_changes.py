"""What was loaded of a session's state, what has changed in it since, and what of that is on its way to the store.

A change is found by comparing encodings, made durable on the revision it was made on, and put onto a newer one where there is one
(the rules of merging are `_merge`). The mapping that code sees is `_state`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agentflow._merge import Merge, patched
from agentflow._serialization import seal, unseal
from agentflow._state_cells import IMMUTABLE, NOTHING, UNREADABLE, Cell, Sent, as_number, expected_revision
from agentflow._state_values import AnyValues
from agentflow.exceptions import IncompatibleStore, StateConflict, StoreCorrupt, UnserializableValue
from agentflow.stores._base import StateRow, StateWrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agentflow._active_run import Home
    from agentflow._state_values import Values

__all__ = ["Conflict", "StateChanges", "conflict_error"]


class StateChanges:
    """The keys of a session's state that were loaded here, as they were and as they are.

    Args:
        home: The session.
        values: What its values may be.
    """

    def __init__(self, home: Home, values: Values | None = None) -> None:
        self._home = home
        self._values = values or AnyValues()
        self._cells: dict[str, Cell] = {}
        self._watched: dict[str, Cell] = {}  # all cells but those that cannot have changed since they were looked at
        self._mutex = threading.RLock()

    # Loading

    def _cell(self, key: str) -> Cell:
        with self._mutex:
            cell = self._cells.get(key)
            if cell is None:
                body, row = self._origin(key)
                value, before = self._values.loaded(key, body, self._home)
                cell = self._cells[key] = Cell(value, before, row)
                self._watch(key, cell)
            return cell

    def _cell_to_set(self, key: str) -> Cell:
        """Return the cell of a key whose value is about to go, and so need not be readable."""
        try:
            return self._cell(key)
        except (StoreCorrupt, IncompatibleStore):
            before, row = self._origin_to_set(key)
            cell = self._cells[key] = Cell(UNREADABLE, before, row)
            self._watch(key, cell)
            return cell

    def _origin_to_set(self, key: str) -> tuple[bytes | None, StateRow]:
        try:
            return self._origin(key)
        except StoreCorrupt:  # not even its checksum fits
            return b"", self._home.store.state_row(self._home.workflow, self._home.session_id, key)

    def _watch(self, key: str, cell: Cell) -> None:
        cell.kept = NOTHING
        self._watched[key] = cell

    def _drop(self, key: str) -> None:
        """Have the next use of a key load it."""
        self._cells.pop(key, None)
        self._watched.pop(key, None)

    def _stored_row(self, key: str) -> tuple[bytes | None, StateRow]:
        row = self._home.store.state_row(self._home.workflow, self._home.session_id, key)
        return self._body_of(row, key), row

    def _body_of(self, row: StateRow, key: str) -> bytes | None:
        return self._values.default(key) if row.value is None else self._unsealed(row.value, key)

    def _unsealed(self, value: bytes, key: str) -> bytes:
        try:
            return unseal(value)
        except StoreCorrupt as corrupt:
            raise StoreCorrupt(
                f"state[{key!r}] of session {self._home.session_id!r} in the store at {self._home.store.location} is damaged: "
                "restore a backup, set the key anew, or delete it",
                path=self._home.store.location,
                hint="restore a backup, set the key anew, or delete it",
            ) from corrupt

    def _decoded(self, body: bytes | None, key: str) -> object:
        return self._values.decoded(key, body, self._home)

    def _value_of(self, row: StateRow, key: str) -> object:
        return self._decoded(self._body_of(row, key), key)

    # Changes

    def _changed(self) -> Iterator[tuple[str, Cell]]:
        for key, cell in list(self._watched.items()):
            if self._differs(key, cell):
                yield key, cell
            elif cell.value is cell.kept:
                del self._watched[key]

    def _differs(self, key: str, cell: Cell) -> bool:
        if cell.value is cell.kept:
            return False
        if self._values.encoded(key, cell.value) != cell.before:
            return True
        if type(cell.value) in IMMUTABLE:
            cell.kept = cell.value
        return False

    def writes(self) -> list[StateWrite]:
        """Return the changes made here, each on the revision it was made on.

        Raises:
            UnserializableValue: If a value cannot be stored any more; `savable` leaves those out.
        """
        with self._mutex:
            return [self._write(key, cell, cell.row) for key, cell in self._changed()]

    def savable(self) -> tuple[list[StateWrite], UnserializableValue | None]:
        """Return the changes made here that can be stored, and the first error of those that cannot."""
        writes: list[StateWrite] = []
        refused: UnserializableValue | None = None
        with self._mutex:
            for key, cell in list(self._watched.items()):
                try:
                    if self._differs(key, cell):
                        writes.append(self._write(key, cell, cell.row))
                    elif cell.value is cell.kept:
                        del self._watched[key]
                except UnserializableValue as error:
                    refused = refused or error
        return writes, refused

    def _write(self, key: str, cell: Cell, now: StateRow) -> StateWrite:
        total = self._moved(key, cell, now) if cell.added else None
        merged = self._merged(key, cell, now) if total is None else total
        body = self._values.encoded(key, merged)
        # Not twice: in between another thread may have changed it further, and that would not be written by anybody.
        after = body if merged is cell.value else self._values.encoded(key, cell.value)
        write = StateWrite(
            workflow=self._home.workflow,
            session_id=self._home.session_id,
            key=key,
            value=None if body is None else seal(body),
            expected=now.revision,
        )
        cell.sent.append(Sent(write, after, cell.added))
        return write

    def _moved(self, key: str, cell: Cell, now: StateRow) -> int | float | None:
        """Put what was added onto a newer number, and return the sum; None if it is no number any more."""
        base, known, theirs = (
            as_number(self._decoded(body, key))
            for body in (self._body_of(cell.row, key), cell.before, self._body_of(now, key))
        )
        mine = as_number(cell.value)
        if base is None or known is None or theirs is None or mine is None:
            cell.added = 0
            return None
        if theirs != base:
            cell.value = mine + (theirs - base)
            cell.before = self._values.encoded(key, known + (theirs - base))
            self._watch(key, cell)
        cell.row = now
        return theirs + cell.added

    def _merged(self, key: str, cell: Cell, now: StateRow) -> object:
        if cell.blind or (now is cell.row and cell.before == self._body_of(cell.row, key)):
            return cell.value
        merge = self._merge(key)
        before = self._decoded(cell.before, key)
        merged = merge.merge(before, cell.value, self._value_of(cell.row, key), self._value_of(now, key))
        if merge.conflicts:
            raise Conflict(tuple(".".join((key, *path)) for path in merge.conflicts))
        return merged

    def _merge(self, key: str) -> Merge:
        # Parts of a value are compared as any values are: it is one of theirs that has a type of its own, not they.
        return Merge(lambda one, other: self._values.same(key, one, other))

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
            for key, cell in self._changed():
                try:
                    writes.append(self._write(key, cell, rows.get(key, cell.row)))
                except Conflict as conflict:
                    conflicts += conflict.paths
                    self._drop(key)  # the next read sees what is stored now
        return writes, tuple(conflicts)

    def _recognise(self, rows: Mapping[str, StateRow], refused: Sequence[StateWrite]) -> None:
        # A task beside this one may have committed a change of this very view and not said so yet.
        for write in refused:
            if cell := self._cells.get(write.key):
                cell.sent = [sent for sent in cell.sent if sent.write is not write]
        for key, row in rows.items():
            for sent in self._cells[key].sent if key in self._cells else ():
                if row == StateRow(sent.write.value, expected_revision(sent.write) + 1):
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

    def _settle(self, key: str, sent: Sent) -> None:
        cell = self._cells[key]
        # What was made on an older revision cannot have been committed as well.
        cell.sent = [other for other in cell.sent if expected_revision(other.write) > expected_revision(sent.write)]
        before, cell.before = cell.before, sent.after
        cell.row = StateRow(sent.write.value, expected_revision(sent.write) + 1)
        cell.blind = False
        cell.added -= sent.added
        self._watch(key, cell)
        self._passed_on(key, before, cell, sent.added)

    def _absorb(self, key: str, before: bytes | None, nested: Cell, added: float) -> None:
        """Take over a change that a nested step has committed, beside what was changed here."""
        with self._mutex:
            own = self._cells.get(key)
            if own is None:  # it could not be read here, and can be now
                return
            if not (added and self._absorb_sum(key, own, nested)):
                self._absorb_change(key, own, before, nested.before)
            if nested.row.revision > own.row.revision:
                own.row = nested.row
            self._watch(key, own)
        self._passed_on(key, before, nested, added)

    def _absorb_sum(self, key: str, own: Cell, nested: Cell) -> bool:
        """Take over what a nested step has added, together with what others had added before it; False if it is no number here."""
        numbers = [as_number(self._value_of(row, key)) for row in (own.row, nested.row)]
        numbers += [as_number(self._decoded(own.before, key)), as_number(own.value)]
        if nested.row.revision <= own.row.revision:  # a step beside it, which committed later, has brought it along
            return True
        was, now, known, mine = numbers
        if was is None or now is None or known is None or mine is None:
            return False
        own.before = self._values.encoded(key, known + (now - was))
        own.value = mine + (now - was)
        return True

    def _absorb_change(self, key: str, own: Cell, before: bytes | None, after: bytes | None) -> None:
        was, became, known = (self._decoded(body, key) for body in (before, after, own.before))
        own.before = self._values.encoded(key, self._merge(key).merge(was, became, was, known))
        own.value = patched(own.value, self._merge(key).merge(was, became, was, own.value))
        own.added = 0

    # What bodies and steps do differently

    def _origin(self, key: str) -> tuple[bytes | None, StateRow]:
        raise NotImplementedError  # pragma: no cover - the subclasses say

    def _passed_on(self, key: str, before: bytes | None, cell: Cell, added: float) -> None:
        raise NotImplementedError  # pragma: no cover - the subclasses say


class Conflict(Exception):  # noqa: N818 - an answer for the callers of `rebase`; a user sees a StateConflict
    """The same path was changed on both sides."""

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
