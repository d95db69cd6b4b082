"""Stores that somebody else has written into (T1, T5; R12): no code runs, and nothing outside the store is opened or removed.

That each single kind of planted row is refused stands in `tests/stores/test_disk.py`.
"""

from __future__ import annotations

import sqlite3

import pytest

from agentflow import RunStatus, get_run
from agentflow.exceptions import StoreCorrupt
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, EventRecord, RunRecord, Transaction


@pytest.mark.parametrize("stores", [8, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_planted_is_executed(program, tmp_path, figure, stores):
    """R12: pickles, names of files, settings, triggers and views in any row, and changed bytes: the audit events of the interpreter are clean."""
    counts = program("planted.py", tmp_path, stores, 0)

    assert (counts["audited"], counts["executed"], counts["victim_unharmed"]) == ([], False, True)
    assert counts["untyped"] == {}
    assert counts["answered"] > counts["typed_errors"] > 0
    figure(
        "R12", stores=stores, code_executions=0, files_touched_outside=0, untyped=0, typed_errors=counts["typed_errors"]
    )


def change(store: DiskStore, statement: str, *values: object) -> None:
    store.close()
    con = sqlite3.connect(store.path / "cache.db", isolation_level=None)
    con.execute(statement, values)
    con.close()


def test_settings_are_not_even_read(tmp_path):
    """diskcache would read its settings from the file, sort them, and trip over a name that is no text."""
    store = DiskStore(tmp_path / "store")
    store.commit(Transaction(entries=(Entry(key="key", payload=b"value"),)))
    change(store, "INSERT INTO Settings VALUES (?, 1)", b"\x80\x05.")

    store.commit(Transaction(entries=(Entry(key="other", payload=b"value"),)))

    assert store.read("other") == b"value"
    store.close()


def test_a_time_that_is_none_is_damage(tmp_path):
    """No `OverflowError` of a datetime."""
    store = DiskStore(tmp_path / "store")
    store.commit(Transaction(run=RunRecord(id="r", workflow="w", session_id="s", call="c", started_at=1.0)))
    change(store, "UPDATE af_runs SET started_at = 1e300")

    with pytest.raises(StoreCorrupt):
        store.run("r")
    store.close()


def test_a_failure_that_cannot_be_read_is_shown_as_it_is(tmp_path):
    """What a failed run's row says of its error is text for people; a damaged one is still shown."""
    store = DiskStore(tmp_path / "store")
    failed = RunRecord(
        id="r", workflow="w", session_id="s", call="c", status=RunStatus.FAILED, error="no JSON", started_at=1.0
    )
    store.commit(Transaction(run=failed))

    assert get_run("r", store=store).error == "unreadable: no JSON"
    store.close()


def test_an_event_whose_number_is_taken_is_damage(tmp_path):
    """Numbers come from what stands there, so only a damaged or planted store has one twice: it is said to be damaged, and nothing is written."""
    store = DiskStore(tmp_path / "store")
    said = Transaction(events=[EventRecord("run", 0, 1.0, b"{}")])
    store.commit(said)
    change(
        store,
        "CREATE TRIGGER planted BEFORE INSERT ON af_events BEGIN "
        "INSERT INTO af_events (run_id, seq, at, data) VALUES (new.run_id, new.seq, 0, x'00'); END",
    )

    with pytest.raises(StoreCorrupt, match="events that no program has numbered") as damage:
        store.commit(said)

    assert damage.value.path == str(store.path)
    assert [event.seq for event in store.events("run")] == [1]
    store.close()
