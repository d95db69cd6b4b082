"""What a computed version depends on, in the form that is quickest to look at again.

It knows names in namespaces, closure cells and objects with a version of their own, and whether they
are still what they were. It compares identities only: it runs no code of the user's, except
`__agentflow_version__` of the objects that have one.
"""

from __future__ import annotations

__all__ = ["NOTHING", "Versioned", "Watch", "contents"]

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CellType, CodeType, FunctionType

_Namespace: TypeAlias = dict[str, Any]

_Sealed: TypeAlias = "tuple[tuple[tuple[_Namespace, str, object], ...], tuple[tuple[FunctionType, CodeType], ...], tuple[_Absent, ...], bool]"

NOTHING: Final = object()
"""What an empty cell holds, and an undefined name stands for."""


class Versioned(Protocol):
    """An object that says itself which version it is."""

    def __agentflow_version__(self) -> str:
        """Return the version."""
        ...


class Watch:
    """The names, cells and versions that one fingerprint saw. It is filled, then sealed, then asked."""

    __slots__ = ("_absent", "_cells", "_codes", "_names", "_sealed", "_versions")

    def __init__(self) -> None:
        self._sealed: _Sealed = (), (), (), False
        self._names: dict[tuple[int, str], tuple[_Namespace, str, object]] = {}
        self._codes: dict[int, tuple[FunctionType, CodeType]] = {}
        self._absent: dict[int, _Absent] = {}
        self._cells: dict[int, tuple[CellType, object]] = {}
        self._versions: dict[tuple[int, object], tuple[Versioned, str, Callable[[Versioned], str] | None]] = {}

    def name(self, namespace: _Namespace, name: str, value: object) -> None:
        """Remember what a name stood for."""
        self._names[id(namespace), name] = (namespace, name, value)

    def code(self, function: FunctionType) -> None:
        """Remember the code of a function: tools that reload modules put new code into old functions."""
        self._codes[id(function)] = (function, function.__code__)

    def absent(self, namespace: _Namespace, name: str) -> None:
        """Remember that a name stood for nothing: it may be defined later."""
        self._absent.setdefault(id(namespace), _Absent(namespace)).names.add(name)

    def cell(self, cell: CellType, value: object) -> None:
        """Remember what a closure cell held."""
        self._cells[id(cell)] = (cell, value)

    def version(
        self, item: Versioned, version: str, place: object = (), again: Callable[[Versioned], str] | None = None
    ) -> None:
        """Remember what an object said its version was: it may say otherwise later.

        Args:
            item: The object.
            version: Its answer.
            place: Where it was asked, if the answer depends on that.
            again: How it is asked again, if not plainly.
        """
        self._versions[id(item), place] = (item, version, again)

    def merge(self, other: Watch) -> None:
        """Also watch what another fingerprint saw."""
        self._names.update(other._names)
        self._codes.update(other._codes)
        for absent in other._absent.values():
            for name in absent.names:
                self.absent(absent.namespace, name)
        self._cells.update(other._cells)
        self._versions.update(other._versions)

    def seal(self) -> None:
        """Lay out for `holds` what it looks at each time, and whether there is anything else."""
        more = bool(self._cells or self._versions)
        self._sealed = tuple(self._names.values()), tuple(self._codes.values()), tuple(self._absent.values()), more

    def holds(self) -> bool:
        """Say whether everything is what it was."""
        # Every hit of every step comes through here: plain loops over tuples are the quickest that pure Python has.
        names, codes, absent, more = self._sealed
        try:
            for namespace, name, value in names:
                if namespace[name] is not value:
                    return False
        except KeyError:
            return False
        for function, code in codes:
            if function.__code__ is not code:
                return False
        for each in absent:
            if len(each.namespace) != each.size and not each.holds():
                return False
        return not more or self._rest_holds()

    def _rest_holds(self) -> bool:
        """Say whether cells and versions are what they were."""
        for cell, value in self._cells.values():
            if contents(cell) is not value:
                return False
        for item, version, again in self._versions.values():
            if (again(item) if again else item.__agentflow_version__()) != version:
                return False
        return True


class _Absent:
    """Names that a namespace did not have, and how many it had: as long as it grows by none, they are not there."""

    __slots__ = ("names", "namespace", "size")

    def __init__(self, namespace: _Namespace) -> None:
        self.namespace, self.size = namespace, len(namespace)
        self.names: set[str] = set()

    def holds(self) -> bool:
        """Say whether the names are still not there."""
        size = len(self.namespace)
        if not self.namespace.keys().isdisjoint(self.names):
            return False
        self.size = size
        return True


def contents(cell: CellType) -> object:
    """Return what a cell holds; an empty one holds `NOTHING`."""
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING
