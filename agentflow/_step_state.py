"""The state of a session as a step has it: an overlay over its caller's view, which commits with the step's result or not at all."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agentflow._recording import RESERVED
from agentflow._state import State
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentflow._state_cells import Cell
    from agentflow.stores._base import StateRow

__all__ = ["StepState"]


class StepState(State):
    """The state as one attempt of one step call has it: an overlay that commits with the step's result.

    Args:
        parent: The view of whoever called the step.
        step: The step's name, for the warning.
        reads: The state keys that the step declares to read; None switches the warning off.
        boundary: Raises if the code may not go on.
    """

    def __init__(self, parent: State, step: str, reads: frozenset[str] | None, boundary: Callable[[], None]) -> None:
        super().__init__(parent._home, parent._values)  # noqa: SLF001 - of the same family
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
        if self._reads is None or key in self._reads or key in self._cells or key.startswith(RESERVED):
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
            return self._values.encoded(key, cell.value), cell.row

    def _stored_keys(self) -> Sequence[str]:
        return list(self._parent)

    def _assign(self, key: str, value: object) -> None:
        self._overlaid(key, value)

    def _increment(self, key: str, by: float) -> int | float:
        with self._mutex:
            return self._add(key, by)

    def transaction(self) -> NoReturn:
        """Refuse: a step's changes become durable together with its result, and not before.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"state.transaction() in step {self._step!r}: all that a step changes commits in one transaction with its result; "
            "change the state as it is, add with state.increment(), or open the transaction in the workflow's body"
        )

    typed_transaction = transaction

    def save(self) -> None:
        """Do nothing: all that a step changes is kept with its result."""

    def _passed_on(self, key: str, before: bytes | None, cell: Cell, added: float) -> None:
        self._parent._absorb(key, before, cell, added)  # noqa: SLF001 - of the same family


_warned: Final[set[str]] = set()
_MAPPINGS: Final = frozenset(
    {__name__, "agentflow._state", "agentflow._state_model", "collections.abc", "_collections_abc"}
)


def _users_level() -> int:
    """Return the `stacklevel` of the first caller outside the modules of state and the mapping methods of the standard library."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - what warnings itself counts by
    while frame.f_back and frame.f_globals.get("__name__") in _MAPPINGS:
        level, frame = level + 1, frame.f_back
    return level
