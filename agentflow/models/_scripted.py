"""Models without a network, for tests and examples: one answers from a list, the other by a function.

Both take the same answers. An answer is put together from pieces, which come out of a stream as they were given.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs
from pydantic import BaseModel

from agentflow.exceptions import UsageError
from agentflow.messages import ModelResponse, ReasoningPart, TextPart, ToolCall
from agentflow.models._base import AsyncModelStream, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agentflow.messages import Message, ModelRequest, ModelSettings, OutputSchema, ResponsePart, ToolDefinition

__all__ = ["Answer", "FunctionInfo", "FunctionModel", "Piece", "ScriptedModel"]

Piece: TypeAlias = str | BaseModel | BaseException
"""A part of an answer: text, a `ToolCall` or `ReasoningPart`, a pydantic value (its JSON), a `ModelResponse`, or an exception to raise."""

Answer: TypeAlias = Piece | Iterable[Piece]
"""A single piece, or several: the pieces of a stream, several tool calls, or text and then an exception."""

_SHOWN: Final = 80
_END: Final = object()


class ScriptedModel(Model):
    """A model that gives the answers it was made with, one per request, in order.

    An answer is text; a pydantic value, which becomes its JSON; a `ToolCall`; a whole `ModelResponse`; an exception,
    which is raised; or a list of those: the pieces of one answer, in which each text is one piece of the stream.
    A request for which there is no answer left is a `UsageError`, which no step retries, so the test fails at once.
    It may be asked by several threads and tasks; the answers go out in the order of the requests.

    ```python
    from agentflow.messages import ModelRequest, ToolCall, UserMessage
    from agentflow.models._scripted import ScriptedModel

    model = ScriptedModel([ToolCall.of("web_search", query="cats"), ["Cats ", "are fine."]])
    request = ModelRequest(messages=(UserMessage(content="What about cats?"),))

    assert model.request(request).tool_calls[0].name == "web_search"
    assert list(model.stream(request)) == ["Cats ", "are fine."]
    model.assert_complete()
    ```

    Args:
        answers: The answers.
        name: The model's name, which is part of the version of a step that uses it.

    Raises:
        UsageError: If an answer is of no known kind.
    """

    def __init__(self, answers: Iterable[Answer], *, name: str = "scripted") -> None:
        if isinstance(answers, str):
            raise UsageError(f"ScriptedModel takes a list of answers, not one text: write ScriptedModel([{answers!r}])")
        self._answers = [_checked(answer, place) for place, answer in enumerate(answers)]
        self._name = name
        self._requests: list[ModelRequest] = []
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """What the model was asked so far, also the requests for which there was no answer."""
        with self._lock:
            return tuple(self._requests)

    @property
    def remaining(self) -> int:
        """How many answers are left."""
        with self._lock:
            return max(0, len(self._answers) - len(self._requests))

    def assert_complete(self) -> None:
        """Check that every answer was asked for.

        Raises:
            AssertionError: If answers are left.
        """
        if left := self.remaining:
            following = _excerpt(repr(self._answers[-left]))
            raise AssertionError(
                f"{self._name} was asked {len(self._requests)} times and has {left} of {len(self._answers)} answers left; "
                f"the next is {following}"
            )

    def request(self, request: ModelRequest) -> ModelResponse:
        """Give the next answer.

        Raises:
            UsageError: If there is none.
        """
        return _exhausted(self.stream(request))

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Give the next answer; needs no thread."""
        return self.request(request)

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Yield the texts of the next answer as they were given, and return it whole."""
        answer, turn = self._next(request)
        for piece in _pieces(answer):
            yield from turn.add(piece)
        return turn.response()

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does; other tasks run between the pieces."""
        return AsyncModelStream(_arriving(self.stream(request)))

    def _next(self, request: ModelRequest) -> tuple[Answer, _Turn]:
        """Note a request and return the answer to it."""
        with self._lock:
            place = len(self._requests)
            self._requests.append(request)
        if place >= len(self._answers):
            asked = _excerpt(repr(request.messages[-1])) if request.messages else "nothing"
            raise UsageError(
                f"unplanned model request: {self._name} has given all of its {len(self._answers)} answers "
                f"and was asked again, last with {asked}. Add an answer to the script, or find out who asks"
            )
        return self._answers[place], _Turn(self._name, place)


