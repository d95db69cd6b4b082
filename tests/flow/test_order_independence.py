"""A value is found by what it was asked with, never by when: it can not land on another call, in whatever order calls come."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import Context, cached_step, workflow
from agentflow.testing import fresh_store

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/programs/reordered.py"


def run(directory: Path, how: str, seed: int, die_after: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(directory), how, str(die_after)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("how", ["loop", "map", "stream", "agent", "body"])
def test_a_set_is_read_in_another_order_after_a_crash(tmp_path, how):
    """Killed half way and continued where sets have another order: every value belongs to its address, and none is read twice."""
    died = run(tmp_path, how, seed=1, die_after=6)
    continued = run(tmp_path, how, seed=2, die_after=-1)

    first, second = (json.loads(line) for line in (tmp_path / "orders").read_text().splitlines())
    executed = (tmp_path / "executed").read_text().splitlines()
    page: dict[str, Callable[[str], Any]] = {
        "stream": lambda url: [f"page of {url}", "end"],
        "agent": lambda url: f"summary of {url}",
        "body": lambda url: f"summary of {url}",
    }
    assert died.returncode == 9
    assert continued.returncode == 0, continued.stderr
    assert first != second
    assert sorted(first) == sorted(second)
    assert json.loads(continued.stdout) == {url: page.get(how, lambda url: f"page of {url}")(url) for url in second}
    if how != "body":  # its own code runs again
        # Read when the process died, and not yet committed, is read again: at most what ran at once.
        again = len(executed) - 12
        assert set(executed) == set(first)
        assert 0 <= again <= (2 if how == "map" else 0)


@given(orders=st.lists(st.permutations(list("abcdef")), min_size=2, max_size=4), crash=st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_any_order_of_calls_gives_each_its_own(orders, crash):
    """Whatever orders the attempts of a run have, and wherever they break off."""
    executed: list[str] = []

    @cached_step
    def read(url: str, part: int) -> str:
        executed.append(f"{url}{part}")
        return f"{url} {part}"

    @workflow(max_attempts=10)
    def flow(ctx: Context) -> dict[str, str]:
        order = orders[min(ctx.attempt, len(orders)) - 1]
        found = {}
        for number, url in enumerate(order):
            if ctx.attempt < len(orders) and number == crash:
                raise ConnectionError
            found[url] = read(url, 1) + read(url, 2)
        return found

    with fresh_store():
        for _ in orders[1:]:
            if crash < 6:
                with pytest.raises(ConnectionError):
                    flow()
        assert flow() == {url: f"{url} 1{url} 2" for url in "abcdef"}

    assert sorted(executed) == sorted(f"{url}{part}" for url in "abcdef" for part in (1, 2))


@pytest.mark.usefixtures("store")
def test_closures_with_other_captured_values_are_other_steps():
    """A step that captures a value has it in its version: the results of one never answer for the other."""
    calls: list[str] = []

    def make(prefix: str) -> Any:
        @cached_step
        def label(n: int) -> str:
            calls.append(prefix)
            return f"{prefix} {n}"

        return label

    cats, dogs = make("cats"), make("dogs")

    assert [cats(1), dogs(1), cats(1), dogs(1), make("cats")(1)] == ["cats 1", "dogs 1", "cats 1", "dogs 1", "cats 1"]
    assert calls == ["cats", "dogs"]
    assert cats.key(1) != dogs.key(1)


@pytest.mark.usefixtures("store")
def test_closures_over_helpers_and_streams_are_told_apart_too():
    """Captured functions count by their code, also for streams and async steps."""

    def make(shout: Callable[[str], str]) -> tuple[Any, Any]:
        @cached_step
        def stream(word: str) -> Iterator[str]:
            yield shout(word)

        @cached_step
        async def single(word: str) -> str:
            return shout(word)

        return stream, single

    loud, quiet = make(lambda word: word.upper()), make(lambda word: word.lower())

    assert (list(loud[0]("Cat")), list(quiet[0]("Cat"))) == (["CAT"], ["cat"])
    assert asyncio.run(loud[1]("Cat")) == "CAT"
    assert asyncio.run(quiet[1]("Cat")) == "cat"


@pytest.mark.usefixtures("store")
def test_steps_added_removed_and_moved_between_attempts_take_nothing_of_each_other():
    """The program is edited between two attempts: steps that stayed are hits wherever they stand, others run."""
    executed: list[str] = []

    def step(name: str) -> Any:
        @cached_step(name=f"edited {name}", version="1")
        def give(n: int) -> str:
            executed.append(name)
            return f"{name} {n}"

        return give

    a, b, c, d = (step(name) for name in "abcd")
    programs: list[list[Any]] = [[a, b, c], [c, d, a], [d, b, a, c]]

    @workflow
    def flow(ctx: Context) -> list[str]:
        found = [give(1) for give in programs[ctx.attempt - 1]]
        if ctx.attempt < len(programs):
            raise ConnectionError(found)
        return found

    found = []
    for _ in programs[1:]:
        with pytest.raises(ConnectionError) as caught:
            flow()
        found.append(caught.value.args[0])
    found.append(flow())

    assert found == [["a 1", "b 1", "c 1"], ["c 1", "d 1", "a 1"], ["d 1", "b 1", "a 1", "c 1"]]
    assert executed == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("store")
async def test_tasks_that_finish_in_any_order_keep_their_own():
    """Fifty tasks with random delays, in two attempts: each has its own value in both."""
    executed: list[int] = []

    @cached_step
    async def read(n: int) -> int:
        executed.append(n)
        await asyncio.sleep(random.random() / 100)
        return n * n

    @workflow
    async def flow(ctx: Context) -> list[int]:
        numbers = list(range(50))
        random.shuffle(numbers)
        squares = dict(zip(numbers, await ctx.map(read, numbers), strict=True))
        if ctx.attempt == 1:
            raise ConnectionError
        return [squares[n] for n in range(50)]

    with pytest.raises(ConnectionError):
        await flow()

    assert await flow() == [n * n for n in range(50)]
    assert sorted(executed) == list(range(50))
