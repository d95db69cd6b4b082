"""A real web site on loopback, and a network that leads public addresses to it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest

PUBLIC = "1.1.1.1"
OTHER_PUBLIC = "2606:4700:4700::1111"


class Site:
    """A server on 127.0.0.1 and, where there is one, on ::1; it counts what reaches it."""

    def __init__(self):
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        self.hosts: list[str] = []
        self.connections = 0
        self._servers = [self._serve(socket.AF_INET, "127.0.0.1", 0)]
        self.port: int = self._servers[0].server_port
        with contextlib.suppress(OSError):
            self._servers.append(self._serve(socket.AF_INET6, "::1", self.port))

    @property
    def has_ipv6(self):
        return len(self._servers) == 2

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def page(self, path, body=b"", *, status=200, **headers):
        """Serve a body; header names are written with underscores."""
        fields = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-").title(): value for name, value in headers.items()}

        def answer(handler):
            handler.send_response(status)
            for name, value in fields.items():
                if value is not None:
                    handler.send_header(name, value.encode().decode("latin-1"))  # UTF-8, as servers write it
            handler.end_headers()
            handler.wfile.write(body)

        self.pages[path] = answer

    def redirect(self, path, location, status=302):
        self.page(path, status=status, location=location)

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, family, address, port):
        site = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self):
                site.connections += 1
                super().setup()

            def do_GET(self):
                site.requests.append(self.path)
                site.hosts.append(self.headers["Host"])
                with contextlib.suppress(OSError):  # a reader that has had enough hangs up
                    site.pages[self.path](self)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            address_family = family

        server = Server((address, port), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server


class Network(httpcore.NetworkBackend):
    """The internet of a test: public addresses lead to the site, and every attempt to connect is written down."""

    def __init__(self, site):
        self.site = site
        self.attempts: list[str] = []
        self.patience: list[float] = []
        self.dead: set[str] = set()

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.attempts.append(host)
        self.patience.append(timeout)
        if host in self.dead:
            raise httpcore.ConnectTimeout("silence")
        real = "127.0.0.1" if host in {PUBLIC, OTHER_PUBLIC} else host
        return httpcore.SyncBackend().connect_tcp(real, self.site.port, timeout)


class Names:
    """The name service of a test: what each name leads to, one answer after the other; the last one stays."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host, port):
        self.asked.append(host)
        left = self.answers.get(host)
        if left is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def network(site) -> Network:
    return Network(site)


@pytest.fixture
def names() -> type[Names]:
    return Names
