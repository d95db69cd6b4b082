"""What a chat-completions server says, and such a server on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agentflow.messages import ModelRequest, UserMessage

HELLO = ModelRequest(messages=(UserMessage(content="Hello"),))


def sent(codec, *messages, stream=False, **fields):
    """The JSON that is sent for a request."""
    return json.loads(codec.encode(ModelRequest(messages=messages or HELLO.messages, **fields), stream=stream).body)


def read(codec, answer):
    """What a complete answer means."""
    return codec.decode(json.dumps(answer).encode())


def heard(codec, chunks):
    """The texts and the answer that the bytes of a stream amount to."""
    decoder, source = codec.decoder(), codec.events()
    texts = [text for chunk in chunks for item in source.feed(chunk) if (text := decoder.feed(item))]
    return texts, decoder.finish()


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: dict


def completion(text="Hello!", **fields):
    """The body of a complete answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "model": "m-1", "choices": [choice], **fields}


def delta(finish=None, index=0, **said):
    """One piece of a streamed answer."""
    choice = {"index": index, "delta": said, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]}


def usage(**fields):
    """The piece that says what was used."""
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": fields}


def event(data):
    """The bytes of one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def stream_of(*texts):
    """The events of a complete streamed answer."""
    return [event(delta(content=text)) for text in texts] + [event(delta("stop")), event("[DONE]")]


def answer(body, status=200, headers=()):
    """A reply with a JSON body, or raw bytes."""

    def reply(handler):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"content-type": "application/json", **dict(headers)}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def stream(events, *, drop=False, content_type="text/event-stream; charset=utf-8"):
    """A streamed reply; an item may be a callable to wait for. `drop` cuts the connection instead of ending it."""

    def reply(handler):
        handler.send_response(200)
        handler.send_header("content-type", content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for item in events:
            if callable(item):
                item()
            else:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(item), item))
                handler.wfile.flush()
        if drop:
            cut(handler)
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return reply


def cut(handler):
    """Cut the connection."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Server:
    """What the server does, in the order of the requests, and what it saw."""

    url: str = ""
    replies: deque = field(default_factory=deque)
    always: object = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def will(self, *replies):
        """Plan the replies."""
        self.replies.extend(replies)

    def hold(self, handler):
        """A reply that does not come until the test is over."""
        self.released.wait(10)
        cut(handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.plan.connections += 1

    def do_POST(self):
        plan = self.server.plan
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked = body
        plan.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        reply = plan.always or (plan.replies.popleft() if plan.replies else answer({"error": "unplanned"}, 501))
        reply(self)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


@contextmanager
def serving():
    """Run a server on a free port of loopback, for a plan that the test makes."""
    running = _Server(("127.0.0.1", 0), _Handler)
    plan = running.plan = Server(url=f"http://127.0.0.1:{running.server_port}/v1")
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield plan
    finally:
        plan.released.set()
        running.shutdown()
        thread.join()
        running.server_close()
