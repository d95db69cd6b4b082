"""An output type as the model sees it (a JSON schema) and as the user gets it (a value of that type).

Knows nothing of conversations: what to do about an answer that does not fit is decided elsewhere.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

import attrs
import pydantic_core
from pydantic import ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

# pydantic refuses typing's own TypedDict before 3.12; it depends on typing_extensions itself.
from typing_extensions import TypedDict

from agentflow.exceptions import UsageError
from agentflow.messages import OutputSchema
from agentflow.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["Output", "PlainSchema", "object_adapter", "problems"]

T = TypeVar("T")

_SCHEMA_NAME_LENGTH: Final = 64
"""What providers allow for the name of a schema."""

_MOST_PROBLEMS: Final = 20
"""So many are told to the model; a wrong list of a thousand items has a thousand."""

_LONGEST_PROBLEM: Final = 500
"""So many characters of one are told: a model may make up long names."""

_MOST_OPENINGS: Final = 100
"""So many places are tried where JSON could begin among words."""

_WRAPPER: Final = "answer"
"""The one field of the object around a type whose own schema is no object."""


_FENCE: Final = re.compile(r"\s*```[a-z]*[ \t]*\n")


_Grown: TypeAlias = "list[_Grown] | dict[str, _Grown] | str | int | float | bool | None"
"""A JSON value as it was parsed."""


class PlainSchema(GenerateJsonSchema):
    """JSON schemas without a title on every field: it repeats the field's name and costs tokens in every request."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Say no."""
        return False


def object_adapter(name: str, fields: Mapping[str, object]) -> TypeAdapter[dict[str, Any]]:
    """Return what reads a JSON object with exactly these fields into a dict.

    A TypedDict, not a model: fields may then have any name, also `schema` or `_x`, and what was not given stays out.
    """
    # A TypedDict with computed fields is what type checkers cannot follow.
    make: Any = TypedDict
    typed_dict = make(name, dict(fields))
    typed_dict.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(typed_dict)


