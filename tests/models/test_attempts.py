"""What a failed attempt means, and how long to wait before the next."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from agentflow.exceptions import AuthenticationFailed, ModelError, ModelHTTPError, ModelTimeout, RateLimited
from agentflow.models._attempts import broken, redacted, refused, timed_out, unreachable
from agentflow.models.google import GenerateContent
from agentflow.models.openai import ChatCompletions

from ._chat import HELLO

NOW = 1_800_000_000.0
CODEC = ChatCompletions("openai:m", "m", api_key="sk-canary-0001")
CALL = CODEC.encode(HELLO, stream=False)


def failure(status=500, headers=(), body=b'{"error": {"message": "Oh no."}}'):
    return refused(CODEC, status, dict(headers), body, now=NOW)


def waits(failed, *, jitter=0.0, attempts=9):
    return [failed.pause(attempt, retries=attempts, jitter=jitter) for attempt in range(attempts)]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_these_statuses_may_pass(status):
    """Such an error is tried again."""
    assert failure(status).retryable


@pytest.mark.parametrize("status", [300, 307, 400, 401, 403, 404, 413, 422, 425])
def test_these_statuses_stay(status):
    """Such an error is raised at once, and it is the error of the attempt."""
    failed = failure(status)

    with pytest.raises(ModelHTTPError) as raised:
        failed.pause(0, retries=2, jitter=0)

    assert raised.value is failed.error
    assert raised.value.status == status


@pytest.mark.parametrize(("status", "said", "expected"), [(400, "true", True), (500, "false", False), (500, "x", True)])
def test_the_provider_decides_on_a_retry(status, said, expected):
    """`x-should-retry` comes before the status."""
    assert failure(status, {"x-should-retry": said}).retryable is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500", "retry-after": "30"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "30"}, 30),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "3600"}, 60),
        ({"retry-after": formatdate(NOW + 20, usegmt=True)}, 20),
        ({"retry-after": formatdate(NOW - 20, usegmt=True)}, 0),
        ({"retry-after": formatdate(NOW + 3600, usegmt=True)}, 60),
    ],
)
def test_the_provider_says_how_long_to_wait(headers, expected):
    """Milliseconds before seconds before a date; never longer than a minute, and the same before each attempt."""
    assert waits(failure(503, headers), jitter=0.7, attempts=2) == [expected, expected]


IN_20_S = datetime.fromtimestamp(NOW + 20, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m3s"}, 60),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}, 2),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "20s"}, 0.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, 0.5),
        ({"x-ratelimit-remaining-tokens": "0"}, 0.5),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": IN_20_S}, 20),
        ({"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": IN_20_S}, 20),
        ({"retry-after": "3", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}, 3),
    ],
)
def test_a_limit_that_is_used_up_says_when_it_begins_anew(headers, expected):
    """Where the provider does not say it outright; a limit that is not used up says nothing."""
    assert waits(failure(429, headers), attempts=1) == [pytest.approx(expected)]


def test_a_limit_counts_only_where_it_was_the_reason():
    """Other errors come with the same headers."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}

    assert waits(failure(500, headers), attempts=1) == [0.5]


def test_google_says_in_the_body_how_long_to_wait():
    """Among the details of its error."""
    codec = GenerateContent("google:g", "g")
    body = b'{"error": {"code": 429, "message": "Quota.", "details": [{"@type": "RetryInfo", "retryDelay": "7.5s"}]}}'

    assert waits(refused(codec, 429, {}, body, now=NOW), attempts=1) == [7.5]


@pytest.mark.parametrize("nonsense", ["", "soon", "-5", "nan", "inf", "1e3", "٣", "Wed, 99 Foo 2026"])
def test_a_wait_that_makes_no_sense_is_ignored(nonsense):
    """Then the wait is our own."""
    assert waits(failure(503, {"retry-after": nonsense}), attempts=1) == [0.5]


def test_our_own_waits_grow_to_a_limit():
    """They double up to eight seconds; jitter shortens them by up to a quarter."""
    assert waits(failure(500)) == [0.5, 1, 2, 4, 8, 8, 8, 8, 8]
    assert waits(failure(500), jitter=1.0, attempts=3) == [0.375, 0.75, 1.5]


def test_retries_are_counted():
    """After the last attempt its error is raised."""
    failed = failure(500)

    failed.pause(0, retries=1, jitter=0)

    with pytest.raises(ModelHTTPError):
        failed.pause(1, retries=1, jitter=0)
    with pytest.raises(ModelHTTPError):
        failed.final().pause(0, retries=9, jitter=0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationFailed), (403, AuthenticationFailed), (429, RateLimited), (404, ModelHTTPError)],
)
def test_a_status_has_its_class(status, kind):
    """What a caller would treat differently has its own class."""
    error = failure(status, {"x-request-id": "req_7", "retry-after": "90"}).error

    assert type(error) is kind
    assert error.status == status
    assert error.request_id == "req_7"
    assert error.model == "openai:m"
    assert error.body == "Oh no."
    assert getattr(error, "retry_after", 90) == 90


def test_a_message_has_three_parts():
    """What happened, to which model, and what to do."""
    assert str(failure(401, {"request-id": "r"}).error) == (
        "openai:m answered 401 Unauthorized: Oh no (request id r). Check the API key, and what it may do"
    )
    assert str(failure(529, body=b"").error).startswith("openai:m answered 529. It is the provider's fault")


def test_a_body_is_shown_in_part_and_harmlessly():
    """Neither its length nor its control characters reach a terminal."""
    error = failure(500, body=b"\x1b[2J" + b"x" * 10_000).error

    assert "\x1b" not in str(error) + error.body
    assert len(str(error)) < 700
    assert len(error.body) < 2100


def test_transport_failures_are_typed():
    """No answer is an HTTP error without a status, too late is a timeout; both may be better next time."""
    lost = unreachable(CODEC, CALL, "ConnectError", "refused by sk-canary-0001")
    late = timed_out(CODEC, CALL, "ReadTimeout", 2.5)

    assert lost.retryable
    assert late.retryable
    assert type(lost.error) is ModelHTTPError
    assert lost.error.status is None
    assert "https://api.openai.com/v1/chat/completions" in str(lost.error)
    assert "sk-canary-0001" not in str(lost.error)
    assert isinstance(late.error, ModelTimeout)
    assert isinstance(late.error, TimeoutError)
    assert "within 2.5 s" in str(late.error)


@pytest.mark.parametrize(("status", "expected"), [(None, True), (200, False), (400, False), (429, True), (500, True)])
def test_an_unreadable_answer_is_tried_again_by_its_status(status, expected):
    """A truncated stream has no status; what the provider reported has one."""
    assert broken(ModelHTTPError("x", status=status)).retryable is expected


def test_secrets_are_masked_the_longest_first():
    """A secret that contains another leaves no rest."""
    assert redacted("a=abc, b=abcdef, ", ("abc", "abcdef", "")) == "a=[redacted], b=[redacted], "


@pytest.mark.parametrize("failed", [failure(429, {"retry-after": "3"}), timed_out(CODEC, CALL, "ReadTimeout", None)])
def test_errors_can_be_copied(failed):
    """Waiters of a shared step get a copy, so an error must survive one."""
    for again in (copy.copy(failed.error), pickle.loads(pickle.dumps(failed.error))):
        assert isinstance(again, ModelError)
        assert str(again) == str(failed.error)
        assert vars(again) == vars(failed.error)
