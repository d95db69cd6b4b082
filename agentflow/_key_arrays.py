"""Arrays and tables of numpy and pandas as parts of keys: their whole content, never a sample.

Neither library is imported here: a value of theirs brings its own, which is found in `sys.modules`.
"""

from __future__ import annotations

__all__ = ["ARRAYS", "ARRAY_BASES", "CONSTANTS"]

import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from agentflow._canonical import node
from agentflow._key_values import fields
from agentflow._key_walk import Refused, Shape, type_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentflow._key_walk import Kind

# --- numpy ---


def _dtype(dtype: Any) -> object:
    """Return an element type as values: byte order and unit count, and the places of the fields of a record."""
    if dtype.names is not None:
        inner = [(name, dtype.fields[name][1], _dtype(dtype.fields[name][0])) for name in dtype.names]
        return ("record", dtype.itemsize, inner)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("subarray", _dtype(base), shape)
    return dtype.str


def _content(array: Any) -> object:
    """Return all elements in C order, whatever the memory layout: a digest, or the objects themselves."""
    dtype = array.dtype
    if dtype.names is not None:  # field by field: the bytes between them are accidental
        return [_content(array[name]) for name in dtype.names]
    if dtype.hasobject:  # also text of any length, which is kept outside of the array
        return array.ravel().tolist()
    if array.nbytes == 0:
        return b""
    flat = sys.modules["numpy"].ascontiguousarray(array).reshape(-1)
    if dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    return [_digest(each) for each in (_halves(flat) if dtype.char in "gG" else [_one_nan(flat)])]


def _digest(flat: Any) -> bytes:
    return sha256(flat.view("u1")).digest()


def _one_nan(flat: Any) -> Any:
    """Give all NaNs the same bits: arithmetic leaves various ones."""
    if flat.dtype.kind != "f":
        return flat
    nan = flat != flat  # noqa: PLR0124 - NaN is not itself
    if not nan.any():
        return flat
    flat = flat.copy()
    flat[nan] = float("nan")
    return flat


def _halves(flat: Any) -> list[Any]:
    """Return long doubles as the sums of three doubles: part of their own bytes is padding, with any content."""
    found: list[Any] = []
    with sys.modules["numpy"].errstate(invalid="ignore", over="ignore"):
        for _ in range(3):
            found.append(_one_nan(flat.astype("f8")))
            flat = flat - found[-1]
    return found


def _array(value: Any) -> Shape:
    plain = sys.modules["numpy"].asarray(value)
    content = _content(plain)
    return Shape(b"ndarray", (type(value).__name__, _dtype(plain.dtype), plain.shape, content))


def _masked(value: Any) -> Shape:
    """What is hidden under the mask counts too: it can be seen as `.data`."""
    mask = sys.modules["numpy"].ma.getmaskarray(value)
    return Shape(b"masked", (value.data, mask, value.fill_value, value.hardmask))


def _scalar(value: Any) -> Shape:
    """A numpy scalar, which is no Python scalar, even where its class inherits from one."""
    if value.dtype.type is not type(value):
        raise Refused(type_of(value), "a subclass of a numpy scalar may hold anything")
    plain = sys.modules["numpy"].asarray(value)
    return Shape(b"numpy scalar", (_dtype(plain.dtype), _content(plain)))


# --- pandas ---


def _frame(value: Any) -> Shape:
    columns = [column.array for _, column in value.items()]
    return _parts(b"dataframe", value, index=value.index, columns=value.columns, values=columns)


def _series(value: Any) -> Shape:
    return _parts(b"series", value, index=value.index, name=value.name, array=value.array)


def _parts(tag: bytes, value: Any, **parts: object) -> Shape:
    """A table and the one flag it can have; `attrs` are notes and do not count."""
    return fields(tag, [*parts, "flags"], [*parts.values(), value.flags.allows_duplicate_labels])


def _index(value: Any) -> Shape:
    frequency = getattr(value, "freqstr", None)
    names = ("class", "names", "freq", "array")
    return fields(b"index", names, (type(value).__name__, list(value.names), frequency, value.array))


def _range_index(value: Any) -> Shape:
    return Shape(b"rangeindex", (value.start, value.stop, value.step, value.name))


def _multi_index(value: Any) -> Shape:
    levels = [value.get_level_values(place) for place in range(value.nlevels)]
    return Shape(b"multiindex", (list(value.names), levels))


def _extension(value: Any) -> Shape:
    """A column. The fast ways are for the types that tables are full of; the last one is right for all."""
    kind = type(value).__name__
    if type(value).__module__.partition(".")[0] != "pandas":
        raise Refused(type_of(value), "an array of another library may hold more than its elements")
    head = node(b"column", kind.encode(), str(value.dtype).encode())
    if kind == "Categorical":
        return Shape(b"column", (value.codes, value.categories, value.ordered), head)
    if kind in {"DatetimeArray", "TimedeltaArray"}:
        return Shape(b"column", (value.asi8, getattr(value, "tz", None)), head)
    if kind in {"NumpyExtensionArray", "PandasArray"}:
        return Shape(b"column", (value.to_numpy(),), head)
    if kind in {"IntegerArray", "FloatingArray", "BooleanArray"}:
        plain = value.dtype.numpy_dtype
        return Shape(b"column", (value.to_numpy(plain, na_value=plain.type(0)), value.isna()), head)
    return Shape(b"column", value.astype(object).tolist(), head)


def _attributes(tag: bytes, *names: str) -> Kind:
    return lambda value: fields(tag, names, [getattr(value, name) for name in names])


_CLOCK: Final = ("year", "month", "day", "hour", "minute", "second", "microsecond", "nanosecond")

ARRAYS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "numpy": {"ndarray": _array, "matrix": _array, "recarray": _array},
    "numpy.ma": {"MaskedArray": _masked},
    "pandas": {
        "DataFrame": _frame,
        "Series": _series,
        "RangeIndex": _range_index,
        "MultiIndex": _multi_index,
        **dict.fromkeys(
            ("Index", "CategoricalIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "IntervalIndex"), _index
        ),
        "Timestamp": _attributes(b"timestamp", *_CLOCK, "fold", "unit", "tz"),
        "Timedelta": _attributes(b"pandas timedelta", "days", "seconds", "microseconds", "nanoseconds", "unit"),
        "Period": _attributes(b"period", "ordinal", "freqstr"),
        "Interval": _attributes(b"interval", "left", "right", "closed"),
    },
}
"""Kinds by module and class."""

ARRAY_BASES: Final[Mapping[tuple[str, str], Kind]] = {
    ("numpy", "generic"): _scalar,
    ("numpy", "dtype"): lambda value: Shape(b"dtype", (_dtype(value),)),
    ("pandas.api.extensions", "ExtensionArray"): _extension,
}
"""Kinds for a class and all of its subclasses."""

CONSTANTS: Final[Mapping[tuple[str, str], Kind]] = {
    ("pandas", "NaT"): lambda _: Shape(b"pandas NaT"),
    ("pandas", "NA"): lambda _: Shape(b"pandas NA"),
}
"""Kinds of objects of which there is one."""
