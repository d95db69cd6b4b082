"""What a decorator was told about its step, and the version that its code has."""

from __future__ import annotations

import contextlib
import dis
from typing import TYPE_CHECKING, Any

import attrs

from agentflow._canonical import digest, scalar
from agentflow._interventions import INSTEAD
from agentflow._keys import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentflow._fingerprint import CodeVersion
    from agentflow._retry import RetryPolicy
    from agentflow._signature import Shape
    from agentflow._waiting import Limiter
    from agentflow.types import Scope

__all__ = ["StepSpec"]


@attrs.define(eq=False)
class StepSpec:
    """What a decorator was told about its step.

    Attributes:
        version: The fingerprint of its code, a text that pins it, or None for no version.
        key: Gives the key from the arguments, where the user chose it.
        ignore: Parameters that are not part of the key.
    """

    name: str
    shape: Shape
    scope: Scope
    version: CodeVersion | str | None
    key: Callable[..., object] | None
    ignore: frozenset[str]
    reads: frozenset[str]
    ttl: float | None
    cache_if: Callable[[Any], bool] | None
    retry: RetryPolicy | None
    timeout: float | None
    limiter: Limiter | None
    tags: tuple[str, ...]
    _captured: str | None = None
    _marks: tuple[str, Mapping[str, str]] | None = None

    def marks_of(self, version: str) -> Mapping[str, str] | None:
        """Return a mark for each piece of code that a version is made of; None if it is pinned, or no more the newest."""
        known = self._marks
        if known is not None and known[0] == version:
            return known[1]
        if self.version is None or isinstance(self.version, str):
            return None
        pieces = self.version.pieces_of(version)
        if pieces is None:
            return None
        self._marks = version, {name: mark(digest) for name, digest in pieces.items()}
        return self._marks[1]

    @property
    def version_text(self) -> str:
        """The version as it stands in keys."""
        if INSTEAD and self.name in INSTEAD and (version := INSTEAD[self.name].version):
            return version
        if not (self.version is None or isinstance(self.version, str)):
            return self.version.digest
        # Closures of one factory are different steps, also where their code does not count.
        if self._captured is None:
            self._captured = captured_values(self.shape.fn)
        return self._captured if self.version is None else f"={self.version}{self._captured}"


def captured_values(fn: Callable[..., Any]) -> str:
    """Return a digest of the plain values that a function has captured and does not set itself, or `""`."""
    code, cells = fn.__code__, fn.__closure__ or ()
    own = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_DEREF"} if cells else set()
    parts: list[bytes] = []
    for name, cell in zip(code.co_freevars, cells, strict=True):
        with contextlib.suppress(ValueError):  # not set yet
            encoded = scalar(cell.cell_contents)
            if encoded is not None and name not in own:
                parts += (name.encode(), encoded)
    return f"+{digest(*parts)}" if parts else ""
