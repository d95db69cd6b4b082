"""Which calls of steps were made: executed, or answered without that, how often, and with which arguments."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentflow._interventions import WITNESSES
from agentflow._keys import encode
from agentflow._sketch import drawn, sketched
from agentflow._step import Step
from agentflow.exceptions import UnkeyableArgument, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["assert_hit", "assert_ran", "witnessed_calls"]

_MOST_SHOWN: Final = 20
_VERBS: Final = {False: "ran", True: "hit"}


def assert_ran(step: Step[..., Any], /, *args: Any, times: int | None = None, **kwargs: Any) -> None:
    """Assert that a step was executed.

    Counted are the calls that entered the step's function, failed ones too, each once however often it was retried: those since the test
    began (with the pytest plugin), or since the innermost `fresh_store()`; of every thread and task of this process, in and outside runs.

    ```python
    from agentflow import cached_step
    from agentflow.testing import assert_hit, assert_ran, fresh_store

    @cached_step
    def translate(text: str, language: str = "fr") -> str:
        return f"{text} in {language}"

    with fresh_store():
        translate("hello")
        translate("hello")
        translate("hello", language="it")

        assert_ran(translate, times=2)
        assert_ran(translate, language="it", times=1)
        assert_hit(translate, "hello", language="fr")
    ```

    Args:
        step: The step.
        *args: Arguments that the calls had; those that are not given may be anything. They are compared as keys are, by value and exact type;
            what is no part of a key, such as `unittest.mock.ANY`, by `==`.
        times: How often exactly, 0 for never; at least once if not given.
        **kwargs: Arguments by name.

    Raises:
        AssertionError: If it was not; the message says what was called.
        UsageError: If the step does not take these arguments, or nobody has watched.
    """
    __tracebackhide__ = True
    _assert_called(step, _Wanted.of(step, "assert_ran", args, kwargs), hit=False, times=times)


def assert_hit(step: Step[..., Any], /, *args: Any, times: int | None = None, **kwargs: Any) -> None:
    """Assert that a step was called and not executed: its result was remembered, or another call was just making it.

    See `assert_ran`, which has an example of both.

    Args:
        step: The step.
        *args: Arguments that the calls had; those that are not given may be anything.
        times: How often exactly, 0 for never; at least once if not given.
        **kwargs: Arguments by name.

    Raises:
        AssertionError: If it was not; the message says what was called.
        UsageError: If the step does not take these arguments, or nobody has watched.
    """
    __tracebackhide__ = True
    _assert_called(step, _Wanted.of(step, "assert_hit", args, kwargs), hit=True, times=times)


@contextmanager
def witnessed_calls() -> Iterator[None]:
    """Watch the calls of all steps for a block, for the two above."""
    calls: list[_Call] = []

    def witness(step: str, arguments: Mapping[str, Any], hit: bool) -> None:  # noqa: FBT001 - as `called` says it
        calls.append(_Call(step, {name: _Argument.of(name, value) for name, value in arguments.items()}, hit))

    with _mutex:
        _watching.append(calls)
        WITNESSES.append(witness)
    try:
        yield
    finally:
        with _mutex:
            WITNESSES.remove(witness)
            _watching[:] = [each for each in _watching if each is not calls]


@attrs.frozen
class _Argument:
    """An argument as it was when the call was made.

    Attributes:
        value: The argument itself, which may have changed since.
        encoded: What it counted as in a key; None if it is none that can be part of one.
        text: A short picture of it, without secrets.
    """

    value: Any
    encoded: bytes | None
    text: str

    @classmethod
    def of(cls, name: str, value: Any) -> _Argument:
        try:
            encoded = encode(value, owner="a witness", parameter=name)
        except UnkeyableArgument:
            encoded = None
        return cls(value, encoded, f"{name}={drawn(sketched(value, name))}")

    def equals(self, other: _Argument) -> bool:
        """Whether it is what a test wants."""
        if self.encoded is not None and other.encoded is not None:
            return self.encoded == other.encoded
        return bool(other.value == self.value)


@attrs.frozen
class _Call:
    """A call of a step that was made."""

    step: str
    arguments: Mapping[str, _Argument]
    hit: bool

    def __str__(self) -> str:
        return f"{_VERBS[self.hit]} {self.step}({', '.join(each.text for each in self.arguments.values())})"


@attrs.frozen
class _Wanted:
    """The calls that a test asks for."""

    step: str
    arguments: Mapping[str, _Argument]

    @classmethod
    def of(cls, step: object, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Wanted:
        if not isinstance(step, Step):
            raise UsageError(f"{verb}({step!r}): give the decorated step, not {type(step).__name__}")
        try:
            bound = step._spec.shape.signature.bind_partial(*args, **kwargs)  # noqa: SLF001 - what the decorator read of the function
        except TypeError as error:
            raise UsageError(f"{verb}({step.name!r}): {error}") from None
        return cls(step.name, {name: _Argument.of(name, value) for name, value in bound.arguments.items()})

    def matches(self, call: _Call) -> bool:
        """Whether a call is one of them."""
        return call.step == self.step and all(
            each.equals(wanted) for name, wanted in self.arguments.items() for each in [call.arguments[name]]
        )

    def __str__(self) -> str:
        given = ", ".join(each.text for each in self.arguments.values())
        return f" with {given}" if given else ""


def _assert_called(step: Step[..., Any], wanted: _Wanted, *, hit: bool, times: int | None) -> None:
    __tracebackhide__ = True
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 0):
        raise UsageError(f"times={times!r}: a whole number from 0")
    calls = _witnessed()
    found = sum(call.hit is hit and wanted.matches(call) for call in calls)
    if found == times or (times is None and found):
        return
    seen = f"{_VERBS[hit]} {_times(found)}" if found else f"never {_VERBS[hit]}"
    expected = "at least once" if times is None else _times(times)
    raise AssertionError(f"step {step.name!r} {seen}{wanted}; expected: {expected}. {_told(step.name, calls)}")


def _witnessed() -> list[_Call]:
    if not _watching:
        raise UsageError(
            "nobody has watched the calls of steps here: they are watched in each test with the pytest plugin (unless it is marked "
            "isolate=False), and inside `with agentflow.testing.fresh_store():`"
        )
    return list(_watching[-1])


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _told(step: str, calls: list[_Call]) -> str:
    """Return what was called: each call of the step, and how often others were."""
    if not calls:
        return "No step was called"
    own = [str(call) for call in calls if call.step == step]
    others = Counter(f"{_VERBS[call.hit]} {call.step}" for call in calls if call.step != step)
    lines = [*own[:_MOST_SHOWN], *([f"... and {len(own) - _MOST_SHOWN} more"] if own[_MOST_SHOWN:] else [])]
    lines += [f"{what}: {_times(count)}" for what, count in others.items()]
    return "What was called:\n" + "\n".join(f"  {line}" for line in lines)


_mutex: Final = threading.Lock()
_watching: Final[list[list[_Call]]] = []
