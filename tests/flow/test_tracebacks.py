"""What a user reads above an error message: the user's own frames, and agentflow's only where they help."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentflow
from agentflow import Context, cached_step, configure, workflow
from agentflow.exceptions import PayloadTooLarge, UnkeyableArgument, UnserializableValue, UsageError
from agentflow.stores import MemoryStore

pytestmark = pytest.mark.usefixtures("store")

PACKAGE = Path(agentflow.__file__).parent
"""Not the name of a directory: a clone may be named as the package is, and the tests lie in it."""


def frames_of(error: BaseException) -> tuple[list[str], list[str]]:
    """Return the names of the frames of agentflow and of others."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if PACKAGE in Path(frame.filename).parents]
    return ours, [frame.name for frame in frames if PACKAGE not in Path(frame.filename).parents]


@cached_step
def step(value: object) -> object:
    return value


@cached_step
def stream(value: object) -> Iterator[object]:
    yield value


@cached_step
async def astep(value: object) -> object:
    return value


@workflow
def flow(value: object) -> object:
    return value


@workflow
def calls_it_wrongly() -> object:
    return step(lambda: None)


@workflow
def maps_it_wrongly(ctx: Context) -> object:
    return ctx.map(step, [lambda: None])


@workflow
def passes_too_much() -> object:
    return step(1, 2)


@workflow
def keeps_a_file(ctx: Context) -> None:
    ctx.state["file"] = sys.stdin


@workflow
def streams_it_wrongly() -> Iterator[object]:
    yield from stream(lambda: None)


def test_a_traceback_shows_the_users_frames():
    """Of agentflow's frames there are but two for each call that the user made."""

    @workflow
    def flow() -> None:
        raising()

    @cached_step
    def raising() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here") as caught:
        flow()

    ours, others = frames_of(caught.value)
    assert others[-2:] == ["flow", "raising"]
    assert len(ours) <= 4
    assert any("in workflow" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "call",
    [
        lambda: flow(sys.stdin),
        lambda: flow.start(sys.stdin),
        lambda: step(sys.stdin),
        lambda: step.key(sys.stdin),
        lambda: step.map([sys.stdin]),
        lambda: stream(sys.stdin),
        lambda: asyncio.run(astep(sys.stdin)),
    ],
)
def test_a_call_that_is_refused_shows_where_it_was_made(call: Callable[[], Any]):
    """The caller's line stands above four frames of agentflow's at most, not above the whole way to who refused it."""
    with pytest.raises(UnkeyableArgument) as caught:
        call()

    ours, others = frames_of(caught.value)
    assert "<lambda>" in others
    assert len(ours) <= 4


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        (calls_it_wrongly, UnkeyableArgument, "calls_it_wrongly"),
        (maps_it_wrongly, UnkeyableArgument, "maps_it_wrongly"),
        (passes_too_much, TypeError, "passes_too_much"),
        (keeps_a_file, UnserializableValue, "keeps_a_file"),
        (lambda: list(streams_it_wrongly()), UnkeyableArgument, "streams_it_wrongly"),
    ],
)
def test_a_refusal_inside_a_workflow_ends_at_the_users_line(call: Callable[[], Any], error: type[Exception], line: str):
    """What agentflow refuses in a body ends with the line that asked for it, whatever agentflow did before it refused."""
    with pytest.raises(error) as caught:
        call()

    ours, others = frames_of(caught.value)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == others[-1] == line
    assert len(ours) <= 2


def test_what_agentflow_itself_raises_keeps_its_frames():
    """An error that no usage of the user's explains shows where agentflow has raised it."""

    with pytest.raises(PayloadTooLarge) as caught:
        step.with_options(store=MemoryStore(max_value_bytes=0))(1)

    ours, _ = frames_of(caught.value)
    assert len(ours) > 4


def test_debug_keeps_agentflows_frames():
    """configure(debug=True): nothing is taken out, neither of a refusal nor of the user's own exception."""

    @workflow
    def failing() -> None:
        raise ValueError("here")

    configure(debug=True)
    try:
        with pytest.raises(ValueError, match="here") as own:
            failing()
        with pytest.raises(UsageError) as refused:
            calls_it_wrongly()
    finally:
        configure(debug=None)

    for caught in (own, refused):
        assert len(frames_of(caught.value)[0]) > 4
