"""A directory behaves like memory, whatever is done in whatever order, and survives being closed and opened."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentflow.exceptions import PayloadTooLarge, RunConflict
from agentflow.stores import DiskStore, MemoryStore
from agentflow.stores._base import (
    ANY_REVISION,
    Entry,
    EntryFilter,
    EventRecord,
    Fence,
    RunFilter,
    RunRecord,
    StateChanged,
    StateWrite,
    Transaction,
)
from agentflow.types import RunStatus

# Few names, so that operations meet; some of them hard to store.
NAMES = ["", "a", "b", "\x00", "\ud800", "\ue000"]
names = st.sampled_from(NAMES)
payloads = st.one_of(st.binary(max_size=8), st.just(b"x" * 101))  # one byte over the limit
optional = st.none() | st.binary(max_size=8)

entries = st.builds(
    Entry,
    key=names,
    payload=payloads,
    kind=st.sampled_from(["step", "request"]),
    workflow=names,
    session_id=names,
    scope=st.sampled_from(["run", "session", "global"]),
    step=names,
    version=names,
    run_id=names,
    created_at=st.floats(0, 3).map(lambda time: round(time, 1)),
    tags=st.lists(names, max_size=2).map(tuple),
)
writes = st.builds(
    StateWrite,
    workflow=names,
    session_id=names,
    key=names,
    value=optional,
    expected=st.one_of(st.just(ANY_REVISION), st.integers(0, 3)),
)
records = st.builds(
    RunRecord,
    id=names,
    workflow=names,
    session_id=names,
    call=names,
    status=st.sampled_from(RunStatus),
    attempt=st.integers(1, 3),
    owner=names,
    parent_id=names,
    started_at=st.floats(0, 3),
    finished_at=st.none() | st.floats(0, 3),
    arguments=optional,
    result=optional,
    error=names,
)
transactions = st.builds(
    Transaction,
    entries=st.lists(entries, max_size=2).map(tuple),
    forget=st.lists(names, max_size=2).map(tuple),
    state=st.lists(writes, max_size=2).map(tuple),
    events=st.lists(st.builds(EventRecord, names, st.just(0), st.floats(0, 3), st.binary(max_size=8))).map(tuple),
    run=st.none() | records,
    fence=st.none() | st.builds(Fence, names, names),
)
filters = st.builds(
    EntryFilter,
    workflow=st.none() | names,
    session_id=st.none() | names,
    step=st.none() | names,
    version=st.none() | names,
    tag=st.none() | names,
    kind=st.sampled_from([None, "step", "request"]),
    run_id=st.none() | names,
    before=st.none() | st.floats(0, 3),
)
run_filters = st.builds(
    RunFilter,
    workflow=st.none() | names,
    session_id=st.none() | names,
    call=st.none() | names,
    parent_id=st.none() | names,
    statuses=st.none() | st.lists(st.sampled_from(RunStatus)).map(tuple),
)
limits = st.none() | st.integers(0, 3)


def outcome(operate):
    """What an operation gives, an error it may give included."""
    try:
        return operate()
    except StateChanged as changed:
        return changed.rows
    except (RunConflict, PayloadTooLarge) as error:
        return type(error)


def by_age(entries):
    # Entries of one time have no order between them.
    return sorted(entries, key=lambda entry: (entry.created_at, entry.key))


class Stores(RuleBasedStateMachine):
    """Does everything to both, and compares all that they tell."""

    @initialize()
    def open(self):
        self.directory = tempfile.TemporaryDirectory()
        self.disk = DiskStore(Path(self.directory.name) / "store", max_value_bytes=100, durability="process")
        self.memory = MemoryStore(max_value_bytes=100)

    def teardown(self):
        if hasattr(self, "disk"):
            self.disk.close()
            self.directory.cleanup()

    @rule(transaction=transactions)
    def commit(self, transaction):
        assert outcome(lambda: self.disk.commit(transaction)) == outcome(lambda: self.memory.commit(transaction))

    @rule(transaction=transactions)
    def commit_soon(self, transaction):
        ends = [outcome(store.commit_soon(transaction).result) for store in (self.disk, self.memory)]
        assert ends[0] == ends[1]

    @rule(workflow=names, session_id=names)
    def delete_session(self, workflow, session_id):
        self.disk.delete_session(workflow, session_id)
        self.memory.delete_session(workflow, session_id)

    @rule(name=names)
    def try_lock(self, name):
        assert self.disk.try_lock(name) == self.memory.try_lock(name)

    @rule(name=names)
    def unlock(self, name):
        self.disk.unlock(name)
        self.memory.unlock(name)

    @rule()
    def close(self):
        self.disk.close()

    @rule()
    def open_again(self):
        self.disk.close()
        self.disk = DiskStore(self.disk.path, max_value_bytes=100, durability="process")

    @rule(which=filters)
    def list_entries(self, which):
        assert by_age(self.disk.entries(which)) == by_age(self.memory.entries(which))

    @rule(which=run_filters, limit=limits)
    def list_runs(self, which, limit):
        assert self.disk.runs(which, limit) == self.memory.runs(which, limit)

    @rule(run_id=names, after=st.integers(0, 5), limit=limits)
    def list_events(self, run_id, after, limit):
        assert self.disk.events(run_id, after, limit) == self.memory.events(run_id, after, limit)

    @rule(workflow=names, limit=limits)
    def list_sessions(self, workflow, limit):
        assert self.disk.sessions(workflow, limit) == self.memory.sessions(workflow, limit)

    @invariant()
    def results_are_equal(self):
        if not hasattr(self, "disk"):
            return
        listed = self.disk.entries(EntryFilter())
        assert by_age(listed) == by_age(self.memory.entries(EntryFilter()))
        assert [entry.created_at for entry in listed] == sorted(entry.created_at for entry in listed)
        for name in NAMES:
            assert self.disk.read(name) == self.memory.read(name)

    @invariant()
    def the_rest_is_equal(self):
        if not hasattr(self, "disk"):
            return
        assert self.disk.runs(RunFilter()) == self.memory.runs(RunFilter())
        for name in NAMES:
            assert self.disk.run(name) == self.memory.run(name)
            assert self.disk.last_event(name) == self.memory.last_event(name)
            assert self.disk.is_locked(name) == self.memory.is_locked(name)
            for other in NAMES:
                assert self.disk.state_keys(name, other) == self.memory.state_keys(name, other)
                for key in NAMES[:3]:
                    assert self.disk.state_row(name, other, key) == self.memory.state_row(name, other, key)


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
