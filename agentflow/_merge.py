"""Changes of nested dicts, path by path: what one side changed is put onto what another side has.

Pure. Four versions of a value meet: `before` and `after` are one side's, `base` is what the store had when that side loaded it,
`theirs` is what the store has now. In a workflow's body `before` is `base`; in a nested step `before` also holds
what its caller has changed and not yet committed, which is not the step's to commit.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ABSENT", "Absent", "Merge", "patched"]


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "ABSENT"


ABSENT: Final = Absent.ABSENT
"""No value: the key was never set, or was deleted."""


@attrs.define
class Merge:
    """One merge of one value, and the paths on which both sides changed something.

    Attributes:
        same: Whether two values are equal as they would be stored.
        conflicts: The paths found in conflict, each as its keys.
    """

    same: Callable[[object, object], bool]
    conflicts: list[tuple[str, ...]] = attrs.field(factory=list)

    def merge(self, before: object, after: object, base: object, theirs: object, path: tuple[str, ...] = ()) -> object:
        """Return `theirs` with the change from `before` to `after` put onto it."""
        if self._same(before, after):
            return theirs
        if _is_tree(after) and all(version is ABSENT or _is_tree(version) for version in (before, base, theirs)):
            return self._merge_trees(before, after, base, theirs, path)
        # Also if both sides arrived at one value: two increments from 1 to 2 are two changes, and one would be lost.
        if not self._same(base, theirs):
            self.conflicts.append(path)
        return after

    def _merge_trees(
        self, before: object, after: dict[str, Any], base: object, theirs: object, path: tuple[str, ...]
    ) -> dict[str, Any]:
        versions = [version if _is_tree(version) else {} for version in (before, base, theirs)]
        own_before, own_base, own_theirs = versions
        merged: dict[str, Any] = {}
        for key in dict.fromkeys([*own_theirs, *after, *own_before]):
            was, is_now = own_before.get(key, ABSENT), after.get(key, ABSENT)
            value = self.merge(was, is_now, own_base.get(key, ABSENT), own_theirs.get(key, ABSENT), (*path, key))
            if value is not ABSENT:
                merged[key] = value
        return merged

    def _same(self, one: object, other: object) -> bool:
        if one is ABSENT or other is ABSENT:
            return one is other
        return self.same(one, other)


def _is_tree(value: object) -> TypeGuard[dict[str, Any]]:
    return type(value) is dict and all(type(key) is str for key in value)


def patched(target: object, new: object) -> object:
    """Return `target` changed in place to equal `new` where dicts and lists allow it, else `new`.

    Whoever holds the object goes on seeing, and changing, the current value.
    """
    if type(target) is dict and type(new) is dict:
        children = {key: patched(target[key], value) if key in target else value for key, value in new.items()}
        target.clear()
        target.update(children)
        return target
    if type(target) is list and type(new) is list:
        target[:] = [patched(target[index], value) if index < len(target) else value for index, value in enumerate(new)]
        return target
    return new
