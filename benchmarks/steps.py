"""What steps, keys, values, runs and state cost: `steps.py DIRECTORY TIMES MANY LONG`, one repeat of everything; see `suite.py`."""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import VALUE, Amounts, Bench, Sample, Work, bench, bytes_written, pair, printed, quickest, seconds
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from agentflow import Context, cached_step, workflow
from agentflow._settings import using_store
from agentflow.stores import MemoryStore

MIB = 2**20


class Article(BaseModel):
    url: str
    title: str
    words: list[str]


class Search(BaseModel):
    topic: str
    articles: list[Article]


SEARCH = Search(
    topic="cats",
    articles=[
        Article(url=f"https://example.com/{n}", title="A page about cats", words=["word"] * 12) for n in range(7)
    ],
)
"""About one KiB encoded."""


@cached_step(version="1")
def step(number: int) -> dict[str, str]:
    return VALUE


@cached_step(version="1")
def typed(number: int) -> Search:
    return SEARCH


@cached_step(version="1")
def large(number: int) -> dict[str, str]:
    return {"text": "x" * MIB}


@cached_step(version="1")
def asked(value: object) -> None: ...


@cached_step(version="1")
def asked_model(value: Search, limit: int = 5) -> None: ...


@workflow
def nothing(number: int) -> None: ...


def in_run(measure: Callable[[Context], Sample]) -> Sample:
    """Measure inside one run."""
    found: list[Sample] = []

    @workflow(name="benchmark")
    def flow(ctx: Context, number: int) -> None:
        found.append(measure(ctx))

    flow(time.monotonic_ns())
    return found[0]


def missing() -> Work:
    numbers = itertools.count()
    return lambda: step(next(numbers))


def running() -> Work:
    numbers = itertools.count()
    return lambda: nothing(next(numbers))


def assigning(ctx: Context) -> Work:
    numbers = itertools.count()
    return lambda: ctx.state.__setitem__("key", next(numbers))


def hitting(call: Callable[[int], Any]) -> Work:
    call(-1)
    return lambda: call(-1)


