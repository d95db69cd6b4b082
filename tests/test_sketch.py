"""Short pictures of values: bounded, without secrets, and made without running anybody's code."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import json
from collections import Counter, OrderedDict, deque
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import BaseModel, SecretStr

from agentflow._sketch import HIDDEN, differing, drawn, is_secret_name, sketch, sketched


class Colour(enum.Enum):
    RED = 1


@attrs.frozen
class Slotted:
    name: str
    hidden: str = attrs.field(default="hunter2", repr=False)


class Model(BaseModel):
    name: str
    inner: object = None


class Meta(type):
    def __eq__(cls, other):
        raise AssertionError("asked whether a class equals another")

    __hash__ = type.__hash__


class Hostile(metaclass=Meta):
    """Runs into an assertion whatever it is asked."""

    def __repr__(self):
        raise AssertionError("asked for its repr")

    __str__ = __eq__ = __len__ = __iter__ = __repr__
    __hash__ = object.__hash__

    def __getattr__(self, name):
        raise AssertionError(f"asked for {name}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (12, "12"),
        (1 << 5000, "<int of 5,001 bits>"),
        (-0.0, "-0.0"),
        ("a\n\u202e\ud800", r"'a\n\u202e\ud800'"),
        ("x" * 61, repr("x" * 60) + "… (61 characters)"),
        (b"secret", "<6 bytes>"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("1" * 5000), "<Decimal>"),
        (fractions.Fraction(1, 10**200), "<Fraction>"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (Path("a/b"), "PosixPath('a/b')"),
        (Colour.RED, "Colour.RED"),
        ([1, [2, (3,)]], "[1, [2, (3)]]"),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, … 12 more]"),
        ([[[[1]]]], "[[[[… 1 of them]]]]"),
        ({"a": 1, 2: {"b": None}}, "{'a': 1, 2: {'b': None}}"),
        ({3, 1, 2}, "{1, 2, 3}"),
        (set(range(20)), "{… 20 of them}"),
        (deque([1]), "deque(1)"),
        (OrderedDict(a=1), "OrderedDict(1)"),
        (Counter("a"), "Counter(1)"),
        (Slotted("ada"), "Slotted(name='ada', hidden=[hidden])"),
        (Model(name="ada", inner=Slotted("b")), "Model(name='ada', inner=Slotted(name='b', hidden=[hidden]))"),
        (SecretStr("hunter2"), HIDDEN),
        (np.zeros((3, 4)), "<ndarray (3, 4)>"),
        (int, "<int>"),
        (sketch, "<sketch>"),
        (Hostile(), "<Hostile>"),
        ([Hostile(), {"a": Hostile()}], "[<Hostile>, {'a': <Hostile>}]"),
    ],
    ids=lambda value: "",  # pytest would ask the hostile one for its name
)
def test_a_value_as_one_line(value, text):
    """Each kind is shown in a form of ours."""
    assert drawn(sketch(value)) == text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "dbPassword",
        "API_KEY",
        "apiKey",
        "apikey",
        "token",
        "access-token",
        "X-Auth",
        "Cookie",
    ],
)
def test_names_of_secrets(name):
    """In any style, as a parameter, a key or the first of a pair."""
    assert is_secret_name(name)
    assert sketch("hunter2", name) == HIDDEN
    assert "hunter2" not in drawn(sketch([{name: "hunter2"}, (name, ["hunter2"])]))


@pytest.mark.parametrize("name", ["key", "keys", "max_tokens", "author", "tokenize", "idempotency_key", "monkey", ""])
def test_names_that_are_no_secrets(name):
    """A word that only holds the letters hides nothing."""
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-" + "a1" * 30,
        "Authorization: Bearer abc.def",
        "postgres://app:hunter2@db/x",
        "https://a.example/?key=abcdef&x=1",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "ghp_" + "a" * 36,
    ],
)
@pytest.mark.parametrize("before", ["", "x" * 30 + " ", "x" * 195 + " "])
def test_secrets_known_by_their_shape(text, before):
    """Wherever they stand in a text; also where only their beginning would be kept."""
    shown = drawn(sketch(before + text))

    for secret in ("a1a1", "abc", "hunter2", "eyJh", "aaaa"):
        assert secret not in shown


values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.booleans() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values, values)
def test_a_sketch_is_small_and_json_and_tells_differences(one, other):
    """Whatever the value; equal sketches differ nowhere, and what differs is told in short lines."""
    first, second = sketch(one), sketch(other)

    assert len(json.dumps(first)) < 30_000
    assert json.loads(json.dumps(first)) == first
    assert len(drawn(first)) <= 141
    assert list(differing(first, sketch(one))) == []
    assert all(len(text) <= 141 for each in differing(first, second) for text in each[1:])
    assert (first == second) == (list(differing(first, second)) == [])


def test_a_picture_that_cannot_be_made_is_the_name_of_the_type():
    """It is for people, and must never fail the call that it is of."""

    class Odd:
        __dataclass_fields__ = None

    assert sketched([Odd()], "value") == "<list>"
