"""What diskcache promises of `memoize`, asked of `@cached_step`.

Each test names the test of diskcache 5.6.3 (`tests/test_core.py`, `test_fanout.py`, `test_index.py`, `test_djangocache.py`, `test_recipes.py`) or the
parameter of `Cache.memoize` whose behaviour it restates; where we differ on purpose it pins what we do and says why. Left out, and why:

* `Cache.stats`: hits and misses are events of a run, not counters of a store; the tests here count executions.
* the probabilistic early recomputation of `memoize_stampede`: it spreads executions around an expiry, here there is one (`test_no_stampede`).
* the `shards` and `timeout` of `FanoutCache.memoize`: one file, and a writer that waits its turn.
"""

from __future__ import annotations

import threading
import time

import pytest

from agentflow import cached_step, workflow
from agentflow.exceptions import UsageError

pytestmark = pytest.mark.usefixtures("store")


def fibonacci(number: int) -> int:
    before, found = 0, 1
    for _ in range(number):
        before, found = found, before + found
    return before


def recursive(calls: list[int], **options):
    """Make a step that calls itself with smaller arguments."""

    @cached_step(**options)
    def fib(number: int) -> int:
        calls.append(number)
        return number if number < 2 else fib(number - 1) + fib(number - 2)

    return fib


@pytest.mark.parametrize("options", [{}, {"name": "fib of diskcache"}], ids=["unnamed", "named"])
def test_a_recursive_function(options):
    """diskcache, `test_core.test_memoize`, `test_fanout.test_memoize`, `test_index.test_memoize`: each argument is executed once, the second round not at all."""
    calls: list[int] = []
    fib = recursive(calls, **options)

    first = [fib(number) for number in range(100)]
    second = [fib(number) for number in range(100)]

    assert first == second == [fibonacci(number) for number in range(100)]
    assert calls == list(range(100))


def test_a_recursive_function_from_above():
    """diskcache, the same tests, beginning with the largest argument: the calls nest, and each is still executed once."""
    calls: list[int] = []
    fib = recursive(calls)

    assert fib(30) == fibonacci(30)
    assert sorted(calls) == list(range(31))


def test_bare_and_with_options():
    """diskcache, `DjangoCacheTests.test_memoize` refuses a decorator without parentheses. Ours differ: both are the decorator."""

    @cached_step
    def bare(number: int) -> int:
        return number

    @cached_step()
    def called(number: int) -> int:
        return number

    assert [bare(1), called(1)] == [1, 1]
    with pytest.raises(UsageError, match="plain functions"):
        cached_step("name")


def test_all_kinds_of_arguments():
    """diskcache, `test_core.test_memoize_kwargs`: positions and keywords reach the function as they were given, types included."""

    @cached_step
    def echo(*args, **kwargs) -> tuple[tuple[int, ...], dict[str, int]]:
        return args, kwargs

    results = [echo(1, 2, 3, a=4, b=5) for _ in range(2)]

    assert results == [((1, 2, 3), {"a": 4, "b": 5})] * 2


def test_types_count():
    """diskcache, `memoize(typed=)`. Ours differ from its default: 1, 1.0 and True are three arguments, since a function may tell them apart."""

    @cached_step
    def kind(value: object) -> str:
        return type(value).__name__

    assert [kind(1), kind(1.0), kind(True), kind(1)] == ["int", "float", "bool", "int"]


def test_ignored_arguments():
    """diskcache, `test_core.test_memoize_ignore`. Ours differ: a parameter is ignored by its name; places inside `*args` have none."""
    calls = []

    @cached_step(ignore={"second", "arg1"})
    def noted(first: str, second: str, third: str, *, arg0: str, arg1: str, arg2: str) -> str:
        calls.append((second, arg1))
        return first + third

    noted("a", "b", "c", arg0="d", arg1="e", arg2="f")
    noted("a", "w", "c", arg0="d", arg1="x", arg2="f")
    noted("a", "y", "c", arg0="d", arg1="z", arg2="f")

    assert calls == [("b", "e")]
    with pytest.raises(UsageError, match="ignore"):
        cached_step(ignore={1})(noted.fn)


