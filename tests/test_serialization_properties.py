"""What holds of stored values whatever they are: hypothesis looks for the value that breaks it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntFlag
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ConfigDict

from agentflow._serialization import StaleValue, codec_for, seal, unseal
from agentflow.exceptions import StoreCorrupt

# The strategies are nested, and so are their descriptions, which hypothesis finds long when it makes one.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: Any
    other: Any = None


class SubModel(Model):
    more: Any = 0


@dataclass(frozen=True)
class Data:
    x: Any
    y: Any = 1


@attrs.frozen
class Attrs:
    _x: Any


class Tuple(NamedTuple):
    a: Any
    b: Any


class Colour(Enum):
    RED = "red"
    BLUE = ("b", 1)


class Rights(IntFlag):
    READ = 1
    WRITE = 2


KNOWN = tuple[Model, Data, Attrs, Tuple, Colour, Rights]

text = st.text(st.characters(codec=None), max_size=8)  # lone surrogates included
extra_names = st.text(st.characters(codec="utf-8"), max_size=8).map("x".__add__)  # pydantic wants them encodable
zones = st.none() | st.timezones() | st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(minutes=-90), "x")])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    text,
    st.binary(max_size=8),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.ip_addresses(),
    st.sampled_from([Colour.RED, Colour.BLUE, Rights.READ, Rights(3), Rights(0), range(3), PurePosixPath("a/../b")]),
)


def made(make: Any, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Instances made of parts, without the long description of a nested `st.builds`."""
    return st.tuples(*parts).map(lambda drawn: make(*drawn))


# Signalling NaNs refuse to be hashed.
hashables = st.recursive(
    scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        inner.map(Attrs),
        *(made(cls, inner, inner) for cls in (Data, Tuple)),
    ),
    max_leaves=4,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values that hold others."""
    texts = st.dictionaries(text, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.lists(inner, max_size=4).map(deque),
        st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=9)),
        texts,
        st.dictionaries(hashables, inner, max_size=4),
        texts.map(OrderedDict),
        texts.map(lambda items: defaultdict(list, items)),
        st.lists(hashables, max_size=4).map(Counter),
        *(made(cls, inner, inner) for cls in (Data, Tuple)),
        made(lambda name, more: Model(name=name, **more), inner, st.dictionaries(extra_names, inner, max_size=3)),
        made(lambda name, more: SubModel(name=name, more=more), inner, inner),
    )


values = st.recursive(scalars, containers, max_leaves=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """Return a value as tuples of types and plain data, for which `==` is as exact as it has to be."""
    if isinstance(value, float):
        return float, struct.pack(">d", value)
    if isinstance(value, complex):
        return complex, shape(value.real), shape(value.imag)
    if isinstance(value, Decimal):
        return Decimal, value.as_tuple()
    if isinstance(value, (dt.datetime, dt.time)):
        return type(value), value.replace(tzinfo=None, fold=0), value.fold, type(value.tzinfo), str(value.tzinfo)
    if isinstance(value, BaseModel):
        return type(value), shape(value.__dict__), shape(value.model_extra), value.model_fields_set
    if isinstance(value, Data):
        return Data, shape(value.x), shape(value.y)
    if isinstance(value, Attrs):
        return Attrs, shape(value._x)
    if isinstance(value, dict):
        return type(value), getattr(value, "default_factory", None), [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(shape(item)) for item in value)
    if isinstance(value, (list, tuple, deque)):
        return type(value), getattr(value, "maxlen", None), [shape(item) for item in value]
    return type(value), value


@settings(max_examples=200, deadline=None)
@given(values)
def test_any_value_comes_back(value):
    """Loading what was stored gives the value, with the same types in every part."""
    codec = codec_for(KNOWN)

    loaded = codec.loads(codec.dumps(value, owner="a test"))

    assert shape(loaded) == shape(value)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_no_json_value_is_taken_for_a_tag(value):
    """A value that came from JSON, a model's answer say, is never read as a class or another type."""
    codec = codec_for(KNOWN)

    loaded = codec.loads(codec.dumps(value, owner="a test"))

    assert shape(loaded) == shape(value)


@settings(max_examples=150, deadline=None)
@given(values)
def test_what_is_written_is_no_tag_when_it_is_a_value(value):
    """The nodes of any value, taken as a value of their own, come back as those nodes and not as that value."""
    codec = codec_for(KNOWN)
    body = codec.dumps([value], owner="a test")
    nodes = json.loads(body)

    loaded = codec.loads(codec.dumps(nodes, owner="a test"))

    assert shape(loaded) == shape(nodes)


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_any_json_document_is_a_value_or_a_typed_error(document):
    """Whatever stands in a store, reading it ends in a value, `StaleValue` or `StoreCorrupt`."""
    body = json.dumps(document).encode()

    with contextlib.suppress(StaleValue, StoreCorrupt):
        codec_for(KNOWN).loads(body)


@settings(max_examples=200, deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_a_document_with_parts_exchanged_is_a_value_or_a_typed_error(value, chance):
    """Nodes in each other's places, as a hostile writer could put them, are never an error of Python's own."""
    codec = codec_for(KNOWN)
    document = json.loads(codec.dumps([value, {"a": [1]}], owner="a test"))
    places = list(_places(document))
    (holder, key), (other, other_key) = chance.choice(places), chance.choice(places)
    holder[key] = json.loads(json.dumps(other[other_key]))

    with contextlib.suppress(StaleValue, StoreCorrupt):
        codec.loads(json.dumps(document).encode())


def _places(node: Any) -> Any:
    """Yield every place in a JSON document."""
    for key, item in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_typed_error(body):
    """Bytes that nobody wrote are no crash, sealed or not."""
    for read in (codec_for(KNOWN).loads, unseal):
        with contextlib.suppress(StaleValue, StoreCorrupt):
            read(body)


@settings(max_examples=100, deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_flipped_bytes_never_give_a_value(value, chance):
    """Eight flipped bytes anywhere in a sealed value are found."""
    sealed = seal(codec_for(KNOWN).dumps(value, owner="a test"))
    damaged = bytearray(sealed)
    for place in chance.sample(range(len(damaged)), 8):
        damaged[place] ^= chance.randrange(1, 256)

    with pytest.raises(StoreCorrupt):
        unseal(bytes(damaged))


@given(text)
def test_any_text_keeps_every_character(value):
    """No normalisation, no newline change, no lost surrogate; alone, in a list, as a key."""
    codec = codec_for(Any)

    for whole in (value, [value], {value: value}, (value, b"x")):
        assert codec.loads(codec.dumps(whole, owner="a test")) == whole


def test_floats_keep_every_bit():
    """Twenty thousand floats of random bits come back with the same bits."""
    chance = random.Random(7)
    floats = [struct.unpack(">d", chance.randbytes(8))[0] for _ in range(20_000)]
    codec = codec_for(Any)

    loaded = codec.loads(codec.dumps(floats, owner="a test"))

    assert [struct.pack(">d", one) for one in loaded] == [struct.pack(">d", one) for one in floats]
    assert any(map(math.isfinite, floats))
