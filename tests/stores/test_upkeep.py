"""Looking after a store: examining, copying, pruning and measuring it, also while it is in use."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from datetime import timedelta

import attrs
import pytest

from agentflow._serialization import seal
from agentflow.exceptions import StoreCorrupt, StoreLocation, UsageError
from agentflow.stores import DiskStore, MemoryStore
from agentflow.stores._base import (
    Entry,
    EntryFilter,
    EventRecord,
    RunFilter,
    RunRecord,
    StateWrite,
    Transaction,
    run_lock,
)
from agentflow.stores._place import Place
from agentflow.types import RunStatus

DAY = 86_400.0
NOW = time.time()


def entry(key, *, age=0.0, version="v", step="s", workflow="w", session_id="a", **more):
    return Entry(
        key=key,
        payload=seal(key.encode()),
        step=step,
        version=version,
        workflow=workflow,
        session_id=session_id,
        created_at=NOW - age * DAY,
        **more,
    )


def run(run_id, *, age=0.0, status=RunStatus.COMPLETED, session_id="a", parent_id="", workflow="w"):
    record = RunRecord(
        id=run_id,
        workflow=workflow,
        session_id=session_id,
        call="c",
        status=status,
        parent_id=parent_id,
        started_at=NOW - age * DAY,
        finished_at=None if status is RunStatus.RUNNING else NOW - age * DAY,
        result=seal(b"result"),
    )
    return Transaction(run=record, events=(EventRecord(run_id, 0, NOW - age * DAY, b"{}"),))


def keys(store):
    return {each.key for each in store.entries(EntryFilter())}


def run_ids(store):
    return {each.id for each in store.runs(RunFilter())}


@pytest.fixture
def make(tmp_path):
    """A store with some things in it."""
    made = []

    def make(kind, *entries, runs=()):
        store = MemoryStore() if kind == "memory" else DiskStore(tmp_path / f"store{len(made)}")
        made.append(store)
        store.commit(Transaction(entries=tuple(entries)))
        for transaction in runs:
            store.commit(transaction)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture(params=["memory", "disk"])
def filled(request, make):
    return lambda *entries, runs=(): make(request.param, *entries, runs=runs)


# Pruning


def test_a_dry_run_counts_and_removes_nothing(filled):
    """It is the default, and says what the other would do."""
    store = filled(entry("old", age=9), entry("new"), runs=[run("r", age=9)])

    found = store.prune(older_than=timedelta(days=5))

    assert (found.dry_run, found.entries, found.runs, found.events) == (True, 1, 1, 1)
    assert found.entry_bytes == len(seal(b"old"))
    assert found.run_bytes == len(seal(b"result")) + 2
    assert (keys(store), run_ids(store)) == ({"old", "new"}, {"r"})
    assert store.prune(older_than=5 * DAY, dry_run=False).entries == 1


def test_what_is_old_goes_with_its_runs_and_events(filled):
    """State stays, and what is young."""
    store = filled(entry("old", age=9), entry("new"), runs=[run("r", age=9), run("young", age=1)])
    store.commit(Transaction(state=(StateWrite(workflow="w", session_id="a", key="k", value=seal(b"1")),)))

    removed = store.prune(older_than=timedelta(days=5), dry_run=False)

    assert (removed.entries, removed.runs, removed.events) == (1, 1, 1)
    assert (keys(store), run_ids(store)) == ({"new"}, {"young"})
    assert (store.read("old"), store.events("r"), len(store.events("young"))) == (None, [], 1)
    assert store.state_keys("w", "a") == ["k"]


def test_removing_from_where_there_is_no_store_makes_none(tmp_path):
    """There is nothing to prune and no session to delete, and afterwards there is still nothing: a mistyped path leaves no store behind."""
    store = DiskStore(tmp_path / "store")

    removed = store.prune(older_than=timedelta(days=5), dry_run=False)
    store.delete_session("w", "a")
    store.close()

    assert (removed.dry_run, removed.entries, removed.runs, removed.freed_bytes) == (False, 0, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_superseded_versions_go_and_the_newest_of_each_step_stays(filled):
    """Whatever their age, and no runs with them; a model's answers have no version."""
    store = filled(
        entry("v1", version="1", age=3),
        entry("v2", version="2", age=2),
        entry("v2 elsewhere", version="2", age=9, session_id="b"),
        entry("other step", step="t", version="1", age=9),
        entry("other workflow", workflow="x", version="1", age=9),
        entry("answer", kind="request", version="", age=9),
        runs=[run("r", age=9)],
    )

    removed = store.prune(versions="old", dry_run=False)

    assert (removed.entries, removed.runs) == (1, 0)
    assert keys(store) == {"v2", "v2 elsewhere", "other step", "other workflow", "answer"}


