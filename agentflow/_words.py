"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["amount", "duration", "moment", "short"]


def short(name: str) -> str:
    """Return a name without its module and the functions around it."""
    return name.rpartition(":")[2].rpartition("<locals>.")[2]


def amount(count: int, what: str) -> str:
    """Return how many of what there are, in words."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a length of time."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def moment(at: float) -> str:
    """Return a time that is given in seconds since the epoch, to the second, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
