"""Showing a run while it goes on: at a terminal, in a notebook, or in plain lines.

What there is to see is decided by `_view`, from events alone; `_sources` makes events of whatever was given; a screen draws.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs

from agentflow._blame import blamed
from agentflow._display._choice import screen_here
from agentflow._display._sources import aevents_of, is_awaited, tell
from agentflow._display._view import Line, View, Words
from agentflow._listening import FAMILY
from agentflow._options import yes_or_no

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Iterator
    from typing import Self

    from agentflow._display._screens import Screen
    from agentflow._event_streams import AsyncEventStream
    from agentflow._runs import Run
    from agentflow.events import Event

__all__ = ["print_run"]

T = TypeVar("T")


@overload
def print_run(stream: Generator[Event, None, T], markdown: bool = True, show_time: bool = True) -> T: ...
@overload
def print_run(
    stream: AsyncEventStream[T] | Awaitable[T], markdown: bool = True, show_time: bool = True
) -> Coroutine[Any, Any, T]: ...
@overload
def print_run(
    stream: AsyncIterator[Any], markdown: bool = True, show_time: bool = True
) -> Coroutine[Any, Any, Any]: ...
@overload
def print_run(stream: Run | Iterator[Any], markdown: bool = True, show_time: bool = True) -> Any: ...
def print_run(stream: Any, markdown: bool = True, show_time: bool = True) -> Any:
    """Show a run while it goes on, and return its result: the text as it comes, a line for each step, tokens and cost.

    At a terminal, what is under way moves at the bottom, and what is finished stays above it; that needs rich (extra `cli`). In a
    notebook one output is kept up to date. Elsewhere, in a pipe or a file, there are plain lines, and rich is not needed. What
    models and tools say is shown, never obeyed. Workflows that the run calls are shown inside it.

    What is async gives a coroutine: `await print_run(...)`.

    ```python
    from collections.abc import Iterator

    from agentflow import cached_step, print_run, workflow

    @cached_step
    def search(topic: str) -> list[str]:
        return [f"a page about {topic}"]

    @workflow
    def post(topic: str) -> Iterator[str]:
        yield from search(topic)

    assert print_run(post("cats")) == "a page about cats"
    assert print_run(post.stream_events("cats")) == "a page about cats"
    assert print_run(post.start("cats")) == "a page about cats"
    ```

    Args:
        stream: What is shown: what a generator workflow or the `stream()` of an agent returns, `wf.stream_events(...)` or
            `wf.astream_events(...)`, the coroutine of an async workflow, or a `Run` of whatever process.
        markdown: Whether text is set as Markdown, at a terminal and in a notebook; else it is shown as it is.
        show_time: Whether lines say how long things took.

    Returns:
        What the workflow returned; if it only yielded, its items, joined if all of them are text.

    Raises:
        UsageError: If it is given something else, or rich is missing at a terminal.
        KeyboardInterrupt: At Ctrl-C. The run is then `cancelled`; a `Run` goes on, only the looking ends.
    """
    awaited = is_awaited(stream)
    screen = screen_here(markdown=yes_or_no(markdown, "markdown"), show_time=yes_or_no(show_time, "show_time"))
    return _aprinted(stream, screen) if awaited else _printed(stream, screen)


class _Showing:
    """A view, and the screen that it is shown on; a `with` block says at its end how it ended."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._view = View()
        self._has_words = False
        self._mutex = threading.RLock()  # what a map does is told by its threads

    def take(self, event: Event) -> None:
        """Take in an event, and show what comes of it."""
        with self._mutex:
            said = self._view.take(event)
            self._has_words |= any(isinstance(each, Words) for each in said)
            self._screen.show(said, self._view)

    def ended(self, result: T) -> T:
        """Show a text that the run returned and did not yield; return the result."""
        if isinstance(result, str) and not self._has_words:
            self._screen.show([Words(result)], self._view)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        ending = self._view.ending if error is None else self._broken(error)
        self._view.forget_doing()
        # A screen that broke (a pipe that nobody reads any more) breaks again; the error that is on its way is the one to raise.
        with contextlib.suppress(*([] if error is None else [OSError])):
            self._screen.show([ending] if ending else [], self._view)

    def _broken(self, error: BaseException) -> Line:
        name = self._view.name or "run"
        if isinstance(error, Exception):
            return attrs.evolve(self._view.ending or Line("failed", name, "failed"), more=blamed(error))
        return Line("stopped", name, "stopped by Ctrl-C" if isinstance(error, KeyboardInterrupt) else "cancelled")


def _printed(stream: Any, screen: Screen) -> Any:
    showing, family = _Showing(screen), FAMILY.set(True)
    try:
        with screen, showing:
            return showing.ended(tell(stream, showing.take))
    finally:
        FAMILY.reset(family)


async def _aprinted(stream: Any, screen: Screen) -> Any:
    source, showing = aevents_of(stream), _Showing(screen)
    family = FAMILY.set(True)
    try:
        with screen, showing:
            async with source:
                async for event in source:
                    showing.take(event)
            return showing.ended(source.result)
    finally:
        FAMILY.reset(family)
