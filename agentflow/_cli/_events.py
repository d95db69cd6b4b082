"""One line for each event of a run, for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.events import Event

__all__ = ["line_of"]

_EVERYWHERE = {"type", "seq", "run_id", "attempt", "at", "key"}


def line_of(event: Event) -> str:
    """Return what an event says, in one line that begins with its number and time."""
    at = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    facts = " ".join(f"{name}={_short(value)}" for name, value in vars(event).items() if name not in _EVERYWHERE)
    return f"{event.seq or '-':>5}  {at}  {event.attempt}  {event.type:<15}  {facts}".rstrip()


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
        return repr("".join(value))
    return f"{value:.3f}" if isinstance(value, float) else value if isinstance(value, str) else repr(value)
