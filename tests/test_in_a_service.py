"""The service of the examples, as a client meets it: a real server process, over the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent
TEXT = "".join(f"{number} words about cats. " for number in range(1, 41))


@contextmanager
def serving(directory: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A server of its own, and a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "in_a_service.py"), str(port)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    with server, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            wait_for(client, server)
            yield client, server
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server of its own."""
    with serving(tmp_path_factory.mktemp("service")) as (client, _):
        yield client


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
    rest = client.get(f"/runs/{run}/events", headers={"Last-Event-ID": str(seen[-1]["seq"])})
    assert (rest.status_code, rest.content) == (204, b"")  # else a browser would come back for ever


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


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"no JSON", []),
        (b"[]", []),
        (b"{}", ["user"]),
        (b'{"user": "", "topic": "cats"}', ["user"]),
        (b'{"user": "ada", "topic": 1}', ["topic"]),
    ],
)
def test_an_order_that_cannot_be_read_is_refused(client, body, wrong):
    """With what is wrong with it, and without what was sent."""
    answer = client.post("/runs", content=body)

    assert answer.status_code == 422
    assert answer.json()["error"][0]["loc"] == wrong
    assert "input" not in answer.json()["error"][0]


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 5000, "\u00b2"])
def test_a_number_that_is_none_is_refused(client, number):
    """It is the client's mistake, not the server's."""
    run = started(client, "kim")

    answer = client.get(f"/runs/{run}/events", headers={"Last-Event-ID": number.encode("latin-1")})

    assert answer.status_code == 400


def test_an_order_that_is_sent_twice_starts_one_run(client):
    """Under a key of the client's, which stands for one order of one user."""
    key = {"Idempotency-Key": "17"}
    orders = [("zoe", "cats"), ("zoe", "cats"), ("zoe", "dogs"), ("max", "dogs")]

    first, again, other, of_another = [
        client.post("/runs", json={"user": user, "topic": topic}, headers=key) for user, topic in orders
    ]

    assert first.json() == again.json()
    assert (first.status_code, again.status_code, other.status_code, of_another.status_code) == (202, 202, 409, 202)
    assert of_another.json() != first.json()


def test_errors_say_nothing_of_the_server(client):
    """Neither where its store is nor what it is made of."""
    assert client.get("/runs/nothing").json() == {"error": "there is no such run"}


@pytest.mark.parametrize("signal", ["kill", "terminate"])
def test_what_a_server_leaves_behind_goes_on_when_it_starts_again(tmp_path, signal):
    """The client, connecting again with the last id that it saw, sees the interruption's other side: the run to its end."""
    with serving(tmp_path) as (client, server):
        run = started(client, "ada")
        seen = events(client, run, most=2)
        getattr(server, signal)()
        server.wait(30)

    with serving(tmp_path) as (client, _):
        rest = events(client, run, after=seen[-1]["seq"])

        assert [event["seq"] for event in seen + rest] == list(range(1, len(seen + rest) + 1))
        assert (rest[-1]["type"], rest[-1]["attempt"]) == ("run_completed", 2)
        assert client.get(f"/runs/{run}").json()["output"] == TEXT


SILENT = """
import asyncio, in_a_service
from agentflow.events import RunCompleted

async def silent():
    await asyncio.sleep(0.2)
    yield RunCompleted(seq=3)

async def main():
    in_a_service.HEARTBEAT = 0.01
    said = [text async for text in in_a_service.told(silent())]
    assert set(said[:-1]) == {": nothing new\\n\\n"}, said
    assert said[-1].startswith("id: 3\\nevent: run_completed\\ndata: {"), said

asyncio.run(main())
"""


def test_a_silent_stream_shows_that_it_is_alive(tmp_path):
    """With comments, which browsers leave out; an event that comes meanwhile is not lost."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")])

    subprocess.run([sys.executable, "-c", SILENT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)
