"""Errors are public, documented, and lose nothing on their way between threads and processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator

import pytest

from agentflow import exceptions

from .conftest import ROOT


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


PUBLIC = [error for error in tree(exceptions.AgentflowError) if error.__module__ == exceptions.__name__]
STORE = [error for error in PUBLIC if issubclass(error, exceptions.StoreError)]


@pytest.mark.parametrize("cls", PUBLIC)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_loses_nothing_on_its_way(cls, travel):
    """Copied for another thread or pickled for another process it has its message, its attributes, its result and its notes."""
    names = [name for name, it in inspect.signature(cls).parameters.items() if it.kind is it.KEYWORD_ONLY]
    error = cls("what happened", **{name: f"the {name}" for name in names})
    error.add_note("a note")

    twin = travel(error)

    assert type(twin) is cls
    assert (twin.args, twin.__notes__) == (("what happened",), ["a note"])
    assert {name: getattr(twin, name) for name in names} == {name: f"the {name}" for name in names}


@pytest.mark.parametrize("cls", STORE)
def test_an_error_of_the_store_says_where_and_what_to_do(cls):
    """Each has a path, a hint and room for the result of a step that had run, and stands in the page of errors."""
    error = cls("m", path="/store", hint="free some space")
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")

    assert (error.path, error.hint, error.result) == ("/store", "free some space", None)
    assert cls.__name__ in exceptions.__all__
    assert cls.__name__ in page
    assert cls.__doc__
