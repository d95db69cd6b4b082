"""The fourteen rules as a table: pairs of arguments with one key or two, and arguments that have none."""

# ruff: noqa: C410, FLY002, FURB167, PIE796, PIE807, SLOT000, UP006, UP007, UP035, UP045 - the table is about odd spellings

from __future__ import annotations

import abc
import array
import asyncio
import contextvars
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import http
import importlib.resources
import io
import ipaddress
import itertools
import logging
import math
import operator
import os
import pathlib
import queue
import random
import re
import string
import struct
import sys
import tempfile
import threading
import time
import types
import typing
import uuid
import weakref
import zoneinfo
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from typing import Annotated, Any, Generic, List, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union

import attrs
import httpx
import numpy as np
import pandas as pd
import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from agentflow._keys import FileArg, arguments_digest
from agentflow.exceptions import UnkeyableArgument

T = TypeVar("T")


# --- classes of every kind ---


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = 2


class Hue(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    ONE = "one"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Truth(enum.Enum):
    YES = True
    NO = 0


class Open(enum.Enum):
    KNOWN = "known"

    @classmethod
    def _missing_(cls, value):
        made = object.__new__(cls)
        made._name_, made._value_ = "OTHER", value
        return made


class Odd(enum.Enum):
    @classmethod
    def _missing_(cls, value):
        made = object.__new__(cls)
        made._name_, made._value_ = "ODD", object()
        return made

    PLAIN = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Place(Point):
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Shy:
    shown: int
    hidden: int = dataclasses.field(default=0, repr=False, compare=False)
    klass: typing.ClassVar[object] = threading.Lock()
    given: dataclasses.InitVar[int] = 0

    @functools.cached_property
    def doubled(self):
        return self.shown * 2


class Grown(Point):
    def __init__(self, x, extra):
        super().__init__(x)
        self.extra = extra


@dataclasses.dataclass
class Tagged(str):
    tag: str

    def __new__(cls, text, tag):
        return super().__new__(cls, text)

    def __init__(self, text, tag):
        self.tag = tag


@dataclasses.dataclass
class Late:
    value: int = dataclasses.field(init=False)


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


@attrs.define
class Vector:
    x: Any
    y: Any = attrs.field(default=0, eq=False, repr=False)

    @functools.cached_property
    def length(self):
        return abs(self.x)


@attrs.frozen(slots=False, cache_hash=True)
class Direction:
    x: Any


@attrs.define
class Wide(Vector):
    pass


class Inner(BaseModel):
    n: int = 0


class Deeper(Inner):
    pass


class Outer(BaseModel):
    inner: pydantic.SerializeAsAny[Inner] = Inner()
    hidden: int = Field(default=0, exclude=True, repr=False)
    aliased: int = Field(default=0, validation_alias="other")
    _secret: int = PrivateAttr(default=0)

    @functools.cached_property
    def doubled(self):
        return self.hidden * 2


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    _x: int = PrivateAttr(default=0)


class Crate(BaseModel, Generic[T]):
    item: T


class Items(pydantic.RootModel[list[int]]):
    pass


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Login(BaseModel):
    password: SecretStr


class Link(BaseModel):
    url: pydantic.HttpUrl | pydantic.AnyUrl


@pydantic.dataclasses.dataclass
class Checked:
    n: int


class Pair(NamedTuple):
    a: Any
    b: Any


Couple = namedtuple("Couple", "a b")
Renamed = namedtuple("Renamed", "a c")


class Text(str):
    pass


class Text2(str):
    pass


class SlottedText(str):
    __slots__ = ("tag",)


class Whole(int):
    pass


class Real(float):
    pass


class Raw(bytes):
    pass


class Rows(list):
    pass


class Table(dict):
    pass


class Bag(set):
    pass


class Moment(dt.datetime):
    pass


class Lying(str):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash("lie")

    def __str__(self):
        return "lie"

    def __repr__(self):
        return "lie"


class Liar:
    """Equal to everything, of every class, with every attribute."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash(None)

    @property
    def __class__(self):
        return int

    def __getattr__(self, name):
        return "anything"


class Sly(type):
    """A metaclass whose classes are equal to every other."""

    def __eq__(cls, other):
        return True

    def __hash__(cls):
        return hash(int)

    def __getattr__(cls, name):
        return {}


class Slippery(metaclass=Sly):
    pass


class Movie(TypedDict):
    title: str


class Plain:
    def __init__(self, value=0):
        self.value = value

    def method(self):
        return self.value

    def __call__(self):
        return self.value


class Own:
    def __init__(self, key, noise=0):
        self.key, self.noise = key, noise

    def __agentflow_key__(self):
        return self.key


class OwnToo(Own):
    pass


class Versioned:
    def __init__(self, version):
        self.version = version

    def __agentflow_version__(self):
        return self.version


class Both(Versioned):
    def __agentflow_key__(self):
        return "key"


class Selfish:
    def __agentflow_key__(self):
        return self


class Endless:
    def __agentflow_key__(self):
        return Endless()


class Iterating:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


class Trouble(Exception):
    pass


@attrs.define
class NamedTrouble(Exception):
    name: str


@dataclasses.dataclass(eq=False)
class Worker(threading.Thread):
    n: int

    def __post_init__(self):
        super().__init__()


class Stranger(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)

    def tzname(self, when):
        return "UTC"

    def dst(self, when):
        return None


def function(x):
    return x


def other_function(x):
    return x + 1


async def numbers():
    yield 1


async def coroutine_function():
    pass


def decorated(fn):
    @functools.wraps(fn)
    def inner(*args):
        return fn(*args)

    return inner


@decorated
def wrapped(x):
    return x


@functools.lru_cache
def remembered(x):
    return x


def make_adder(n):
    def add(x):
        return x + n

    return add


def local_class():
    class Local:
        pass

    return Local


def local_dataclass():
    @dataclasses.dataclass
    class Local:
        x: int = 0

    return Local()


def local_enum():
    class Local(enum.Enum):
        A = 1

    return Local.A


def in_module(name, source):
    """Return what `source` defines as `Item` in a module of that name."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(source, vars(module))
    return module.Item


MODEL = "from pydantic import BaseModel\nclass Item(BaseModel):\n    n: int = 0\n"
AlphaItem = in_module("key_pairs_alpha", MODEL)
BetaItem = in_module("key_pairs_beta", MODEL)


def replaced():
    """Return an instance of a class that another one of that name has replaced."""
    stale = in_module("key_pairs_gamma", MODEL)()
    in_module("key_pairs_gamma", MODEL)
    return stale


def schema(source):
    """Return a model class as another version of one file defines it."""
    return in_module("key_pairs_delta", "from pydantic import BaseModel, Field\nfrom enum import Enum\n" + source)


def changed(target, /, **attributes):
    for name, new in attributes.items():
        setattr(target, name, new)
    return target


def nested(depth, make=lambda inner: [inner]):
    value = None
    for _ in range(depth):
        value = make(value)
    return value


def cyclic_list():
    value = []
    value.append(value)
    return value


def cyclic_dict():
    value = {}
    value["itself"] = [value]
    return value


def cyclic_model():
    value = Outer()
    value.__dict__["inner"] = value
    return value


def cyclic_point():
    value = Point(1)
    value.y = (value,)
    return value


def negative_nan():
    return struct.unpack(">d", b"\xff\xf8\x00\x00\x00\x00\x00\x01")[0]


def file_of(content):
    """Return a file in a new directory."""
    path = pathlib.Path(tempfile.mkdtemp(dir=os.environ["KEY_PAIRS_FILES"])) / "file"
    path.write_bytes(content)
    return FileArg(path)


def nameless_zone():
    with importlib.resources.files("tzdata.zoneinfo").joinpath("UTC").open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


def closed_loop():
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


def http_client():
    with httpx.Client() as client:
        return client


UTC = dt.UTC
BERLIN, PARIS = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Paris")
NOON = (2024, 1, 2, 12, 0)
NAN = float("nan")


def masked(data, mask, **options):
    return np.ma.MaskedArray(data, mask=mask, **options)


def records(*rows, align=False):
    return np.array([*rows], dtype=np.dtype([("a", "u1"), ("b", "i4")], align=align))


def with_padding(byte):
    """Return the same two records with other bytes between the fields."""
    dtype = np.dtype([("a", "u1"), ("b", "<i4")], align=True)
    return np.frombuffer(bytes([1, byte, byte, byte, 2, 0, 0, 0]), dtype=dtype)


def variable_text(*letters):
    """Return an array of texts too long to stand in the array itself."""
    return np.array([letter * 50 for letter in letters], np.dtypes.StringDType())


def frame(**columns):
    return pd.DataFrame(columns)


# --- the table: (name, one value, another value); each side is made anew when it is asked for ---

SAME = [
    # scalars
    ("int", lambda: 1, lambda: int("1")),
    ("large int", lambda: 10**5000, lambda: 10**4999 * 10),
    ("negative int", lambda: -129, lambda: -130 + 1),
    ("str", lambda: "ab", lambda: "".join(["a", "b"])),
    ("lone surrogate", lambda: "\ud800", lambda: chr(0xD800)),
    ("NaN", lambda: NAN, lambda: float("nan")),
    ("NaN of other bits", lambda: NAN, negative_nan),
    ("NaN in a list", lambda: [NAN], lambda: [math.inf - math.inf]),
    ("complex NaN", lambda: complex(NAN, 1), lambda: complex(negative_nan(), 1)),
    ("bytes", lambda: b"ab", lambda: bytes([97, 98])),
    ("long text", lambda: "x" * 100_000, lambda: "x" * 50_000 + "x" * 50_000),
    ("ellipsis", lambda: ..., lambda: Ellipsis),
    # containers
    ("dict order", lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    ("dict order, mixed keys", lambda: {1: 1, "1": 2, None: 3, (1,): 4}, lambda: {(1,): 4, None: 3, "1": 2, 1: 1}),
    ("nested dict order", lambda: [{"a": {"x": 1, "y": 2}}], lambda: [{"a": {"y": 2, "x": 1}}]),
    ("set order", lambda: {"a", "b", "c"}, lambda: {"c", "b", "a"}),
    ("set of unorderable members", lambda: {1, "a", None, (2,)}, lambda: {(2,), None, "a", 1}),
    ("set with NaN", lambda: {NAN, 1}, lambda: {1, float("nan")}),
    ("set with Decimal NaN", lambda: {decimal.Decimal("NaN"), 1}, lambda: {1, decimal.Decimal("NaN")}),
    ("set after a collision of hashes", lambda: {8, 0, 16}, lambda: {16, 8, 0}),
    ("frozenset order", lambda: frozenset("abc"), lambda: frozenset("cba")),
    ("Counter order", lambda: Counter("aab"), lambda: Counter(b=1, a=2)),
    ("defaultdict order", lambda: defaultdict(list, a=1, b=2), lambda: defaultdict(list, b=2, a=1)),
    ("namespace order", lambda: types.SimpleNamespace(a=1, b=2), lambda: types.SimpleNamespace(b=2, a=1)),
    ("shared parts and equal parts", lambda: [[1]] * 2, lambda: [[1], [1]]),
    ("shared parts, large", lambda: [["x" * 300]] * 2, lambda: [["x" * 300], ["x" * 300]]),
    ("shared text", lambda: {"a": "x", "b": "x"}, lambda: copy.deepcopy({"a": "x", "b": "x"})),
    ("empty containers made apart", lambda: [{}, [], ()], lambda: [{}, [], ()]),
    ("array", lambda: array.array("i", [1, 2]), lambda: array.array("i", (1, 2))),
    ("bytearray", lambda: bytearray(b"ab"), lambda: bytearray([97, 98])),
    ("deque", lambda: deque([1], 2), lambda: deque([0, 0, 1], 2).__class__([1], maxlen=2)),
    ("slice", lambda: slice(1, None), lambda: slice(1, None, None)),
    ("200 levels", lambda: nested(200), lambda: nested(200)),
    # times, numbers, names
    ("datetime", lambda: dt.datetime(*NOON), lambda: dt.datetime.fromisoformat("2024-01-02T12:00")),
    ("utc", lambda: dt.datetime(*NOON, tzinfo=UTC), lambda: dt.datetime(*NOON, tzinfo=dt.timezone(dt.timedelta(0)))),
    (
        "zone",
        lambda: dt.datetime(*NOON, tzinfo=BERLIN),
        lambda: dt.datetime(*NOON, tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Berlin")),
    ),
    ("timedelta", lambda: dt.timedelta(hours=24), lambda: dt.timedelta(days=1)),
    ("Decimal", lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal((0, (1, 0), -1))),
    ("Fraction", lambda: fractions.Fraction(2, 4), lambda: fractions.Fraction(1, 2)),
    ("UUID", lambda: uuid.UUID(int=5), lambda: uuid.UUID("00000000-0000-0000-0000-000000000005")),
    ("address", lambda: ipaddress.ip_address("::1"), lambda: ipaddress.IPv6Address(1)),
    ("pattern", lambda: re.compile("a", re.I), lambda: re.compile("a", re.IGNORECASE)),
    ("path", lambda: pathlib.Path("a/b"), lambda: pathlib.Path("a") / "b"),
    ("file by content", lambda: file_of(b"same"), lambda: file_of(b"same")),
    # enums
    ("enum alias", lambda: Colour.RED, lambda: Colour.CRIMSON),
    ("flag", lambda: Access.READ | Access.WRITE, lambda: Access.BOTH),
    ("enum by value", lambda: Word.ONE, lambda: Word("one")),
    ("enum member made up", lambda: Open("new"), lambda: Open("new")),
    # classes that list their fields
    ("dataclass, default spelled out", lambda: Point(1), lambda: Point(x=1, y=0)),
    ("dataclass, cached property used", lambda: Shy(1), lambda: (shy := Shy(1), shy.doubled)[0]),
    ("slotted dataclass", lambda: Slotted(1), lambda: Slotted(1, 0)),
    ("unset field", Late, Late),
    ("attrs", lambda: Vector(1), lambda: Vector(x=1, y=0)),
    ("attrs, cached property used", lambda: Vector(1), lambda: (vector := Vector(1), vector.length)[0]),
    ("attrs, hash used", lambda: Direction(1), lambda: (way := Direction(1), hash(way))[0]),
    ("model", lambda: Outer(), lambda: Outer(hidden=0)),
    ("model, fields set", lambda: Inner(), lambda: Inner(n=0)),
    ("model, by alias", lambda: Outer(other=3), lambda: Outer.model_validate({"other": 3})),
    ("model, cached property used", lambda: Outer(), lambda: (model := Outer(), model.doubled)[0]),
    ("model, other way of making it", lambda: Inner(n=1), lambda: Inner.model_construct(n=1)),
    ("model, order of assignment", lambda: changed(Outer(), hidden=1), lambda: Outer(hidden=1)),
    ("model, order of extras", lambda: Loose(a=1, b=2), lambda: Loose(b=2, a=1)),
    ("generic model", lambda: Crate[int](item=1), lambda: Crate[int].model_validate({"item": 1})),
    ("secret", lambda: SecretStr("a"), lambda: SecretStr("a")),
    ("url", lambda: pydantic.HttpUrl("http://a.b"), lambda: pydantic.HttpUrl("http://a.b/")),
    ("named tuple", lambda: Pair(1, 2), lambda: Pair(b=2, a=1)),
    ("str subclass", lambda: Text("a"), lambda: Text("a")),
    ("list subclass", lambda: Rows([1]), lambda: Rows((1,))),
    (
        "deep copy of everything",
        lambda: [Point(Outer(), {1: Pair(1, b"")})],
        lambda: copy.deepcopy([Point(Outer(), {1: Pair(1, b"")})]),
    ),
    # classes, functions, types
    ("class", lambda: Inner, lambda: Outer.model_fields["inner"].annotation and Inner),
    ("function", lambda: function, lambda: globals()["function"]),
    ("partial", lambda: functools.partial(function, a=1, b=2), lambda: functools.partial(function, b=2, a=1)),
    ("optional", lambda: Optional[int], lambda: int | None),
    ("union", lambda: Union[int, str], lambda: int | str),
    ("generic type", lambda: list[int], lambda: list[int]),
    (
        "schema, same source",
        lambda: schema("class Item(BaseModel):\n  n: int = 0"),
        lambda: schema("class Item(BaseModel):\n  n: int=0 # c"),
    ),
    # what an object says itself
    ("own key", lambda: Own("k", 1), lambda: Own("k", 2)),
    ("own key before version", lambda: Both("1"), lambda: Both("2")),
    ("version", lambda: Versioned("1"), lambda: Versioned("1")),
    # numpy
    ("array layout", lambda: np.arange(6).reshape(2, 3), lambda: np.asfortranarray(np.arange(6).reshape(2, 3))),
    ("array slice", lambda: np.arange(3), lambda: np.arange(6)[::2] // 2),
    ("array of views", lambda: np.array([[1, 2], [3, 4]]).T.copy(), lambda: np.array([[1, 2], [3, 4]]).T),
    ("array NaN", lambda: np.array([NAN]), lambda: np.array([negative_nan()])),
    ("array padding", lambda: with_padding(0), lambda: with_padding(255)),
    ("long doubles", lambda: np.array([1.5], "g"), lambda: np.array([3], "g") / 2),
    ("object array", lambda: np.array([{"a": 1, "b": 2}], object), lambda: np.array([{"b": 2, "a": 1}], object)),
    ("text array", lambda: np.array(["a", "bc"]), lambda: np.array(list(("a", "bc")))),
    ("variable text", lambda: variable_text("a"), lambda: variable_text("b", "a")[1:]),
    ("numpy scalar", lambda: np.float64(1), lambda: np.float64("1.0")),
    ("empty array", lambda: np.zeros((0, 3)), lambda: np.empty((0, 3))),
    ("writable or not", lambda: np.arange(2), lambda: (a := np.arange(2), a.setflags(write=False))[0]),
    # pandas
    ("frame", lambda: frame(a=[1, 2]), lambda: pd.DataFrame({"a": [1, 2]})),
    ("frame attrs", lambda: frame(a=[1]), lambda: (f := frame(a=[1]), f.attrs.update(note=1))[0]),
    ("frame blocks", lambda: frame(a=[1], b=[2]), lambda: (f := frame(a=[1]), f.insert(1, "b", [2]))[0]),
    ("series", lambda: pd.Series([1.5], name="n"), lambda: pd.Series([1.5], name="n").copy()),
    (
        "masked integers",
        lambda: pd.array([1, None], "Int64"),
        lambda: (a := pd.array([1, 7], "Int64"), a.__setitem__(1, None))[0],
    ),
    (
        "timestamp",
        lambda: pd.Timestamp("2024-01-02"),
        lambda: pd.Timestamp(2024, 1, 2).as_unit(pd.Timestamp("2024-01-02").unit),
    ),
    ("NaT", lambda: pd.NaT, lambda: pd.Timestamp("NaT")),
]

DIFFERENT = [
    # exact types of equal scalars
    ("1 and True", lambda: 1, lambda: True),
    ("1 and 1.0", lambda: 1, lambda: 1.0),
    ("1.0 and True", lambda: 1.0, lambda: True),
    ("1.0 and 1+0j", lambda: 1.0, lambda: 1 + 0j),
    ("0 and False", lambda: 0, lambda: False),
    ("0 and None", lambda: 0, lambda: None),
    ("False and None", lambda: False, lambda: None),
    ("empty text and None", lambda: "", lambda: None),
    ("0.0 and -0.0", lambda: 0.0, lambda: -0.0),
    ("complex signs", lambda: complex(0, 0.0), lambda: complex(0, -0.0)),
    ("complex parts", lambda: complex(1, 2), lambda: complex(2, 1)),
    ("complex NaN parts", lambda: complex(NAN, 0), lambda: complex(0, NAN)),
    ("neighbouring floats", lambda: 0.1 + 0.2, lambda: 0.3),
    ("inf and -inf", lambda: math.inf, lambda: -math.inf),
    ("NaN and its name", lambda: NAN, lambda: "nan"),
    ("large ints", lambda: 10**5000, lambda: 10**5000 + 1),
    ("ints beyond double", lambda: 2**53, lambda: 2**53 + 1),
    ("255 and -1", lambda: 255, lambda: -1),
    ("128 and -128", lambda: 128, lambda: -128),
    ("1 and '1'", lambda: 1, lambda: "1"),
    ("None and 'None'", lambda: None, lambda: "None"),
    ("'a' and b'a'", lambda: "a", lambda: b"a"),
    ("bytes and bytearray", lambda: b"a", lambda: bytearray(b"a")),
    ("composed and decomposed", lambda: "\u00e9", lambda: "e\u0301"),
    ("newlines", lambda: "a\nb", lambda: "a\r\nb"),
    ("trailing space", lambda: "a", lambda: "a "),
    ("case", lambda: "A", lambda: "a"),
    ("NUL", lambda: "a\0b", lambda: "a"),
    ("lone surrogates", lambda: "\ud800", lambda: "\ud801"),
    ("surrogate and its escape", lambda: "\ud800", lambda: "\\ud800"),
    ("surrogate pair and character", lambda: "\ud83d\ude00", lambda: "\U0001f600"),
    ("surrogate and question mark", lambda: "\udcff", lambda: "?"),
    ("long text", lambda: "x" * 100_000 + "a", lambda: "x" * 100_000 + "b"),
    ("long text and bytes", lambda: "x" * 100_000, lambda: b"x" * 100_000),
    ("long bytes, one in the middle", lambda: b"x" * 100_000, lambda: b"x" * 50_000 + b"y" + b"x" * 49_999),
    ("long text and its digest", lambda: "x" * 70_000, lambda: ["x" * 70_000]),
    ("ellipsis and NotImplemented", lambda: ..., lambda: NotImplemented),
    # containers: exact type, boundaries, order
    ("list and tuple", lambda: [1], lambda: (1,)),
    ("set and frozenset", lambda: {1}, lambda: frozenset({1})),
    ("list and deque", lambda: [1], lambda: deque([1])),
    ("dict and OrderedDict", lambda: {"a": 1}, lambda: OrderedDict(a=1)),
    ("dict and defaultdict", lambda: {"a": 1}, lambda: defaultdict(int, a=1)),
    ("dict and Counter", lambda: {"a": 1}, lambda: Counter(a=1)),
    ("dict and its items", lambda: {"a": 1}, lambda: [("a", 1)]),
    ("dict and namespace", lambda: {"a": 1}, lambda: types.SimpleNamespace(a=1)),
    ("dict and ChainMap", lambda: {"a": 1}, lambda: ChainMap({"a": 1})),
    ("ChainMaps", lambda: ChainMap({"a": 1}, {"b": 2}), lambda: ChainMap({"b": 2}, {"a": 1})),
    ("defaultdict factories", lambda: defaultdict(int), lambda: defaultdict(float)),
    ("defaultdict without factory", lambda: defaultdict(None), lambda: defaultdict(int)),
    ("OrderedDict order", lambda: OrderedDict(a=1, b=2), lambda: OrderedDict(b=2, a=1)),
    ("list order", lambda: [1, 2], lambda: [2, 1]),
    ("deque order", lambda: deque([1, 2]), lambda: deque([2, 1])),
    ("deque limits", lambda: deque([1], 2), lambda: deque([1], 3)),
    ("deque limit or none", lambda: deque([1]), lambda: deque([1], 3)),
    ("Counter zero", lambda: Counter(a=0), lambda: Counter()),
    ("list boundaries", lambda: ["ab", "c"], lambda: ["a", "bc"]),
    ("nesting", lambda: [1, [2, 3]], lambda: [[1, 2], 3]),
    ("nesting of one", lambda: [[1]], lambda: [1]),
    ("nesting of none", lambda: [[]], lambda: []),
    ("empty list and tuple", lambda: [], lambda: ()),
    ("empty dict and set", lambda: {}, lambda: set()),
    ("None inside", lambda: [None], lambda: []),
    ("dict keys and values", lambda: {"a": "b"}, lambda: {"b": "a"}),
    ("dict values crossed", lambda: {"a": 1, "b": 2}, lambda: {"a": 2, "b": 1}),
    ("dict key 1 and True", lambda: {1: "a"}, lambda: {True: "a"}),
    ("dict key 1 and '1'", lambda: {1: "a"}, lambda: {"1": "a"}),
    ("dict None and absent", lambda: {"a": None}, lambda: {}),
    ("dict pair and list", lambda: {"a": ["b", "c"]}, lambda: {"a": "b", "c": ""}),
    ("set member types", lambda: {1}, lambda: {1.0}),
    ("one NaN and two", lambda: {float("nan")}, lambda: {float("nan"), float("nan")}),
    ("set of sets", lambda: {frozenset({1}), frozenset({2})}, lambda: {frozenset({1, 2})}),
    ("text that looks like JSON", lambda: '{"a": 1}', lambda: {"a": 1}),
    ("text that looks like a list", lambda: "[1, 2]", lambda: [1, 2]),
    ("dict that looks like a tag", lambda: {"__type__": "tuple", "items": [1]}, lambda: (1,)),
    ("list that looks like a tag", lambda: ["d", [["k", 1]]], lambda: {"k": 1}),
    ("bytes that look like a node", lambda: b"\x04list\0\0\0\0\0\0\0\0", lambda: []),
    ("arguments and a tuple", lambda: (1, 2), lambda: ((1, 2),)),
    ("arrays of other types", lambda: array.array("i", [1]), lambda: array.array("l", [1])),
    ("array and list", lambda: array.array("i", [1]), lambda: [1]),
    ("array and bytes", lambda: array.array("b", [97]), lambda: b"a"),
    ("ranges that are equal", lambda: range(0), lambda: range(5, 5)),
    ("range steps", lambda: range(0, 2, 2), lambda: range(0, 2, 3)),
    ("range and list", lambda: range(2), lambda: [0, 1]),
    ("slices", lambda: slice(1), lambda: slice(None, 1, 1)),
    ("199 levels and 198", lambda: nested(199), lambda: nested(198)),
    # times, numbers, names
    (
        "same instant, other zone",
        lambda: dt.datetime(*NOON, tzinfo=UTC),
        lambda: dt.datetime(*NOON, tzinfo=UTC).astimezone(BERLIN),
    ),
    ("same offset, other zone", lambda: dt.datetime(*NOON, tzinfo=BERLIN), lambda: dt.datetime(*NOON, tzinfo=PARIS)),
    (
        "UTC the offset, UTC the zone",
        lambda: dt.datetime(*NOON, tzinfo=UTC),
        lambda: dt.datetime(*NOON, tzinfo=zoneinfo.ZoneInfo("UTC")),
    ),
    (
        "offset with a name",
        lambda: dt.timezone(dt.timedelta(hours=1)),
        lambda: dt.timezone(dt.timedelta(hours=1), "CET"),
    ),
    ("naive and aware", lambda: dt.datetime(*NOON), lambda: dt.datetime(*NOON, tzinfo=UTC)),
    ("fold", lambda: dt.datetime(*NOON), lambda: dt.datetime(*NOON, fold=1)),
    ("fold of a time", lambda: dt.time(2), lambda: dt.time(2, fold=1)),
    ("microsecond", lambda: dt.datetime(*NOON, 0, 1), lambda: dt.datetime(*NOON, 0, 2)),
    ("date and midnight", lambda: dt.date(2024, 1, 2), lambda: dt.datetime(2024, 1, 2)),
    ("date and its text", lambda: dt.date(2024, 1, 2), lambda: "2024-01-02"),
    ("day and month", lambda: dt.date(2024, 1, 2), lambda: dt.date(2024, 2, 1)),
    ("midnight and nothing", lambda: dt.time(0), lambda: None),
    ("timedelta and seconds", lambda: dt.timedelta(seconds=1), lambda: 1),
    ("timedelta sign", lambda: dt.timedelta(seconds=1), lambda: dt.timedelta(seconds=-1)),
    ("1.0 and 1.00", lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
    ("Decimal and int", lambda: decimal.Decimal(1), lambda: 1),
    ("Decimal 0 and -0", lambda: decimal.Decimal(0), lambda: decimal.Decimal("-0")),
    ("Decimal NaNs", lambda: decimal.Decimal("NaN"), lambda: decimal.Decimal("sNaN")),
    ("Decimal digits and exponent", lambda: decimal.Decimal("1E1"), lambda: decimal.Decimal(10)),
    ("Decimal infinities", lambda: decimal.Decimal("Infinity"), lambda: decimal.Decimal("-Infinity")),
    ("Fraction and float", lambda: fractions.Fraction(1, 2), lambda: 0.5),
    ("Fraction and int", lambda: fractions.Fraction(1), lambda: 1),
    ("UUID and text", lambda: uuid.UUID(int=5), lambda: str(uuid.UUID(int=5))),
    ("address families", lambda: ipaddress.ip_address("0.0.0.1"), lambda: ipaddress.ip_address("::1")),
    ("address and interface", lambda: ipaddress.ip_address("1.2.3.4"), lambda: ipaddress.ip_interface("1.2.3.4/32")),
    ("interface and network", lambda: ipaddress.ip_interface("1.2.3.0/24"), lambda: ipaddress.ip_network("1.2.3.0/24")),
    ("network sizes", lambda: ipaddress.ip_network("0.0.0.0/8"), lambda: ipaddress.ip_network("0.0.0.0/9")),
    ("address scopes", lambda: ipaddress.ip_address("fe80::1%a"), lambda: ipaddress.ip_address("fe80::1%b")),
    ("pattern flags", lambda: re.compile("a"), lambda: re.compile("a", re.I)),
    ("pattern and text", lambda: re.compile("a"), lambda: "a"),
    ("pattern of bytes", lambda: re.compile("a"), lambda: re.compile(b"a")),
    ("path and text", lambda: pathlib.Path("a"), lambda: "a"),
    ("path and pure path", lambda: pathlib.PurePosixPath("a"), lambda: pathlib.PosixPath("a")),
    ("path flavours", lambda: pathlib.PurePosixPath("a"), lambda: pathlib.PureWindowsPath("a")),
    ("paths to one file", lambda: pathlib.Path("a"), lambda: pathlib.Path("a").absolute()),
    ("path with parent", lambda: pathlib.Path("b"), lambda: pathlib.Path("a/../b")),
    ("file and path", lambda: FileArg(os.devnull), lambda: pathlib.Path(os.devnull)),
    ("file contents", lambda: file_of(b"a"), lambda: file_of(b"b")),
    ("file lengths", lambda: file_of(b""), lambda: file_of(b"\0")),
    ("file and its bytes", lambda: file_of(b"a"), lambda: b"a"),
    # enums
    ("enum members", lambda: Colour.RED, lambda: Colour.BLUE),
    ("enum and value", lambda: Colour.RED, lambda: 1),
    ("enum and name", lambda: Colour.RED, lambda: "RED"),
    ("enums with equal members", lambda: Colour.RED, lambda: Hue.RED),
    ("IntEnum and int", lambda: Number.ONE, lambda: 1),
    ("StrEnum and str", lambda: Word.ONE, lambda: "one"),
    ("IntEnum and StrEnum", lambda: Number.ONE, lambda: Word.ONE),
    ("flags", lambda: Access.READ, lambda: Access.BOTH),
    ("no flag and nothing", lambda: Access(0), lambda: None),
    ("flag and int", lambda: Access.READ, lambda: 1),
    ("falsy enum members", lambda: Truth.NO, lambda: Truth.YES),
    ("enum class and member", lambda: Colour, lambda: Colour.RED),
    ("enum members made up", lambda: Open("new"), lambda: Open("newer")),
    ("status and number", lambda: http.HTTPStatus.OK, lambda: 200),
    # classes that list their fields
    ("dataclass and dict", lambda: Point(1), lambda: {"x": 1, "y": 0}),
    ("dataclass and tuple", lambda: Point(1, 2), lambda: (1, 2)),
    ("dataclass fields crossed", lambda: Point(1, 2), lambda: Point(2, 1)),
    ("dataclass and subclass", lambda: Point(1), lambda: Place(1)),
    ("dataclass, field not compared", lambda: Shy(1, 2), lambda: Shy(1, 3)),
    ("dataclass, attribute added", lambda: Point(1), lambda: changed(Point(1), extra=1)),
    ("dataclass, attributes of a subclass", lambda: Grown(1, 2), lambda: Grown(1, 3)),
    ("dataclass that is a str", lambda: Tagged("a", "t"), lambda: Tagged("b", "t")),
    ("dataclass that is a str, by field", lambda: Tagged("a", "t"), lambda: Tagged("a", "u")),
    ("dataclass, unset and None", Late, lambda: changed(Late(), value=None)),
    ("dataclass, equal floats", lambda: Point(1), lambda: Point(1.0)),
    ("slotted dataclass", lambda: Slotted(1), lambda: Slotted(2)),
    ("slotted and not", lambda: Slotted(1), lambda: Point(1)),
    ("dataclass instance and class", lambda: Point, lambda: Point(1)),
    ("generic dataclass", lambda: Box(1), lambda: Box(True)),
    ("attrs, field not compared", lambda: Vector(1, 2), lambda: Vector(1, 3)),
    ("attrs and subclass", lambda: Vector(1), lambda: Wide(1)),
    ("attrs and dataclass", lambda: Vector(1), lambda: Point(1)),
    ("attrs without slots", lambda: Direction(1), lambda: Direction(2)),
    ("model and dict", lambda: Inner(n=1), lambda: {"n": 1}),
    ("model and JSON", lambda: Inner(n=1), lambda: '{"n":1}'),
    ("models of other classes", lambda: Inner(), lambda: Deeper()),
    ("nested subclass", lambda: Outer(inner=Inner()), lambda: Outer(inner=Deeper())),
    ("excluded field", lambda: Outer(hidden=1), lambda: Outer(hidden=2)),
    ("aliased field", lambda: Outer(other=1), lambda: Outer(other=2)),
    ("private attribute", lambda: Outer(), lambda: changed(Outer(), _secret=1)),
    ("extras", lambda: Loose(a=1), lambda: Loose(a=2)),
    ("extra or none", lambda: Loose(a=None), lambda: Loose()),
    ("extra and private of one name", lambda: Loose(_x=1), lambda: changed(Loose(), _x=1)),
    ("names of extras", lambda: Loose(a=1), lambda: Loose(b=1)),
    ("missing field", lambda: Inner(n=0), lambda: Inner.model_construct().model_copy(update={"n": None})),
    ("generic models", lambda: Crate[int](item=1), lambda: Crate[float].model_construct(item=1)),
    ("generic model and bare", lambda: Crate[int](item=1), lambda: Crate(item=1)),
    (
        "generic models, classes of one name",
        lambda: Crate[AlphaItem].model_construct(item=1),
        lambda: Crate[BetaItem].model_construct(item=1),
    ),
    ("classes of one name", lambda: AlphaItem(), lambda: BetaItem()),
    ("root models", lambda: Items([1]), lambda: Numbers([1])),
    ("root model and list", lambda: Items([1]), lambda: [1]),
    ("secrets", lambda: SecretStr("a"), lambda: SecretStr("b")),
    ("secret and text", lambda: SecretStr("a"), lambda: "a"),
    ("secret and its stars", lambda: SecretStr("a"), lambda: SecretStr("**********")),
    ("secret bytes", lambda: SecretStr("a"), lambda: pydantic.SecretBytes(b"a")),
    ("secrets in models", lambda: Login(password="a"), lambda: Login(password="b")),
    ("urls", lambda: pydantic.HttpUrl("http://a.b/c"), lambda: pydantic.HttpUrl("http://a.b/d")),
    ("url and text", lambda: pydantic.HttpUrl("http://a.b/c"), lambda: "http://a.b/c"),
    ("url classes", lambda: pydantic.HttpUrl("http://a.b/c"), lambda: pydantic.AnyUrl("http://a.b/c")),
    ("urls in models", lambda: Link(url="http://a.b/c"), lambda: Link(url="http://a.b/d")),
    ("pydantic dataclass", lambda: Checked(1), lambda: Checked(2)),
    ("named tuple and tuple", lambda: Pair(1, 2), lambda: (1, 2)),
    ("named tuples", lambda: Pair(1, 2), lambda: Couple(1, 2)),
    ("named tuple fields", lambda: Couple(1, 2), lambda: Renamed(1, 2)),
    ("named tuple values", lambda: Pair(1, 2), lambda: Pair(2, 1)),
    ("str subclass and str", lambda: Text("a"), lambda: "a"),
    ("str subclasses", lambda: Text("a"), lambda: Text2("a")),
    ("int subclass and int", lambda: Whole(1), lambda: 1),
    ("int subclass and bool", lambda: Whole(1), lambda: True),
    ("float subclass", lambda: Real(0.0), lambda: Real(-0.0)),
    ("bytes subclass", lambda: Raw(b"a"), lambda: b"a"),
    ("list subclass and list", lambda: Rows([1]), lambda: [1]),
    ("dict subclass and dict", lambda: Table(a=1), lambda: {"a": 1}),
    ("set subclass and set", lambda: Bag({1}), lambda: {1}),
    ("datetime subclass", lambda: Moment(*NOON), lambda: dt.datetime(*NOON)),
    ("datetime subclass zones", lambda: Moment(*NOON, tzinfo=UTC), lambda: Moment(*NOON, tzinfo=BERLIN)),
    ("text that lies", lambda: Lying("a"), lambda: Lying("b")),
    # functions, classes and types
    ("functions", lambda: function, lambda: other_function),
    ("function and coroutine function", lambda: function, lambda: coroutine_function),
    ("function and its name", lambda: function, lambda: "function"),
    ("decorated and not", lambda: wrapped, lambda: function),
    ("cached function and function", lambda: remembered, lambda: remembered.__wrapped__),
    ("builtin functions", lambda: len, lambda: max),
    ("builtin methods", lambda: str.upper, lambda: str.lower),
    ("builtin methods of two types", lambda: str.upper, lambda: bytes.upper),
    ("builtin class methods", lambda: dict.fromkeys, lambda: OrderedDict.fromkeys),
    ("slot wrappers", lambda: int.__add__, lambda: int.__sub__),
    ("functions of two modules", lambda: math.sqrt, lambda: operator.neg),
    ("method as function", lambda: Plain.method, lambda: Plain.__call__),
    ("partial and function", lambda: functools.partial(function), lambda: function),
    ("partial arguments", lambda: functools.partial(function, 1), lambda: functools.partial(function, 2)),
    ("partial by position and name", lambda: functools.partial(function, 1), lambda: functools.partial(function, x=1)),
    ("classes", lambda: Inner, lambda: Deeper),
    ("class and its name", lambda: int, lambda: "int"),
    ("builtin classes", lambda: int, lambda: bool),
    ("class and instance", lambda: Inner, lambda: Inner()),
    ("type and object", lambda: type, lambda: object),
    ("NoneType and None", lambda: type(None), lambda: None),
    ("typed dicts and dict", lambda: Movie, lambda: dict),
    (
        "schema, field added",
        lambda: schema("class Item(BaseModel):\n  n: int = 0"),
        lambda: schema("class Item(BaseModel):\n  n: int = 0\n  m: int = 0"),
    ),
    (
        "schema, default",
        lambda: schema("class Item(BaseModel):\n  n: int = 0"),
        lambda: schema("class Item(BaseModel):\n  n: int = 1"),
    ),
    (
        "schema, type",
        lambda: schema("class Item(BaseModel):\n  n: int = 0"),
        lambda: schema("class Item(BaseModel):\n  n: float = 0"),
    ),
    (
        "schema, constraint",
        lambda: schema("class Item(BaseModel):\n  n: int = Field(gt=1)"),
        lambda: schema("class Item(BaseModel):\n  n: int = Field(gt=2)"),
    ),
    (
        "schema, pattern",
        lambda: schema("class Item(BaseModel):\n  n: str = Field(pattern='a')"),
        lambda: schema("class Item(BaseModel):\n  n: str = Field(pattern='b')"),
    ),
    (
        "schema, description",
        lambda: schema("class Item(BaseModel):\n  n: int = Field(description='a')"),
        lambda: schema("class Item(BaseModel):\n  n: int = Field(description='b')"),
    ),
    (
        "schema, docstring",
        lambda: schema("class Item(BaseModel):\n  '''a'''\n  n: int"),
        lambda: schema("class Item(BaseModel):\n  '''b'''\n  n: int"),
    ),
    (
        "schema, nested model",
        lambda: schema("class Part(BaseModel):\n  n: int\nclass Item(BaseModel):\n  p: list[Part]"),
        lambda: schema("class Part(BaseModel):\n  n: str\nclass Item(BaseModel):\n  p: list[Part]"),
    ),
    (
        "schema, nested enum",
        lambda: schema("class E(Enum):\n  A = 1\nclass Item(BaseModel):\n  e: E"),
        lambda: schema("class E(Enum):\n  A = 1\n  B = 2\nclass Item(BaseModel):\n  e: E"),
    ),
    (
        "schema, recursive model",
        lambda: schema("class Item(BaseModel):\n  n: 'list[Item]'"),
        lambda: schema("class Item(BaseModel):\n  n: 'list[Item] | None'"),
    ),
    (
        "schema behind a type",
        lambda: list[schema("class Item(BaseModel):\n  n: int")],
        lambda: list[schema("class Item(BaseModel):\n  n: str")],
    ),
    ("generic types", lambda: list[int], lambda: list[str]),
    ("generic type and bare", lambda: list[int], lambda: list),
    ("old and new spelling", lambda: List[int], lambda: list[int]),
    ("union order", lambda: int | str, lambda: str | int),
    ("literals", lambda: Literal[1], lambda: Literal[2]),
    ("literals of equal values", lambda: Literal[1], lambda: Literal[True]),
    ("annotations", lambda: Annotated[int, 1], lambda: Annotated[int, 2]),
    ("annotated and not", lambda: Annotated[int, 1], lambda: int),
    ("constraints", lambda: Annotated[int, Field(gt=1)], lambda: Annotated[int, Field(gt=2)]),
    ("callables", lambda: Callable[[int], str], lambda: Callable[[str], str]),
    ("callables of anything", lambda: Callable[..., str], lambda: Callable[[], str]),
    ("Any and object", lambda: Any, lambda: object),
    ("generic models as types", lambda: Crate[AlphaItem], lambda: Crate[BetaItem]),
    # what an object says itself
    ("own keys", lambda: Own("a"), lambda: Own("b")),
    ("own key and the key", lambda: Own("a"), lambda: "a"),
    ("own keys of two classes", lambda: Own("a"), lambda: OwnToo("a")),
    ("own key of exact type", lambda: Own(1), lambda: Own(True)),
    ("versions", lambda: Versioned("1"), lambda: Versioned("2")),
    (
        "wrapped functions with one pinned version",
        lambda: functools.update_wrapper(Versioned("1"), function),
        lambda: functools.update_wrapper(Versioned("1"), other_function),
    ),
    # numpy
    ("numpy array and list", lambda: np.array([1, 2]), lambda: [1, 2]),
    ("array types", lambda: np.array([1], "i4"), lambda: np.array([1], "i8")),
    ("array byte order", lambda: np.array([1], "<i4"), lambda: np.array([1], ">i4")),
    ("array bytes, other order", lambda: np.array([1], "<i4"), lambda: np.array([1 << 24], ">i4")),
    ("array shapes", lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    ("array dimensions", lambda: np.zeros(1), lambda: np.zeros(())),
    ("empty array shapes", lambda: np.zeros((0, 2)), lambda: np.zeros((0, 3))),
    ("array transposed", lambda: np.array([[1, 2], [3, 4]]), lambda: np.array([[1, 2], [3, 4]]).T),
    (
        "array, one element of many",
        lambda: np.zeros(10**6),
        lambda: (a := np.zeros(10**6), a.__setitem__(500_001, 1e-9))[0],
    ),
    ("array 0.0 and -0.0", lambda: np.array([0.0]), lambda: np.array([-0.0])),
    ("array NaN and inf", lambda: np.array([NAN]), lambda: np.array([math.inf])),
    ("array text widths", lambda: np.array(["a"], "U1"), lambda: np.array(["a"], "U2")),
    ("array text order", lambda: np.array(["a", "b"]), lambda: np.array(["b", "a"])),
    (
        "variable text",
        lambda: np.array(["a" * 50], np.dtypes.StringDType()),
        lambda: np.array(["b" * 50], np.dtypes.StringDType()),
    ),
    ("object array", lambda: np.array([1, "a"], object), lambda: np.array([1, "b"], object)),
    ("object array, equal elements", lambda: np.array([1], object), lambda: np.array([True], object)),
    ("datetime units", lambda: np.array(["2024"], "M8[D]"), lambda: np.array(["2024"], "M8[s]")),
    ("record fields", lambda: records((1, 2), (3, 4)), lambda: records((2, 1), (3, 4))),
    ("record alignment", lambda: records((1, 2), (3, 4)), lambda: records((1, 2), (3, 4), align=True)),
    ("record class", lambda: records((1, 2), (3, 4)), lambda: records((1, 2), (3, 4)).view(np.recarray)),
    ("matrix and array", lambda: np.array([[1]]), lambda: np.array([[1]]).view(np.matrix)),
    ("masks", lambda: masked([1, 2], [0, 1]), lambda: masked([1, 2], [1, 0])),
    ("values under a mask", lambda: masked([1, 2], [0, 1]), lambda: masked([1, 3], [0, 1])),
    ("masked and not", lambda: masked([1], [0]), lambda: np.array([1])),
    ("fill values", lambda: masked([1], [1], fill_value=1), lambda: masked([1], [1], fill_value=2)),
    ("neighbouring long doubles", lambda: np.longdouble(1), lambda: np.longdouble(1) + np.finfo(np.longdouble).eps),
    ("long double infinities", lambda: np.longdouble("inf"), lambda: np.longdouble("-inf")),
    ("complex arrays", lambda: np.array([1 + 2j]), lambda: np.array([2 + 1j])),
    ("numpy float and float", lambda: np.float64(1), lambda: 1.0),
    ("numpy bool and bool", lambda: np.True_, lambda: True),
    ("numpy str and str", lambda: np.str_("a"), lambda: "a"),
    ("numpy ints", lambda: np.int32(1), lambda: np.int64(1)),
    ("numpy scalar and array", lambda: np.int64(1), lambda: np.array(1)),
    ("dtypes", lambda: np.dtype("i4"), lambda: np.dtype("i8")),
    ("dtype and its class", lambda: np.dtype("f8"), lambda: np.float64),
    # pandas
    ("frame values", lambda: frame(a=[1, 2]), lambda: frame(a=[1, 3])),
    ("frame columns", lambda: frame(a=[1]), lambda: frame(b=[1])),
    ("frame column order", lambda: frame(a=[1], b=[2]), lambda: frame(b=[2], a=[1])),
    ("frame index", lambda: frame(a=[1, 2]), lambda: frame(a=[1, 2]).set_index(pd.Index([1, 2]))),
    ("frame index name", lambda: frame(a=[1]), lambda: frame(a=[1]).rename_axis("n")),
    ("frame column types", lambda: frame(a=[1]), lambda: frame(a=[1.0])),
    ("frame column widths", lambda: frame(a=[1]), lambda: frame(a=[1]).astype("int32")),
    (
        "frame, duplicate columns",
        lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
        lambda: pd.DataFrame([[2, 1]], columns=["a", "a"]),
    ),
    (
        "frame, one cell of many",
        lambda: frame(a=range(10**5)),
        lambda: (f := frame(a=range(10**5)), f.loc.__setitem__((77_777, "a"), -1))[0],
    ),
    ("frame and dict", lambda: frame(a=[1]), lambda: {"a": [1]}),
    ("frame flags", lambda: frame(a=[1]), lambda: frame(a=[1]).set_flags(allows_duplicate_labels=False)),
    ("series and frame", lambda: pd.Series([1], name="a"), lambda: frame(a=[1])),
    ("series names", lambda: pd.Series([1], name="a"), lambda: pd.Series([1], name="b")),
    ("series of text", lambda: pd.Series(["a"]), lambda: pd.Series(["b"])),
    ("series of objects", lambda: pd.Series([1, "a"]), lambda: pd.Series([True, "a"])),
    ("categories", lambda: pd.Categorical(["a"], ["a", "b"]), lambda: pd.Categorical(["a"], ["a", "c"])),
    (
        "categories, order",
        lambda: pd.Categorical(["a"], ["a", "b"]),
        lambda: pd.Categorical(["a"], ["a", "b"], ordered=True),
    ),
    ("categories and text", lambda: pd.Series(["a"], dtype="category"), lambda: pd.Series(["a"])),
    ("nullable integers", lambda: pd.array([1, None], "Int64"), lambda: pd.array([1, 0], "Int64")),
    ("nullable and not", lambda: pd.Series([1], dtype="Int64"), lambda: pd.Series([1], dtype="int64")),
    (
        "zones of a column",
        lambda: pd.Series(pd.to_datetime(["2024-01-02"]).tz_localize("Europe/Berlin")),
        lambda: pd.Series(pd.to_datetime(["2024-01-02"]).tz_localize("Europe/Paris")),
    ),
    ("periods", lambda: pd.Period("2024-01"), lambda: pd.Period("2024-02")),
    (
        "period column",
        lambda: pd.Series(pd.period_range("2024-01", periods=2)),
        lambda: pd.Series(pd.period_range("2024-02", periods=2)),
    ),
    ("intervals", lambda: pd.Interval(0, 1), lambda: pd.Interval(0, 1, closed="both")),
    ("multi index", lambda: pd.MultiIndex.from_tuples([(1, 2)]), lambda: pd.MultiIndex.from_tuples([(2, 1)])),
    ("range index and index", lambda: pd.RangeIndex(2), lambda: pd.Index([0, 1])),
    ("timestamp and datetime", lambda: pd.Timestamp(2024, 1, 2), lambda: dt.datetime(2024, 1, 2)),
    ("nanoseconds", lambda: pd.Timestamp(1), lambda: pd.Timestamp(2)),
    ("timestamp zones", lambda: pd.Timestamp(0, tz="UTC"), lambda: pd.Timestamp(0, tz="Europe/London")),
    ("timedeltas", lambda: pd.Timedelta(1), lambda: pd.Timedelta(2)),
    ("NaT and NA", lambda: pd.NaT, lambda: pd.NA),
    ("NA and None", lambda: pd.NA, lambda: None),
]

REFUSED = [
    ("object", object),
    ("plain object", Plain),
    ("callable object", lambda: Plain(1)),
    ("lambda", lambda: lambda x: x),
    ("closure under the name of another", lambda: decorated(function)),
    ("local function", lambda: make_adder(1)),
    ("bound method", lambda: Plain().method),
    ("bound method of a builtin", lambda: [].append),
    ("bound class method", lambda: Inner.model_validate),
    ("partial of a lambda", lambda: functools.partial(lambda: 1)),
    ("partial of a bound method", lambda: functools.partial(Plain().method)),
    ("generator", lambda: (x for x in "a")),
    ("iterator", lambda: iter([1])),
    ("own iterator", Iterating),
    ("map", lambda: map(str, [1])),
    ("enumerate", lambda: enumerate([1])),
    ("itertools", lambda: itertools.count()),
    ("async generator", lambda: numbers()),
    ("dict view", lambda: {}.keys()),
    ("dict values", lambda: {}.values()),
    ("dict items", lambda: {}.items()),
    ("mapping proxy", lambda: types.MappingProxyType({})),
    ("memoryview", lambda: memoryview(b"a")),
    ("text buffer", lambda: io.StringIO("a")),
    ("byte buffer", lambda: io.BytesIO(b"a")),
    ("lock", threading.Lock),
    ("event", threading.Event),
    ("thread", lambda: threading.Thread(target=print)),
    ("dataclass that is a thread", lambda: Worker(1)),
    ("queue", queue.Queue),
    ("module", lambda: math),
    ("logger", lambda: logging.getLogger("a")),
    ("context variable", lambda: contextvars.ContextVar("a")),
    ("context", contextvars.copy_context),
    ("random generator", random.Random),
    ("http client", http_client),
    ("exception", lambda: ValueError("a")),
    ("own exception", Trouble),
    ("attrs exception", lambda: NamedTrouble("a")),
    ("weak reference", lambda: weakref.ref(Plain)),
    ("weak proxy", lambda: weakref.proxy(Plain)),
    ("code", lambda: function.__code__),
    ("frame", sys._getframe),
    ("property", lambda: property(function)),
    ("static method", lambda: staticmethod(function)),
    ("local class", local_class),
    ("instance of a local class", lambda: local_class()()),
    ("local dataclass", local_dataclass),
    ("member of a local enum", local_enum),
    ("type with a local class", lambda: list[local_class()]),
    ("type with an unkeyable note", lambda: Annotated[int, object()]),
    ("enum member made up of an object", lambda: Odd(5)),
    ("replaced class", replaced),
    ("zone without a name", lambda: dt.datetime(*NOON, tzinfo=Stranger())),
    ("zone from a file", nameless_zone),
    ("cyclic list", cyclic_list),
    ("cyclic dict", cyclic_dict),
    ("cyclic model", cyclic_model),
    ("cyclic dataclass", cyclic_point),
    ("cyclic partial", lambda: (p := functools.partial(print), p.keywords.update(p=p))[0]),
    ("201 levels", lambda: nested(201)),
    ("100 000 levels of lists", lambda: nested(100_000)),
    ("100 000 levels of tuples", lambda: nested(100_000, lambda inner: (inner,))),
    ("100 000 levels of dicts", lambda: nested(100_000, lambda inner: {"a": inner})),
    ("100 000 levels of dataclasses", lambda: nested(100_000, Point)),
    ("100 000 levels of frozensets", lambda: nested(100_000, lambda inner: frozenset([inner]))),
    ("deep by sharing", lambda: [(deep := nested(150)), nested(60, lambda inner: [inner or deep])]),
    ("own key that is itself", Selfish),
    ("own key without end", Endless),
    ("own key that has none", lambda: Own(object())),
    ("str subclass with attributes", lambda: changed(Text("a"), tag=1)),
    ("str subclass with slots", lambda: changed(SlottedText("a"), tag=1)),
    ("dict subclass with attributes", lambda: changed(Table(), tag=1)),
    ("user dict", lambda: UserDict(a=1)),
    ("time tuple", lambda: time.localtime(0)),
    ("file status", lambda: os.stat("/")),
    ("match", lambda: re.match("a", "a")),
    ("attribute getter", lambda: operator.attrgetter("a")),
    ("string template", lambda: string.Template("a")),
    ("struct", lambda: struct.Struct("i")),
    ("defaultdict with a lambda", lambda: defaultdict(lambda: 0)),
    ("lock in a list", lambda: [1, [threading.Lock()]]),
    ("lock as a dict value", lambda: {"a": threading.Lock()}),
    ("lock as a dict key", lambda: {threading.Lock(): 1}),
    ("lock in a set", lambda: {threading.Lock()}),
    ("lock in a dataclass", lambda: Point(threading.Lock())),
    ("lock in an added attribute", lambda: changed(Point(1), lock=threading.Lock())),
    ("lock in attrs", lambda: Vector(threading.Lock())),
    ("lock in a model", lambda: Inner.model_construct(n=threading.Lock())),
    ("lock in an extra", lambda: Loose(a=threading.Lock())),
    ("lock in a private attribute", lambda: changed(Outer(), _secret=threading.Lock())),
    ("lock in a named tuple", lambda: Pair(1, threading.Lock())),
    ("lock in an object array", lambda: np.array([threading.Lock()], object)),
    ("lock in a frame", lambda: frame(a=[threading.Lock()])),
    ("numpy generator", np.random.default_rng),
    ("memory map", lambda: np.array([1]).view(type("Sub", (np.ndarray,), {}))),
    ("equal to everything", Liar),
    ("class equal to everything", Slippery),
    ("abstract base", lambda: abc.ABC()),
    ("event loop", closed_loop),
]


def key(value):
    return arguments_digest("step", {"value": value})


def named(table):
    return [pytest.param(*row[1:], id=row[0]) for row in table]


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_PAIRS_FILES", str(tmp_path))


@pytest.mark.parametrize(("one", "other"), named(SAME))
def test_one_argument_has_one_key(one, other):
    """What plain code cannot tell apart, and what the rules list as ignored, has one key."""
    assert key(one()) == key(other())


@pytest.mark.parametrize(("one", "other"), named(DIFFERENT))
def test_two_arguments_have_two_keys(one, other):
    """What plain code can tell apart has two keys."""
    assert key(one()) != key(other())
    assert key([one()]) != key([other()])


@pytest.mark.parametrize(("one", "other"), named(DIFFERENT))
def test_a_key_does_not_depend_on_when_it_is_computed(one, other):
    """The same value made again has the same key."""
    assert (key(one()), key(other())) == (key(one()), key(other()))


@pytest.mark.parametrize("make", named(REFUSED))
def test_what_cannot_be_keyed_is_refused(make):
    """Nothing is guessed: a value whose content cannot be known whole is a typed error that names it."""
    value = make()

    with pytest.raises(UnkeyableArgument) as caught:
        key(value)

    assert caught.value.step == "step"
    assert caught.value.parameter == "value"
    assert caught.value.type_name
    assert "register_key" in str(caught.value)


def test_the_table_is_as_large_as_the_rules_ask():
    """The table keeps its size: 200 pairs and 32 refusals at least, each under a name of its own."""
    pairs = [f"{row[0]} (same)" for row in SAME] + [row[0] for row in DIFFERENT]

    assert len(pairs) == len(set(pairs)) >= 284
    assert len({row[0] for row in REFUSED}) == len(REFUSED) >= 32
