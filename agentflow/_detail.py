"""What identifies a call, in a form that is kept beside its result: by it, later calls tell how they differ.

Of each part (an argument, a state key, what `key=` gave) it holds a mark of 16 bits and a sketch: bounded, and without secrets.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
from pydantic_core import PydanticSerializationError, to_json

from agentflow._explanation import Difference
from agentflow._keys import mark
from agentflow._sketch import HIDDEN, differing, drawn, sketched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agentflow._sketch import Sketch

__all__ = ["Counted", "Detail"]

_Kind: TypeAlias = Literal["argument", "key", "state"]

_MOST_LENGTH: Final = 6_000
"""Characters of a detail; a longer one is kept without its sketches."""
_NOTHING: Final = "nothing"
_json: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once: to make it costs more than to use it


def _packed(rows: Sequence[object]) -> str:
    try:
        return to_json(rows).decode()
    except PydanticSerializationError:  # half a character in some text: only the slower one of the two can say that
        return _json(rows)


@attrs.frozen(slots=False)  # made in half the time
class Counted:
    """Values of one kind that count in a call's key.

    Attributes:
        kind: What they are.
        values: They themselves, by name.
        parts: The name and the canonical bytes of each in turn.
    """

    kind: _Kind
    values: Mapping[str, object]
    parts: Sequence[bytes]

    def marked(self) -> Iterator[tuple[tuple[str, str], tuple[str, Sketch]]]:
        """Yield the mark and the sketch of each, with its kind and name."""
        parts = iter(self.parts)
        for name, encoded in zip(parts, parts, strict=True):
            text = name.decode()
            yield (self.kind, text), (mark(encoded), sketched(self.values[text], text))


@attrs.frozen(slots=False)  # made in half the time
class Detail:
    """The parts of one call: a mark and a sketch for each kind and name."""

    parts: Mapping[tuple[str, str], tuple[str, Sketch]]

    @classmethod
    def of(cls, counted: Iterable[Counted]) -> Detail:
        """Make one from what counts in a call."""
        return cls(dict(chain.from_iterable(each.marked() for each in counted)))

    def pack(self) -> str:
        """Return it as the store keeps it."""
        rows = [(*each, *part) for each, part in self.parts.items()]
        text = _packed(rows)
        return text if len(text) <= _MOST_LENGTH else _packed([(*row[:3], "…") for row in rows])

    @classmethod
    def unpack(cls, text: str) -> Detail:
        """Read what the store keeps; what cannot be read tells nothing."""
        try:
            rows: list[Any] = json.loads(text) if text else []
            return cls({(str(kind), str(name)): (str(mark), picture) for kind, name, mark, picture in rows})
        except (ValueError, TypeError):
            return cls({})

    def distance(self, other: Detail) -> int:
        """Return in how many parts two calls differ."""
        return sum(_mark_in(self, each) != _mark_in(other, each) for each in {**self.parts, **other.parts})

    def differences(self, other: Detail) -> Iterator[Difference]:
        """Yield what differs between this call and another."""
        for each in {**self.parts, **other.parts}:
            if _mark_in(self, each) != _mark_in(other, each):
                yield from _differences(each, self.parts.get(each), other.parts.get(each))


def _mark_in(detail: Detail, part: tuple[str, str]) -> str:
    return detail.parts.get(part, ("", ""))[0]


def _differences(
    part: tuple[str, str], here: tuple[str, Sketch] | None, there: tuple[str, Sketch] | None
) -> Iterator[Difference]:
    kind: Any
    kind, name = part
    if here is None or there is None:
        shown = [drawn(each[1]) if each else _NOTHING for each in (here, there)]
        yield Difference(kind=kind, name=name, here=shown[0], there=shown[1])
        return
    found = list(differing(here[1], there[1]))
    for path, one, other in found:
        yield Difference(kind=kind, name=name, path=path, here=one, there=other)
    if not found:
        text = drawn(here[1])
        one, other = (text, "another one") if text == HIDDEN else (text, "another that begins alike")
        yield Difference(kind=kind, name=name, here=one, there=other)
