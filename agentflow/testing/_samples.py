"""The simplest value that a JSON schema allows, for a model that answers without a model.

Covers what pydantic writes; for anything beyond it says what it cannot do, instead of giving a value that does not fit.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The parser of `re` is the only reader of patterns in the standard library.
from re import _constants, _parser  # type: ignore[attr-defined]

__all__ = ["sample"]

ops: Final[Any] = _constants

Schema = dict[str, Any]

_FORMATS: Final[Mapping[str, str]] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00",
    "duration": "PT0S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "email": "a@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "ipvanyaddress": "192.0.2.1",
    "ipv4network": "192.0.2.0/24",
    "ipv6network": "2001:db8::/32",
    "binary": "a",
    "base64": "YQ==",
    "path": "a",
    "file-path": "a",
    "directory-path": "a",
    "json-string": "null",
    "decimal": "0",
    "regex": "a",
}


def sample(schema: Schema, *, owner: str) -> Any:
    """Return a value that a schema allows: the shortest, the nearest to zero, the first of several.

    Args:
        schema: A JSON schema.
        owner: What it belongs to, for the message.

    Raises:
        UsageError: If the schema says something of which no value can be worked out.
    """
    return _Sampler(schema, owner).value(schema, "", frozenset())


class _Sampler:
    """Works out values of one schema.

    Args:
        root: The whole schema, in which references are looked up.
        owner: For messages.
    """

    def __init__(self, root: Schema, owner: str) -> None:
        self._root = root
        self._owner = owner

    def value(self, schema: Any, path: str, within: frozenset[str]) -> Any:
        """Return a value for a part of the schema.

        Args:
            schema: The part.
            path: Where the value stands.
            within: The references that lead here. None is taken again: what has a value has one without that.
        """
        schema, within = self._resolved({} if schema is True else schema, within, path)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                rest = {name: part for name, part in schema.items() if name not in (key, "discriminator")}
                return self._first([{**rest, **option} for option in schema[key]], path, within)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            return self._first([{**schema, "type": each} for each in kind], path, within)
        return self._of_kind(kind, schema, path, within)

    def _of_kind(self, kind: str, schema: Schema, path: str, within: frozenset[str]) -> Any:
        match kind:
            case "object":
                return self._object(schema, path, within)
            case "array":
                return self._array(schema, path, within)
            case "string":
                return self._string(schema, path)
            case "integer" | "number":
                return self._number(schema, path, whole=kind == "integer")
            case "boolean":
                return False
            case "null":
                return None
            case _:
                raise self._impossible(f"the type {kind!r}", path)

    def _resolved(self, schema: Any, within: frozenset[str], path: str) -> tuple[Schema, frozenset[str]]:
        """Return a part with its reference and its `allOf` merged in, and the references that now lead here."""
        merged: Schema = dict(schema)
        while "$ref" in merged:
            reference = merged.pop("$ref")
            if reference in within:
                raise self._impossible("an end of what contains itself", path)
            within |= {reference}
            merged = {**self._target(reference), **merged}
        for part in merged.pop("allOf", ()):
            resolved, within = self._resolved(part, within, path)
            merged = {**resolved, **merged}
        return merged, within

    def _target(self, reference: str) -> Schema:
        target: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            target = target[name.replace("~1", "/").replace("~0", "~")] if name else target
        return dict(target)

    def _first(self, options: Sequence[Schema], path: str, within: frozenset[str]) -> Any:
        """Return a value of the first option that has one."""
        errors: list[UsageError] = []
        for option in options:
            try:
                return self.value(option, path, within)
            except UsageError as error:
                errors.append(error)
        raise errors[0] if errors else self._impossible("a choice of nothing", path)

    def _object(self, schema: Schema, path: str, within: frozenset[str]) -> Schema:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        made = {
            name: self.value(part, f"{path}.{name}", within) for name, part in properties.items() if name in required
        }
        extra = schema.get("additionalProperties", True)
        for number in range(len(made), schema.get("minProperties", 0)):
            made[f"key{number}"] = self.value(extra, f"{path}.key{number}", within)
        return made

    def _array(self, schema: Schema, path: str, within: frozenset[str]) -> list[Any]:
        first = schema.get("prefixItems", [])
        items = [self.value(part, f"{path}[{at}]", within) for at, part in enumerate(first)]
        wanted = schema.get("minItems", 0)
        for at in range(len(items), wanted):
            items.append(self._item(schema, items, f"{path}[{at}]", within))
        return items

    def _item(self, schema: Schema, before: list[Any], path: str, within: frozenset[str]) -> Any:
        part = schema.get("items", True)
        item = self.value(part, path, within)
        if schema.get("uniqueItems") and item in before:
            item = self._another(part, before, path)
        return item

    def _another(self, part: Any, before: list[Any], path: str) -> Any:
        """Return a value that is not among others."""
        schema, _ = self._resolved({} if part is True else part, frozenset(), path)
        found = [value for value in schema.get("enum", ()) if value not in before]
        match schema.get("type"):
            case _ if found:
                return found[0]
            case "integer" | "number":
                return max(before) + 1
            case "string" if not {"pattern", "format", "maxLength"} & schema.keys():
                return f"{before[0]}{len(before)}"
            case _:
                raise self._impossible("several different items", path)

    def _string(self, schema: Schema, path: str) -> str:
        if "pattern" in schema:
            return self._matching(schema["pattern"], path)
        known = _FORMATS.get(schema.get("format", ""))
        if known is not None:
            return known
        length: int = max(1, schema.get("minLength", 0)) if schema.get("maxLength", 1) else 0
        return "a" * length

    def _matching(self, pattern: str, path: str) -> str:
        try:
            text = _joined(_parser.parse(pattern))
        except (re.error, NotImplementedError):
            text = ""
        if re.search(pattern, text) is None:
            raise self._impossible(f"a text that matches {pattern!r}", path)
        return text

    def _number(self, schema: Schema, path: str, *, whole: bool) -> float:
        step = schema.get("multipleOf", 1 if whole else None)
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        candidates: list[float] = [0]
        if step is not None:
            least, most = max(low, above), min(high, below)
            candidates += (
                [math.ceil(least / step) * step, (math.floor(least / step) + 1) * step] if least > -math.inf else []
            )
            candidates += (
                [math.floor(most / step) * step, (math.ceil(most / step) - 1) * step] if most < math.inf else []
            )
        else:
            edges = [edge for edge in (low, high, above + 1, below - 1) if math.isfinite(edge)]
            middle = [(max(low, above) + min(high, below)) / 2]
            candidates += edges + [each for each in middle if math.isfinite(each)]
        for number in candidates:
            if low <= number <= high and above < number < below:
                return number
        raise self._impossible("a number within its bounds", path)

    def _impossible(self, what: str, path: str) -> UsageError:
        where = f" at {path.lstrip('.')}" if path else ""
        return UsageError(
            f"TestModel cannot work out {what}{where} in the schema of {self._owner}: give that answer with ScriptedModel or FunctionModel"
        )


# ---- texts that match a pattern ------------------------------------------------------------------

_CATEGORIES: Final[Mapping[Any, str]] = {
    ops.CATEGORY_DIGIT: "0",
    ops.CATEGORY_SPACE: " ",
    ops.CATEGORY_WORD: "a",
    ops.CATEGORY_NOT_DIGIT: "a",
    ops.CATEGORY_NOT_SPACE: "a",
    ops.CATEGORY_NOT_WORD: " ",
}
_TRIED: Final = "a0A _-.~" + "".join(map(chr, range(33, 127)))


def _text_of(part: tuple[Any, Any]) -> str:
    """Return the shortest text of a part of a parsed pattern."""
    kind, what = part
    if kind not in _TEXTS:
        raise NotImplementedError(kind)
    return _TEXTS[kind](what)


def _joined(parts: Sequence[tuple[Any, Any]]) -> str:
    return "".join(map(_text_of, parts))


def _nothing(_: Any) -> str:
    """Whether an anchor or a look-around holds is seen when the whole text is matched."""
    return ""


def _repeated(what: tuple[int, int, Sequence[tuple[Any, Any]]]) -> str:
    least, _, inner = what
    return _joined(inner) * least


def _one_of(members: Sequence[tuple[Any, Any]]) -> str:
    """Return a character of a set."""
    if members[0][0] is ops.NEGATE:
        return next(each for each in _TRIED if not any(_has(member, each) for member in members[1:]))
    kind, what = members[0]
    if kind is ops.CATEGORY:
        return _CATEGORIES[what]
    return chr(what[0] if kind is ops.RANGE else what)


def _has(member: tuple[Any, Any], character: str) -> bool:
    kind, what = member
    if kind is ops.CATEGORY:
        name = {ops.CATEGORY_DIGIT: r"\d", ops.CATEGORY_SPACE: r"\s", ops.CATEGORY_WORD: r"\w"}.get(what)
        return name is None or re.match(name, character) is not None
    if kind is ops.RANGE:
        return bool(what[0] <= ord(character) <= what[1])
    return bool(ord(character) == what)


_TEXTS: Final[Mapping[Any, Callable[[Any], str]]] = {
    ops.LITERAL: chr,
    ops.NOT_LITERAL: lambda what: next(each for each in _TRIED if ord(each) != what),
    ops.ANY: lambda _: "a",
    ops.IN: _one_of,
    ops.MAX_REPEAT: _repeated,
    ops.MIN_REPEAT: _repeated,
    ops.POSSESSIVE_REPEAT: _repeated,
    ops.SUBPATTERN: lambda what: _joined(what[-1]),
    ops.ATOMIC_GROUP: _joined,
    ops.BRANCH: lambda what: _joined(what[1][0]),
    ops.AT: _nothing,
    ops.ASSERT: _nothing,
    ops.ASSERT_NOT: _nothing,
}