@attrs.frozen
class FunctionInfo:
    """What a `FunctionModel`'s function is told beside the messages.

    Attributes:
        tools: The tools that the model may call.
        output: The form that the answer must have, or None for free text.
        settings: The request's options.
        request: The whole request.
    """

    request: ModelRequest

    @property
    def tools(self) -> tuple[ToolDefinition, ...]:
        """The tools that the model may call."""
        return self.request.tools

    @property
    def output(self) -> OutputSchema | None:
        """The form that the answer must have."""
        return self.request.output

    @property
    def settings(self) -> ModelSettings:
        """The request's options."""
        return self.request.settings


class FunctionModel(Model):
    """A model whose answers a function works out, from the messages and what else was asked.

    The function returns what a `ScriptedModel` takes as an answer, or an iterator of pieces; it may be async, also an
    async generator. Asked by `request` or `stream`, an async function runs to its end in a thread of its own first,
    since its loop cannot be the caller's. Asked by `arequest` or `astream`, a plain function runs in a thread.

    ```python
    from agentflow.messages import ModelRequest, UserMessage
    from agentflow.models._scripted import FunctionModel

    model = FunctionModel(lambda messages, info: f"You said {messages[-1].text!r}.")
    assert model.request(ModelRequest(messages=(UserMessage(content="Hello"),))).text == "You said 'Hello'."
    ```

    Args:
        fn: Called with the messages and a `FunctionInfo`.
        name: The model's name; the function's, if it is not given.
    """

    def __init__(self, fn: Callable[[tuple[Message, ...], FunctionInfo], object], *, name: str | None = None) -> None:
        self._fn = fn
        self._name = f"function:{getattr(fn, '__qualname__', type(fn).__qualname__)}" if name is None else name

    @property
    def name(self) -> str:
        """The name it was given, or that of its function."""
        return self._name

    def request(self, request: ModelRequest) -> ModelResponse:
        """Give the function's answer."""
        return _exhausted(self.stream(request))

    async def arequest(self, request: ModelRequest) -> ModelResponse:
        """Give the function's answer without blocking the loop."""
        stream = self.astream(request)
        async for _ in stream:
            pass
        return stream.response

    def stream(self, request: ModelRequest) -> Generator[str, None, ModelResponse]:
        """Yield the texts of the function's answer as it gives them, and return it whole."""
        made = self._fn(request.messages, FunctionInfo(request))
        turn = _Turn(self._name, len(request.messages))
        for piece in _in_own_loop(made) if _is_async(made) else _pieces(made):
            yield from turn.add(piece)
        return turn.response()

    def astream(self, request: ModelRequest) -> AsyncModelStream:
        """Do what `stream` does, without blocking the loop."""
        return AsyncModelStream(self._answering(request))

    async def _answering(self, request: ModelRequest) -> AsyncGenerator[str | ModelResponse, None]:
        """Yield the texts of the function's answer, then the answer."""
        turn = _Turn(self._name, len(request.messages))
        pieces = _apieces(await self._called(request))
        try:
            async for piece in pieces:
                for text in turn.add(piece):
                    yield text
        finally:
            await pieces.aclose()
        yield turn.response()

    async def _called(self, request: ModelRequest) -> object:
        """Call the function: on the loop if it is async, else in a thread, where it may block."""
        arguments = request.messages, FunctionInfo(request)
        if inspect.iscoroutinefunction(self._fn) or inspect.isasyncgenfunction(self._fn):
            return self._fn(*arguments)
        return await asyncio.to_thread(self._fn, *arguments)


# ---- an answer from its pieces -------------------------------------------------------------------


