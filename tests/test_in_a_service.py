"""The service of the examples, as a client meets it: a real server process, over the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent
TEXT = "".join(f"{number} words about cats. " for number in range(1, 41))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "in_a_service.py"), str(port)],
        cwd=tmp_path_factory.mktemp("service"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    with server, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        wait_for(client, server)
        yield client
        server.terminate()


def wait_for(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not come up")


def started(client: httpx.Client, user: str, topic: str = "cats") -> str:
    answer = client.post("/runs", json={"user": user, "topic": topic})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/runs/{answer.json()['id']}"
    return answer.json()["id"]


def events(
    client: httpx.Client, run: str, *, after: int | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """Read events from the stream, as a browser would; leave after so many."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    seen: list[dict[str, Any]] = []
    with client.stream("GET", f"/runs/{run}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        number = None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                seen.append(json.loads(value))
                assert seen[-1]["seq"] == number
                if len(seen) == most:
                    break
    return seen


def test_a_run_is_started_and_asked_for(client):
    """The answer comes at once; the run goes on, and its output grows until it is completed."""
    run = started(client, "ada")

    first = client.get(f"/runs/{run}").json()
    seen = events(client, run)
    last = client.get(f"/runs/{run}").json()

    assert first["status"] in ("pending", "running")
    assert seen[-1]["type"] == "run_completed"
    assert (last["status"], last["output"]) == ("completed", TEXT)


def test_a_client_that_connects_again_misses_nothing(client):
    """It sends the last id that it saw, and sees every event once, while the run goes on and afterwards."""
    run = started(client, "bob")
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["type"] != "run_completed":
        seen += events(client, run, after=seen[-1]["seq"] if seen else None, most=2)

    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert "".join(item for event in seen if event["type"] == "run_yielded" for item in event["items"]) == TEXT
    assert seen == events(client, run)


def test_a_run_is_cancelled(client):
    """Its stream of events ends with that; once it has ended there is nothing to cancel."""
    run = started(client, "eve", "dogs")
    assert events(client, run, most=1)[0]["type"] == "run_started"

    answer = client.delete(f"/runs/{run}")

    assert (answer.status_code, answer.json()) == (202, {"cancelled": True})
    assert events(client, run)[-1]["type"] == "run_cancelled"
    assert client.get(f"/runs/{run}").json()["status"] == "cancelled"
    assert client.delete(f"/runs/{run}").status_code == 409


def test_a_run_that_is_not_there_is_not_found(client):
    """For whatever is asked of it."""
    assert client.get("/runs/nothing").status_code == 404
    assert client.get("/runs/nothing/events").status_code == 404
    assert client.delete("/runs/nothing").status_code == 404
