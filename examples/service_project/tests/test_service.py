"""The service, as a client meets it: the real application, its background runs, scripted models."""

import json

import pytest
from newsroom.flows import Picked, pick
from newsroom.service import app
from starlette.testclient import TestClient

from agentflow import get_run, list_runs
from agentflow.testing import fail_step

ASKED = {"topic": "cats", "day": "2026-07-01"}
ADA, BOB = {"X-User": "ada"}, {"X-User": "bob"}


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


@pytest.fixture
def answered(news, scripted_model):
    """The models have something to say."""
    return scripted_model([Picked(numbers=[2]), ["Cats are ", "on the moon."]])


def started(client):
    answer = client.post("/briefings", json=ASKED, headers=ADA)
    assert answer.status_code == 202
    return answer.headers["Location"]


def test_a_briefing_is_started_and_asked_for(client, answered):
    place = started(client)
    get_run(place.rpartition("/")[2]).result(timeout=10)

    shown = client.get(place, headers=ADA).json()

    assert (shown["status"], shown["text"]) == ("completed", "Cats are on the moon.")


def test_its_events_are_followed_and_taken_up_again(client, answered):
    place = started(client)

    events = client.get(f"{place}/events", headers=ADA).text.split("\n\n")[:-1]
    rest = client.get(f"{place}/events", headers={**ADA, "Last-Event-ID": "2"}).text.split("\n\n")[:-1]

    kinds = [event.split("\n")[1].removeprefix("event: ") for event in events]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_completed")
    assert rest == events[2:]
    data = [json.loads(event.split("\n")[2].removeprefix("data: ")) for event in events]
    assert (
        "".join(item for each in data if each["type"] == "run_yielded" for item in each["items"])
        == "Cats are on the moon."
    )


def test_another_user_finds_nothing(client, answered):
    place = started(client)
    get_run(place.rpartition("/")[2]).result(timeout=10)

    for method, path in [("GET", place), ("GET", f"{place}/events"), ("DELETE", place)]:
        assert client.request(method, path, headers=BOB).status_code == 404
    assert client.get("/briefings/nothing", headers=ADA).status_code == 404
    assert client.get(place).status_code == 401


def test_a_failure_tells_the_client_nothing_of_the_inside(client, news):
    with fail_step(pick, RuntimeError("the key sk-12345 is wrong")):
        place = started(client)
        assert client.get(f"{place}/events", headers=ADA).status_code == 200  # until it has ended

    shown = client.get(place, headers=ADA).json()

    assert (shown["status"], shown["error"]) == ("failed", "the briefing could not be written")
    assert "sk-12345" not in str(shown)


def test_a_briefing_that_has_ended_cannot_be_cancelled(client, answered):
    place = started(client)
    get_run(place.rpartition("/")[2]).result(timeout=10)

    assert client.delete(place, headers=ADA).status_code == 409


@pytest.mark.parametrize("asked", [{}, {"topic": "", "day": "2026-07-01"}, {"topic": "cats", "day": "soon"}])
def test_what_makes_no_sense_is_refused(client, asked):
    assert client.post("/briefings", json=asked, headers=ADA).status_code == 422
    assert list_runs() == []
