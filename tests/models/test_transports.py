"""The two transports against a real server: each claim holds in both colours and over both HTTP libraries."""

from __future__ import annotations

import gzip
import threading
from email.utils import formatdate

import pytest

from agentflow.exceptions import (
    AuthenticationFailed,
    ModelHTTPError,
    ModelTimeout,
    RateLimited,
    UnexpectedModelBehavior,
)
from agentflow.messages import ModelRequest, ModelSettings, Usage, UserMessage
from agentflow.models.openai import ChatCompletions

from ._chat import answer, completion, cut, delta, event, stream, stream_of, usage

FAILED = answer({"error": {"message": "Oops."}}, 500, {"retry-after-ms": "5"})


@pytest.fixture
def codec(server):
    """The codec of a model at the server."""
    return ChatCompletions("openai:m", "m", server.url, "sk-canary-0001")


# ---- requests ------------------------------------------------------------------------------------


def test_a_request_is_answered(drive, server, codec):
    """What is sent is what the codec says, and the answer comes back."""
    server.will(answer(completion("Hi", usage={"prompt_tokens": 3, "completion_tokens": 1})))

    response = drive.ask(codec)

    assert response.text == "Hi"
    assert response.usage == Usage(requests=1, input_tokens=3, output_tokens=1)
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].headers["authorization"] == "Bearer sk-canary-0001"
    assert server.seen[0].body == {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    assert drive.waits == []


def test_failures_are_tried_again(drive, server, codec):
    """Two failures and an answer are an answer; the provider's wish to wait is granted."""
    server.will(FAILED, answer({}, 429, {"retry-after": "7"}), answer(completion()))

    response = drive.ask(codec)

    assert response.text == "Hello!"
    assert drive.waits == [0.005, 7]
    assert len({str(seen.body) for seen in server.seen}) == 1


def test_attempts_are_limited(drive, server, codec):
    """The last failure is raised, and no request is made after it."""
    server.will(FAILED, FAILED, answer({"error": {"message": "Enough."}}, 429, {"retry-after": formatdate(0)}))

    with pytest.raises(RateLimited, match="Enough") as raised:
        drive.ask(codec)

    assert raised.value.status == 429
    assert len(server.seen) == 3
    assert len(drive.waits) == 2


def test_retries_can_be_turned_off(drive, server, codec):
    """Then the first failure is raised."""
    server.will(FAILED)

    with pytest.raises(ModelHTTPError, match="Oops"):
        drive.ask(codec, retries=0)

    assert len(server.seen) == 1


def test_a_refused_key_is_not_tried_again(drive, server, codec):
    """It will not become right."""
    server.will(answer({"error": {"message": "Bad key."}}, 401, {"x-request-id": "req_9"}))

    with pytest.raises(AuthenticationFailed, match="Bad key") as raised:
        drive.ask(codec)

    assert raised.value.request_id == "req_9"
    assert drive.waits == []


def test_a_dropped_connection_is_tried_again(drive, server, codec):
    """Before an answer and in the middle of one."""

    def half(handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices": [')
        cut(handler)

    server.will(cut, half, answer(completion()))

    response = drive.ask(codec)

    assert response.text == "Hello!"
    assert len(drive.waits) == 2


def test_a_server_that_is_not_there_is_an_error(drive, server):
    """It names the address and the reason; every attempt is made."""
    codec = ChatCompletions("openai:m", "m", "http://127.0.0.1:1/v1")

    with pytest.raises(ModelHTTPError, match=r"http://127\.0\.0\.1:1/v1/chat/completions \(ConnectError: ") as raised:
        drive.ask(codec)

    assert raised.value.status is None
    assert len(drive.waits) == 2


def test_a_request_that_cannot_be_sent_is_not_tried_again(drive):
    """A host name that HTTP does not allow will not become one."""
    codec = ChatCompletions("openai:m", "m", "http://-é/v1")

    with pytest.raises(ModelHTTPError, match=r"\(InvalidURL\)"):
        drive.ask(codec)

    assert drive.waits == []


def test_a_silent_server_is_a_timeout(drive, server, codec):
    """`settings.timeout` bounds the silence."""
    server.will(server.hold)
    request = ModelRequest(messages=(UserMessage(content="x"),), settings=ModelSettings(timeout=0.05))

    with pytest.raises(ModelTimeout, match=r"within 0\.05 s \(ReadTimeout\)"):
        drive.ask(codec, request, retries=0)


def test_a_redirect_is_not_followed(drive, server, codec):
    """The key goes only where the user said."""
    server.will(answer({}, 307, {"location": "http://127.0.0.1:1/"}))

    with pytest.raises(ModelHTTPError, match="Set base_url to the address") as raised:
        drive.ask(codec)

    assert raised.value.status == 307


def test_a_page_in_place_of_an_answer_is_not_tried_again(drive, server, codec):
    """The address is wrong, and stays so."""
    server.will(answer(b"<html>Welcome</html>", headers={"content-type": "text/html"}))

    with pytest.raises(ModelHTTPError, match="Check base_url"):
        drive.ask(codec)

    assert drive.waits == []


def test_a_refusal_passes(drive, server, codec):
    """It is the model's word, not the transport's business."""
    body = completion()
    body["choices"][0]["message"]["refusal"] = "No."
    server.will(answer(body))

    with pytest.raises(UnexpectedModelBehavior, match=r"No\."):
        drive.ask(codec)

    assert drive.waits == []


# ---- streams -------------------------------------------------------------------------------------


def test_a_stream_arrives_piece_by_piece(drive, server, codec):
    """Each piece is here before the server sends the next: it waits until we have it."""
    arrived = [threading.Event(), threading.Event()]
    first, second, *rest = stream_of("Hel", "lo")
    server.will(stream([first, lambda: arrived[0].wait(10), second, lambda: arrived[1].wait(10), *rest]))
    order = iter(arrived)

    heard = drive.listen(codec, on_text=lambda _: next(order).set())

    assert heard.texts == ["Hel", "lo"]
    assert heard.response.text == "Hello"
    assert server.seen[0].headers["accept"] == "text/event-stream"
    assert server.seen[0].body["stream_options"] == {"include_usage": True}


def test_an_answer_ends_at_done(drive, server, codec, eventually):
    """A server that keeps the connection open after it does not keep us waiting: it waits for us here."""
    left, in_time = threading.Event(), []
    server.will(stream([*stream_of("Hi"), lambda: in_time.append(left.wait(5))]))

    heard = drive.listen(codec)
    left.set()

    assert heard.response.text == "Hi"
    eventually(lambda: in_time)
    assert in_time == [True]


def test_a_stream_has_its_usage(drive, server, codec):
    """It comes after the text."""
    server.will(
        stream([event(delta(content="Hi")), event(delta("stop")), event(usage(prompt_tokens=4)), event("[DONE]")])
    )

    assert drive.listen(codec).response.usage == Usage(requests=1, input_tokens=4)


def test_text_is_cut_nowhere_but_at_events(drive, server, codec):
    """Line separators inside JSON, and characters that arrive byte by byte."""
    text = "a\u2028b\u0085c 🐈"
    server.will(stream([bytes([byte]) for byte in b"".join(stream_of(text))]))

    assert drive.listen(codec).texts == [text]


def test_a_compressed_stream_is_read(drive, server, codec):
    """Proxies compress what they like."""

    def reply(handler):
        body = gzip.compress(b"".join(stream_of("Hel", "lo")))
        handler.send_response(200)
        for name, value in (("content-type", "text/event-stream"), ("content-encoding", "gzip")):
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.will(reply)

    assert drive.listen(codec).texts == ["Hel", "lo"]


@pytest.mark.parametrize(
    "failed",
    [
        FAILED,
        cut,
        stream([event(delta(role="assistant", content=""))], drop=True),
        stream([event(delta(role="assistant", content=""))]),
        stream([event({"error": {"message": "Oops.", "code": 503}})]),
        stream([b"data: <html>\n\n"]),
    ],
    ids=["status", "no answer", "dropped", "truncated", "error event", "nonsense"],
)
def test_a_stream_that_fails_before_its_text_is_tried_again(drive, server, codec, failed):
    """Nobody has seen anything of it."""
    server.will(failed, stream(stream_of("Hi")))

    heard = drive.listen(codec)

    assert heard.texts == ["Hi"]
    assert len(drive.waits) == 1


@pytest.mark.parametrize(
    "failed",
    [
        stream([event(delta(content="Hel"))], drop=True),
        stream([event(delta(content="Hel"))]),
        stream([event(delta(content="Hel")), event(delta("stop"))], drop=True),
        stream([event(delta(content="Hel")), event({"error": {"message": "Oops.", "code": 503}})]),
    ],
    ids=["dropped", "truncated", "dropped before it is done", "error event"],
)
def test_a_stream_that_fails_after_its_text_is_an_error(drive, server, codec, failed):
    """What was shown cannot be taken back, and a part is never taken for the whole."""
    server.will(failed)
    heard = []

    with pytest.raises(ModelHTTPError):
        drive.listen(codec, on_text=heard.append)

    assert heard == ["Hel"]
    assert len(server.seen) == 1
    assert drive.waits == []


def test_a_stream_of_tool_calls_is_tried_again(drive, server, codec):
    """It has no text, so nothing of it was shown."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    pieces = [event(delta(tool_calls=[call])), event(delta("tool_calls")), event("[DONE]")]
    server.will(stream(pieces[:1], drop=True), stream(pieces))

    heard = drive.listen(codec)

    assert "".join(heard.texts) == ""
    assert [call.name for call in heard.response.tool_calls] == ["f"]


def test_a_refused_stream_says_why(drive, server, codec):
    """An error status has an ordinary body."""
    server.will(answer({"error": {"message": "No such model."}}, 404))

    with pytest.raises(ModelHTTPError, match="No such model") as raised:
        drive.listen(codec)

    assert raised.value.status == 404


def test_a_server_that_does_not_stream_is_understood(drive, server, codec):
    """Its whole answer is one piece."""
    server.will(answer(completion("Hi")), answer(b"{}", headers={"content-type": "application/json; charset=utf-8"}))

    assert drive.listen(codec).texts == ["Hi"]
    with pytest.raises(ModelHTTPError, match="Check base_url"):
        drive.listen(codec)


def test_a_silent_stream_is_a_timeout(drive, server, codec):
    """The limit is on the silence, also between pieces."""
    server.will(stream([event(delta(content="Hel")), lambda: server.released.wait(10)]))
    request = ModelRequest(messages=(UserMessage(content="x"),), settings=ModelSettings(timeout=0.2))
    heard = []

    with pytest.raises(ModelTimeout):
        drive.listen(codec, request, on_text=heard.append)

    assert heard == ["Hel"]


def test_a_stream_that_is_left_closes_its_connection(drive, server, codec, eventually):
    """The server sees it go."""
    gone = threading.Event()

    def reply(handler):
        try:
            stream([event(delta(content="Hel"))] + [event(delta(content="x" * 10_000))] * 10_000)(handler)
        except OSError:
            gone.set()
            raise

    class Enough(Exception):
        pass

    def leave(text):
        raise Enough

    server.will(reply)

    with pytest.raises(Enough):
        drive.listen(codec, on_text=leave)

    eventually(gone.is_set)


def test_text_of_any_language_passes(drive, server, codec):
    """In both directions."""
    server.will(answer(completion("é 🐈")))

    response = drive.ask(codec, ModelRequest(messages=(UserMessage(content="Où? 🐈"),)))

    assert response.text == "é 🐈"
    assert server.seen[0].body["messages"][0]["content"] == "Où? 🐈"