def test_what_a_version_was_made_of_goes_with_its_last_result(filled):
    """Nothing is kept of code that has no results left."""
    store = filled(
        entry("old", age=9, version="1", pieces={"s": "1"}),
        entry("new", version="2", pieces={"s": "2"}),
    )

    store.prune(versions="old", dry_run=False)

    assert (store.pieces("s", "1"), store.pieces("s", "2")) == (None, {"s": "2"})


def test_conditions_hold_together(filled):
    """Age, version and workflow each narrow what is removed."""
    store = filled(
        entry("a", version="1", age=9),
        entry("b", version="1", age=1),
        entry("c", version="2", age=0),
        entry("d", version="1", age=9, workflow="x"),
        entry("e", version="2", age=0, workflow="x"),
    )

    removed = store.prune(older_than=timedelta(days=5), versions=["1"], workflow="w", dry_run=False)

    assert removed.entries == 1
    assert keys(store) == {"b", "c", "d", "e"}


def test_what_a_live_run_may_need_stays(filled):
    """The results of its session, shared ones, its own, and its child runs; when it has ended they go."""
    store = filled(
        entry("its session", age=9),
        entry("shared", age=9, scope="global", workflow="", session_id=""),
        entry("its own", age=9, session_id="z", run_id="live"),
        entry("elsewhere", age=9, session_id="b"),
        runs=[
            run("live", age=9, status=RunStatus.RUNNING),
            run("child", age=9, session_id="b", parent_id="live"),
            run("done", age=9),
        ],
    )
    assert store.try_lock(run_lock("live"))

    removed = store.prune(older_than=timedelta(days=5), dry_run=False)

    assert (removed.entries, removed.protected, removed.runs) == (1, 3, 1)
    assert keys(store) == {"its session", "shared", "its own"}
    assert run_ids(store) == {"live", "child"}

    store.unlock(run_lock("live"))
    assert store.prune(older_than=timedelta(days=5), dry_run=False).entries == 3
    assert (keys(store), run_ids(store)) == (set(), set())


def test_pruning_asks_for_a_condition(filled):
    """What would remove everything is refused, with what to write instead."""
    store = filled()

    for wrong in ({"versions": 3}, {"versions": [3], "workflow": 3}):
        with pytest.raises(UsageError, match="=3: write"):
            store.prune(**wrong)
    with pytest.raises(UsageError, match="older_than"):
        store.prune(workflow="w", dry_run=False)


def test_any_name_can_be_pruned_by(filled):
    """Names are data, lone surrogates and quotes included."""
    odd = 'it\'s \ud800 \ue000 "x"'
    store = filled(
        entry("a", age=9, workflow=odd, version="1"),
        entry("b", workflow=odd, version="2"),
        entry("c", age=9, workflow=odd, session_id=odd, version="3"),
        runs=[run("live", status=RunStatus.RUNNING, workflow=odd, session_id=odd)],
    )
    store.try_lock(run_lock("live"))

    assert store.prune(workflow=odd, versions="old", dry_run=False).entries == 1
    assert keys(store) == {"b", "c"}


def test_many_are_removed_in_pieces_and_the_file_becomes_smaller(make):
    """Room goes back to the disk once nothing is being executed; while a run lives it is kept for later writes."""
    many = [attrs.evolve(entry(f"{n}", age=9), payload=seal(bytes(2000))) for n in range(1_200)]
    store = make("disk", *many, entry("new"), runs=[run("live", status=RunStatus.RUNNING, session_id="other")])
    store.try_lock(run_lock("live"))
    assert store.prune(older_than=timedelta(days=5), workflow="nobody's", dry_run=False).freed_bytes == 0
    store.close()  # so that all of it stands in the file
    before = store.size()
    store.unlock(run_lock("live"))

    removed = store.prune(older_than=timedelta(days=5), dry_run=False)

    assert removed.entries == 1_200
    assert removed.freed_bytes > 2_000_000
    after = store.size()
    assert after.file_bytes == before.file_bytes - removed.freed_bytes
    assert after.free_bytes * 4 < after.file_bytes
    assert (keys(store), store.read("new")) == ({"new"}, seal(b"new"))
    assert checks(store) == {("interrupted", "note")}


