"""The table of kinds of values: each comes back as what it was to the last type, or is refused with its place."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import functools
import ipaddress
import pathlib
import re
import struct
import threading
import types
import uuid
import zoneinfo
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import numpy as np
import pandas as pd
import pytest
from pydantic import (
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PostgresDsn,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    field_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import MultiHostUrl, TzInfo, Url

from agentflow._serialization import codec_for
from agentflow.exceptions import UnserializableValue

T = TypeVar("T")


# The classes of the table.


class Article(BaseModel):
    title: str
    url: str
    score: float = 0.0
    summary: str | None = None
    tags: list[str] = []


class LongArticle(Article):
    pages: int = 1


class Search(BaseModel):
    query: str
    articles: list[Article]


class Hidden(BaseModel):
    shown: int
    hidden: str = Field(exclude=True)
    other: str = Field(alias="otherName", default="")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Private(BaseModel):
    name: str
    _seen: int = PrivateAttr(default=0)
    _unset: int = PrivateAttr()


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str


class Shouting(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def shout(cls, text: str) -> str:
        return text + "!"


class Cached(BaseModel):
    size: int

    @functools.cached_property
    def double(self) -> int:
        return self.size * 2


class Names(RootModel[list[str]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T


class Links(BaseModel):
    page: HttpUrl
    any: AnyUrl
    store: PostgresDsn
    size: ByteSize
    parsed: Json[dict[str, int]]
    at: AwareDatetime


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    inner: Point | None = None


@dataclass
class Computed:
    width: int
    area: int = field(init=False)
    kind: str = field(init=False, default="square")
    unseen: list[int] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.area = self.width**2


@dataclass
class Crate(Generic[T]):
    item: T


@pydantic_dataclass
class Checked:
    x: int


@attrs.define
class Pair:
    left: int
    _right: str = attrs.field(default="r", converter=str.lower)
    third: int = attrs.field(init=False, default=3, eq=False)


@attrs.frozen(slots=False)
class Loose:
    left: int

    @functools.cached_property
    def twice(self) -> int:
        return self.left * 2


@attrs.define
class LazySlots:
    left: int

    @functools.cached_property
    def twice(self) -> int:
        return self.left * 2


@attrs.define(frozen=True, cache_hash=True)
class Hashed:
    left: str


class Place(NamedTuple):
    lat: float
    lon: float = 0.0


class Remarked(Place):
    """A named tuple that can hold attributes too, as it has no `__slots__`."""


Old = namedtuple("Old", ["a", "b"])  # noqa: PYI024


class Colour(enum.Enum):
    RED = 1
    ROUGE = 1  # noqa: PIE796 - an alias
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Slug(str):
    __slots__ = ()


class Celsius(float):
    pass


class Count(int):
    pass


class Token(bytes):
    pass


class Film(TypedDict, total=False):
    title: str
    stars: list[Point]


UserId = NewType("UserId", int)


def identical(one: Any, other: Any) -> bool:
    """Say whether two values are the same to the last type, without asking the codec."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return identical(one.real, other.real) and identical(one.imag, other.imag)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, (dt.datetime, dt.time)):
        zones = type(one.tzinfo) is type(other.tzinfo) and repr(one.tzinfo) == repr(other.tzinfo)
        return zones and one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
    if isinstance(one, slice):
        return identical((one.start, one.stop, one.step), (other.start, other.stop, other.step))
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, defaultdict) and one.default_factory is not other.default_factory:
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(identical(a, b) for b in other) for a in one)
    if isinstance(one, dict):
        return identical([*one.items()], [*other.items()])
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, BaseModel):
        return all(
            identical(getattr(one, part), getattr(other, part))
            for part in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
        )
    if attrs.has(type(one)) or hasattr(one, "__dataclass_fields__"):
        names = getattr(type(one), "__match_args__", ())
        return one == other and all(identical(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)


def without_cache(made: Any) -> Any:
    """Return an instance whose cached property was never asked for."""
    return type(made)(made.left) if attrs.has(type(made)) else type(made)(size=made.size)


def used(made: Any, name: str) -> Any:
    """Return an instance whose cached property was asked for."""
    getattr(made, name)
    return made


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
ODD_TEXT = "a\ud800b\udfff"

EXACT: dict[str, tuple[Any, Any]] = {
    # Scalars.
    "none": (None, Any),
    "true": (True, Any),
    "false is not 0": ([False, 0, 0.0], Any),
    "int": (42, Any),
    "int at 64 bits": ([2**63 - 1, -(2**63)], Any),
    "int over 64 bits": ([2**63, -(2**63) - 1, 2**64, -(2**100)], Any),
    "int of 5000 digits": ([10**5000, -(10**5000)], Any),
    "float": (0.1, Any),
    "float that is whole": ([1.0, 1e22, 1e300], Any),
    "smallest float": (5e-324, Any),
    "minus zero": (-0.0, Any),
    "infinities": ([float("inf"), float("-inf")], Any),
    "nan": (float("nan"), Any),
    "nan with a payload": (struct.unpack(">d", bytes.fromhex("fff8000000001234"))[0], Any),
    "complex": ([1j, complex(-0.0, float("inf")), complex(0.0, -0.0)], Any),
    "str": ("hello", Any),
    "empty str": ("", Any),
    "str with all line ends": (["a\r\nb\rc\nd\x85e\u2028f", "\0\x01\x1f\x7f"], Any),
    "str beyond the basic plane": ("caf\u00e9 cafe\u0301 \U0001f600", Any),
    "lone surrogates": (ODD_TEXT, Any),
    "lone surrogates inside": ({"k": [ODD_TEXT, "fine"], ODD_TEXT: {ODD_TEXT}}, Any),
    "bytes": (b"\0\xff binary", Any),
    "empty bytes inside": ([b"", b"\r\n"], Any),
    "bytearray": (bytearray(b"ab"), Any),
    # Containers.
    "list": ([1, "a", None], Any),
    "lists of numbers": ([[1, 2], [1.0, -0.0], [1, 1.0, True], [2**64, 1], [float("nan"), 1.0]], Any),
    "empty containers": ([[], (), {}, set(), frozenset(), deque()], Any),
    "tuple": ((1, (2,), ()), Any),
    "set": ({1, "a", None, (1, 2)}, Any),
    "frozenset": (frozenset({1, frozenset({2})}), Any),
    "deque": (deque([1, [2]]), Any),
    "deque with maxlen": (deque([1, 2], maxlen=2), Any),
    "dict in its order": ({"b": 1, "a": {"c": []}}, Any),
    "dict with keys of all kinds": ({1: "int", 1.5: "f", None: "n", (1, "a"): "t", b"x": "b", False: "no"}, Any),
    "OrderedDict": (OrderedDict([("b", 1), ("a", [2])]), Any),
    "Counter": (Counter("abca"), Any),
    "defaultdict": (defaultdict(list, {"a": [1]}), Any),
    "defaultdict without factory": (defaultdict(None, {1: 2}), Any),
    "lists that look like tags": (["list", ["model", 0, 1], ["classes", [], 1], ["plain"]], Any),
    "dicts that look like tags": ({"list": 1, "$type": "x", "__class__": "os:system"}, Any),
    # The standard library.
    "datetime": (dt.datetime(2024, 2, 29, 23, 59, 59, 999999), Any),
    "datetime with fold": (dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=PARIS), Any),
    "datetime in utc": (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), Any),
    "datetime at an offset": (dt.datetime(1, 1, 1, tzinfo=EAST), Any),
    "datetime with pydantic's zone": (dt.datetime(2024, 1, 1, tzinfo=TzInfo(-3600)), Any),
    "date": ([dt.date(2024, 1, 1), dt.date.max], Any),
    "time": ([dt.time(1, 2, 3, 4), dt.time(5, tzinfo=EAST, fold=1)], Any),
    "timedelta": ([dt.timedelta(-1, 2, 3), dt.timedelta.max, dt.timedelta.min], Any),
    "timezones": ([dt.UTC, EAST, dt.timezone(dt.timedelta(0), "named"), PARIS], Any),
    "Decimal": ([Decimal("1.0"), Decimal("1.00"), Decimal("-0E-7"), Decimal("1E+999999")], Any),
    "Decimal specials": ([Decimal("NaN"), Decimal("sNaN12"), Decimal("-Infinity")], Any),
    "Decimal of 6000 digits": (Decimal("1" * 6000), Any),
    "Fraction": (Fraction(-1, 3), Any),
    "UUID": (uuid.UUID("12345678123456781234567812345678"), Any),
    "IP addresses": ([ipaddress.ip_address("1.2.3.4"), ipaddress.ip_address("fe80::1%eth0")], Any),
    "IP networks": ([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::/0")], Any),
    "IP interfaces": ([ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("::1/64")], Any),
    "pure paths": ([pathlib.PurePosixPath("/a/../b"), pathlib.PureWindowsPath("C:/x"), pathlib.PurePosixPath()], Any),
    "Path": ([pathlib.Path("a") / "b c", pathlib.Path("\udc80")], Any),
    "Pattern": ([re.compile(r"a(?P<x>b)", re.IGNORECASE | re.VERBOSE), re.compile(rb"\xff", re.DOTALL)], Any),
    "range": ([range(10), range(10, 0, -3), range(2**70)], Any),
    "slice": ([slice(1, None, "x"), slice(None)], Any),
    # Enums and subclasses of scalars.
    "Enum": ([Colour.RED, Colour.ROUGE, Colour.BLUE], Colour),
    "IntEnum": (Level.LOW, Level),
    "StrEnum": (Mode.FAST, Mode),
    "Flag": ([Right.READ, Right.READ | Right.WRITE, Right(0)], Right),
    "an enum of Python's own": (HTTPStatus.NOT_FOUND, HTTPStatus),
    "Enum as a key": ({Colour.RED: {Colour.BLUE}}, dict[Colour, set[Colour]]),
    "str subclass": (Slug("a-b"), Slug),
    "int, float and bytes subclasses": ([Count(2**70), Celsius("nan"), Token(b"x")], tuple[Count, Celsius, Token]),
    # Named tuples, dataclasses, attrs.
    "NamedTuple": ([Place(1.0), Place(1.0, 2.0)], list[Place]),
    "subclass of a named tuple": (Remarked(1.0), Remarked),
    "namedtuple": (Old(1, [2]), Old),
    "dataclass": (Point(1, 2.0), Point),
    "dataclass with a field of another type": (Point("not an int", None), Point),
    "frozen slotted dataclass": (Slotted(1, Point(2)), Slotted),
    "dataclass with fields that init does not take": (Computed(3), Computed),
    "generic dataclass": (Crate[int](3), Crate[int]),
    "pydantic dataclass": (Checked(x=1), Checked),
    "attrs": (Pair(1, "ABC"), Pair),
    "attrs without slots": (Loose(1), Loose),
    "attrs with a cached hash": ({Hashed("a"): 1}, dict[Hashed, int]),
    # pydantic.
    "model": (Article(title="t", url="u", score=1.5, summary="s", tags=["a"]), Article),
    "model with unset fields": (Article(title="t", url="u"), Article),
    "model of models": (Search(query="q", articles=[Article(title="t", url="u")] * 2), Search),
    "subclass in a field of its base": (Search(query="q", articles=[LongArticle(title="t", url="u", pages=3)]), Search),
    "model with excluded and aliased fields": (Hidden(shown=1, hidden="h", otherName="o"), Hidden),
    "model with extra values": (Open(name="n", more=[Point(1)], **{"a b": 1}), tuple[Open, Point]),
    "model with private attributes": (Private(name="n"), Private),
    "frozen model": (Frozen(name="n"), Frozen),
    "model whose validator is not idempotent": (Shouting(text="hey"), Shouting),
    "root model": (Names(["a", "b"]), Names),
    "generic models": ([Box[int](item=1), Box[Point](item=Point(1))], tuple[Box[int], Box[Point]]),
    "model built without validation": (Article.model_construct(title=3), Article),
    "model with URLs, sizes and JSON": (
        Links(
            page="http://a.com",
            any="ftp://x/y",
            store="postgres://u@h:1,i:2/d",
            size="3kb",
            parsed='{"a": 1}',
            at="2024-01-01T00:00:00Z",
        ),
        Links,
    ),
    "pydantic_core URLs": ([Url("http://a.com/?b#c"), MultiHostUrl("http://a.com,b.com")], Any),
    "recursive model": (Tree(name="a", children=[Tree(name="b")]), Tree),
    # Annotations that are no classes.
    "TypedDict": ({"title": "t", "stars": [Point(1)]}, Film),
    "NewType": (UserId(3), UserId),
    "Literal": (Colour.BLUE, Literal[Colour.BLUE, "x"]),
    "union": ([Point(1), Pair(2)], list[Point | Pair] | None),
    "Annotated": (Point(1), Annotated[Point, ["not hashable"]]),
    "abstract collections": ([(Point(1),), {"a": Pair(1)}], tuple[Sequence[Point], Mapping[str, Pair]]),
    "another type than declared": ((1, 2), list[int]),
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_kind_comes_back_as_what_it_was(kind):
    """A stored value comes back equal, with the same type in every part, and as a copy."""
    value, annotation = EXACT[kind]
    codec = codec_for(annotation)

    loaded = codec.loads(codec.dumps(value, owner="a test"))

    assert identical(loaded, value), (loaded, value)


@pytest.mark.parametrize("kind", EXACT)
def test_a_kind_is_written_the_same_again(kind):
    """What was loaded is written with the same bytes, so a comparison of encodings finds no change."""
    value, annotation = EXACT[kind]
    codec = codec_for(annotation)
    body = codec.dumps(value, owner="a test")

    assert codec.dumps(codec.loads(body), owner="a test") == body


def test_the_table_is_long_enough():
    """The table has as many exact kinds as the figure asks for."""
    assert len(EXACT) >= 74


CACHES = [used(Cached(size=2), "double"), used(Loose(2), "twice"), used(LazySlots(2), "twice")]


@pytest.mark.parametrize("value", CACHES, ids=lambda value: type(value).__name__)
def test_what_a_cached_property_computed_is_left_out(value):
    """A cached property is computed again: it may hold what cannot be stored, and is no part of the value."""
    codec = codec_for(type(value))

    body = codec.dumps(value, owner="a test")

    assert body == codec.dumps(without_cache(value), owner="a test")
    assert codec.loads(body) == value


class Plain:
    def __init__(self) -> None:
        self.x = 1


class Unknown(BaseModel):
    x: int = 1


@dataclass
class Holder:
    value: Any


class StrangeZone(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)


class Marked(str):  # noqa: SLOT000 - it is meant to have attributes
    pass


class Texts(list):
    pass


class Secretive(BaseModel):
    password: SecretStr


@attrs.define
class Failed(Exception):  # noqa: N818
    reason: str


def marked() -> Marked:
    text = Marked("x")
    text.by = "me"
    return text


def remarked() -> Remarked:
    place = Remarked(1.0)
    place.remark = "nice"
    return place


def tagged_counter() -> Counter[str]:
    counter = Counter("a")
    counter.note = "mine"
    return counter


def strange_model() -> Article:
    article = Article(title="t", url="u")
    article.__dict__["client"] = 1
    return article


async def coroutine() -> None:
    """Never awaited: only stored."""


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "object": (object(), Any, "Use builtin types"),
    "plain class": (Plain(), Plain, "Use builtin types"),
    "lambda": (lambda: 1, Any, "Use builtin types"),
    "class": (int, Any, "Use builtin types"),
    "module": (types, Any, "Use builtin types"),
    "lock": (threading.Lock(), Any, "Use builtin types"),
    "generator": ((x for x in "ab"), Any, "Return a list"),
    "iterator": (iter([1]), Any, "Return a list"),
    "view": ({}.keys(), Any, "Use builtin types"),
    "exception": (ValueError("x"), Any, "Raise it"),
    "attrs exception": (Failed("x"), Failed, "Raise it"),
    "SecretStr": (SecretStr("x"), Any, "Secrets are never stored"),
    "SecretBytes": (SecretBytes(b"x"), Any, "Secrets are never stored"),
    "secret in a model": (Secretive(password="x"), Secretive, "Secrets are never stored"),
    "numpy array": (np.zeros(2), Any, ".tolist()"),
    "numpy float": (np.float64(1.0), Any, ".item()"),
    "numpy int": (np.int64(1), Any, ".item()"),
    "pandas frame": (pd.DataFrame({"a": [1]}), Any, ".to_dict()"),
    "pandas timestamp": (pd.Timestamp("2024-01-01"), Any, "plain Python"),
    "model that is not declared": (Unknown(), Any, "register_type"),
    "enum that is not declared": (HTTPStatus.OK, Any, "register_type"),
    "list subclass": (Texts(["a"]), Texts, "subclass of a builtin type"),
    "str subclass with attributes": (marked(), Marked, "has attributes"),
    "named tuple with attributes": (remarked(), Remarked, "has attributes"),
    "Counter with attributes": (tagged_counter(), Any, "has attributes"),
    "model with something else inside": (strange_model(), Article, "no field of its class"),
    "model that was never initialised": (Article.__new__(Article), Article, "never initialised"),
    "UserDict": (UserDict({"a": 1}), Any, "Use builtin types"),
    "ChainMap": (ChainMap({"a": 1}), Any, "Use builtin types"),
    "mapping proxy": (types.MappingProxyType({}), Any, "Use builtin types"),
    "memoryview": (memoryview(b"x"), Any, "Use builtin types"),
    "namespace": (types.SimpleNamespace(a=1), Any, "Use builtin types"),
    "ellipsis": (..., Any, "Use builtin types"),
    "event loop's event": (asyncio.Event(), Any, "Use builtin types"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_would_not_come_back_is_refused(kind):
    """What cannot come back as it is, is refused in a sentence with owner, place, type and the way out."""
    value, annotation, advice = REFUSED[kind]
    codec = codec_for(tuple[annotation, Holder])
    path = ".password" if kind == "secret in a model" else ""

    with pytest.raises(UnserializableValue) as caught:
        codec.dumps([{"a": Holder(value)}], owner="the result of step 'read'")

    error = caught.value
    assert (error.owner, error.path) == ("the result of step 'read'", f"[0]['a'].value{path}")
    assert str(error).startswith(
        f"the result of step 'read': {error.path} cannot be stored, since it is a {error.type_name}."
    )
    assert advice in str(error)
    assert error.type_name.rpartition(".")[2] in {type(value).__qualname__, "SecretStr"}


def test_an_awaitable_is_refused():
    """A forgotten `await` is said in so many words."""
    never = coroutine()

    with pytest.raises(UnserializableValue, match="Await it"):
        codec_for(Any).dumps(never, owner="a test")

    never.close()


BAD = object()
ZONED = dt.datetime(2024, 1, 1, tzinfo=StrangeZone())

PLACES: dict[str, tuple[Any, Any]] = {
    "": (BAD, Any),
    "[1]": ([0, BAD], Any),
    "[2][0]": ((0, 1, deque([BAD])), Any),
    "['k']": ({"k": BAD}, Any),
    "[1]['k']": ({1: {"k": BAD}}, Any),
    "[None][True]": ({None: {True: BAD}}, Any),
    "[<tuple>]": ({(1,): BAD}, Any),
    "<key <object>>": ({BAD: 1}, Any),
    "<member>": ({BAD}, Any),
    "['a'][0]": (OrderedDict(a=[BAD]), Any),
    ".default_factory": (defaultdict(lambda: 1), Any),
    ".tzinfo": (ZONED, Any),
    "[0].step": ([slice(1, 2, BAD)], Any),
    ".value.value": (Holder(Holder(BAD)), Holder),
    ".extra": (Open(name="n", extra=BAD), Open),
    "._seen": (used_private := Private(name="n"), Private),
    ".note": (noted := Holder(1), Holder),
    ".articles[0].title": (Search.model_construct(query="q", articles=[Article.model_construct(title=BAD)]), Search),
    ".lon": (Place(1.0, BAD), Place),
    f"['{'k' * 39}…']": ({"k" * 50: BAD}, Any),
}
used_private._seen = BAD
noted.note = BAD


@pytest.mark.parametrize("place", PLACES)
def test_a_refusal_names_the_place(place):
    """The path leads from the value to the part that cannot be stored."""
    value, annotation = PLACES[place]

    with pytest.raises(UnserializableValue) as caught:
        codec_for(annotation).dumps(value, owner="a test")

    assert caught.value.path == place
