"""What holds for every test: no network but the loopback, no settings of the person who runs them, no silent skips."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflow._registry import names_given_back
from agentflow._settings import using_store
from agentflow.stores import DiskStore, MemoryStore, Store
from tests._ways import WAYS, Ask

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail if a test is skipped that tests/allowed_skips.txt does not name",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored, which would pass to every process that a test interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Under pytest-xdist the reports of all workers arrive in the controller, which is the one to judge.
    if config.getoption("--strict-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(StrictSkips(ALLOWED_SKIPS.read_text(encoding="utf-8")))


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Ask:
    """One of the four ways to run an agent, awaited."""
    return WAYS[request.param]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Both stores, each fresh, as the default of the process."""
    fresh: Store = MemoryStore() if request.param == "memory" else DiskStore(tmp_path / "store", durability="process")
    with using_store(fresh):
        yield fresh
    fresh.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    """A fresh store on disk, as the default of the process."""
    fresh = DiskStore(tmp_path / "store", durability="process")
    with using_store(fresh):
        yield fresh
    fresh.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 2 MB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other processes of this interpreter, which end with the test: `spawn(*arguments, path=...)`, where `path` is importable."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, path: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class StrictSkips:
    """Fails a session in which a test was skipped that nobody allowed to be."""

    def __init__(self, allowed: str) -> None:
        self.allowed = {line.partition("#")[0].strip() for line in allowed.splitlines()} - {""}
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._judge(report, expected_to_fail=hasattr(report, "wasxfail"))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._judge(report, expected_to_fail=False)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport, *, expected_to_fail: bool) -> None:
        test = report.nodeid
        if report.skipped and not expected_to_fail and not {test, test.partition("[")[0]} & self.allowed:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self.unexpected.append(f"{test}: {reason}")

    # First, so that pytest's own closing lines stay the last ones.
    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("unexpected skips", red=True)
            for line in self.unexpected:
                terminalreporter.line(line)
            terminalreporter.line("Make them run, or name them with a reason in tests/allowed_skips.txt.")

    # Before the terminal reporter's own, a wrapper that prints the summary and hands the status on.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


class NetworkRefusedError(Exception):
    """A test tried to leave this machine. Not an `OSError`, which code under test might take for an answer."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):  # the path of a Unix socket
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(scope="session", autouse=True)
def refused_connections() -> Iterator[list[object]]:
    """Refuses connections to anything but the loopback and Unix sockets, and collects what was refused.

    Names other than localhost do not resolve, as on a machine without a network.
    """
    refused: list[object] = []
    resolve = socket.getaddrinfo

    def guarded(connect):
        def refuse_or_connect(self, address):
            if not _is_local(address):
                refused.append(address)
                raise NetworkRefusedError(f"a test tried to connect to {address}; tests may use the loopback only")
            return connect(self, address)

        return refuse_or_connect

    def resolve_locally(host, *args, **kwargs):
        name = host.decode("ascii") if isinstance(host, bytes) else host
        try:
            numeric = name is None or bool(ipaddress.ip_address(name.partition("%")[0]))
        except ValueError:
            numeric = False
        if numeric or name in ("", "localhost"):
            return resolve(host, *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", resolve_locally)
        yield refused


@pytest.fixture(autouse=True)
def _network_off(refused_connections: list[object]) -> Iterator[None]:
    """Fails the test that tried, also where its code or a thread swallowed the refusal."""
    before = len(refused_connections)
    yield
    if refused_connections[before:]:
        pytest.fail(f"the test tried to connect to {refused_connections[before:]}")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the settings and keys of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith("AGENTFLOW_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _agentflow() -> Iterator[None]:
    """Takes the place of the plugin's isolation, of which only the names are kept: these tests say for themselves what stores they use."""
    with names_given_back():
        yield
