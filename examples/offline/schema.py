"""Filling a JSON schema from sources, by the names of its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from .prose import paragraphs, sentences

if TYPE_CHECKING:
    from .sources import Source

__all__ = ["filled"]

_Schema = Mapping[str, Any]

_MEANING = {
    "title": "title",
    "headline": "title",
    "name": "title",
    "url": "url",
    "link": "url",
    "href": "url",
    "summary": "summary",
    "snippet": "summary",
    "description": "summary",
    "abstract": "summary",
    "text": "text",
    "content": "text",
    "body": "text",
    "markdown": "text",
    "author": "author",
    "date": "date",
    "published": "date",
}
_EMPTY: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "null": None, "array": []}


def filled(schema: _Schema, topic: str, sources: Sequence[Source]) -> Any:
    """Return a value of a schema: an array has an entry for each source, an object outside one is about the first."""
    return _Filling(schema.get("$defs", {}), topic, tuple(sources)).value(schema, sources[0] if sources else None)


@attrs.frozen
class _Filling:
    """One schema's definitions and what there is to fill it with."""

    definitions: Mapping[str, _Schema]
    topic: str
    sources: tuple[Source, ...]

    def value(self, schema: _Schema, source: Source | None, field: str = "") -> Any:
        """Return a value of a part of the schema."""
        plain, may_be_null = self._plain(schema)
        if "const" in plain or "enum" in plain:
            return plain.get("const", [*plain.get("enum", ()), None][0])
        kind = plain.get("type", "object" if "properties" in plain else "string")
        if kind == "object":
            return self._object(plain, source)
        if kind == "array":
            return self._array(plain)
        known = self._known(source, field) if kind == "string" else None
        return known or (None if may_be_null else _EMPTY[kind])

    def _plain(self, schema: _Schema) -> tuple[_Schema, bool]:
        """Return a schema without references and alternatives, and whether null is one of those."""
        if "$ref" in schema:
            return self._plain(self.definitions[schema["$ref"].rpartition("/")[2]])
        choices = schema.get("anyOf", schema.get("oneOf"))
        if choices is None:
            return schema, schema.get("type") == "null"
        real = [choice for choice in choices if choice.get("type") != "null"]
        return self._plain(real[0])[0], len(real) < len(choices)

    def _object(self, schema: _Schema, source: Source | None) -> dict[str, Any]:
        """Return an object, with the fields that are required and those that there is something for."""
        fields = {name: self.value(part, source, name) for name, part in schema.get("properties", {}).items()}
        required = schema.get("required", ())
        return {name: value for name, value in fields.items() if name in required or value not in (None, "", [])}

    def _array(self, schema: _Schema) -> list[Any]:
        """Return an entry for each source, if entries can be about one."""
        part = schema.get("items", {})
        kind = self._plain(part)[0]
        return [self.value(part, source) for source in self.sources] if kind.get("properties") else []

    def _known(self, source: Source | None, field: str) -> str:
        """Return what is known under a field's name."""
        if field == "topic" or source is None:
            return self.topic if field in {"topic", "query", "question"} else ""
        meaning = _MEANING.get(field, "")
        if meaning == "summary":
            return source.summary or _beginning(source)
        return str(getattr(source, meaning)) if meaning else ""


def _beginning(source: Source) -> str:
    """Return the first two sentences of a source's text."""
    first = next((one.text for one in paragraphs(source.text) if len(sentences(one.text)) > 1), "")
    return " ".join(sentences(first)[:2])
