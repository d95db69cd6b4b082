"""What a failed attempt of a model request means, and how long to wait before the next; no I/O, no clock, no colour.

An attempt ends in a `ModelResponse`, or in a `Failure` that knows its error and whether another attempt makes sense.
Errors are values until the last attempt has failed, so that none is raised while a transport's exception is being
handled: those show headers and addresses, and an exception keeps the one before it even under `from None`.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs

from agentflow.exceptions import AuthenticationFailed, ModelError, ModelHTTPError, ModelTimeout, RateLimited
from agentflow.models._base import address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentflow.models._base import Codec, HttpCall

__all__ = ["Failure", "broken", "redacted", "refused", "timed_out", "unreachable"]

LONGEST_WAIT: Final = 60.0
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 8.0
_BODY_LIMIT, _MESSAGE_LIMIT = 2000, 500
_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id")
# Where providers say what is left of a limit, and when there will be more.
_LIMITS: Final = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
_LIMITED: Final = ("requests", "tokens", "input-tokens", "output-tokens")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
# Everything but tab and newline that moves a terminal's cursor or colours it.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@attrs.frozen
class Failure:
    """An attempt that gave no answer.

    Attributes:
        error: What to raise if no further attempt is made.
        retryable: Whether another attempt may go better.
        asked: How many seconds the provider asked to wait, if it did.
    """

    error: ModelError
    retryable: bool
    asked: float | None = None

    def final(self) -> Failure:
        """Return the same failure of an attempt that must not be repeated, since part of its answer was used."""
        return attrs.evolve(self, retryable=False)

    def pause(self, attempt: int, *, retries: int, jitter: float) -> float:
        """Return how many seconds to wait before the next attempt.

        Args:
            attempt: How many attempts were made before this one.
            retries: How many may follow the first.
            jitter: A random number from 0 to 1, so that many clients do not come back at once.

        Raises:
            ModelError: If there is no next attempt.
        """
        if not self.retryable or attempt >= retries:
            raise self.error
        if self.asked is not None:
            return min(self.asked, LONGEST_WAIT)
        return min(_FIRST_BACKOFF * 2.0**attempt, _LONGEST_BACKOFF) * (1 - jitter / 4)


def refused(codec: Codec, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Failure:
    """Return the failure that an HTTP answer with an error status means."""
    asked = _asked(headers, now=now)
    if asked is None:
        asked = codec.asked_wait(body)
    if asked is None and status == HTTPStatus.TOO_MANY_REQUESTS:
        asked = _until_reset(headers, now=now)
    error = _status_error(codec, status, headers, codec.error_text(body), asked)
    return Failure(error, _should_retry(status, headers), asked)


def broken(error: ModelHTTPError) -> Failure:
    """Return the failure that an unreadable answer means: without a status of its own it may be better next time."""
    return Failure(error, retryable=error.status is None or _may_pass(error.status))


def unreachable(codec: Codec, call: HttpCall, reason: str, detail: str) -> Failure:
    """Return the failure of a connection that could not be made or broke.

    Args:
        codec: Whose request it was.
        call: The call.
        reason: The name of the transport's error.
        detail: Its message, as far as it may be shown; or nothing.
    """
    text = _shown(codec.redact(detail), _MESSAGE_LIMIT)
    why = f"{reason}: {text}" if text else reason
    message = f"{codec.name}: no complete answer from {address(call.url)} ({why}). Check the network and base_url"
    return Failure(ModelHTTPError(message, model=codec.name, body=text), retryable=True)


def timed_out(codec: Codec, call: HttpCall, reason: str, seconds: float | None) -> Failure:
    """Return the failure of a provider that was silent for too long."""
    limit = f"within {seconds:g} s" if seconds is not None else "in time"
    message = (
        f"{codec.name}: {address(call.url)} gave no answer {limit} ({reason}). "
        "Raise settings.timeout, or ask for less at once"
    )
    return Failure(ModelTimeout(message, model=codec.name), retryable=True)


def redacted(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text with every secret masked, the longest first since one may contain another."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return text


def _shown(text: str, limit: int) -> str:
    """Return a provider's text as it may stand in a message: harmless to a terminal, and not too long."""
    text = _CONTROLS.sub(" ", text).strip()
    return text if len(text) <= limit else f"{text[:limit]}..."


def _status_error(
    codec: Codec, status: int, headers: Mapping[str, str], text: str, asked: float | None
) -> ModelHTTPError:
    """Return the exception for an error status, of the class that a caller would tell apart."""
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    message = _message(codec.name, status, _shown(text, _MESSAGE_LIMIT), request_id)
    body = _shown(text, _BODY_LIMIT)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(message, model=codec.name, body=body, request_id=request_id, retry_after=asked)
    kind = AuthenticationFailed if status in {401, 403} else ModelHTTPError
    return kind(message, model=codec.name, status=status, body=body, request_id=request_id)


def _message(model: str, status: int, text: str, request_id: str | None) -> str:
    """Return the sentence for an error status: what, where, what to do."""
    said = f": {text.rstrip('.')}" if text else ""
    reference = f" (request id {request_id})" if request_id else ""
    return f"{model} answered {_titled(status)}{said}{reference}. {_advice(status)}"


def _titled(status: int) -> str:
    """Return a status with its name, where it has one."""
    return f"{status} {_PHRASES[status]}" if status in _PHRASES else str(status)


def _advice(status: int) -> str:
    """Say what to do about a status."""
    match status:
        case 401 | 403:
            return "Check the API key, and what it may do"
        case 404:
            return "Check the model's name and base_url"
        case 429:
            return "Ask less often, or raise the limit at the provider"
        case _ if 300 <= status < 400:
            return "Set base_url to the address that the provider redirects to"
        case _ if status >= 500:
            return "It is the provider's fault; try again later, or give the step a retry="
        case _:
            return "Check the request's settings, tools and messages"


def _may_pass(status: int) -> bool:
    """Tell whether an error of this status often goes away by itself."""
    return status in {408, 409, 429} or status >= 500


def _should_retry(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether to try again; what the provider says about it comes first."""
    said = headers.get("x-should-retry", "").lower()
    return said == "true" if said in {"true", "false"} else _may_pass(status)


def _asked(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return how many seconds the provider asks to wait; None if it does not say so in a way we know."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after", "")
    seconds = _number(after)
    return seconds if seconds is not None else _seconds_until(after, now)


def _until_reset(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds until the last of the limits that are used up begins anew, None if none is said to be."""
    pairs = [(remaining.format(kind), reset.format(kind)) for remaining, reset in _LIMITS for kind in _LIMITED]
    used_up = [headers.get(reset, "") for remaining, reset in pairs if headers.get(remaining, "").strip() == "0"]
    waits = [wait for text in used_up if (wait := _duration(text, now)) is not None]
    return max(waits, default=None)


def _duration(text: str, now: float) -> float | None:
    """Return the seconds of a text like "6m0s" or "120ms", or until a time like "2026-11-22T10:00:00Z"."""
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError):
        parts = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)(ms|s))?", text, re.ASCII)
    if not text or parts is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in parts.group(1, 2, 3))
    return hours * 3600 + minutes * 60 + seconds / (1000 if parts[4] == "ms" else 1)


def _number(text: str) -> float | None:
    """Return a plain number that is not negative; `float` alone would also take "nan" and "inf"."""
    return float(text) if re.fullmatch(r"\s*\d{1,12}(\.\d*)?\s*", text, re.ASCII) else None


def _seconds_until(date: str, now: float) -> float | None:
    """Return the seconds until an HTTP date, none for one that has passed; None for something else."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None
