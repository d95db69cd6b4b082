"""What conftest.py promises to every test, and how the scripts begin."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEST_NET = ("192.0.2.1", 80)  # an address of RFC 5737, which is nobody's


def connect() -> None:
    with socket.socket() as sock:
        sock.settimeout(0.1)
        sock.connect(TEST_NET)


def run_tests(folder: Path, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a program, with a copy of this project's conftest.py beside it."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_it.py").write_text(textwrap.dedent(program))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run_script(script: Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_test_cannot_reach_the_network(refused_connections):
    """A connection to an address that is not of the loopback is refused before a packet leaves."""
    with pytest.raises(Exception, match="may use the loopback only") as caught:
        connect()

    assert not isinstance(caught.value, OSError)
    assert refused_connections.pop() == TEST_NET


def test_a_connection_that_a_thread_tries_is_noticed(refused_connections):
    """The refusal is kept for the end of the test, where the thread's own error would be lost."""

    def swallow() -> None:
        with pytest.raises(Exception, match="loopback"):
            connect()

    thread = threading.Thread(target=swallow)
    thread.start()
    thread.join()

    assert refused_connections.pop() == TEST_NET


def test_a_swallowed_refusal_fails_the_test(tmp_path):
    """Code that catches everything cannot hide that it tried."""
    done = run_tests(
        tmp_path,
        """
        import contextlib, socket
        def test_it():
            with contextlib.suppress(Exception), socket.socket() as sock:
                sock.connect_ex(("192.0.2.1", 80))
        """,
    )

    assert "the test tried to connect to [('192.0.2.1', 80)]" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_the_loopback_can_be_reached():
    """A server on the loopback is how transports are tested, by number and by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with socket.create_connection((host, port), timeout=5) as client:
                assert client.getpeername()[1] == port


def test_names_do_not_resolve():
    """A name of the outside world is unknown, as on a machine without a network."""
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.org", 443)


def test_settings_and_keys_of_the_shell_do_not_reach_a_test(tmp_path):
    """Whose machine it is makes no difference to a test."""
    done = run_tests(
        tmp_path,
        """
        import os
        def test_it():
            assert not {"AGENTFLOW_STORE", "OPENAI_API_KEY"} & os.environ.keys()
        """,
        AGENTFLOW_STORE="/nowhere",
        OPENAI_API_KEY="canary",
    )

    assert done.returncode == pytest.ExitCode.OK, done.stdout


SKIPPING = """
    import pytest
    @pytest.mark.parametrize("number", [1, 2])
    def test_skipped(number):
        pytest.skip("no reason")
    @pytest.mark.xfail
    def test_known_to_fail():
        assert False
"""


def test_a_skip_passes_where_nobody_is_strict(tmp_path):
    """At home a test may be skipped."""
    done = run_tests(tmp_path, SKIPPING)

    assert done.returncode == pytest.ExitCode.OK, done.stdout


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "xdist"])
def test_a_skip_that_nobody_allowed_fails_the_session(tmp_path, workers):
    """Under --strict-skips each unexpected skip is named with its reason; an expected failure is none."""
    (tmp_path / "allowed_skips.txt").write_text("test_it.py::test_skipped[2]  # the second may\n")

    done = run_tests(tmp_path, SKIPPING, "--strict-skips", *workers)

    assert "\ntest_it.py::test_skipped[1]: Skipped: no reason\n" in done.stdout
    assert "\ntest_it.py::test_skipped[2]" not in done.stdout
    assert "\ntest_it.py::test_known_to_fail" not in done.stdout
    assert "2 skipped, 1 xfailed" in done.stdout.splitlines()[-1]
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_a_module_that_skips_itself_fails_the_session(tmp_path):
    """A skip while collecting, of a whole file, counts as one."""
    (tmp_path / "allowed_skips.txt").write_text("# none\n")

    done = run_tests(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n", "--strict-skips")

    assert "\ntest_it.py: Skipped: could not import 'no_such_module'" in done.stdout
    assert done.returncode != pytest.ExitCode.OK


def test_an_allowed_test_may_be_skipped_with_all_its_parameters(tmp_path):
    """The name without parameters allows all of them."""
    (tmp_path / "allowed_skips.txt").write_text("test_it.py::test_skipped\n")

    done = run_tests(tmp_path, SKIPPING, "--strict-skips")

    assert done.returncode == pytest.ExitCode.OK, done.stdout


@pytest.mark.parametrize("script", ["test", "check", "demo", "docs"])
def test_a_script_refuses_an_old_python_with_a_sentence(script, tmp_path):
    """Nothing is made with a Python that cannot run the project, and the sentence says which one and what to do."""
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.1' && exit\nexit 1\n")
    old.chmod(0o755)

    done = run_script(ROOT / "scripts" / script, tmp_path, PYTHON=str(old), VENV=str(tmp_path / "venv"))

    assert done.returncode == 1
    assert f'needs Python 3.11 or newer, but "{old}" is Python 3.9.1' in done.stderr
    assert "PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()
