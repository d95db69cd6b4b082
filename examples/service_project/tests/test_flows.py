"""How a briefing is written, with scripted models and without a network."""

import asyncio
import datetime as dt

import httpx
import pytest
from newsroom.flows import Picked, briefing, pick, search_news, write

from agentflow import Budget
from agentflow.events import StepCompleted
from agentflow.exceptions import BudgetExceeded, UsageError
from agentflow.testing import (
    SimulatedCrash,
    TestModel,
    assert_hit,
    assert_ran,
    crash_after,
    override_models,
    replace_step,
)

TODAY = dt.date(2026, 7, 1)  # of the stories in conftest.py
PICKED = Picked(numbers=[2, 0])
TEXT = ["Cats are on the moon. ", "They sleep there."]


def written(topic="cats", day=TODAY):
    return asyncio.run(briefing.acall(topic, day))


def test_the_writer_gets_what_the_editor_picked(news, scripted_model):
    model = scripted_model([PICKED, TEXT])

    assert written() == "Cats are on the moon. They sleep there."

    asked = model.requests[-1].messages[-1].text
    assert asked.index("Cats on the moon") < asked.index("Cats sleep more")
    assert "Dogs" not in asked
    assert briefing.session("default").state["briefings"] == 1


def test_a_second_briefing_costs_nothing(news, scripted_model):
    scripted_model([PICKED, TEXT])

    assert written() == written()

    assert_ran(pick, topic="cats", times=1)
    assert_hit(pick, topic="cats", times=1)
    assert_hit(write, times=1)


def test_no_news_ask_no_writer(news, scripted_model):
    scripted_model([Picked(numbers=[])])

    assert written(day=dt.date(2026, 7, 2)) == "There is nothing new about cats."

    assert_ran(write, times=0)


def test_news_that_are_an_hour_old_are_asked_for_again(news, scripted_model, agentflow_clock):
    scripted_model([PICKED, TEXT])

    written()
    agentflow_clock.advance(dt.timedelta(minutes=59))
    written()
    assert_ran(search_news, times=1)
    agentflow_clock.advance(dt.timedelta(minutes=1))
    written()

    assert_ran(search_news, times=2)
    assert_ran(write, times=1)  # of the same stories


def test_the_news_are_asked_three_times(scripted_model, agentflow_clock):
    answers = iter([httpx.ConnectError("unreachable"), httpx.ReadTimeout("slow"), []])

    def answer(topic, day):
        if isinstance(found := next(answers), Exception):
            raise found
        return found

    scripted_model([Picked(numbers=[])])
    with replace_step(search_news, answer):
        assert written() == "There is nothing new about cats."

    assert 6 <= sum(agentflow_clock.pauses) <= 8  # 2 and 4 seconds, each with up to one of jitter


def test_after_a_crash_the_editor_is_not_paid_again(news, scripted_model):
    scripted_model([PICKED, TEXT])

    with crash_after(pick), pytest.raises(SimulatedCrash):
        written()
    assert written().startswith("Cats are on the moon.")

    assert_ran(pick, times=1)


def test_a_model_that_fails_leaves_the_rest_done(news, scripted_model):
    scripted_model([PICKED, ConnectionError("reset by peer"), TEXT])

    with pytest.raises(ConnectionError):
        written()

    assert written().startswith("Cats")


def test_an_unplanned_request_fails_at_once(news):
    with pytest.raises(UsageError, match="tests make no real model requests"):
        written()


def test_the_budget_stops_it_and_a_greater_one_goes_on(news, scripted_model):
    scripted_model([PICKED, TEXT])
    poor, rich = (briefing.with_options(budget=Budget(requests=number)) for number in (1, 2))

    with pytest.raises(BudgetExceeded):
        asyncio.run(poor.acall("cats", TODAY))

    assert asyncio.run(rich.acall("cats", TODAY)).startswith("Cats")


def test_it_holds_together_whatever_the_models_say(news):
    with override_models(TestModel("Something.")):
        assert written() in ("Something.", "There is nothing new about cats.")


def test_what_happens_is_told(news, scripted_model, agentflow_events):
    scripted_model([PICKED, TEXT])

    written()

    assert [event.step.partition(":")[2] for event in agentflow_events if isinstance(event, StepCompleted)] == [
        "search_news",
        "pick",
        "write",
    ]
