"""A model that has changed since its result was stored (F22), as the calls of a step meet it; the codec by itself: `tests/test_serialization.py`."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from pydantic import create_model

from agentflow import Step, cached_step
from agentflow._settings import using_store
from agentflow.stores import DiskStore

OLD = {"title": (str, ...), "pages": (int, 3)}
CATS = {"title": "cats", "pages": 3}

# The fields that the model has later, and the old result as it then is.
FITS = {
    "nothing changed": (OLD, CATS),
    "a field with a default": ({**OLD, "tags": (list[str], [])}, {**CATS, "tags": []}),
    "a wider type": ({**OLD, "pages": (int | None, None)}, CATS),
}
# The fields, what the step then makes, and what the log says of the reason.
MISSES = {
    "a field without a default": ({**OLD, "author": (str, ...)}, {"title": "dogs", "author": "me"}, "author"),
    "a field less": ({"title": (str, ...)}, {"title": "dogs"}, "pages"),
    "another name": ({"heading": (str, ...), "pages": (int, 3)}, {"heading": "dogs"}, "heading|title"),
    "another type": ({**OLD, "title": (int, ...)}, {"title": 3}, "title"),
}


def step_of(fields: dict[str, Any], value: dict[str, Any], executed: list[str]) -> Step[Any, Any]:
    """The step as one version of a program has it; pinned, since another schema would be another version by itself."""
    page = create_model("Page", __module__=__name__, **fields)

    def read(url: str) -> Any:
        executed.append(url)
        return page(**value)

    read.__annotations__["return"] = page
    return cached_step(name="faults.models.read", version="1")(read)


@pytest.fixture
def executed(tmp_path):
    """What was executed after an older version of the program has left its result behind."""
    calls: list[str] = []
    with using_store(DiskStore(tmp_path / "store")) as store:
        step_of(OLD, CATS, calls)("u")
        calls.clear()
        yield calls
    store.close()


@pytest.mark.parametrize(("fields", "expected"), FITS.values(), ids=FITS)
def test_an_old_result_that_fits_is_a_hit(fields, expected, executed):
    """It is an object of the new class, whole."""
    read = step_of(fields, CATS, executed)

    answer = read("u")

    assert (answer.model_dump(), executed) == (expected, [])
    assert set(type(answer).model_fields) == set(fields)


@pytest.mark.parametrize(("fields", "made", "reason"), MISSES.values(), ids=MISSES)
def test_an_old_result_that_does_not_fit_is_a_miss(fields, made, reason, executed, caplog, figure):
    """Its reason is logged; the step is executed once, and from then on its new result is the hit. Nobody sees half an object."""
    caplog.set_level(logging.DEBUG, logger="agentflow")
    read = step_of(fields, made, executed)

    answers = [read("u") for _ in range(2)]

    stale = [line for line in (record.getMessage() for record in caplog.records) if line.startswith("step.stale")]
    assert [answer.model_dump(exclude_unset=True) for answer in answers] == [made] * 2
    assert executed == ["u"]
    assert len(stale) == 1
    assert re.search(reason, stale[0])
    figure("F22", half_filled=0, executed=1)