def kept(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """What is kept, in both durabilities: misses, runs, assignments."""
    for durability, suffix in (("power", ""), ("process", ", process")):
        with bench(place / durability, durability) as made:
            nothing(0)
            yield from kept_in(made, suffix, amounts.times)


def kept_in(made: Bench, suffix: str, times: int) -> Iterator[Sample]:
    yield in_run(lambda _: pair(f"miss{suffix}", missing(), made.insert, times))
    yield pair(f"run{suffix}", running(), made.insert, times)
    yield in_run(lambda ctx: pair(f"state{suffix}", assigning(ctx), made.insert, times))


def found(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """What is found: hits of 1 KiB, typed, of 1 MiB."""
    times = amounts.times * 5
    with bench(place, "process") as made:
        yield in_run(lambda _: pair("hit", hitting(step), made.select, times))
        yield in_run(lambda _: typed_hit(times))
        yield in_run(lambda _: pair("hit 1 MiB", hitting(large), reading(place), max(20, amounts.times // 10)))


def typed_hit(times: int) -> Sample:
    """What a typed hit costs more than an untyped one, against the validation of the same bytes."""
    body, adapter = to_json(SEARCH), TypeAdapter(Search)
    plain, model = hitting(step), hitting(typed)
    more = pair("hit typed", model, plain, times)
    validation = quickest(lambda: adapter.validate_json(body), times)
    return Sample("hit typed", more.value - more.floor, validation)


def reading(place: Path) -> Work:
    path = place / "large.json"
    path.write_bytes(to_json({"text": "x" * MIB}))
    return lambda: from_json(path.read_bytes())


def memory(amounts: Amounts, made: Bench) -> Iterator[Sample]:
    """What is left without a disk."""
    with using_store(MemoryStore()):
        yield in_run(lambda _: pair("miss, memory", missing(), made.insert, amounts.times))
        yield in_run(lambda _: pair("hit, memory", hitting(step), made.select, amounts.times * 5))
    yield Sample("fresh memory store", quickest(fresh_store, 50) * 1000)


def fresh_store() -> None:
    store = MemoryStore()
    with using_store(store):
        step(1)
        step(1)
    store.close()


def keys(amounts: Amounts) -> Iterator[Sample]:
    """What a key costs, against a digest over the same bytes."""
    plain = {"topic": "cats", "limit": 5, "tags": ["a", "b"]}
    with using_store(MemoryStore()):
        yield pair("key, small", lambda: asked.key(plain), digesting(plain), amounts.times * 2)
        yield pair("key, model", lambda: asked_model.key(SEARCH), digesting(SEARCH), amounts.times)
        text = "x" * MIB
        yield pair("key, 1 MiB", lambda: asked.key(text), lambda: hashlib.sha256(text.encode()).digest(), 10)
        huge = b"x" * (100 * 10**6)
        yield pair("key, 100 MB", lambda: asked.key(huge), lambda: hashlib.sha256(huge).digest(), 1, slices=1)


def digesting(value: object) -> Work:
    return lambda: hashlib.sha256(to_json(value)).digest()


def values(amounts: Amounts) -> Iterator[Sample]:
    """What the codec costs, against pydantic's own."""
    adapter, body = TypeAdapter(Search), to_json(SEARCH)
    encoded = typed._encode(SEARCH)
    yield pair("value, encoded", lambda: typed._encode(SEARCH), lambda: to_json(SEARCH), amounts.times * 2)
    yield pair("value, decoded", lambda: typed._decode(encoded), lambda: adapter.validate_json(body), amounts.times * 2)


def history(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """The thousandth run of a session against the tenth."""
    with bench(place, "process"):
        run = running()
        seconds(run, 5)
        early = quickest(run, 10)
        seconds(run, amounts.many - 25)
        yield Sample("run, late", quickest(run, 10), early)


def growing(place: Path, amounts: Amounts) -> Iterator[Sample]:
    """One key of many changed: time and bytes at 1 000 and 10 000 keys against 1."""
    with bench(place, "process"):
        costs = {size: in_session(size, amounts.times) for size in (1, amounts.many, amounts.many * 10)}
    yield Sample("state, 1 000 keys", costs[amounts.many][0], costs[1][0])
    yield Sample("state, 10 000 keys", costs[amounts.many * 10][0], costs[1][0])
    yield Sample("state, 10 000 keys, bytes", costs[amounts.many * 10][1], costs[1][1])


def in_session(size: int, times: int) -> tuple[float, float]:
    found: list[tuple[float, float]] = []

    @workflow(name="growing")
    def flow(ctx: Context, number: int) -> None:
        for key in range(size - 1):
            ctx.state[f"key {key}"] = "x" * 50
        change = assigning(ctx)
        change()
        before = bytes_written()
        took = quickest(change, times)
        found.append((took, (bytes_written() - before) / times))

    flow.with_options(session_id=f"of {size}")(size)
    return found[0]


def decoration(amounts: Amounts) -> Iterator[Sample]:
    """Decorating a function, in microseconds."""

    def plain(topic: str, limit: int = 5) -> list[str]:
        return [topic] * limit

    yield Sample("decoration", quickest(lambda: cached_step(plain), amounts.times) * 1e6)


def measure(place: Path, amounts: Amounts) -> list[Sample]:
    with bench(place / "floors", "process") as made:
        near = list(memory(amounts, made))
    return [
        *kept(place / "kept", amounts),
        *found(place / "found", amounts),
        *near,
        *keys(amounts),
        *values(amounts),
        *history(place / "history", amounts),
        *growing(place / "growing", amounts),
        *decoration(amounts),
    ]


if __name__ == "__main__":
    printed(measure(Path(sys.argv[1]), Amounts(*map(int, sys.argv[2:5]))))
