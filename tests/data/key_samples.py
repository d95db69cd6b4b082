"""Prints the key digests of one value of every kind as JSON, for `key_digests.json` and the tests that compare with it.

It is run as a script, by any interpreter that has attrs: what else a sample needs may be missing.
After a deliberate change of the key format: `python tests/data/key_samples.py > tests/data/key_digests.json`.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import json
import pathlib
import re
import sys
import tempfile
import types
import typing
import uuid
import zoneinfo

import attrs

# The package itself needs more than its keys do, and some interpreters that run this have no more.
package = types.ModuleType("agentflow")
package.__path__ = [str(pathlib.Path(__file__).parents[2] / "agentflow")]
sys.modules["agentflow"] = package

from agentflow._canonical import digest, node, scalar  # noqa: E402 - it must find the package above
from agentflow._keys import FileArg, arguments_digest, entry_key  # noqa: E402


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


@attrs.define
class Vector:
    x: int
    _y: str = ""


class Pair(typing.NamedTuple):
    a: int
    b: str


class Text(str):  # noqa: SLOT000 - as users write it
    pass


class Movie(typing.TypedDict):
    title: str


class Own:
    def __agentflow_key__(self):
        return ("mine", 1)


SAMPLES = {
    "none": None,
    "true": True,
    "int": 1,
    "negative int": -129,
    "large int": -(10**5000),
    "float": 0.1,
    "negative zero": -0.0,
    "nan": float("nan"),
    "complex": complex(1, -0.0),
    "str": "g\u00e4rten \U0001f600",
    "lone surrogate": "\ud800",
    "long str": "x" * 100_000,
    "bytes": b"\0\xff",
    "long bytes": bytes(100_000),
    "bytearray": bytearray(b"ab"),
    "list": [1, "a", None, [True]],
    "long list": list(range(20_000)),
    "tuple": (1, (2.0,)),
    "dict": {"b": 1, "a": [2], 3: None, (1, 2): "x"},
    "set": {"a", "b", "c", 1, 2.5, None, (1,)},
    "frozenset": frozenset({"a", "b", "c", "d"}),
    "deque": collections.deque([1, 2], maxlen=3),
    "ordered dict": collections.OrderedDict(b=1, a=2),
    "default dict": collections.defaultdict(list, {"a": [1]}),
    "counter": collections.Counter("abracadabra"),
    "chain map": collections.ChainMap({"a": 1}, {"b": 2}),
    "namespace": types.SimpleNamespace(b=1, a=2),
    "array": array.array("h", [1, -2]),
    "range": range(1, 9, 2),
    "slice": slice(None, 3),
    "ellipsis": ...,
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 1, 5, fold=1),
    "datetime utc": dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    "datetime zone": dt.datetime(2024, 2, 29, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "time": dt.time(12, 30, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": decimal.Decimal("-1.00"),
    "decimal nan": decimal.Decimal("sNaN12"),
    "fraction": fractions.Fraction(-1, 3),
    "uuid": uuid.UUID(int=7),
    "ipv4": ipaddress.ip_address("127.0.0.1"),
    "ipv6": ipaddress.ip_address("fe80::1%eth0"),
    "network": ipaddress.ip_network("10.0.0.0/8"),
    "interface": ipaddress.ip_interface("10.0.0.1/8"),
    "pattern": re.compile("a+", re.IGNORECASE),
    "pure path": pathlib.PurePosixPath("a/b"),
    "path": pathlib.Path("a/b"),
    "windows path": pathlib.PureWindowsPath("a\\b"),
    "enum": Colour.BLUE,
    "flag": Access.READ | Access.WRITE,
    "dataclass": Point(1),
    "slotted dataclass": Slotted(1),
    "attrs": Vector(1, "a"),
    "named tuple": Pair(1, "b"),
    "str subclass": Text("a"),
    "own key": Own(),
    "class": Point,
    "enum class": Colour,
    "typed dict class": Movie,
    "stdlib class": pathlib.Path,
    "builtin class": int,
    "generic type": dict[str, list[Point]],
    "old generic type": typing.Dict[str, typing.List[int]],  # noqa: UP006 - a kind of its own
    "optional": typing.Optional[int],  # noqa: UP045
    "literal": typing.Literal["a", 1],
    "annotated": typing.Annotated[int, "note"],
    "callable type": typing.Callable[[int], str],
    "any": typing.Any,
    "builtin": len,
    "builtin method": str.upper,
    "partial": functools.partial(len, "a"),
}


def optional_samples():
    """Return the samples of those libraries that can be imported."""
    found = {}
    for make in (pydantic_samples, numpy_samples):
        try:
            found |= make()
        except ImportError:
            continue
    return found


def pydantic_samples():
    import pydantic

    class Inner(pydantic.BaseModel):
        n: int = 0

    class Outer(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        inner: Inner
        url: pydantic.HttpUrl
        password: pydantic.SecretStr
        _private: int = pydantic.PrivateAttr(default=1)

    for cls in (Inner, Outer):
        cls.__qualname__ = cls.__name__
        globals()[cls.__name__] = cls
    outer = Outer(inner=Inner(n=1), url="http://a.b/c", password="secret", extra=1)
    return {"model": outer, "models": [outer, Inner()]}


def numpy_samples():
    import numpy as np

    return {
        "ndarray": np.arange(6, dtype="<i4").reshape(2, 3).T,
        "float array": np.array([0.5, float("nan")], ">f8"),
        "text array": np.array(["a", "bc"]),
        "record array": np.array([(1, 2.0)], dtype=[("a", "<u2"), ("b", "<f4")]),
        "object array": np.array([1, "a", None], object),
        "date array": np.array(["2024-02-29"], "M8[D]"),
        "long double": np.longdouble(0.5),
        "numpy scalar": np.float32(0.5),
        "dtype": np.dtype("<i8"),
    }


def digests():
    """Return the digests by name."""
    found = {name: arguments_digest("step", {"value": value}) for name, value in (SAMPLES | optional_samples()).items()}
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"content")
        file.flush()
        found["file"] = arguments_digest("step", {"value": FileArg(file.name)})
    found["arguments"] = arguments_digest("step", {"b": 1, "a": "x", "kwargs": {"z": 1, "y": 2}, "args": (1, 2)})
    found["entry"] = entry_key("session", "step", "\u00e9")
    found["node"] = digest(node(b"tag", b"a", b""), scalar((1, True, Colour.RED)))
    return found


if __name__ == "__main__":
    json.dump(digests(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
