"""A session's state as code sees it: a mapping whose changes are found, merged and made durable key by key (`_state_changes`).

In a body an assignment is durable at once (`_body_state`); what is changed inside a loaded value is found at the next boundary.
In a step every call works on an overlay over its caller's view (`_step_state`).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from agentflow._merge import ABSENT
from agentflow._state_cells import UNREADABLE, as_number
from agentflow._state_changes import StateChanges
from agentflow._state_model import bound
from agentflow._state_values import ModelValues
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentflow._active_run import Home
    from agentflow._state_values import Values

__all__ = ["State"]


class State(StateChanges, MutableMapping[str, Any]):
    """A session's state: a mutable mapping from `str` to any value that can be stored.

    Values are private to the code that loads them; changes inside them are found and kept too.
    Cost does not grow with the number of keys: only what is touched is read and written.
    """

    _attributes: ClassVar[frozenset[str]] = frozenset()  # which may be set beside those that begin with "_"

    def __init__(self, home: Home, values: Values | None = None) -> None:
        super().__init__(home, values)
        self._view: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        # As an attribute it would be lost without a word.
        if not name.startswith("_") and name not in self._attributes:
            raise UsageError(
                f"state.{name} = ...: this state is a mapping, so write state[{name!r}] = ...; "
                "it has fields if the workflow names a model, as @workflow(state=Model)"
            )
        super().__setattr__(name, value)

    @property
    def view(self) -> Any:
        """What `ctx.state` is: this mapping, or an instance of the workflow's model over it."""
        if isinstance(self._values, ModelValues) and self._view is None:
            self._view = bound(self._values.model, self)
        return self if self._view is None else self._view

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
        try:
            cell = self._cell(key)
        except KeyError:  # there can be no such key
            return False
        cell.read = True
        return cell.value is not ABSENT

    def __setitem__(self, key: str, value: Any) -> None:
        self._boundary()
        self._assign(key, self._values.checked(key, value))

    def __delitem__(self, key: str) -> None:
        self._boundary()
        cell = self._cell_to_set(key)
        if cell.value is ABSENT:
            raise KeyError(key)
        cell.read = cell.read or cell.value is not UNREADABLE
        default = self._values.default(key)
        self._assign(key, ABSENT if default is None else self._decoded(default, key))

    def __iter__(self) -> Iterator[str]:
        self._boundary()
        with self._mutex:
            stored = self._values.names(self._stored_keys())
            return iter([key for key in dict.fromkeys([*stored, *self._cells]) if self._is_present(key)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def _is_present(self, key: str) -> bool:
        cell = self._cells.get(key)
        return cell is None or cell.value is not ABSENT

    def increment(self, key: str, by: float = 1) -> int | float:
        """Add to a number, and return the sum; a key without a value counts as 0.

        It never conflicts and loses nothing, however many processes add at once: what is added is added to whatever stands there then.
        In a body it is durable when this returns (on an event loop, while another process has locked the store, at the next boundary),
        and no two increments by 1 return the same number. In a step it becomes durable with the step's result, like every other change;
        the sum is then the one that this step sees.

        ```python
        from agentflow import Context, workflow

        @workflow
        def count(ctx: Context) -> int | float:
            return ctx.state.increment("calls")

        assert [count(), count()] == [1, 2]
        ```

        Args:
            key: The key.
            by: What to add; may be negative.

        Raises:
            UsageError: If it, or what stands there, is no `int` or `float`.
        """
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise UsageError(f"state.increment({key!r}, {by!r}) adds an int or a float, not a {type(by).__name__}")
        self._boundary()
        return self._increment(key, by)

    def _add(self, key: str, by: float) -> int | float:
        cell = self._cell(key)
        number = as_number(cell.value)
        if number is None:
            raise UsageError(
                f"state.increment({key!r}): there is a {type(cell.value).__name__} in session {self._home.session_id!r}, "
                "and only an int or a float can be added to: use another key, or set this one to a number"
            )
        assigned = cell.blind or (not cell.added and self._differs(key, cell))
        total = self._values.checked(key, number + by)
        assert isinstance(total, int | float)
        cell.value, cell.read = total, True
        cell.added += 0 if assigned else by
        self._watch(key, cell)
        return total

    # What bodies and steps do differently

    def _boundary(self) -> None:
        raise NotImplementedError  # pragma: no cover - the subclasses say

    def _stored_keys(self) -> Sequence[str]:
        raise NotImplementedError  # pragma: no cover - the subclasses say

    def _assign(self, key: str, value: object) -> None:
        raise NotImplementedError  # pragma: no cover - the subclasses say

    def _increment(self, key: str, by: float) -> int | float:
        raise NotImplementedError  # pragma: no cover - the subclasses say

    def _overlaid(self, key: str, value: object) -> None:
        """Assign, to be committed later."""
        with self._mutex:
            cell = self._cell_to_set(key)
            cell.value, cell.added = value, 0
            cell.blind = not cell.read
            self._watch(key, cell)
