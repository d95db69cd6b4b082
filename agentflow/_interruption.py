"""Brings it to a task at once that its run may not go on; a thread learns it at its next boundary."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agentflow._tokens import Token

__all__ = ["Interruption"]

T = TypeVar("T")

_BETWEEN_LOOKS: Final = 0.05  # seconds


class Interruption:
    """Cancels whatever awaits the code of a run once its token is revoked, and raises the token's reason in its place.

    As `asyncio.timeout` does: a cancellation of ours is taken back from the task, so that the code around goes on.

    Args:
        token: The run's.
    """

    def __init__(self, token: Token) -> None:
        self._token = token
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self._before = 0
        self._timer: asyncio.TimerHandle | None = None

    async def during(self, code: Awaitable[T]) -> T:
        """Await the code of the run."""
        loop = asyncio.get_running_loop()
        self._task, self._cancelled = asyncio.current_task(), False
        self._before = self._task.cancelling() if self._task else 0

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nothing runs in it any more
                loop.call_soon_threadsafe(self._cancel)

        if not self._token.is_told:
            self._token.on_revoke(tell)
        if self._timer is None:
            self._look_later(loop)
        try:
            return await code
        except asyncio.CancelledError:
            if self._cancelled and self._taken_back():
                raise self._token.told_reason() from None
            raise
        finally:
            self._token.off_revoke(tell)
            self._taken_back()
            self._task = None

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Find out what was decided elsewhere, and do so again after a while; until the run is over, which looks no more."""
        self._timer = None
        if self._token.look is not None:
            self._token.look()
            self._look_later(loop)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        this: weakref.ref[Interruption] = weakref.ref(self)
        self._timer = loop.call_later(_BETWEEN_LOOKS, lambda: _look(loop, this))

    def _cancel(self) -> None:
        if self._task is not None:
            self._cancelled = self._token.is_told = True
            self._task.cancel()

    def _taken_back(self) -> bool:
        """Take our cancellation back; False if somebody else has cancelled the task as well."""
        if not self._cancelled:
            return False
        self._cancelled = False
        return self._task is not None and self._task.uncancel() <= self._before


def _look(loop: asyncio.AbstractEventLoop, interruption: weakref.ref[Interruption]) -> None:
    if (alive := interruption()) is not None:
        alive.look(loop)