def test_each_call_is_an_entry():
    """diskcache, `test_core.test_memoize_iter`: what is remembered can be listed, one entry a call."""

    @cached_step
    def total(*args: int, **kwargs: int) -> int:
        return sum(args) + sum(kwargs.values())

    @workflow
    def flow() -> list[int]:
        return [total(1, 2, 3), total(a=1, b=2, c=3), total(-1, 0, 1, a=1, b=2, c=3)]

    assert flow() == [6, 6, 6]
    entries = flow.session("default").steps()
    home = total.with_options(workflow=flow.name)
    assert [entry.step for entry in entries] == [total.name] * 3
    assert {entry.key for entry in entries} == {
        home.key(1, 2, 3),
        home.key(a=1, b=2, c=3),
        home.key(-1, 0, 1, a=1, b=2, c=3),
    }


def test_positions_and_keywords_are_one_call():
    """diskcache keys `f(1)` and `f(a=1)` apart (`args_to_key`). Ours differ: a call is what the function receives."""
    calls = []

    @cached_step
    def noted(a: int, b: int = 2) -> int:
        calls.append((a, b))
        return a + b

    assert [noted(1), noted(1, 2), noted(1, b=2), noted(b=2, a=1)] == [3] * 4
    assert calls == [(1, 2)]


def test_the_key_can_be_asked_for():
    """diskcache, `memoize` (`__cache_key__`): the key of a call is known without making it; here it is also how one entry is forgotten."""
    calls = []

    @cached_step
    def noted(number: int) -> int:
        calls.append(number)
        return number

    key = noted.key(100)
    before = list(calls)
    noted(100)
    forgotten = noted.forget(100)
    noted(100)

    assert key == noted.key(100)
    assert before == []
    assert forgotten == 1
    assert calls == [100, 100]


def test_the_bare_function_stays_reachable():
    """diskcache, `memoize` (`__wrapped__`): the function underneath is executed each time and remembers nothing."""

    @cached_step
    def noted(number: int) -> int:
        """Note it."""
        return number

    assert noted.__wrapped__ is noted.fn
    assert noted.fn(1) == 1
    assert not noted.is_cached(1)
    assert (noted.__name__, noted.__doc__) == ("noted", "Note it.")


def test_expiry_and_tags(monkeypatch):
    """diskcache, `memoize(expire=, tag=)`: here `ttl` and `tags`; a tag finds results to forget."""
    now = time.time()
    calls = []

    @cached_step(ttl=60, tags="fibonacci")
    def noted(number: int) -> int:
        calls.append(number)
        return number

    @workflow
    def flow(number: int) -> int:
        return noted(number)

    flow(1), flow(1)
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    flow(1)
    forgotten = flow.session("default").forget(tag="fibonacci")
    flow(1)

    assert calls == [1, 1, 1]
    assert forgotten == 1


def test_none_is_a_result():
    """diskcache, `memoize` (its `ENOVAL`): None is remembered like any value, and told from nothing."""
    calls = []

    @cached_step
    def nothing(number: int) -> None:
        calls.append(number)

    assert [nothing(1), nothing(1)] == [None, None]
    assert calls == [1]


def test_no_stampede():
    """diskcache, `test_recipes.test_memoize_stampede`: there fewer executions around an expiry, here one for all who come at once."""
    calls = []
    results = []
    begin = threading.Barrier(8)

    @cached_step(ttl=60)
    def worker(number: int) -> int:
        calls.append(number)
        time.sleep(0.05)
        return number

    def ask() -> None:
        begin.wait()
        results.append(worker(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [100] * 8
    assert calls == [100]


def test_other_calls_do_not_wait():
    """diskcache, `barrier(cache, Lock)` over `memoize` runs all keys one after another. Here each key has its own lock."""
    inside = threading.Barrier(4, timeout=30)

    @cached_step
    def together(number: int) -> int:
        inside.wait()  # passed only if all four are inside at once
        return number

    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(together(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == [0, 1, 2, 3]