# Sizes


def test_the_size_is_told_by_workflow_and_kind(filled):
    """Counts and bytes of results, answers, state, runs and events."""
    store = filled(entry("a"), entry("b"), entry("c", kind="request"), entry("d", workflow="x"), runs=[run("r")])
    store.commit(Transaction(state=(StateWrite(workflow="w", session_id="a", key="k", value=seal(b"12")),)))

    size = store.size()

    told = {(part.workflow, part.kind): (part.count, part.size) for part in size.parts}
    one = len(seal(b"a"))
    assert told == {
        ("w", "step"): (2, 2 * one),
        ("w", "request"): (1, one),
        ("x", "step"): (1, one),
        ("w", "state"): (1, one + 1),
        ("w", "run"): (1, len(seal(b"result"))),
        ("w", "event"): (1, 2),
    }
    assert (size.count, size.location) == (7, store.location)


def test_a_store_that_is_not_there_has_no_size(disk):
    """Asking makes nothing."""
    assert (disk.size().count, disk.size().file_bytes) == (0, 0)
    assert not disk.path.exists()


# Copies


def test_a_backup_is_a_store_of_one_moment_while_others_write(make, tmp_path):
    """It opens, is whole, and holds a prefix of what was written meanwhile."""
    store = make("disk", entry("first"))
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            store.commit(Transaction(entries=(entry(f"{len(written)}"),)))
            written.append(len(written))

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 20:
        time.sleep(0.001)
    before = len(written)
    path = store.backup(tmp_path / "copy")
    after = len(written) + 1
    stop.set()
    writer.join()

    copy = DiskStore(path)
    found = keys(copy) - {"first"}
    assert found == {str(number) for number in range(len(found))}
    assert before <= len(found) <= after
    assert (copy.read("first"), copy.doctor()) == (seal(b"first"), ())
    copy.commit(Transaction(entries=(entry("mine"),)))
    assert store.read("mine") is None
    assert os.stat(path).st_mode & 0o777 == 0o700
    copy.close()


@pytest.mark.parametrize("there", ["a file", "an empty directory", "a store"])
def test_a_backup_is_written_over_nothing(make, tmp_path, there):
    """Whatever is there stays as it is."""
    store = make("disk", entry("a"))
    target = tmp_path / "target"
    if there == "a file":
        target.write_text("mine")
    elif there == "an empty directory":
        target.mkdir()
    else:
        store.backup(target)

    with pytest.raises(StoreLocation, match="choose another name"):
        store.backup(target)

    assert target.is_file() == (there == "a file")


