"""What a test does to steps: put another function in their place, let them fail, or crash once they are durable."""

from __future__ import annotations

import functools
import inspect
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentflow._interventions import AFTER, INSTEAD, StandIn, put_in_force
from agentflow._signature import Colour, colour_of
from agentflow._step import Step
from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from agentflow._signature import Shape

__all__ = ["SimulatedCrash", "crash_after", "fail_step", "replace_step"]


class SimulatedCrash(BaseException):
    """Ends a program where a process could have died; raised by `crash_after`."""


@contextmanager
def crash_after(step: Step[Any, Any], calls: int = 1) -> Iterator[None]:
    """Let the program crash once, right after a result of a step has become durable; for a block.

    It is the moment at which the most can be lost. Raises `SimulatedCrash` out of the step's call, which is a `BaseException`, so
    that no `except Exception` stops it; the run is then `interrupted`, as after a kill. Unlike a kill it runs `finally` blocks. Called again, the workflow goes on.

    ```python
    import pytest

    from agentflow import cached_step, workflow
    from agentflow.testing import SimulatedCrash, crash_after

    executed = []

    @cached_step
    def pay(invoice: int) -> str:
        executed.append(invoice)
        return f"paid {invoice}"

    @workflow
    def pay_all(invoices: list[int]) -> list[str]:
        return [pay(invoice) for invoice in invoices]

    with crash_after(pay, calls=2), pytest.raises(SimulatedCrash):
        pay_all([1, 2, 3])
    assert pay_all([1, 2, 3]) == ["paid 1", "paid 2", "paid 3"]
    assert executed == [1, 2, 3]
    ```

    Args:
        step: The step.
        calls: After which of its results, counted from 1; hits do not count.

    Raises:
        UsageError: If that is none.
    """
    _check(step, "crash_after", calls, "calls")
    countdown = _Countdown(calls)

    def crash() -> None:
        if countdown.less() == 0:
            raise SimulatedCrash(f"simulated crash after result {calls} of step {step.name!r}")

    with put_in_force(AFTER, step.name, crash):
        yield


@contextmanager
def fail_step(step: Step[Any, Any], error: BaseException | type[BaseException], times: int = 1) -> Iterator[None]:
    """Let the first executions of a step raise instead of running, for a block; a streamed step raises before its first item.

    Retries count as executions, so a step with `retry=3` gets over two failures.

    ```python
    from agentflow import cached_step
    from agentflow.testing import fail_step

    @cached_step(retry=3)
    def fetch(url: str) -> str:
        return f"page of {url}"

    with fail_step(fetch, ConnectionError("reset by peer"), times=2):
        assert fetch("a") == "page of a"
    ```

    Args:
        step: The step.
        error: What it raises.
        times: How often.

    Raises:
        UsageError: If an argument cannot be what it is.
    """
    _check(step, "fail_step", times, "times")
    if not isinstance(error, BaseException) and not (isinstance(error, type) and issubclass(error, BaseException)):
        raise UsageError(f"fail_step(error={error!r}): give an exception or its class")
    countdown = _Countdown(times)

    def refuse() -> None:
        if countdown.less() >= 0:
            raise error

    with put_in_force(INSTEAD, step.name, StandIn(_before(step.fn, refuse))):
        yield


@contextmanager
def replace_step(step: Step[Any, Any], replacement: Callable[..., Any]) -> Iterator[None]:
    """Put another function in place of a step's own, for a block.

    Everything else about the step stays: its name, its retries, its events, that its results are remembered. They are remembered
    apart from those of its own function, so that no test's answer is ever taken for a real one.

    ```python
    import asyncio

    from agentflow import cached_step
    from agentflow.testing import replace_step

    @cached_step
    async def fetch(url: str) -> str:
        raise NotImplementedError("no network here")

    with replace_step(fetch, lambda url: f"page of {url}"):
        assert asyncio.run(fetch("a")) == "page of a"
    ```

    Args:
        step: The step.
        replacement: Called with the step's arguments; also with its context, if its first parameter is named `ctx`. A plain function
            does for every colour: an async step awaits what is awaitable, a streamed step yields the items of what it returns.

    Raises:
        UsageError: If an argument cannot be what it is.
    """
    _check(step, "replace_step", 1, "step")
    if not callable(replacement):
        raise UsageError(
            f"replace_step({step.name!r}, {replacement!r}): give a function; for a fixed value, lambda *args: value"
        )
    shape = step._spec.shape  # noqa: SLF001 - what the decorator read of the function
    stand_in = StandIn(_coloured(shape, replacement), f"stand-in {uuid.uuid4().hex}")
    with put_in_force(INSTEAD, step.name, stand_in):
        yield


class _Countdown:
    """Counts down from any thread."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self._mutex = threading.Lock()

    def less(self) -> int:
        """Count one and return how many are left; below zero when there were none."""
        with self._mutex:
            self._left -= 1
            return self._left


def _check(step: object, verb: str, number: object, what: str) -> None:
    if not isinstance(step, Step):
        raise UsageError(f"{verb}({step!r}): give the decorated step, not {type(step).__name__}")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(f"{verb}({what}={number!r}): a whole number from 1")


def _before(fn: Callable[..., Any], refuse: Callable[[], None]) -> Callable[..., Any]:
    """Return a function of the same colour that may refuse before it begins."""
    match colour_of(fn):
        case Colour.PLAIN:

            def plain(*args: Any, **kwargs: Any) -> Any:
                refuse()
                return fn(*args, **kwargs)

            return plain
        case Colour.ASYNC:

            async def awaited(*args: Any, **kwargs: Any) -> Any:
                refuse()
                return await fn(*args, **kwargs)

            return awaited
        case Colour.STREAM:

            def stream(*args: Any, **kwargs: Any) -> Any:
                refuse()
                return (yield from fn(*args, **kwargs))

            return stream
        case _:

            async def astream(*args: Any, **kwargs: Any) -> Any:
                refuse()
                async for item in fn(*args, **kwargs):
                    yield item

            return astream


def _coloured(shape: Shape, replacement: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement as a function of the step's colour that takes what the step's own takes."""
    call = _without_context(shape, replacement)
    match shape.colour:
        case Colour.PLAIN:
            return call
        case Colour.ASYNC:
            return functools.partial(_awaited, call)
        case Colour.STREAM:
            return functools.partial(_stream, call)
        case _:
            return functools.partial(_astream, call)


def _without_context(shape: Shape, replacement: Callable[..., Any]) -> Callable[..., Any]:
    try:
        first = next(iter(inspect.signature(replacement).parameters), "")
    except (TypeError, ValueError):  # a callable that does not say what it takes
        first = ""
    if not shape.takes_ctx or first == "ctx":
        return replacement
    return lambda _ctx, *args, **kwargs: replacement(*args, **kwargs)


async def _awaited(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    made = call(*args, **kwargs)
    return await made if inspect.isawaitable(made) else made


def _stream(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Generator[Any, None, Any]:
    return (yield from call(*args, **kwargs))


async def _astream(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    made = call(*args, **kwargs)
    if hasattr(made, "__aiter__"):
        async for item in made:
            yield item
    else:
        for item in await made if inspect.isawaitable(made) else made:
            yield item
