"""The text of an agent's run as its caller gets it, in either colour: an iterator that knows what came of the run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from agentflow._async_stream import AsyncStream
from agentflow._conversation import AgentResult
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["AsyncTextStream", "Talk", "TextStream"]

T = TypeVar("T")


class Talk(Protocol[T]):
    """What a stream needs to know of the conversation whose text it gives out."""

    @property
    def result(self) -> AgentResult[T] | None:
        """What came of it, or None while it goes on."""
        ...

    def hear(self, delta: str) -> None:
        """Take a piece of the answer that is being written."""
        ...

    def grown(self) -> Iterator[T]:
        """Yield the output as far as it is written, if it has grown."""
        ...


class TextStream(Generator[str, None, AgentResult[T]]):
    """The text of a run as it comes: a generator that returns the `AgentResult`.

    ```python
    from collections.abc import Generator

    from agentflow import Agent
    from agentflow.testing import ScriptedModel

    def shout(agent: Agent) -> Generator[str, None, str]:
        result = yield from agent.stream("Say hello")
        return result.output.upper()

    assert list(shout(Agent(ScriptedModel(["Hello!"])))) == ["Hello!"]
    ```
    """

    def __init__(self, talk: Talk[T], source: Generator[str, None, AgentResult[T]]) -> None:
        self._talk, self._source = talk, source

    @property
    def result(self) -> AgentResult[T]:
        """What came of the run.

        Raises:
            UsageError: If the stream is not exhausted.
        """
        return _result_of(self._talk)

    def send(self, value: None, /) -> str:
        """Go on as `next` does."""
        while not (text := self._heard(self._source.send(value))):
            pass
        return text

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> str:
        """Raise an exception where the stream stands."""
        return self._heard(self._source.throw(_exception(typ, val, tb))) or self.send(None)

    def close(self) -> None:
        """Stop listening and give the connection back."""
        self._source.close()

    def partials(self) -> Generator[T, None, AgentResult[T]]:
        """Yield the output as it grows, from its first valid beginning to the whole, instead of text.

        A model with required fields appears when they all have begun, a list item when it is valid.

        ```python
        from agentflow import Agent
        from agentflow.testing import ScriptedModel

        stream = Agent(ScriptedModel(['{"answer": [1, 2, 3]}']), output_type=list[int]).stream("Count")
        assert list(stream.partials())[-1] == [1, 2, 3]
        ```
        """
        for delta in self._source:
            self._talk.hear(delta)
            yield from self._talk.grown()
        yield from self._talk.grown()
        return self.result

    def _heard(self, delta: str) -> str:
        self._talk.hear(delta)
        return str(delta)  # what is kept of it is the text


class AsyncTextStream(AsyncStream[str], Generic[T]):
    """The text of a run as it comes, for `async for`; then `.result`.

    Closed before its end, it gives the connection back.

    ```python
    import asyncio

    from agentflow import Agent
    from agentflow.testing import ScriptedModel

    async def main() -> str:
        async with Agent(ScriptedModel(["Hello!"])).astream("Say hello") as stream:
            async for chunk in stream:
                print(chunk, end="")
        return stream.result.output

    assert asyncio.run(main()) == "Hello!"
    ```
    """

    def __init__(self, talk: Talk[T], source: AsyncGenerator[str, None]) -> None:
        self._talk, self._source = talk, source

    @property
    def result(self) -> AgentResult[T]:
        """What came of the run.

        Raises:
            UsageError: If the stream is not exhausted.
        """
        return _result_of(self._talk)

    async def __anext__(self) -> str:
        text = ""
        while not text:
            delta = await super().__anext__()
            self._talk.hear(delta)
            text = str(delta)
        return text

    async def partials(self) -> AsyncGenerator[T, None]:
        """Yield the output as it grows, as `TextStream.partials` does."""
        async for delta in self._source:
            self._talk.hear(delta)
            for partial in self._talk.grown():
                yield partial
        for partial in self._talk.grown():
            yield partial


def _exception(typ: Any, val: Any, tb: TracebackType | None) -> BaseException:
    """Return one exception for the three arguments of `throw`, which Python no longer takes."""
    error: Any = val if isinstance(val, BaseException) else typ
    if isinstance(error, type):
        error = error() if val is None else error(val)
    raised: BaseException = error
    return raised if tb is None else raised.with_traceback(tb)


def _result_of(talk: Talk[T]) -> AgentResult[T]:
    if talk.result is None:
        raise UsageError("the stream is not exhausted, so there is no result yet: iterate it to its end first")
    return talk.result
