"""When a failed attempt of a step is tried again, and after how long; tenacity decides, nothing here waits.

This is the only module that imports tenacity, and it does so when the first failure of a step with a
policy is judged: a step without one, or one that succeeds, never pays for it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

import attrs

from agentflow.exceptions import AuthenticationFailed, BudgetExceeded, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import tenacity

    from agentflow.types import Duration

__all__ = ["Retries", "RetryOn", "RetryPolicy", "retry_policy", "seconds"]

RetryOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]"
"""What is worth another attempt: exception types, or a function that says so."""

NEVER_RETRIED = (UsageError, StoreError, BudgetExceeded, AuthenticationFailed)


def seconds(duration: Duration, *, what: str) -> float:
    """Return a duration as seconds.

    Raises:
        UsageError: If it is negative or no duration.
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not duration >= 0:
        raise UsageError(f"{what} is {duration!r}; it takes a number of seconds or a timedelta, zero or more")
    return float(duration)


def _wait(value: Duration) -> float:
    return seconds(value, what="wait")


def _limit(value: Duration | None) -> float | None:
    return None if value is None else seconds(value, what="timeout")


def _check_attempts(_: object, __: object, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"attempts={value!r} counts all attempts, the first one too: write 1 or more")


def _check_on(_: object, __: object, value: RetryOn | None) -> None:
    types = value if isinstance(value, tuple) else (value,)
    are_errors = all(
        isinstance(each, type) and issubclass(each, Exception) for each in cast("tuple[object, ...]", types)
    )
    is_asked = callable(value) and not isinstance(value, type)
    if value is not None and not are_errors and not is_asked:
        raise UsageError(f"on={value!r}: write exception types, or a function that is given the exception")


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often a failing step is tried, and how long it rests in between.

    The wait before attempt *n + 1* is `wait * 2 ** (n - 1)` seconds, at most `max_wait`, plus up to one second of jitter
    (none if `wait` is 0).
    A `BaseException` that is no `Exception` (Ctrl-C, cancellation) is never retried.
    A streamed step is retried only before its first item.

    ```python
    from agentflow import RetryPolicy, cached_step

    @cached_step(retry=RetryPolicy(attempts=3, wait=0, on=ConnectionError))
    def fetch(url: str) -> str:
        return f"page of {url}"

    assert fetch("https://example.com/") == "page of https://example.com/"
    ```

    Attributes:
        attempts: How many attempts in all, the first one included.
        wait: Seconds (or a `timedelta`) before the second attempt.
        max_wait: The longest wait.
        on: Exception types worth another attempt, or a function of the exception.
            None: any `Exception` less `UsageError`, `StoreError`, `BudgetExceeded` and `AuthenticationFailed`.
        timeout: The limit of one attempt, None for none. The `timeout` of `cached_step` is that of the whole call.
    """

    attempts: int = attrs.field(default=3, validator=_check_attempts)
    wait: float = attrs.field(default=1.0, converter=_wait)
    max_wait: float = attrs.field(default=60.0, converter=_wait)
    on: RetryOn | None = attrs.field(default=None, validator=_check_on)
    timeout: float | None = attrs.field(default=None, converter=_limit)

    def retries(self, error: BaseException) -> bool:
        """Whether this error is worth another attempt, if one is left."""
        if not isinstance(error, Exception):
            return False
        if self.on is None:
            return not isinstance(error, NEVER_RETRIED)
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return self.on(error)


def retry_policy(retry: int | RetryPolicy | None) -> RetryPolicy | None:
    """Return the policy that an option stands for; one attempt is no policy."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    return RetryPolicy(attempts=retry)


class Retries:
    """The attempts of one call under one policy."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._state: tenacity.RetryCallState | None = None

    def pause_after(self, error: BaseException) -> float | None:
        """Return the seconds to wait before the next attempt, or None if this error is final."""
        # A cancelled task must never be retried (tenacity #529), so BaseException is judged before tenacity sees it.
        if not self._policy.retries(error):
            return None
        import tenacity  # noqa: PLC0415 - its 50 ms are paid by the first failure, not by every import

        if self._state is None:
            self._state = tenacity.RetryCallState(self._controller(), None, (), {})
        self._state.set_exception((type(error), error, error.__traceback__))
        try:
            action = self._state.retry_object.iter(self._state)
        except tenacity.RetryError:
            return None
        self._state.prepare_for_next_attempt()
        return float(cast("float", action))

    def _controller(self) -> tenacity.Retrying:
        import tenacity  # noqa: PLC0415 - see pause_after

        policy = self._policy
        backoff = tenacity.wait_exponential(multiplier=policy.wait, max=policy.max_wait)
        rest = backoff + tenacity.wait_random(0, min(policy.wait, 1.0))
        controller = tenacity.Retrying(stop=tenacity.stop_after_attempt(policy.attempts), wait=rest)
        controller.begin()
        return controller
