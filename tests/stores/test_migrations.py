"""Fault F29: stores of older schemas are brought up to date, each step whole or not at all; newer ones are refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import time

import pytest

from agentflow.exceptions import IncompatibleStore
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, EntryFilter, StateWrite, Transaction
from agentflow.stores._migrations import Migrations

DIE = """
import os, signal, sys
from agentflow.stores import DiskStore
from agentflow.stores._migrations import Migrations

def dying(execute):
    execute("ALTER TABLE af_entries ADD COLUMN cost REAL NOT NULL DEFAULT 0")
    execute("UPDATE af_state SET value = NULL")
    os.kill(os.getpid(), signal.SIGKILL)

class Next(DiskStore):
    _migrations = Migrations(2, {1: dying})

Next(sys.argv[1]).read("a")
"""


def to_two(execute):
    execute("ALTER TABLE af_entries ADD COLUMN cost REAL NOT NULL DEFAULT 0")


def to_three(execute):
    execute("UPDATE af_entries SET cost = 1")


class Two(DiskStore):
    """A store as a later agentflow has it."""

    _migrations = Migrations(2, {1: to_two})


class Three(DiskStore):
    _migrations = Migrations(3, {1: to_two, 2: to_three})


def schema(path):
    con = sqlite3.connect(f"file:{path}/cache.db?mode=ro", uri=True)
    try:
        columns = [row[1] for row in con.execute("PRAGMA table_info(af_entries)")]
        return con.execute("PRAGMA user_version").fetchone()[0], "cost" in columns
    finally:
        con.close()


@pytest.fixture
def old(tmp_path):
    """The directory of a store of schema 1 with something in it."""
    store = DiskStore(tmp_path / "store")
    store.commit(
        Transaction(
            entries=(Entry(key="k", payload=b"value", step="s"),),
            state=(StateWrite(workflow="w", session_id="s", key="a", value=b"1"),),
        )
    )
    store.close()
    return store.path


@pytest.mark.parametrize("first", ["read", "write", "list"])
def test_an_older_store_is_brought_up_to_date_by_its_first_use(old, first):
    """A reader or a writer, whoever comes first; nothing of what it holds is lost."""
    store = Three(old)
    uses = {
        "read": lambda: store.read("k"),
        "write": lambda: store.commit(Transaction()),
        "list": lambda: store.state_keys("w", "s"),
    }

    uses[first]()

    assert schema(old) == (3, True)
    assert (store.read("k"), store.state_row("w", "s", "a").value) == (b"value", b"1")
    store.close()


def test_a_new_store_is_of_the_newest_schema(tmp_path):
    """Whoever makes it takes the same steps."""
    store = Two(tmp_path / "new")
    store.commit(Transaction())
    store.close()

    assert schema(store.path) == (2, True)


def test_a_step_that_is_killed_half_way_has_changed_nothing(old, python):
    """Each step is one transaction: the next one to open the store takes it from the beginning."""
    process = python(DIE, old)
    process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert schema(old) == (1, False)
    store = Two(old)
    assert (store.read("k"), store.state_row("w", "s", "a").value) == (b"value", b"1")
    assert schema(old) == (2, True)
    store.close()


def test_many_processes_that_open_an_older_store_at_once_change_it_once(old, python):
    """One takes the steps, the others wait for it."""
    script = DIE.replace("    os.kill(os.getpid(), signal.SIGKILL)\n", "").replace(
        "UPDATE af_state SET value = NULL", "SELECT 1"
    )
    processes = [python(script, old) for _ in range(6)]

    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 6
    assert schema(old) == (2, True)


def test_a_store_of_a_newer_schema_is_refused_and_not_touched(old):
    """The error says to upgrade, and whose version is which."""
    later = Two(old)
    later.read("k")
    later.close()
    before = (old / "cache.db").read_bytes()

    store = DiskStore(old)
    for use in (lambda: store.read("k"), lambda: store.commit(Transaction())):
        with pytest.raises(IncompatibleStore, match="schema 2, this one knows 1"):
            use()
    store.close()

    assert (old / "cache.db").read_bytes() == before


def test_a_store_that_is_brought_up_to_date_while_an_older_agentflow_has_it_open_is_not_written_by_that(old):
    """Its next write is refused, and what the newer one has made stays as it is."""
    older, newer = DiskStore(old), Two(old)
    older.commit(Transaction(entries=(Entry(key="before", payload=b"1"),)))
    newer.commit(Transaction(entries=(Entry(key="by the newer", payload=b"2"),)))

    with pytest.raises(IncompatibleStore, match="upgrade agentflow"):
        older.commit(Transaction(entries=(Entry(key="after", payload=b"3"),)))

    assert [newer.read(key) for key in ("before", "by the newer", "after")] == [b"1", b"2", None]
    older.close()
    newer.close()


def test_who_only_reads_notices_that_the_tables_are_newer(old):
    """A reader that has the store open all the while is refused soon, and at once where its statements no longer fit: nothing is said to be damaged."""

    class Renamed(DiskStore):
        _migrations = Migrations(2, {1: lambda execute: execute("ALTER TABLE af_entries RENAME TO af_results")})

    older = DiskStore(old)
    assert older.read("k") == b"value"
    newer = Renamed(old)
    with newer._writer.transaction(time.monotonic() + 30):
        pass
    newer.close()

    with pytest.raises(IncompatibleStore, match="upgrade agentflow"):
        older.entries(EntryFilter())
    older.close()


def test_a_reader_whose_statements_still_fit_notices_newer_tables_soon(old):
    """What a newer agentflow writes may mean something else by then."""
    older, newer = DiskStore(old), Two(old)
    assert older.read("k") == b"value"
    newer.commit(Transaction(entries=(Entry(key="k", payload=b"2"),)))

    deadline = time.monotonic() + 30
    with pytest.raises(IncompatibleStore, match="upgrade agentflow"):
        while time.monotonic() < deadline:
            older.read("k")
    older.close()
    newer.close()


def test_a_version_from_which_no_step_leads_is_refused(old):
    """A store is never guessed at."""

    class Far(DiskStore):
        _migrations = Migrations(3, {2: to_three})

    store = Far(old)
    with pytest.raises(IncompatibleStore, match="no way from there"):
        store.read("k")
    store.close()
    assert schema(old) == (1, False)


def test_an_older_store_that_may_not_be_written_says_so(old, outcome, open_directory):
    """It cannot be read before it is brought up to date."""
    place = open_directory / "store"
    old.rename(place)
    script = """
    import os, sys
    from agentflow.exceptions import StoreReadOnly
    from agentflow.stores import DiskStore
    from agentflow.stores._migrations import Migrations
    if os.geteuid() == 0:
        os.setuid(65534)
    class Two(DiskStore):
        _migrations = Migrations(2, {1: lambda execute: None})
    try:
        Two(sys.argv[1]).read("k")
    except StoreReadOnly:
        print("read-only")
    """
    for path, mode in [*((file, 0o444) for file in place.iterdir()), (place, 0o555)]:
        os.chmod(path, mode)

    assert outcome(script, place) == ["read-only"]
    os.chmod(place, 0o755)
