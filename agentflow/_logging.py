"""The library's log: silent until the application asks for it, then in the application's own form.

An application that has configured structlog gets our lines through its processors. For every other one they are
records of the standard library's logger "agentflow". Nothing of the process is ever configured here. structlog is
imported at the first line and not with this module, since it would be a large part of what `import agentflow` costs.
"""

from __future__ import annotations

import logging
import re
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, MutableMapping
    from types import FrameType
    from typing import TypeAlias

    from structlog.typing import FilteringBoundLogger

    # For the annotations of other modules, which import it for the type checkers only and never structlog itself.
    Logger: TypeAlias = FilteringBoundLogger

__all__ = ["bind", "enabled", "logger", "masked_text"]

_NAME: Final = "agentflow"
_MASK: Final = "[redacted]"

# Without a handler of its own the standard library would print our warnings to stderr of a program that never asked.
_LOGGER: Final = logging.getLogger(_NAME)
_LOGGER.addHandler(logging.NullHandler())

_BOUND: Final[ContextVar[Mapping[str, object]]] = ContextVar("agentflow_log_values", default=MappingProxyType({}))

# What could end a line, move the cursor or reorder what is shown; lone surrogates, since no stream can encode them.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# By the end of the name, so that `input_tokens` and `idempotency_key` stay readable.
_SECRET_NAME: Final = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|authorization|cookie|passw(?:or)?d|secret|token)$", re.IGNORECASE
)
# The shapes providers give their keys, an HTTP credential, a signed token, and a key or password in a URL.
_SECRET_TEXT: Final = re.compile(
    r"\b(?:sk|pk|gsk|xai)-[\w-]{16,}|\bAIza[\w-]{30,}|\bgh[opsur]_\w{20,}|\bAKIA\w{12,}|\beyJ[\w-]{8,}\.[\w.-]+"
    r"|(?<=bearer )[^\s\"']+|(?<=basic )[\w+/=]{8,}|(?<=[?&]key=)[^&\s\"']+|(?<=[?&]token=)[^&\s\"']+"
    r"|(?<=://)[^/@\s:]{0,100}:[^/@\s]{1,300}(?=@)",
    re.IGNORECASE,
)
# One of these is in whatever that finds, and to look for them is forty times as quick.
_SECRET_HINTS: Final = (
    *("k-", "xai-", "aiza", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "akia", "eyj", "bearer ", "basic "),
    *("key=", "token=", "@"),
)

_CALL_KEYWORDS: Final = frozenset({"exc_info", "stack_info"})
_TAKEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def logger(**values: object) -> Logger:
    """Return a structlog logger that carries `values` and those of the enclosing `bind()` blocks.

    Get it where you log: whether the application has configured structlog is seen when it is made.
    Event names and, outside the application's own structlog, whole lines are one printable line each;
    what looks like a key or a password is masked.

    ```python
    from agentflow._logging import logger

    logger(run_id="r1").info("step.completed", step="read", cached=True)
    ```

    Args:
        **values: What every line of this logger carries.
    """
    import structlog  # noqa: PLC0415 - slow to import, see above

    bound = {**_BOUND.get(), **values}
    if structlog.is_configured():
        processors = [_safe, *structlog.get_config()["processors"]]
        made = structlog.wrap_logger(None, processors, logger_factory_args=(_NAME,))
    else:
        processors = [structlog.stdlib.filter_by_level, _safe, _as_record]
        wrapper = structlog.make_filtering_bound_logger(logging.NOTSET)
        made = structlog.wrap_logger(_LOGGER, processors, wrapper, dict)
    return cast("Logger", made.bind(**bound))


@contextmanager
def bind(**values: object) -> Generator[None]:
    """Give `values` to every logger made inside the block, by this thread or task and what it starts.

    Must be left in the context it was entered in; a generator that yields inside runs in a context of its own.

    ```python
    from agentflow._logging import bind, logger

    with bind(session_id="cats"):
        logger().info("run.started")
    ```

    Args:
        **values: What the lines carry.
    """
    token = _BOUND.set({**_BOUND.get(), **values})
    try:
        yield
    finally:
        _BOUND.reset(token)


def enabled(level: int = logging.DEBUG) -> bool:
    """Tell whether anybody could see a line of this level; asks without importing structlog.

    ```python
    from agentflow._logging import enabled, logger

    if enabled():
        logger().debug("step.hit", step="read")
    ```

    Args:
        level: A level of the standard library; an application's structlog decides about levels by itself.
    """
    # Another thread may be importing structlog right now: then it has no such function yet.
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", bool)
    return is_configured() or _LOGGER.isEnabledFor(level)


def _safe(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make the event's name one printable line and mask secrets, in place as processors do."""
    for name, value in event_dict.items():
        event_dict[name] = _MASK if _SECRET_NAME.search(name) else _masked(value)
    event_dict["event"] = _printable(str(event_dict.get("event", "")))
    return event_dict


def _masked(value: object) -> object:
    """Return the value without what looks like a secret; containers of exact builtin type are looked into."""
    if type(value) is str:
        return masked_text(value)
    if type(value) is dict:
        pairs = cast("dict[object, object]", value).items()
        return {key: _MASK if _SECRET_NAME.search(str(key)) else _masked(item) for key, item in pairs}
    if type(value) is list or type(value) is tuple:
        return [_masked(item) for item in cast("list[object]", value)]
    return value


def masked_text(text: str) -> str:
    """Return the text without what has the shape of a key or a credential.

    ```python
    from agentflow._logging import masked_text

    assert masked_text("postgres://app:hunter2@db/x") == "postgres://[redacted]@db/x"
    ```
    """
    lower = text.lower()
    for hint in _SECRET_HINTS:
        if hint in lower:
            return _SECRET_TEXT.sub(_MASK, text)
    return text


def _printable(text: str) -> str:
    """Return the text with control characters spelled as escapes."""
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def _as_record(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Turn an event into the arguments of one call of a standard library logger.

    The values stand in the message, for plain handlers, and on the record, for those that write JSON.
    """
    call = {name: event_dict.pop(name) for name in _CALL_KEYWORDS & event_dict.keys()}
    event = event_dict.pop("event")
    shown = "".join(f" {name}={value!r}" for name, value in event_dict.items())
    # A record refuses extras named as its own attributes, and a log call must never raise over a name.
    extra = {f"{name}_" if name in _TAKEN else name: value for name, value in event_dict.items()}
    return {"msg": _printable(f"{event}{shown}"), "extra": extra, "stacklevel": _frames_of_structlog(), **call}


def _frames_of_structlog() -> int:
    """Count the frames between the standard library's logger and the caller, so that records name his line."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - what the standard library's logging itself uses
    count = 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "structlog":
        frame, count = frame.f_back, count + 1
    return count
