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
from functools import lru_cache, partial
from inspect import getattr_static
from threading import Lock
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field, frozen

from agentflow._canonical import digest
from agentflow._code_graph import Graph
from agentflow._code_watch import Versioned, Watch

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


@define(eq=False)
class _Computation:
    """A version that is being computed, or an object that is asked again as it was asked then.

    Attributes:
        function: The id of the function whose it is.
        watch: What was seen so far.
        inner: The functions whose versions were asked so far, and those that they asked for.
        loops: Functions further out that were asked in turn.
        looped: Whether the last version that was asked holds only in here.
    """

    function: int
    watch: Watch = field(factory=Watch)
    inner: set[int] = field(factory=set[int])
    loops: set[int] = field(factory=set[int])
    looped: bool = False


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

    __slots__ = ("__weakref__", "_fn", "_inside", "_lock", "_seen")

    def __init__(self, fn: Callable[..., object]) -> None:
        self._fn = fn
        self._lock = Lock()
        self._seen: _Seen | None = None
        self._inside: dict[frozenset[int], _Seen] = {}

    @property
    def digest(self) -> str:
        """The version, in hexadecimal; the same in every process that runs the same code."""
        seen = self._seen
        if seen is not None and not _path.get() and seen.watch.holds():
            return seen.digest
        return self._now().digest

    def pieces(self) -> Mapping[str, str]:
        """Return the digest of each piece that counts, by module and name: what differs shows what was changed."""
        return self._now().pieces

    def pieces_of(self, digest: str) -> Mapping[str, str] | None:
        """Return the pieces of a version if it is the one that was seen last; looks at nothing."""
        seen = self._seen
        return seen.pieces if seen is not None and seen.digest == digest else None

    def _now(self) -> _Seen:
        """Return the version that holds now."""
        path = _path.get()
        if path:
            return self._within(path)
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            seen = self._seen
            return seen if seen is not None and seen.watch.holds() else self._compute(path)
        finally:
            if held:
                self._lock.release()

    # A version may be asked for while another is computed, and functions may call each other in circles. Then what is
    # found depends on who was asked first: `a` seen from `b` is not `a` by itself. So in a circle each version is
    # computed by itself, with a mark in the place of those further out, and what was computed inside holds only there.

    def _within(self, path: _Path) -> _Seen:
        """Return the version for a computation that is going on further out."""
        outer = {computation.function: depth for depth, computation in enumerate(path)}
        seen = self._seen_within(path, outer)
        for function in seen.loops:
            for computation in path[outer[function] + 1 :]:
                computation.loops.add(function)
        here = path[-1]
        here.looped = here.looped or bool(seen.loops)
        here.inner.update(seen.inner, (id(self._fn),))
        here.watch.merge(seen.watch)
        return seen

    def _seen_within(self, path: _Path, outer: Mapping[int, int]) -> _Seen:
        """Return a mark if the version is being computed further out, else the version as it is within that."""
        own = id(self._fn)
        if own in outer:
            return _Seen(digest(b"recursion"), {}, Watch(), loops=frozenset((own,)))
        seen = self._seen
        if seen is None or not seen.inner.isdisjoint(outer):
            seen = self._inside.get(frozenset(outer))
        if seen is None or not seen.watch.holds():
            seen = self._compute(path)
        return seen

    def _compute(self, path: _Path) -> _Seen:
        """Compute the version, and keep it for the next time: by itself, or as it is within those further out."""
        computation = _Computation(id(self._fn))
        inside = (*path, computation)
        token = _path.set(inside)
        try:
            graph = Graph(self._fn, computation.watch, partial(_ask, inside))
            text = graph.digest(self._fn)
        finally:
            _path.reset(token)
        computation.watch.seal()
        pieces = MappingProxyType(dict(graph.titled_pieces()))
        seen = _Seen(text, pieces, computation.watch, frozenset(computation.inner), frozenset(computation.loops))
        if seen.loops:
            self._inside[frozenset(it.function for it in path)] = seen
        else:
            self._seen = seen
        return seen


def _ask(path: _Path, item: Versioned) -> str:
    """Ask an object for its version, and watch that it stays what it is."""
    path[-1].looped = False
    version = item.__agentflow_version__()
    # A step's version changes with its code, and what it asked `CodeVersion` for is watched already. Asking each
    # step again, which asks those that it calls, would double with every layer. An agent's changes by itself.
    if getattr_static(item, "__wrapped__", None) is None:
        place = tuple(it.function for it in path) if path[-1].looped else ()
        path[-1].watch.version(item, version, place, partial(_ask_within, place) if place else None)
    return version


def _ask_within(place: tuple[int, ...], item: Versioned) -> str:
    """Ask an object again that is part of a circle, in the same place: elsewhere it would give another answer."""
    token = _path.set(tuple(_Computation(function) for function in place))
    try:
        return item.__agentflow_version__()
    finally:
        _path.reset(token)


def function_digest(fn: Callable[..., object]) -> str:
    """Return the code version of a function, as `CodeVersion(fn).digest`.

    Functions are remembered, so asking again is as cheap as asking a `CodeVersion`.
    """
    return _version_of(fn).digest if isinstance(fn, FunctionType) else CodeVersion(fn).digest


@lru_cache(maxsize=_FUNCTIONS_REMEMBERED)
def _version_of(fn: FunctionType) -> CodeVersion:
    """Return the one version object of a function."""
    return CodeVersion(fn)
