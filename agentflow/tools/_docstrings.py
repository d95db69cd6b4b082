"""What a Google-style docstring says of a function and of its parameters."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["read_docstring"]

_SECTION: Final = re.compile(
    r"(?P<arguments>Args|Arguments|Parameters)|Attributes|Examples?|Notes?|Raises|References|Returns?|See Also|"
    r"Todo|Warnings?|Yields?"
)
"""The headings of a Google-style docstring."""

_PARAMETER: Final = re.compile(r"\*{0,2}(?P<name>\w+)(?:\s*\([^)]*\))?\s*:\s*(?P<text>.*)")
"""The first line of a parameter in a docstring: `name: text` or `name (type): text`."""


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a Google-style docstring says of the function, and of each parameter."""
    opening: list[str] = []
    arguments: list[str] = []
    place: list[str] | None = opening
    for line in text.splitlines():
        if line.endswith(":") and (heading := _SECTION.fullmatch(line[:-1])):
            place = arguments if heading["arguments"] else None
        elif place is not None:
            place.append(line)
    return "\n".join(opening).strip(), _read_parameters(inspect.cleandoc("\n".join(["", *arguments])).splitlines())


def _read_parameters(lines: Iterable[str]) -> dict[str, str]:
    """Return the text of each parameter, joined to one line."""
    described: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.startswith(" ") and (match := _PARAMETER.fullmatch(line)):
            name = match["name"]
            described[name] = match["text"].strip()
        elif name:
            described[name] = f"{described[name]} {line.strip()}".strip()
    return described
