"""Fault F29: a store of every released schema is kept, opens for ever, and answers what it did when it was written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from agentflow._settings import using_store
from agentflow.stores import DiskStore
from agentflow.stores._base import Transaction
from agentflow.stores._schema import SCHEMA_VERSION

STORES = Path(__file__).parents[1] / "data" / "stores"
KEPT = sorted(path for path in STORES.iterdir() if path.name.isdecimal())


@pytest.fixture(scope="module")
def program():
    """The program that has written the stores, under its own name: values name their classes by it."""
    spec = importlib.util.spec_from_file_location("kept_stores", STORES / "kept_stores.py")
    module = sys.modules["kept_stores"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kept_stores"]


@pytest.fixture
def opened(tmp_path):
    """Opens a copy of a kept store."""
    made = []

    def opened(kept):
        place = tmp_path / "store"
        place.mkdir(mode=0o700)
        shutil.copyfile(kept / "cache.db", place / "cache.db")
        os.chmod(place / "cache.db", 0o600)
        made.append(DiskStore(place))
        return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_kept_store_answers_as_it_did(kept, program, opened):
    """Every step is a hit, and state, runs and sessions are what they were."""
    expected = json.loads((kept / "expected.json").read_text())
    program.executed.clear()
    store = opened(kept)

    with using_store(store):
        answers = program.answers()
        answers["said"] = "".join(program.blog("cats"))

    assert answers == expected
    assert program.executed == []
    assert store.doctor() == ()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_a_kept_store_goes_on(kept, program, opened):
    """New sessions, steps and state land beside the old ones."""
    program.executed.clear()

    with using_store(opened(kept)):
        assert "".join(program.blog("horses")) == "All about horses, 12.34"
        assert program.typed("horses") == 2
        assert set(program.typed.session("typed").state["articles"]) == {"cats", "horses"}

    assert program.executed == ["search", "read", "write"]


def test_the_store_of_todays_schema_is_kept_and_the_schema_was_not_changed_in_place(tmp_path):
    """Whoever changes the tables makes a migration and a new version.

    Before the first release: write it anew, `python tests/data/stores/kept_stores.py`.
    """
    fresh = DiskStore(tmp_path / "fresh")
    fresh.commit(Transaction())
    fresh.close()

    assert tables(STORES / str(SCHEMA_VERSION)) == tables(fresh.path)


def tables(directory):
    con = sqlite3.connect(f"file:{directory}/cache.db?mode=ro&immutable=1", uri=True)
    try:
        return con.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    finally:
        con.close()
