"""What was called: `assert_ran` and `assert_hit`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import ANY

import pytest

from agentflow import RetryPolicy, Step, cached_step, workflow
from agentflow.exceptions import UsageError
from agentflow.testing import assert_hit, assert_ran, fail_step, fresh_store


@cached_step(name="plain")
def plain(n: int, word: str = "a") -> int:
    return n


@cached_step(name="awaited")
async def awaited(n: int, word: str = "a") -> int:
    return n


@cached_step(name="stream")
def stream(n: int, word: str = "a") -> Iterator[int]:
    yield n


@cached_step(name="astream")
async def astream(n: int, word: str = "a") -> AsyncIterator[int]:
    yield n


@cached_step(name="sign in")
def sign_in(user: str, password: str) -> str:
    return user


@cached_step(name="change")
def change(items: list[int]) -> int:
    items.append(0)
    return len(items)


@cached_step(name="ask", ignore=("client",))
def ask(client: object, n: int) -> int:
    return n


@pytest.fixture(autouse=True)
def _afresh():
    with fresh_store():
        yield


@pytest.mark.parametrize("step", [plain, awaited, stream, astream], ids=lambda step: step.name)
def test_each_colour_is_counted(step: Step[Any, Any]):
    """A call that enters the function ran, one that is answered without it is a hit; each is counted once."""

    async def main() -> None:
        for n in (1, 1, 2, 1):
            await step.acall(n)

    asyncio.run(main())

    assert_ran(step, times=2)
    assert_ran(step, 1, times=1)
    assert_hit(step, times=2)
    assert_hit(step, n=1, times=2)
    assert_hit(step, 2, times=0)


def test_arguments_that_are_not_given_may_be_anything():
    """Given by position or by name, defaults included; a matcher is asked by `==`."""
    plain(1)
    plain(1, word="b")

    assert_ran(plain, 1, times=2)
    assert_ran(plain, word="a", times=1)
    assert_ran(plain, ANY, "b", times=1)
    assert_ran(plain, True, times=0)


def test_arguments_count_as_they_were_at_the_call():
    """Also if the step has changed them."""
    change([1])

    assert_ran(change, [1])
    assert_ran(change, [1, 0], times=0)


def test_what_is_no_part_of_a_key_is_compared_as_python_does():
    """A client, say."""
    client = object()
    ask(client, 1)

    assert_ran(ask, client)
    assert_ran(ask, object(), times=0)


def test_retries_and_failures_are_one_call():
    """It ran, however often it was tried and whatever came of it."""
    flaky = plain.with_options(retry=RetryPolicy(attempts=2, wait=0))

    with fail_step(plain, ConnectionError("reset"), times=3):
        with pytest.raises(ConnectionError):
            flaky(1)
        flaky(1)

    assert_ran(plain, times=2)


def test_threads_tasks_and_background_runs_count():
    """Whoever calls, in this process."""

    @workflow(name="all of them")
    async def flow(n: int) -> int:
        return sum(await awaited.amap([n, n + 1]))

    flow.start(1).result(timeout=10)
    thread = threading.Thread(target=plain, args=(5,))
    thread.start()
    thread.join()

    assert_ran(awaited, times=2)
    assert_ran(plain, 5)


def test_the_innermost_block_counts():
    """And what was called in it was called in the outer one as well."""
    plain(1)

    with fresh_store():
        plain(1)
        assert_ran(plain, times=1)

    assert_ran(plain, times=2)


def test_the_failure_says_what_was_called():
    """The calls of the step with their arguments, how often others were called, and no secrets."""
    plain(1)
    plain(1)
    plain(2, word="b")
    sign_in("ada", "hunter2")

    with pytest.raises(AssertionError) as wrong:
        assert_ran(plain, 3)
    with pytest.raises(AssertionError, match=r"step 'sign in' ran once; expected: twice\.(.|\n)*password=\[hidden\]"):
        assert_ran(sign_in, times=2)

    assert str(wrong.value).splitlines() == [
        "step 'plain' never ran with n=3; expected: at least once. What was called:",
        "  ran plain(n=1, word='a')",
        "  hit plain(n=1, word='a')",
        "  ran plain(n=2, word='b')",
        "  ran sign in: once",
    ]


def test_many_calls_are_cut_short_and_none_is_said():
    """A failure is to be read."""
    with pytest.raises(AssertionError, match="step 'plain' never hit; expected: once. No step was called"):
        assert_hit(plain, times=1)
    for n in range(25):
        plain(n)

    with pytest.raises(AssertionError, match=r"ran 25 times; expected: never\.(.|\n)* \.\.\. and 5 more") as wrong:
        assert_ran(plain, times=0)

    assert len(str(wrong.value).splitlines()) == 22


def test_mistakes_are_told():
    """What is no step, no argument of it, or no number."""
    with pytest.raises(UsageError, match="give the decorated step, not function"):
        assert_ran(plain.fn)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"assert_hit\('plain'\): got an unexpected keyword argument 'm'"):
        assert_hit(plain, m=1)
    with pytest.raises(UsageError, match="times=-1: a whole number from 0"):
        assert_ran(plain, times=-1)


def test_where_nobody_watches_it_says_who_does(request):
    """Instead of counting nothing."""
    from agentflow.testing import _calls

    watching = _calls._watching[:]
    _calls._watching.clear()
    request.addfinalizer(lambda: _calls._watching.extend(watching))

    with pytest.raises(UsageError, match="with the pytest plugin.*fresh_store"):
        assert_ran(plain)
