"""What options may be: one check for each kind, so that a wrong one is refused where it is given, and always in the same words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from agentflow.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["function", "path", "several", "text", "whole", "yes_or_no"]


def text(value: object, what: str) -> str:
    """Return an option that is a text.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(value, str):
        return value
    raise UsageError(f"{what}={value!r}: write a str, not {_kind(value)}")


def whole(value: object, what: str, *, least: int = 1) -> int:
    """Return an option that is a whole number.

    Args:
        value: The option.
        what: Its name, for the message.
        least: The smallest that makes sense.

    Raises:
        UsageError: If it is none, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{what}={value!r}: write a whole number, not {_kind(value)}")
    if value < least:
        raise UsageError(f"{what}={value!r}: write {least} or more")
    return value


def yes_or_no(value: object, what: str) -> bool:
    """Return an option that is True or False.

    Raises:
        UsageError: If it is neither.
    """
    if isinstance(value, bool):
        return value
    raise UsageError(f"{what}={value!r}: write True, False or None, not {_kind(value)}")


def function(value: object, what: str) -> Callable[..., Any]:
    """Return an option that is a function.

    Raises:
        UsageError: If it cannot be called.
    """
    if callable(value):
        return value
    raise UsageError(f"{what}={value!r}: write a function, not {_kind(value)}")


def several(value: object, what: str, wanted: str) -> Iterator[Any]:
    """Go over an option that consists of several.

    Args:
        value: The option.
        what: Its name, for the message.
        wanted: What to write, for the message.

    Raises:
        UsageError: If it cannot be gone over.
    """
    try:
        return iter(cast("Any", value))
    except TypeError:
        raise UsageError(f"{what}={value!r}: write {wanted}, not {_kind(value)}") from None


def path(value: object, what: str) -> str:
    """Return an option that is a path, as text.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(value, str | os.PathLike):
        if name := os.fsdecode(cast("os.PathLike[str]", value)):
            return name
        raise UsageError(f'{what}="" names no place; this directory is "."')
    raise UsageError(f"{what}={value!r}: write a path, as a str or a Path, not {_kind(value)}")


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