def test_a_backup_of_a_damaged_store_is_refused_and_leaves_nothing(make, tmp_path):
    """A copy is checked before it has its name."""
    store = make("disk", *[attrs.evolve(entry(f"{n}"), payload=seal(bytes(3000))) for n in range(50)])
    store.close()
    spoil(store.path / "cache.db")

    with pytest.raises(StoreCorrupt):
        DiskStore(store.path).backup(tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def spoil(file):
    """Overwrite pages in the middle of a file."""
    with file.open("r+b") as opened:
        opened.seek(4096 * 8)
        opened.write(bytes(range(256)) * 32)


# The doctor


def checks(store):
    return {(finding.check, finding.severity) for finding in store.doctor()}


def test_a_healthy_store_has_no_findings_and_is_not_changed(make):
    """Also while somebody writes to it."""
    store = make("disk", entry("a"), runs=[run("r")])
    store.close()
    before = (store.path / "cache.db").read_bytes()
    fresh = DiskStore(store.path)

    assert fresh.doctor() == ()

    fresh.close()
    assert (store.path / "cache.db").read_bytes() == before


def test_a_store_that_does_not_exist_is_only_noted(disk):
    """It is made by the first write, and not by looking."""
    assert checks(disk) == {("directory", "note")}
    assert not disk.path.exists()


def damage_value(path):
    execute(path, "UPDATE Cache SET value = X'00112233' WHERE key = 'a'")


def execute(path, *statements):
    con = sqlite3.connect(path / "cache.db")
    for statement in statements:
        con.execute(statement)
    con.commit()
    con.close()


DAMAGE = {
    "flipped result": (damage_value, ("results", "problem")),
    "result without value": (lambda path: execute(path, "DELETE FROM Cache"), ("results", "problem")),
    "value without result": (lambda path: execute(path, "DELETE FROM af_entries"), ("results", "problem")),
    "file row": (
        lambda path: execute(path, "UPDATE Cache SET mode = 4, filename = '/etc/passwd'"),
        ("results", "problem"),
    ),
    "flipped state": (lambda path: execute(path, "UPDATE af_state SET value = X'00'"), ("state", "problem")),
    "text as state": (lambda path: execute(path, "UPDATE af_state SET value = 'x'"), ("state", "problem")),
    "flipped run": (lambda path: execute(path, "UPDATE af_runs SET result = X'00'"), ("runs", "problem")),
    "interrupted run": (lambda path: execute(path, "UPDATE af_runs SET status = 'running'"), ("interrupted", "note")),
    "spoiled pages": (lambda path: spoil(path / "cache.db"), ("integrity", "problem")),
    "garbage": (lambda path: (path / "cache.db").write_bytes(b"garbage" * 1000), ("file", "problem")),
    "empty file": (lambda path: (path / "cache.db").write_bytes(b""), ("files", "problem")),
    "no file": (lambda path: (path / "cache.db").unlink(), ("files", "problem")),
    "foreign database": (lambda path: execute(path, "PRAGMA application_id = 1"), ("file", "problem")),
    "newer schema": (lambda path: execute(path, "PRAGMA user_version = 99"), ("file", "problem")),
    "older schema": (lambda path: execute(path, "PRAGMA user_version = 0"), ("schema", "note")),
    "lost column": (lambda path: execute(path, "ALTER TABLE af_events DROP COLUMN data"), ("schema", "problem")),
    "trigger": (
        lambda path: execute(path, "CREATE TRIGGER t AFTER INSERT ON af_state BEGIN SELECT 1; END"),
        ("schema", "warning"),
    ),
    "group may write": (lambda path: os.chmod(path, 0o770), ("permissions", "problem")),
    "others may look": (lambda path: os.chmod(path, 0o755), ("permissions", "warning")),
    "file open to all": (lambda path: os.chmod(path / "cache.db", 0o644), ("permissions", "warning")),
    "left over": (lambda path: (path / "cache.db.new").write_bytes(b""), ("files", "note")),
    "a file in its place": (
        lambda path: [os.rename(path, f"{path}.moved"), path.write_text("x")],
        ("directory", "problem"),
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_said_with_what_to_do(make, what):
    """The doctor never raises, names the thing and says what to do; it changes nothing."""
    store = make(
        "disk",
        *[entry(key) for key in "abcdefgh"],
        *[attrs.evolve(entry(f"{n}"), payload=seal(bytes(3000))) for n in range(30)],
        runs=[run("r")],
    )
    store.commit(Transaction(state=(StateWrite(workflow="w", session_id="a", key="k", value=seal(b"1")),)))
    store.close()
    injure, expected = DAMAGE[what]
    injure(store.path)

    findings = DiskStore(store.path).doctor()

    assert expected in {(finding.check, finding.severity) for finding in findings}
    assert all(finding.what and finding.do for finding in findings)
    assert [finding.model_dump_json() for finding in findings]


def test_one_damaged_result_does_not_hide_another(make):
    """The first few are named, the others counted."""
    store = make("disk", *[entry(f"{n}") for n in range(20)])
    store.close()
    execute(store.path, "UPDATE Cache SET value = X'00'")

    findings = [finding for finding in DiskStore(store.path).doctor() if finding.check == "results"]

    assert len(findings) == 6
    assert "15 more" in findings[-1].what


def test_a_network_file_system_is_a_problem(make, tmp_path, monkeypatch):
    """For a store that was made elsewhere and is mounted now."""
    store = make("disk", entry("a"))
    table = tmp_path / "mounts"
    table.write_text(f"36 35 98:0 / {tmp_path} rw - nfs4 host:/x rw\n")
    monkeypatch.setattr(Place, "mountinfo", table)

    assert ("location", "problem") in checks(store)
