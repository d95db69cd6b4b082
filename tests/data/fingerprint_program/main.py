"""A program that uses much of the language; its version is the same on every Python that agentflow runs on."""

# ruff: noqa: C416, F841, PIE800, UP037 - the odd spellings are what is tested

from __future__ import annotations

import asyncio
import json
import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import Enum, Flag, auto
from functools import cached_property, lru_cache, partial, singledispatch, wraps
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

import fingerprint_helpers
from fingerprint_helpers import LANGUAGES, Style, shout as loud

T = TypeVar("T")
PROMPT = f"Write about {{topic}}. In {LANGUAGES['en']}."
LIMITS = (1, -2.5, 3j, b"\x00", None, True, ..., frozenset({"a", "b", ("c", 4)}))
RETRY = timedelta(seconds=3)
PRICE = Decimal("0.10")
HERE = Path(__file__).parent
QUEUE = deque([1, 2], maxlen=5)
ORDER = OrderedDict(a=1)
by_name = itemgetter("name")
counter = 0


class Mood(Enum):
    CALM = "calm"
    LOUD = 2


class Rights(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True, kw_only=True)
class Article:
    """An article."""

    title: str
    tags: list[str] = field(default_factory=list)
    mood: Mood = Mood.CALM
    size: Annotated["int | None", "pages"] = None

    @property
    def heading(self) -> str:
        return f"{self.title!r:>{len(self.tags) + 20}} {self.size=} {{}} {self.title:{''}^9}"

    @cached_property
    def words(self) -> list[str]:
        return [word for line in self.title.split("\n") if line for word in line.split() if (n := len(word)) > 2 and n]

    @classmethod
    def empty(cls, /, *args: object, title: str = "", **kwargs: object) -> Article:
        return cls(title=title)

    def __matmul__(self, other: Article, *, deep: Literal["yes", "no"] = "no") -> Article:
        return super().__new__(type(self)) if deep == "yes" else other


def timed(label: str):
    def decorate(fn):
        @wraps(fn)
        def wrapper(*args, **kwargs):
            nonlocal label
            label += "!"
            return fn(*args, **kwargs)

        return wrapper

    return decorate


@timed("slow")
@lru_cache(maxsize=8)
def cached(n: int) -> int:
    return n if n < 2 else cached(n - 1) + cached(n - 2)


@singledispatch
def shape(value: object) -> str:
    return "object"


@shape.register
def _(value: int) -> str:
    return "int"


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def count() -> None:
    global counter
    counter += 1


def multiply(k: float):
    return lambda x, *, k2=k: x * k * k2


double, triple = multiply(2), multiply(3)
add, subtract = (lambda a, b: a + b), (lambda a, b: a - b)
powers = [lambda x, n=n: x**n for n in (2, 3)]
square = powers[0]
shouting = partial(loud, times=2, style=Style.BOLD)


async def gather(urls):
    async with asyncio.timeout(RETRY.total_seconds()) as scope, asyncio.Lock():
        results = [await asyncio.sleep(0, url) async for url in urls if url]
    return {url: result for url, result in zip(urls, results, strict=True)} | {**{}, "scope": scope}


def step(topic: str, /, depth: int = 2, *rest: Point, mood: Mood = Mood.LOUD, memo={}, **options: "T") -> list[Article]:
    """Do everything."""
    memo[topic] = depth
    text: str = PROMPT.format(topic=topic)
    head, *middle, (last, *_) = [*rest, (1, 2)]
    match middle:
        case [Point(x=0, y=1 | 2 as y), *others] if y:
            text += str(others)
        case {"name": str(name), "n": -1, **kept}:
            text += by_name(kept) + name
        case None | True | "x" | 1.5:
            pass
        case Mood.CALM:
            text = loud(text)
        case _:
            del middle
    try:
        while depth > 0:
            depth -= 1
            if depth == 5:
                continue
            elif math.isclose(depth, 3):
                break
        else:
            raise ValueError(f"{depth:03d}") from None
        assert text, "no text"
    except* (ValueError, TypeError) as errors:
        text = str(errors)
    finally:
        fingerprint_helpers.log(text)

    class Local(Article, kw_only=True):
        extra: int = LIMITS[0]

        async def stream(self):
            yield self.extra
            await asyncio.sleep(0)

    def walk(tree, found=()):
        yield from (leaf for branch in tree for leaf in walk(branch, (*found, branch)))
        return lambda: (yield tree)

    import fingerprint_helpers as again
    from fingerprint_helpers import late

    values = [
        double(1),
        triple(2),
        add(1, 2),
        subtract(2, 1),
        square(cached(5)),
        shape(1),
        even(4),
        shouting("a"),
        counter,
    ]
    print(
        json.dumps(values), late(), again.LANGUAGES, Rights.READ | Rights.WRITE, PRICE, HERE, QUEUE, ORDER, walk, gather
    )
    return [Local(title=topic, mood=mood), Article.empty() @ Article.empty(), *map(str, options)][1:None:2]
