"""What an async stream for users is over the generator that feeds it: iterated, and closed early where `async with` ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Self

__all__ = ["AsyncStream"]

Y = TypeVar("Y")


class AsyncStream(AsyncIterator[Y]):
    """Gives the items of an async generator, which it closes."""

    _source: AsyncGenerator[Y, None]

    async def __anext__(self) -> Y:
        return await anext(self._source)

    async def aclose(self) -> None:
        """Stop listening: what feeds the stream is given back or stopped."""
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
