"""Argument keys, for values and calls that nobody wrote down."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import pickle
import uuid
from collections import Counter, OrderedDict, deque
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import attrs
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

from agentflow._canonical import node, scalar
from agentflow._keys import arguments_digest
from agentflow._signature import Shape


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@attrs.define
class Vector:
    x: Any
    y: Any = 0


class Model(BaseModel):
    x: Any
    y: Any = 0


class Pair(NamedTuple):
    x: Any
    y: Any = 0


RECORDS = (Point, Vector, Model, Pair)

# Small ranges of everything, so that equal and nearly equal values meet often.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")]),
    st.sampled_from([1j, 0j, complex(1, 0)]),
    st.text("a\ud800", max_size=2),
    st.binary(max_size=1),
    st.sampled_from([*Colour, *Level]),
    st.sampled_from([decimal.Decimal(each) for each in ("0", "-0", "1", "1.0", "NaN")]),
    st.builds(
        dt.datetime,
        st.just(2024),
        st.just(1),
        st.just(1),
        fold=st.integers(0, 1),
        tzinfo=st.sampled_from([None, dt.UTC]),
    ),
    st.sampled_from([dt.date(2024, 1, 1), dt.timedelta(1), uuid.UUID(int=1)]),
    st.sampled_from([PurePosixPath("a"), PureWindowsPath("a"), range(0), range(1, 1), ...]),
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=3)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=2).map(deque),
        st.dictionaries(HASHABLE, inner, max_size=2),
        st.dictionaries(HASHABLE, inner, max_size=2).map(OrderedDict),
        st.sets(HASHABLE, max_size=2),
        st.builds(lambda cls, x, y: cls(x=x, y=y), st.sampled_from(RECORDS), inner, inner),
    ),
    max_leaves=6,
)


def meaning(value):
    """Spell out what a value is for plain code, by other means than keys: as text that only equal meanings share."""
    kind = type(value).__name__
    if isinstance(value, enum.Enum):
        return f"{kind}.{value.name}"
    if isinstance(value, float):
        return f"{kind} {value.hex()}"
    if isinstance(value, complex):
        return f"{kind} {value.real.hex()} {value.imag.hex()}"
    if isinstance(value, decimal.Decimal):
        return f"{kind} {value.as_tuple()}"
    if isinstance(value, RECORDS):
        return f"{kind}({meaning(value.x)}, {meaning(value.y)})"
    if isinstance(value, (list, tuple, deque)):
        return f"{kind}[{', '.join(map(meaning, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{kind}{{{', '.join(sorted(map(meaning, value)))}}}"
    if isinstance(value, dict):
        pairs = [f"{meaning(name)}: {meaning(each)}" for name, each in value.items()]
        return f"{kind}{{{', '.join(pairs if isinstance(value, OrderedDict) else sorted(pairs))}}}"
    return f"{kind} {value!r}"


def key(value):
    return arguments_digest("step", {"value": value})


@settings(max_examples=500, deadline=None)
@given(VALUES, VALUES)
def test_two_values_share_a_key_exactly_if_they_mean_the_same(one, other):
    """Keys are equal if and only if plain code could not tell the values apart."""
    assert (key(one) == key(other)) == (meaning(one) == meaning(other))


@settings(max_examples=500, deadline=None)
@given(st.lists(SCALARS, max_size=3), st.lists(SCALARS, max_size=3))
def test_short_lists_share_a_key_exactly_if_they_mean_the_same(one, other):
    """The same for lists short enough to meet often."""
    assert (key(one) == key(other)) == (meaning(one) == meaning(other))


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_a_copy_has_the_same_key(value):
    """Which objects are shared, and which are one object, does not count."""
    assert key(value) == key(copy.deepcopy(value)) == key(pickle.loads(pickle.dumps(value)))
    assert key([value, value]) == key([value, copy.deepcopy(value)])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(HASHABLE, VALUES, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_does_not_count(value, random):
    """A dict built in another order is the same argument."""
    pairs = list(value.items())
    random.shuffle(pairs)

    assert key(value) == key(dict(pairs))


@settings(max_examples=300, deadline=None)
@given(st.lists(HASHABLE, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_a_set_does_not_count(members, random):
    """A set built in another order of members, no two of them equal, is the same argument; a Counter too."""
    shuffled = random.sample(members, len(members))

    assert key(set(members)) == key(set(shuffled))
    assert key(Counter(members)) == key(Counter(shuffled))


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_a_value_is_not_one_of_its_wrappings(value):
    """A container of one is not what it contains."""
    wrappings = [value, [value], (value,), deque([value]), {"value": value}, Point(value), Vector(value)]

    assert len({key(each) for each in wrappings}) == len(wrappings)


PARTS = st.lists(st.binary(max_size=20) | st.sampled_from([b"\0" * 8, node(b"a"), node(b"a", b"")]), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3), PARTS, st.binary(max_size=3), PARTS)
def test_a_node_can_be_read_back_in_one_way_only(tag, parts, other_tag, other_parts):
    """Two nodes are equal only if their tags and parts are."""
    assert (node(tag, *parts) == node(other_tag, *other_parts)) == ((tag, parts) == (other_tag, other_parts))


@settings(max_examples=300, deadline=None)
@given(HASHABLE, HASHABLE)
def test_scalars_share_their_bytes_exactly_if_they_mean_the_same(one, other):
    """`scalar` distinguishes what keys distinguish."""
    encoded, other_encoded = scalar(one), scalar(other)

    if encoded is not None and other_encoded is not None:
        assert (encoded == other_encoded) == (meaning(one) == meaning(other))


# --- calls ---


def step(a, b=0, *rest, c="x", d=None, **more):
    """Stands for a step with parameters of every kind."""


def simple(a, b=0, c=None):
    """Stands for a step as most are."""


SHAPE, SIMPLE = Shape.of(step, what="step"), Shape.of(simple, what="step")
NAMES = st.sampled_from(["e", "f", "g"])


@st.composite
def calls(draw):
    """Return the arguments of a call by parameter, where what is left out has its default."""
    chosen = {"a": draw(SCALARS)}
    chosen |= {name: draw(SCALARS) for name in ("b", "c", "d") if draw(st.booleans())}
    if "b" in chosen and draw(st.booleans()):
        chosen["rest"] = tuple(draw(st.lists(SCALARS, max_size=2)))
    chosen["more"] = draw(st.dictionaries(NAMES, SCALARS, max_size=2))
    return chosen


def spelled(call, draw):
    """Return positional and keyword arguments for a call, in one of the ways there are."""
    given_ = dict(call)
    for name, default in (("b", 0), ("c", "x"), ("d", None)):
        if name not in given_ and draw(st.booleans()):
            given_[name] = default
    rest, more = given_.pop("rest", ()), given_.pop("more")
    args: list[Any] = []
    if rest or draw(st.booleans()):
        args.append(given_.pop("a"))
        if rest or ("b" in given_ and draw(st.booleans())):
            args += [given_.pop("b"), *rest]
    named = list((given_ | more).items())
    return args, dict(draw(st.permutations(named)))


def in_order(call):
    """Return positional and keyword arguments for a call, in the plainest way."""
    args = (call["a"], *([call["b"], *call["rest"]] if "rest" in call else []))
    named = {name: call[name] for name in ("b", "c", "d") if name in call and (name != "b" or "rest" not in call)}
    return args, named | call["more"]


def call_key(shape, args, kwargs):
    return arguments_digest("step", shape.bind(tuple(args), kwargs))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_call_has_one_key_however_it_is_spelled(data):
    """By position or by name, with defaults left out or spelled out, keywords in any order."""
    call = data.draw(calls())

    ways = [spelled(call, data.draw) for _ in range(3)]

    assert len({call_key(SHAPE, *way) for way in ways}) == 1


@settings(max_examples=500, deadline=None)
@given(calls(), calls())
def test_two_calls_share_a_key_exactly_if_their_arguments_mean_the_same(one, other):
    """A different call is never found under another one's key."""

    bound = [SHAPE.bind(*in_order(call)) for call in (one, other)]

    assert (call_key(SHAPE, *in_order(one)) == call_key(SHAPE, *in_order(other))) == (
        meaning(bound[0]) == meaning(bound[1])
    )


@settings(max_examples=200, deadline=None)
@given(SCALARS, SCALARS, SCALARS)
def test_a_simple_call_has_one_key_however_it_is_spelled(a, b, c):
    """The common shape is bound by a way of its own, with the same keys."""
    ways = [((a, b, c), {}), ((a, b), {"c": c}), ((a,), {"c": c, "b": b}), ((), {"c": c, "b": b, "a": a})]

    assert len({call_key(SIMPLE, *way) for way in ways}) == 1
    assert call_key(SIMPLE, (a,), {}) == call_key(SIMPLE, (a, 0, None), {})
