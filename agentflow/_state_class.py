"""The base of users' models of a state; loaded when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import pydantic

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["StateBlock", "StateModel"]

M_co = TypeVar("M_co", covariant=True)


class StateBlock(Protocol[M_co]):
    """What `StateModel.transaction` gives: for `with`, and for `async with`."""

    def __enter__(self) -> M_co:
        """Wait for the lock, and give the state to change."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Commit, or discard everything if the block raised."""
        ...

    async def __aenter__(self) -> M_co:
        """Await the lock, and give the state to change."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Commit, or discard everything if the block raised."""
        ...


class StateModel(pydantic.BaseModel):
    """A base for the model of a workflow's state, with what a state can do beside having fields.

    Any pydantic model will do for `@workflow(state=...)`; one derived from this has these methods as well, and type checkers see them.
    An instance of your own, in a test say, is a plain model: there they change the instance.

    ```python
    from agentflow import Context, workflow
    from agentflow.types import StateModel

    class Blog(StateModel):
        posts: dict[str, str] = {}
        written: int = 0

    @workflow(state=Blog)
    def write(ctx: Context[Blog], topic: str) -> int:
        ctx.state.posts[topic] = f"All about {topic}"
        ctx.state.increment("written")
        return len(ctx.state.posts)

    assert [write("cats"), write("dogs")] == [1, 2]
    assert write.session("default").state["written"] == 2
    ```
    """

    def increment(self, field: str, by: float = 1) -> int | float:
        """Add to a field that is a number, atomically, and return the sum; see `ctx.state.increment`."""
        total: int | float = getattr(self, field) + by
        setattr(self, field, total)
        return total

    def transaction(self) -> StateBlock[Self]:
        """Read and change the state with nobody in between; see `ctx.state.transaction`."""
        return _Alone(self)

    def save(self) -> None:
        """Keep what was changed inside values; a step's call or return, a `yield` and the end of the run do the same."""


class _Alone(StateBlock[M_co]):
    """The transaction of an instance that no session has: nobody else is there."""

    def __init__(self, model: M_co) -> None:
        self._model = model

    def __enter__(self) -> M_co:
        return self._model

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> M_co:
        return self._model

    async def __aexit__(self, *_: object) -> None:
        pass
