"""Whether code may go on: it is asked at every boundary, and answered by whoever takes the right away, in any thread."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Token"]


class Token:
    """Whether code may go on; asked at every boundary: a step, state, an event, a model request, `check()`.

    Attributes:
        is_told: Whether the code has met the reason why it may not.
        ended: Whether the body or step call is over.
        look: Asked before each check, so that it may find out what was decided elsewhere.
    """

    def __init__(self) -> None:
        self._reason: BaseException | None = None
        self._then: dict[Callable[[], None], None] = {}
        self.is_told = False
        self.ended = False
        self.look: Callable[[], None] | None = None

    @property
    def reason(self) -> BaseException | None:
        """Why it was revoked, None if it was not."""
        return self._reason

    def end(self) -> None:
        """Say that the body or step call is over: nobody may use its context any more, while what it began may finish."""
        self.ended = True

    def revoke(self, reason: BaseException) -> None:
        """Make every later boundary raise this."""
        self._reason = self._reason or reason
        for then in list(self._then):
            if self.off_revoke(then):
                then()

    def on_revoke(self, then: Callable[[], None]) -> None:
        """Have something done should it be revoked, at once and in whatever thread revokes it."""
        self._then[then] = None
        if self._reason is not None and self.off_revoke(then):  # revoked this very moment
            then()

    def off_revoke(self, then: Callable[[], None]) -> bool:
        """Have it done no more; False if it is being done."""
        return self._then.pop(then, then) is None

    def check(self) -> None:
        """Raise if revoked."""
        if self.look is not None:
            self.look()
        if self._reason is not None:
            raise self.told_reason()

    def check_once(self) -> None:
        """Raise if revoked, unless that was told before: what code does on its way out may use what only asks this."""
        if self.look is not None:
            self.look()
        if self._reason is not None and not self.is_told:
            raise self.told_reason()

    def told_reason(self) -> BaseException:
        """Return the reason to raise it."""
        self.is_told = True
        return copy.copy(
            self._reason or RuntimeError()
        )  # code left behind may raise it in another thread at the same time
