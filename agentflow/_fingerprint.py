"""Code versions: one digest for a function and all that its behaviour is written in.

It knows when a version must be computed and when an old one still holds. What is reached, and how it
counts, is told in `_code_graph` and `_code_values`.

What counts, from a function on, as far as its names lead through the user's own code (that is all
code outside the standard library and site-packages, and the package of the function itself, which may
be installed; agentflow counts as installed):

* Functions, lambdas, methods and classes, by what they say. Comments, docstrings, formatting, quotes
  around annotations, and agentflow's own decorators with their options say nothing. Annotations count:
  they say what a model is asked for and what is stored.
* Constants by value; lists, dicts, sets and objects by the statements that make them; what a closure
  captured, and defaults, by content. `_code_values` has the whole list.
* Objects with a method `__agentflow_version__` by what that returns, and by nothing else.
* Installed packages by name. An upgrade runs nothing again: pin `version=` where it should.

What does not count, because it cannot be seen from the code: what is looked up by a computed name
(`getattr(module, name)`, `globals()[name]`, registries that are filled elsewhere), `exec` and `eval`,
the content of files, the environment, attributes set at run time on functions, classes and objects,
and changes in place of lists, dicts and sets. Globals that functions rebind (`global x`) are state. An
object of an installed class that compares by identity, as clients do, counts by its type.

A user's module that a function imports in its body is imported when its version is computed.
"""

from __future__ import annotations

__all__ = ["CodeVersion", "function_digest"]

from contextvars import ContextVar
from functools import lru_cache
from threading import Lock
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import field, frozen

from agentflow._canonical import digest
from agentflow._code_graph import Graph
from agentflow._code_watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PATIENCE: Final = 5.0
"""Seconds to wait for another thread that computes the same version. It may hang on an import that waits for us."""

_FUNCTIONS_REMEMBERED: Final = 1024


@frozen(eq=False)
class _Seen:
    """A version as it was computed.

    Attributes:
        digest: The version.
        pieces: The digest of each piece of code or value it was made of.
        watch: What must stay as it was.
        inner: The ids of the functions whose versions were asked on the way.
        loops: Those of them that were being computed further out: it holds only within these.
    """

    digest: str
    pieces: Mapping[str, str]
    watch: Watch
    inner: frozenset[int] = frozenset()
    loops: frozenset[int] = frozenset()


@frozen(eq=False)
class _Computation:
    """A version that is being computed.

    Attributes:
        function: The id of the function whose it is.
        graph: What was reached so far.
        inner: The functions whose versions were asked so far, and those that they asked for.
        loops: Functions further out that were asked in turn.
        inside: What was computed inside this one and holds only there, by function and by all that is further out.
    """

    function: int
    graph: Graph
    inner: set[int] = field(factory=set[int])
    loops: set[int] = field(factory=set[int])
    inside: dict[tuple[int, frozenset[int]], _Seen] = field(factory=dict[tuple[int, frozenset[int]], _Seen])


_Path: TypeAlias = tuple[_Computation, ...]

_path: ContextVar[_Path] = ContextVar("agentflow_code_versions", default=())
"""The versions that are being computed here, outermost first: a step asks for those of the steps that it calls."""


class CodeVersion:
    """The version of a function's code, computed when it is first asked for.

    Later it is only looked whether the names and cells it was computed from still hold the same objects,
    and computed again if not: a helper was defined anew, a constant was patched. Threads that ask at once
    get the same.

    ```python
    from agentflow._fingerprint import CodeVersion

    GREETING = "Hello"

    def greet(name: str) -> str:
        return f"{GREETING}, {name}!"

    version = CodeVersion(greet)
    before = version.digest
    GREETING = "Good morning"
    assert version.digest != before
    ```
    """

    __slots__ = ("__weakref__", "_fn", "_lock", "_seen")

    def __init__(self, fn: Callable[..., object]) -> None:
        self._fn = fn
        self._lock = Lock()
        self._seen: _Seen | None = None

    @property
    def digest(self) -> str:
        """The version, in hexadecimal; the same in every process that runs the same code."""
        seen = self._seen
        if seen is not None and seen.watch.holds() and not _path.get():
            return seen.digest
        return self._now().digest

    def pieces(self) -> Mapping[str, str]:
        """Return the digest of each piece that counts, by module and name: what differs shows what was changed."""
        return self._now().pieces

    def _now(self) -> _Seen:
        """Return the version that holds now."""
        path = _path.get()
        if path:
            return self._within(path)
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            return self._standing() or self._compute(path)
        finally:
            if held:
                self._lock.release()

    def _standing(self) -> _Seen | None:
        """Return what was computed before, if it still holds."""
        seen = self._seen
        return seen if seen is not None and seen.watch.holds() else None

    # A version may be asked for while another is computed, and functions may call each other in circles. Then what is
    # found depends on who was asked first: `a` seen from `b` is not `a` by itself. So in a circle each version is
    # computed by itself, with a mark in the place of those further out, and what was computed inside is not kept.

    def _within(self, path: _Path) -> _Seen:
        """Return the version for a computation that is going on further out."""
        outer = {computation.function: depth for depth, computation in enumerate(path)}
        seen = self._seen_within(path, outer)
        for function in seen.loops:
            for computation in path[outer[function] + 1 :]:
                computation.loops.add(function)
        path[-1].inner.update(seen.inner, (id(self._fn),))
        path[-1].graph.watch.merge(seen.watch)
        return seen

    def _seen_within(self, path: _Path, outer: Mapping[int, int]) -> _Seen:
        """Return a mark if the version is being computed further out, else the version as it is within that."""
        own = id(self._fn)
        if own in outer:
            return _Seen(digest(b"recursion"), {}, Watch(), loops=frozenset((own,)))
        seen = self._standing()
        if seen is not None and seen.inner.isdisjoint(outer):
            return seen
        place = (own, frozenset(outer))
        inside = path[0].inside
        return inside[place] if place in inside else inside.setdefault(place, self._compute(path))

    def _compute(self, path: _Path) -> _Seen:
        """Compute the version, and keep it unless it holds only within one further out."""
        computation = _Computation(id(self._fn), Graph(self._fn))
        token = _path.set((*path, computation))
        try:
            text = computation.graph.digest(self._fn)
        finally:
            _path.reset(token)
        computation.graph.watch.seal()
        pieces = MappingProxyType(dict(computation.graph.titled_pieces()))
        inner, loops = frozenset(computation.inner), frozenset(computation.loops)
        seen = _Seen(text, pieces, computation.graph.watch, inner, loops)
        if not loops:
            self._seen = seen
        return seen


def function_digest(fn: Callable[..., object]) -> str:
    """Return the code version of a function, as `CodeVersion(fn).digest`.

    Functions are remembered, so asking again is as cheap as asking a `CodeVersion`.
    """
    return _version_of(fn).digest if isinstance(fn, FunctionType) else CodeVersion(fn).digest


@lru_cache(maxsize=_FUNCTIONS_REMEMBERED)
def _version_of(fn: FunctionType) -> CodeVersion:
    """Return the one version object of a function."""
    return CodeVersion(fn)