def problems(error: ValidationError) -> str:
    """Return what is wrong, one line each, for the model and for people: with places, without the values.

    A place can be a name that the model has made up, so what a terminal would obey is written as an escape.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        _printable(f"- {'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}")[:_LONGEST_PROBLEM]
        for each in found[:_MOST_PROBLEMS]
    ]
    if len(found) > _MOST_PROBLEMS:
        lines.append(f"- and {len(found) - _MOST_PROBLEMS} more")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return a text with everything that is no visible character as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@attrs.frozen(eq=False)
class Output(Generic[T]):
    """What an agent answers with.

    Attributes:
        name: How messages call it.
        schema: The form of the answer; None for plain text.
    """

    name: str
    schema: OutputSchema | None
    _adapter: TypeAdapter[Any]
    _wrapper: TypeAdapter[dict[str, Any]] | None = None

    @classmethod
    def of(cls, output_type: Any) -> Output[T]:
        """Read an output type.

        Raises:
            UsageError: If pydantic cannot describe it.
        """
        try:
            return cls._read_type(output_type)
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            raise UsageError(
                f"output_type={_type_name(output_type)} cannot be described to a model: {error.message}. "
                f"Use a pydantic model, a dataclass, a TypedDict, or a union, list or scalar of such types"
            ) from error

    @classmethod
    def _read_type(cls, output_type: Any) -> Output[T]:
        name, adapter = _type_name(output_type), TypeAdapter[Any](output_type)
        if output_type is str:
            return cls(name, None, adapter)
        schema, wrapper = _schema_of(adapter), None
        if schema.get("type") != "object":
            wrapper = object_adapter(_WRAPPER, {_WRAPPER: output_type})
            schema = _schema_of(wrapper)
        schema_name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:_SCHEMA_NAME_LENGTH]
        return cls(name, OutputSchema(name=schema_name or _WRAPPER, json_schema=schema), adapter, wrapper)

    def read(self, text: str, *, in_prose: bool = False) -> T:
        """Return the value that the text of an answer stands for.

        Args:
            text: The text.
            in_prose: Whether the value may stand among words, since nothing holds the model to a form.

        Raises:
            ValidationError: If it is none.
        """
        if self.schema is None:
            return cast("T", text)
        text = _without_fence(text)
        if in_prose:
            text = _json_among(text)
        try:
            return self._validated(text)
        except ValidationError as error:
            if self._wrapper is None:
                raise
            # Models often write the value itself where it was to be in an object; that is as good.
            try:
                return cast("T", self._adapter.validate_json(text))
            except ValidationError:
                raise error from None

    def partial(self, text: str, *, in_prose: bool = False) -> T | Unset:
        """Return the value that the beginning of an answer already makes, or UNSET.

        Only whole values count: a model with a required field appears when that field has begun,
        and the last item of a list when it is valid by itself.
        """
        if self.schema is None:
            return cast("T", text)
        text = _without_fence(text)
        if in_prose:
            text = text[next(_openings(text), 0) :]
        try:
            begun = pydantic_core.from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return UNSET
        return next(self._valid(begun), UNSET)

    @property
    def request_in_words(self) -> str:
        """What a model is told that knows neither JSON schemas nor tools."""
        assert self.schema
        schema = json.dumps(self.schema.json_schema, ensure_ascii=False)
        return f"Answer with JSON that fits the following JSON schema, and with nothing else:\n{schema}"

    def _valid(self, begun: _Grown) -> Iterator[T]:
        """Yield the value if it is valid, else what is left of it without the last items of its growing lists."""
        for candidate in _ever_shorter(begun):
            # By JSON text and not by Python values, so that strict models read dates and enums as they do at the end.
            try:
                yield self._validated(json.dumps(candidate))
            except ValidationError:
                continue

    def _validated(self, text: str) -> T:
        if self._wrapper is None:
            return cast("T", self._adapter.validate_json(text))
        return cast("T", self._wrapper.validate_json(text)[_WRAPPER])


def _ever_shorter(begun: _Grown) -> Iterator[_Grown]:
    """Yield a growing JSON value, then with the last item dropped of each list on its growing edge, innermost first."""
    yield begun
    for items in reversed(list(_growing_lists(begun))):
        items.pop()
        yield begun


def _growing_lists(value: _Grown) -> Iterator[list[_Grown]]:
    """Yield the lists that the end of the text is in, outermost first."""
    while value and isinstance(value, list | dict):
        if isinstance(value, list):
            yield value
            value = value[-1]
        else:
            value = next(reversed(value.values()))


def _schema_of(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Return a JSON schema whose root says itself what it is: providers refuse a root that is only a `$ref`."""
    schema = adapter.json_schema(schema_generator=PlainSchema)
    reference = schema.pop("$ref", None)
    if reference is None:
        return schema
    return {**schema["$defs"][reference.removeprefix("#/$defs/")], **schema}


def _without_fence(text: str) -> str:
    """Return JSON without the Markdown fence that many models put around it."""
    opening = _FENCE.match(text)
    return re.sub(r"\s*```\s*$", "", text[opening.end() :]) if opening else text


def _openings(text: str) -> Iterator[int]:
    """Yield where an object or a list could begin."""
    return (found.start() for found in re.finditer(r"[{\[]", text))


def _json_among(text: str) -> str:
    """Return the first whole object or list in a text with words around it, else the text."""
    read = json.JSONDecoder().raw_decode
    for start in itertools.islice(_openings(text), _MOST_OPENINGS):
        try:
            _, end = read(text, start)
        except (ValueError, RecursionError):  # the second from lists in lists in lists
            continue
        return text[start:end]
    return text


def _type_name(output_type: Any) -> str:
    """Return how a type is written, for messages."""
    return output_type.__name__ if isinstance(output_type, type) and not _is_generic(output_type) else str(output_type)


def _is_generic(output_type: Any) -> bool:
    # list[int] is an instance of type as far as isinstance() is concerned, and its __name__ is only "list".
    return hasattr(output_type, "__origin__")
