"""How old something may be, as it is written on a command line: a number and its unit."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import click

__all__ = ["AGE"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WRITTEN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class _Age(click.ParamType[timedelta]):
    """A length of time such as `30d`; a number alone is refused, since nobody can tell its unit."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the length of time that was written."""
        found = _WRITTEN.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no age: write a number and its unit, such as 90s, 30m, 12h, 7d or 4w", param, ctx)
        try:
            return timedelta(**{_UNITS[found[2]]: float(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is longer than any calendar", param, ctx)


AGE: Final = _Age()
