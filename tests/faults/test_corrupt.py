"""Damaged files (F9, F10): never a wrong value, always a typed error that names the store and says what to do.

Empty, cut, foreign, newer and garbage files, and rows that agentflow would not have written, stand in `tests/stores/test_disk.py`.
A value and its checksum lie in one row, so there is no file of a value that could be missing or short.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agentflow import Context, cached_step, workflow
from agentflow._settings import using_store
from agentflow.exceptions import StoreCorrupt
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, RunRecord, StateWrite, Transaction

NONE = ("wrong", "untyped")


@pytest.mark.parametrize("databases", [6, pytest.param(400, marks=pytest.mark.slow)])
def test_flipped_bytes(program, tmp_path, figure, databases):
    """R9: eight random bytes of a database are changed, and everything in it is read."""
    counts = program("corrupt.py", tmp_path, "flips", databases, 0)

    assert {name: counts[name] for name in NONE} == dict.fromkeys(NONE, 0), counts["seen"]
    assert counts["said_to_be_damaged"] > 0
    figure("R9", **{name: count for name, count in counts.items() if name != "seen"})


@pytest.mark.slow
def test_flipped_bytes_of_the_wal(program, tmp_path, figure):
    """Of what a killed process left beside the file SQLite takes what comes before the first damage: steps may run again, none is wrong."""
    counts = program("corrupt.py", tmp_path, "wal-flips", 100, 0)

    assert {name: counts[name] for name in NONE} == dict.fromkeys(NONE, 0), counts["seen"]
    figure("R9 of the -wal", **{name: count for name, count in counts.items() if name != "seen"})


class TestIndex:
    """One changed byte in an index makes a lookup find the row of another key; its checksum is right, and yet it is the wrong one."""

    @pytest.fixture
    def disk(self, tmp_path):
        store = DiskStore(tmp_path / "store")
        yield store
        store.close()

    def test_of_results(self, disk):
        """The result of another call is refused."""
        # Rows 1 to 3; in the index a row's number follows its key, and is left out where it is 1.
        for name in ("first", "second", "third"):
            disk.commit(Transaction(entries=(Entry(key=name, payload=name.encode()),)))
        disk.close()
        change(disk, b"second" + bytes([2]), b"second" + bytes([3]))

        with pytest.raises(StoreCorrupt, match="another key"):
            disk.read("second")
        assert disk.read("third") == b"third"

    def test_of_state(self, disk):
        """The value of another state key is refused, to readers and to a commit that expects a revision."""
        for name in ("first", "second", "third"):
            disk.commit(Transaction(state=(write(name),)))
        disk.close()
        change(disk, b"wssecond" + bytes([2]), b"wssecond" + bytes([3]))

        with pytest.raises(StoreCorrupt, match="another key"):
            disk.state_row("w", "s", "second")
        with pytest.raises(StoreCorrupt, match="another key"):
            disk.commit(Transaction(state=(write("second", 1),)))
        assert disk.state_row("w", "s", "third").value == b"third"

    def test_of_runs(self, disk):
        """Another run is refused."""
        for name in ("first", "second", "third"):
            disk.commit(Transaction(run=RunRecord(id=name, workflow="w", session_id="s", call="c")))
        disk.close()
        change(disk, b"second" + bytes([2]), b"second" + bytes([3]))

        with pytest.raises(StoreCorrupt, match="another run"):
            disk.run("second")


class TestTold:
    """What cannot be read says what it is, where, and what to do."""

    @pytest.fixture
    def flow(self, tmp_path):
        @cached_step(name="sets")
        def sets(ctx: Context) -> None:
            ctx.state["key"] = "new"

        @workflow(name="kept")
        def flow(ctx: Context, how: str = "set") -> None:
            if how == "delete":
                del ctx.state["key"]
            elif how == "step":
                sets()
            else:
                ctx.state["key"] = how

        with using_store(DiskStore(tmp_path / "store")) as store:
            flow()
            yield flow
        store.close()

    def test_a_damaged_state_value(self, flow, tmp_path):
        """The error names the key; another one can be read."""
        query(tmp_path, "UPDATE af_state SET value = zeroblob(40)")

        with pytest.raises(StoreCorrupt, match=r"state\['key'\].*delete it") as damage:
            flow.session("default").state["key"]
        assert (damage.value.path, damage.value.hint) == (
            str(tmp_path / "store"),
            "restore a backup, set the key anew, or delete it",
        )

    @pytest.mark.parametrize("how", ["new", "delete", "step"])
    def test_a_damaged_state_value_is_got_rid_of(self, flow, tmp_path, how):
        """What the error says to do can be done, in a workflow."""
        query(tmp_path, "UPDATE af_state SET value = zeroblob(40)")

        flow(how)

        assert dict(flow.session("default").state) == ({} if how == "delete" else {"key": "new"})

    @pytest.mark.parametrize("data", [b'{"type": "\\ud800"}', b"{", b'{"type": "unknown"}', b"\xff"])
    def test_a_damaged_event(self, flow, tmp_path, data):
        """The error names the event and its run."""
        query(tmp_path, "UPDATE af_events SET data = ? WHERE seq = 1", data)
        run = flow.session("default").runs()[0]

        with pytest.raises(StoreCorrupt, match=f"event 1 of run '{run.id}'") as damage:
            list(run.events(follow=False))
        assert damage.value.path == str(tmp_path / "store")
        assert damage.value.hint

    def test_damage_that_sqlite_cannot_spell(self, flow, tmp_path):
        """Its message would quote damaged text, and Python's sqlite3 raises a UnicodeDecodeError instead: that is damage, too."""
        store = DiskStore(tmp_path / "store")
        store.close()
        query(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
        change(store, b"af_runs_parent ON af_runs", b"af_runs_p\xcarent ON af_runs")

        with pytest.raises(StoreCorrupt):
            DiskStore(store.path).read("key")
        with pytest.raises(StoreCorrupt):
            DiskStore(store.path).commit(Transaction(entries=(Entry(key="key", payload=b""),)))


def query(directory: Path, statement: str, *values: object) -> None:
    con = sqlite3.connect(directory / "store/cache.db", isolation_level=None)
    con.execute(statement, values)
    con.close()


def write(name: str, expected: int = 0) -> StateWrite:
    return StateWrite(workflow="w", session_id="s", key=name, value=name.encode(), expected=expected)


def change(store: DiskStore, before: bytes, after: bytes) -> None:
    file = store.path / "cache.db"
    content = file.read_bytes()
    assert content.count(before) == 1
    file.write_bytes(content.replace(before, after))