class _Turn:
    """One answer while its pieces come.

    Args:
        model: The model's name.
        place: A number that differs between the answers of a conversation, for the ids of tool calls without one.
    """

    def __init__(self, model: str, place: int) -> None:
        self._model, self._place = model, place
        self._parts: list[ResponsePart] = []
        self._whole: ModelResponse | None = None

    def add(self, piece: object) -> list[str]:
        """Take a piece and return the texts to stream, or raise it."""
        match piece:
            case BaseException():
                raise piece
            case str() | TextPart():
                return self._text(piece if isinstance(piece, str) else piece.text)
            case ToolCall() | ReasoningPart():
                self._parts.append(piece)
                return []
            case ModelResponse():
                return self._response(piece)
            case BaseModel():
                return self._text(piece.model_dump_json(by_alias=True))
            case _:
                raise UsageError(_refusal(piece))

    def _text(self, text: str) -> list[str]:
        """Take a text; an empty one is no piece of a stream."""
        if text:
            self._parts.append(TextPart(text=text))
        return [text] if text else []

    def _response(self, response: ModelResponse) -> list[str]:
        """Take a whole answer; after pieces it is what they amount to, and is not streamed again."""
        begun, self._whole = bool(self._parts), response
        return [] if begun else [part.text for part in response.parts if isinstance(part, TextPart) and part.text]

    def response(self) -> ModelResponse:
        """Return the whole answer, which counts as one request; a tool call without an id gets one."""
        whole = self._whole or self._assembled()
        usage = whole.usage.model_copy(update={"requests": max(1, whole.usage.requests)})
        parts = tuple(self._identified(part, number) for number, part in enumerate(whole.parts))
        return whole.model_copy(update={"parts": parts, "usage": usage})

    def _assembled(self) -> ModelResponse:
        """Return the answer that the pieces amount to, with its text joined."""
        text = "".join(part.text for part in self._parts if isinstance(part, TextPart))
        thoughts = [part for part in self._parts if isinstance(part, ReasoningPart)]
        calls = [part for part in self._parts if isinstance(part, ToolCall)]
        parts = (*thoughts, *((TextPart(text=text),) if text else ()), *calls)
        return ModelResponse(parts=parts, model=self._model, finish_reason="tool_calls" if calls else "stop")

    def _identified(self, part: ResponsePart, number: int) -> ResponsePart:
        """Return a part, with an id if it is a tool call."""
        if not isinstance(part, ToolCall) or part.id:
            return part
        return part.model_copy(update={"id": f"call_{self._place}_{number}"})


def _checked(answer: Answer, place: int) -> Answer:
    """Return an answer that is of a known kind; what an iterator gives is seen only when it is asked for."""
    pieces = () if isinstance(answer, Iterator) else _pieces(answer)
    for piece in pieces:
        if not isinstance(piece, (str, BaseModel, BaseException)):
            raise UsageError(f"answer {place} of a ScriptedModel cannot be used: {_refusal(piece)}")
    return answer


def _refusal(piece: object) -> str:
    """Say that something is no answer."""
    return (
        f"{_excerpt(repr(piece))} is neither text, a pydantic value, a ToolCall, a ModelResponse, "
        "an exception instance, nor a list of those"
    )


def _pieces(answer: object) -> Iterable[object]:
    """Return the pieces of an answer; texts and pydantic values can be iterated too, but are single pieces."""
    return cast("Iterable[object]", answer) if isinstance(answer, (list, tuple, Iterator)) else (answer,)


def _excerpt(text: str) -> str:
    """Return a text short enough for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# ---- the four colours ----------------------------------------------------------------------------


def _exhausted(stream: Generator[str, None, ModelResponse]) -> ModelResponse:
    """Return what a stream returns."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            response: ModelResponse = end.value
            return response


async def _arriving(stream: Generator[str, None, ModelResponse]) -> AsyncGenerator[str | ModelResponse, None]:
    """Yield the texts of a stream, letting other tasks run in between, then what it returns."""
    try:
        while True:
            try:
                text = next(stream)
            except StopIteration as end:
                response: ModelResponse = end.value
                yield response
                return
            await asyncio.sleep(0)
            yield text
    finally:
        stream.close()


def _is_async(made: object) -> bool:
    """Tell whether an answer has to be awaited."""
    return inspect.isawaitable(made) or isinstance(made, AsyncIterator)


def _in_own_loop(made: object) -> list[object]:
    """Await an answer in a thread with a loop of its own and the caller's context, and return its pieces."""

    async def collected() -> list[object]:
        return [piece async for piece in _apieces(made)]

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, collected()).result()


async def _apieces(made: object) -> AsyncGenerator[object, None]:
    """Yield the pieces of an answer that may be of any colour."""
    answer: object = await made if inspect.isawaitable(made) else made
    pieces = cast("AsyncIterator[object]", answer) if isinstance(answer, AsyncIterator) else _in_threads(answer)
    try:
        async for piece in pieces:
            yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _in_threads(answer: object) -> AsyncGenerator[object, None]:
    """Yield the pieces of an answer, those of an iterator from threads, since it may block between them."""
    if not isinstance(answer, Iterator):
        for piece in _pieces(answer):
            yield piece
        return
    iterator = cast("Iterator[object]", answer)
    while (piece := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield piece
