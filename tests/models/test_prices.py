"""What answers cost."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from agentflow.messages import ModelResponse, Usage
from agentflow.models import _prices
from agentflow.models._prices import aused_by, used_by


@pytest.fixture(autouse=True)
def _not_loaded() -> Any:
    _prices._price_list.cache_clear()
    yield
    _prices._price_list.cache_clear()


def answer(model: str | None = None, **usage: Any) -> ModelResponse:
    return ModelResponse(model=model, usage=Usage(input_tokens=1_000_000, output_tokens=1_000_000, **usage))


def costs(model: str, response: ModelResponse) -> float | None:
    assert used_by(model, response) == asyncio.run(aused_by(model, response))
    return used_by(model, response).cost


def test_an_answer_is_one_request_even_if_the_model_counts_none() -> None:
    """A model of the user's own need not fill in its usage."""
    assert used_by("parrot", ModelResponse()) == Usage(requests=1)


def test_the_providers_own_figure_comes_first() -> None:
    """What the answer says that it cost is what it cost, also nothing."""
    assert costs("openai:gpt-4o-mini", answer(cost=0.0)) == 0.0


def test_without_the_extra_no_price_is_known(monkeypatch) -> None:
    """None, never 0: nobody looked."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)

    assert costs("openai:gpt-4o-mini", answer()) is None


def test_prices_are_looked_up() -> None:
    """By the name of the answer first, then by the name that was asked, among the models of the provider alone."""
    pytest.importorskip("genai_prices")

    assert costs("openai:gpt-4o-mini", answer("gpt-4o-mini-2024-07-18")) == pytest.approx(0.75)
    assert costs("openai-responses:gpt-4o-mini", answer("an alias")) == pytest.approx(0.75)
    assert costs("openai:gpt-4o-mini", answer(cached_input_tokens=1_000_000)) == pytest.approx(0.675)
    assert costs("anthropic:gpt-4o-mini", answer()) is None
    assert costs("ollama:llama3", answer()) is None
    assert costs("scripted", answer("gpt-4o-mini")) is None
