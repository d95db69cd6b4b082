"""What every store promises: the same tests for memory, a directory, and a directory opened anew for each operation."""

from __future__ import annotations

import threading

import attrs
import pytest

from agentflow.exceptions import PayloadTooLarge, RunConflict
from agentflow.stores._base import (
    Entry,
    EntryFilter,
    EventRecord,
    Fence,
    RunFilter,
    RunRecord,
    StateChanged,
    StateRow,
    StateWrite,
    Transaction,
)
from agentflow.types import RunStatus

ODD = [
    "",
    " ",
    "naïve ☃",
    "🧶" * 3,
    "quote ' double \" back ` semicolon ; -- /* \\",
    "\x00",
    "before\x00after",
    "line\nbreak\r\ttab",
    "../../etc/passwd",
    "%s {0} $HOME ~",
    "\ud800",
    "\udfff low \udc80 and high \ud83d",
    "\ue000",
    "\ue000\x01",
    "\ue000\U0010ffff",
    "\ud7ff",
    "\uffff\U0010ffff",
    "x" * 50_000,
    "\udcff" * 2_000,
]


def entry(key="key", payload=b"payload", **others):
    return Entry(key=key, payload=payload, **others)


def write(value, key="k", session_id="s", workflow="w", **others):
    return StateWrite(workflow=workflow, session_id=session_id, key=key, value=value, **others)


def event(run_id="r", data=b"{}", at=1.0):
    return EventRecord(run_id, 0, at, data)


def run(name="r", workflow="w", session_id="s", call="c", **others):
    return RunRecord(id=name, workflow=workflow, session_id=session_id, call=call, **others)


def keys(entries):
    return [found.key for found in entries]


def everything(store):
    """All that a store tells about the ids that these tests use."""
    return (
        store.entries(EntryFilter()),
        store.runs(RunFilter()),
        [store.state_row("w", "s", key) for key in ("k", "other")],
        store.events("r"),
        store.sessions("w"),
    )


class TestNothing:
    def test_a_new_store_has_nothing(self, store):
        """Reading a store that was never written finds nothing and fails nowhere."""
        assert store.read("key") is None
        assert store.run("r") is None
        assert store.last_event("r") is None
        assert store.state_keys("w", "s") == []
        assert everything(store) == ([], [], [StateRow(None, 0), StateRow(None, 0)], [], [])

    def test_an_empty_transaction_changes_nothing(self, store):
        """A transaction with nothing in it is no error."""
        store.commit(Transaction())

        assert everything(store) == ([], [], [StateRow(None, 0), StateRow(None, 0)], [], [])


class TestEntries:
    @pytest.mark.parametrize("payload", [b"", b"\x00", bytes(range(256)), b"x" * 300_000], ids=len)
    def test_a_result_comes_back(self, store, payload):
        """The bytes that were committed are the bytes that are read."""
        store.commit(Transaction(entries=(entry(payload=payload),)))

        assert store.read("key") == payload

    def test_a_result_replaces_the_one_before(self, store):
        """Under one key stands the newest result, and one entry."""
        store.commit(Transaction(entries=(entry(payload=b"old", step="old"),)))
        store.commit(Transaction(entries=(entry(payload=b"newer", step="new"),)))

        assert store.read("key") == b"newer"
        assert [(found.step, found.size) for found in store.entries(EntryFilter())] == [("new", 5)]

    def test_a_listing_tells_everything_but_the_payload(self, store):
        """A listed entry is the committed one, with the size in place of the payload."""
        committed = Entry(
            key="key",
            payload=b"payload",
            kind="request",
            workflow="w",
            session_id="s",
            scope="run",
            step="step",
            version="v",
            arguments="a",
            run_id="r",
            created_at=1234.5678901,
            tags=("one", "two, three"),
        )

        store.commit(Transaction(entries=(committed,)))

        assert store.entries(EntryFilter()) == [attrs.evolve(committed, payload=b"", size=7)]

    def test_entries_are_listed_oldest_first(self, store):
        """The order is that of `created_at`, whatever the order of commits."""
        store.commit(Transaction(entries=(entry("b", created_at=2.0), entry("c", created_at=3.0))))
        store.commit(Transaction(entries=(entry("a", created_at=1.0),)))

        assert keys(store.entries(EntryFilter())) == ["a", "b", "c"]

    @pytest.mark.parametrize("field", ["workflow", "session_id", "step", "version", "kind", "run_id"])
    def test_a_filter_chooses_by_a_field(self, store, field):
        """Only entries with that value are listed; the empty string is a value."""
        wanted, other = ("request", "step") if field == "kind" else ("wanted", "")
        store.commit(Transaction(entries=(entry("yes", **{field: wanted}), entry("no", **{field: other}))))

        assert keys(store.entries(EntryFilter(**{field: wanted}))) == ["yes"]
        assert keys(store.entries(EntryFilter(**{field: other}))) == ["no"]
        assert keys(store.entries(EntryFilter(**{field: wanted + "?"}))) == []

    def test_a_filter_chooses_by_tag_and_time(self, store):
        """A tag is one of the entry's; `before` does not include its time."""
        early = entry("early", tags=("red", "blue"), created_at=1.0)
        store.commit(Transaction(entries=(early, entry("late", tags=("redder",), created_at=2.0))))

        assert keys(store.entries(EntryFilter(tag="red"))) == ["early"]
        assert keys(store.entries(EntryFilter(before=2.0))) == ["early"]
        assert keys(store.entries(EntryFilter(before=2.5))) == ["early", "late"]

    def test_the_newest_entries_come_first_with_what_they_were_called_with(self, store):
        """`recent` gives so many of those that came last, with their detail and without their payloads."""
        store.commit(Transaction(entries=tuple(entry(name, step="x", detail=f"[{name}]") for name in "123")))
        store.commit(Transaction(entries=(entry("4", step="y", arguments="same"),)))

        found = store.recent(EntryFilter(step="x"), 2)

        assert [(each.key, each.detail, each.payload) for each in found] == [("3", "[3]", b""), ("2", "[2]", b"")]
        assert keys(store.recent(EntryFilter(arguments="same"), 9)) == ["4"]
        assert {each.detail for each in store.entries(EntryFilter())} == {""}

    def test_the_pieces_of_a_version_are_kept_once(self, store):
        """The first entry of a version says what it is made of; nobody can change it, and forgetting entries leaves it."""
        pieces = {"m:f": "ab12", "m:\ud800": "0000"}
        store.commit(Transaction(entries=(entry("1", step="x", version="v", pieces=pieces),)))
        store.commit(Transaction(entries=(entry("2", step="x", version="v", pieces={"m:f": "ffff"}),), forget=("1",)))

        assert store.pieces("x", "v") == pieces
        assert store.pieces("x", "w") is None
        assert store.pieces("y", "v") is None

    def test_conditions_of_a_filter_hold_together(self, store):
        """An entry is listed if all conditions accept it."""
        store.commit(
            Transaction(
                entries=(
                    entry("1", workflow="w", session_id="s", step="x"),
                    entry("2", workflow="w", session_id="s", step="y"),
                    entry("3", workflow="w", session_id="t", step="x"),
                )
            )
        )

        assert keys(store.entries(EntryFilter(workflow="w", session_id="s", step="x"))) == ["1"]

    def test_a_forgotten_result_is_gone(self, store):
        """It is neither read nor listed, and the others stay."""
        store.commit(Transaction(entries=(entry("a"), entry("b"))))

        store.commit(Transaction(forget=("a", "never there")))

        assert store.read("a") is None
        assert keys(store.entries(EntryFilter())) == ["b"]

    def test_what_is_forgotten_and_written_in_one_transaction_stays(self, store):
        """Forgetting comes first: a refresh replaces."""
        store.commit(Transaction(entries=(entry(payload=b"old"),)))

        store.commit(Transaction(forget=("key",), entries=(entry(payload=b"new"),)))

        assert store.read("key") == b"new"


class TestState:
    def test_a_revision_grows_with_every_change(self, store):
        """Setting, changing, deleting and setting again each count, so no change is taken for none."""
        rows = []
        for value in (b"1", b"1", None, b"2"):
            store.commit(Transaction(state=(write(value),)))
            rows.append(store.state_row("w", "s", "k"))

        assert rows == [StateRow(b"1", 1), StateRow(b"1", 2), StateRow(None, 3), StateRow(b"2", 4)]

    def test_keys_are_listed_in_the_order_they_were_first_set(self, store):
        """Keys without a value are left out; one that gets a value again keeps its place."""
        for key, value in (("b", b"1"), ("a", b"1"), ("c", b"1"), ("b", None)):
            store.commit(Transaction(state=(write(value, key),)))
        without = store.state_keys("w", "s")

        store.commit(Transaction(state=(write(b"2", "b"),)))

        assert without == ["a", "c"]
        assert store.state_keys("w", "s") == ["b", "a", "c"]

    def test_sessions_and_workflows_have_their_own_state(self, store):
        """One key in two sessions, and in two workflows, is three rows."""
        store.commit(Transaction(state=(write(b"1"), write(b"2", session_id="other"), write(b"3", workflow="other"))))

        assert store.state_row("w", "s", "k").value == b"1"
        assert store.state_row("w", "other", "k").value == b"2"
        assert store.state_row("other", "s", "k").value == b"3"

    def test_a_change_of_what_was_read_is_written(self, store):
        """`expected` is the revision that was read, 0 for a key that was never set."""
        store.commit(Transaction(state=(write(b"1", expected=0),)))
        store.commit(Transaction(state=(write(b"2", expected=1),)))

        assert store.state_row("w", "s", "k") == StateRow(b"2", 2)

    @pytest.mark.parametrize("expected", [0, 2, 3])
    def test_a_change_of_anything_else_is_refused(self, store, expected):
        """The refusal tells what stands there, for those keys that have changed, and nothing at all is written."""
        store.commit(Transaction(state=(write(b"1"), write(b"1", "other"))))
        before = everything(store)

        with pytest.raises(StateChanged) as refusal:
            store.commit(
                Transaction(
                    entries=(entry(),),
                    state=(write(b"2", "other", expected=1), write(b"2", expected=expected)),
                    events=(event(),),
                    run=run(),
                )
            )

        assert refusal.value.rows == {"k": StateRow(b"1", 1)}
        assert everything(store) == before

    def test_a_refusal_forgets_nothing(self, store):
        """What a refused transaction was to forget is still there."""
        store.commit(Transaction(entries=(entry(),)))

        with pytest.raises(StateChanged):
            store.commit(Transaction(forget=("key",), state=(write(b"1", expected=7),)))

        assert store.read("key") == b"payload"

    def test_no_update_of_many_threads_is_lost(self, store):
        """Threads that read, change and try again when refused count every time."""

        def count():
            for _ in range(10):
                while True:
                    row = store.state_row("w", "s", "k")
                    value = b"%d" % (int(row.value or b"0") + 1)
                    try:
                        store.commit(Transaction(state=(write(value, expected=row.revision),)))
                    except StateChanged:
                        continue
                    break

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert store.state_row("w", "s", "k") == StateRow(b"40", 40)


class TestFences:
    def test_the_owner_of_a_run_writes(self, store):
        """A transaction goes through while its run belongs to its owner; `""` means that there is no such run yet."""
        store.commit(Transaction(run=run(owner="me"), fence=Fence("r", "")))
        store.commit(Transaction(entries=(entry(),), fence=Fence("r", "me")))

        assert store.read("key") == b"payload"

    @pytest.mark.parametrize("fence", [Fence("r", "other"), Fence("r", ""), Fence("unknown", "me")])
    def test_nobody_else_does(self, store, fence):
        """A transaction of another owner, or of a run that is not there, is refused whole."""
        store.commit(Transaction(run=run(owner="me", attempt=3)))
        before = everything(store)

        with pytest.raises(RunConflict) as refusal:
            store.commit(
                Transaction(
                    entries=(entry(),), state=(write(b"1"),), events=(event(),), run=run(owner="other"), fence=fence
                )
            )

        assert refusal.value.run_id == fence.run_id
        assert everything(store) == before

    def test_a_run_changes_hands_once(self, store):
        """Of two that adopt one run at once, the second is refused."""
        store.commit(Transaction(run=run(owner="dead")))
        store.commit(Transaction(run=run(owner="first", attempt=2), fence=Fence("r", "dead")))

        with pytest.raises(RunConflict):
            store.commit(Transaction(run=run(owner="second", attempt=2), fence=Fence("r", "dead")))

        assert store.run("r").owner == "first"


class TestRuns:
    def test_a_run_comes_back_whole(self, store):
        """Every field of a run is kept."""
        record = RunRecord(
            id="r",
            workflow="w",
            session_id="s",
            call="c",
            status=RunStatus.FAILED,
            attempt=7,
            owner="o",
            parent_id="p",
            started_at=1234.5678901,
            finished_at=2345.6789012,
            arguments=b"\x00arguments",
            result=b"",
            error='{"a lone surrogate": "\ud800"}',
        )

        store.commit(Transaction(run=record))

        assert store.run("r") == record
        assert store.runs(RunFilter()) == [record]

    def test_what_a_run_is_stays(self, store):
        """The newest record counts, except in what tells which run it is."""
        store.commit(
            Transaction(
                run=run(
                    parent_id="p", owner="o", started_at=1.0, finished_at=2.0, arguments=b"a", result=b"r", error="e"
                )
            )
        )
        second = run(workflow="w2", session_id="s2", call="c2", status=RunStatus.COMPLETED, attempt=2, started_at=3.0)

        store.commit(Transaction(run=second))

        assert store.run("r") == run(parent_id="p", status=RunStatus.COMPLETED, attempt=2, started_at=1.0)

    def test_runs_are_listed_newest_first(self, store):
        """The order is that of their first commit; an update moves none."""
        for name in "abc":
            store.commit(Transaction(run=run(name)))
        store.commit(Transaction(run=run("a", attempt=2)))

        assert [found.id for found in store.runs(RunFilter())] == ["c", "b", "a"]
        assert [found.id for found in store.runs(RunFilter(), limit=2)] == ["c", "b"]
        assert store.runs(RunFilter(), limit=0) == []

    @pytest.mark.parametrize("field", ["workflow", "session_id", "call", "parent_id"])
    def test_a_filter_chooses_by_a_field(self, store, field):
        """Only runs with that value are listed; the empty string is a value."""
        store.commit(Transaction(run=run("yes", **{field: "wanted"})))
        store.commit(Transaction(run=run("no", **{field: ""})))

        assert [found.id for found in store.runs(RunFilter(**{field: "wanted"}))] == ["yes"]
        assert [found.id for found in store.runs(RunFilter(**{field: ""}))] == ["no"]

    def test_a_filter_chooses_by_status(self, store):
        """Any of the statuses will do; an empty choice chooses nothing."""
        for status in RunStatus:
            store.commit(Transaction(run=run(status.value, status=status)))

        wanted = RunFilter(statuses=(RunStatus.FAILED, RunStatus.INTERRUPTED))
        assert [found.id for found in store.runs(wanted)] == ["interrupted", "failed"]
        assert [found.id for found in store.runs(wanted, limit=1)] == ["interrupted"]
        assert store.runs(RunFilter(statuses=())) == []


class TestEvents:
    def test_events_are_numbered_by_run(self, store):
        """Numbers begin at 1 in each run and have no gap, within a transaction and across."""
        store.commit(Transaction(events=(event("a", b"1"), event("b", b"2"), event("a", b"3"))))
        store.commit(Transaction(events=(event("a", b"4", at=2.5),)))

        assert store.events("a") == [
            EventRecord("a", 1, 1.0, b"1"),
            EventRecord("a", 2, 1.0, b"3"),
            EventRecord("a", 3, 2.5, b"4"),
        ]
        assert store.events("b") == [EventRecord("b", 1, 1.0, b"2")]

    def test_a_follower_asks_for_the_rest(self, store):
        """`after` leaves out what was seen, `limit` bounds the answer, `last_event` tells the newest."""
        store.commit(Transaction(events=tuple(event("r", b"%d" % number) for number in range(1, 21))))

        assert [found.seq for found in store.events("r", after=17)] == [18, 19, 20]
        assert [found.seq for found in store.events("r", after=2, limit=3)] == [3, 4, 5]
        assert store.events("r", after=20) == []
        assert store.last_event("r") == EventRecord("r", 20, 1.0, b"20")

    def test_a_refused_transaction_uses_no_number(self, store):
        """What a refused transaction would have said leaves no gap."""
        store.commit(Transaction(events=(event(),)))
        with pytest.raises(RunConflict):
            store.commit(Transaction(events=(event(),), fence=Fence("r", "nobody")))

        store.commit(Transaction(events=(event(),)))

        assert [found.seq for found in store.events("r")] == [1, 2]


class TestSessions:
    def test_a_session_is_known_by_a_run_a_result_or_state(self, store):
        """Any of the three makes it one; other workflows and results that belong to no session do not."""
        store.commit(Transaction(run=run(session_id="ran")))
        store.commit(Transaction(state=(write(b"1", session_id="state"),)))
        store.commit(
            Transaction(
                entries=(
                    entry("1", workflow="w", session_id="result"),
                    entry("2", workflow="w", session_id="request", scope="run"),
                    entry("3", workflow="other", session_id="elsewhere"),
                    entry("4", workflow="w", session_id="", scope="global"),
                )
            )
        )

        assert store.sessions("w") == ["ran", "request", "result", "state"]
        assert store.sessions("w", limit=2) == ["ran", "request"]
        assert store.sessions("unknown") == []

    def test_a_deleted_session_leaves_nothing(self, store):
        """Its state, results, runs and events are gone, those of run scope included."""
        store.commit(
            Transaction(
                entries=(
                    entry("1", workflow="w", session_id="s"),
                    entry("2", workflow="w", session_id="s", scope="run", run_id="r"),
                ),
                state=(write(b"1"),),
                events=(event(),),
                run=run(),
            )
        )

        store.delete_session("w", "s")

        assert everything(store) == ([], [], [StateRow(None, 2), StateRow(None, 0)], [], [])
        assert store.read("1") is None
        assert store.run("r") is None

    def test_other_sessions_stay(self, store):
        """A session of the same name in another workflow, another session, and what is shared by all."""
        store.commit(
            Transaction(
                entries=(
                    entry("a", workflow="other", session_id="s", created_at=1.0),
                    entry("b", workflow="w", session_id="t", created_at=2.0),
                    entry("c", workflow="w", session_id="s", scope="global", created_at=3.0),
                ),
                state=(write(b"1", workflow="other"), write(b"1", session_id="t")),
                events=(event("kept"),),
                run=run("kept", session_id="t"),
            )
        )
        before = everything(store)

        store.delete_session("w", "s")
        store.delete_session("", "")

        assert everything(store) == before
        assert store.read("c") == b"payload"
        assert len(store.events("kept")) == 1

    def test_a_late_write_of_a_deleted_session_is_refused(self, store):
        """A run whose session was deleted meanwhile brings nothing of it back."""
        store.commit(Transaction(run=run(owner="me")))
        store.delete_session("w", "s")

        with pytest.raises(RunConflict):
            store.commit(Transaction(state=(write(b"1"),), fence=Fence("r", "me")))

        assert store.sessions("w") == []


class TestLocks:
    def test_a_lock_has_one_holder(self, store):
        """Taken once, it is not to be had again before it is given back, by any thread."""
        taken = [store.try_lock("a"), store.try_lock("a"), store.try_lock("b")]
        thread = threading.Thread(target=lambda: taken.append(store.try_lock("a")))
        thread.start()
        thread.join()

        store.unlock("a")

        assert taken == [True, False, True, False]
        assert store.try_lock("a")
        store.unlock("a")
        store.unlock("b")

    def test_looking_takes_nothing(self, store):
        """A lock that was looked at is free."""
        looked = [store.is_locked("a")]
        looked.append(store.try_lock("a") and store.is_locked("a"))
        store.unlock("a")
        looked.append(store.is_locked("a"))

        assert looked == [False, True, False]
        assert store.try_lock("a")
        store.unlock("a")

    def test_giving_back_what_is_not_held_does_nothing(self, store):
        """It neither fails nor frees another lock."""
        store.unlock("never held")
        store.try_lock("a")

        store.unlock("never held")

        assert store.is_locked("a")
        store.unlock("a")

    @pytest.mark.parametrize("name", ["open", "opening", "lock:", "locks"])
    def test_no_name_is_taken(self, store, name):
        """A lock of any name may be held while the store is used."""
        assert store.try_lock(name)

        store.commit(Transaction(entries=(entry(),)))

        assert store.read("key") == b"payload"
        store.unlock(name)


class TestIds:
    @pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
    def test_any_string_is_an_id(self, store, odd):
        """Keys, names, sessions, tags and run ids come back as they were, and find what they name."""
        committed = entry(
            odd, workflow=odd, session_id=odd, step=odd, version=odd, arguments=odd, run_id=odd, tags=(odd,)
        )
        store.commit(
            Transaction(
                entries=(committed,),
                state=(write(b"1", odd, odd, odd),),
                events=(event(odd),),
                run=run(odd, odd, odd, odd, owner=odd, parent_id=odd, error=odd),
            )
        )

        assert store.read(odd) == b"payload"
        everywhere = EntryFilter(workflow=odd, session_id=odd, step=odd, version=odd, tag=odd, run_id=odd)
        assert store.entries(everywhere) == [attrs.evolve(committed, payload=b"", size=7)]
        assert store.state_row(odd, odd, odd) == StateRow(b"1", 1)
        assert store.state_keys(odd, odd) == [odd]
        assert store.runs(RunFilter(workflow=odd, session_id=odd, call=odd, parent_id=odd)) == [store.run(odd)]
        assert store.run(odd).error == odd
        assert store.last_event(odd) == EventRecord(odd, 1, 1.0, b"{}")
        assert store.sessions(odd) == [odd]
        assert store.try_lock(odd)
        store.unlock(odd)

    @pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
    def test_any_string_can_be_deleted(self, store, odd):
        """Forgetting and deleting go by the same ids."""
        store.commit(
            Transaction(
                entries=(entry(odd, workflow=odd, session_id=odd), entry("other" + odd)),
                state=(write(b"1", odd, odd, odd),),
                events=(event(odd),),
                run=run(odd, odd, odd, owner=odd),
                fence=Fence(odd, ""),
            )
        )

        store.commit(Transaction(forget=("other" + odd,), fence=Fence(odd, odd)))
        store.delete_session(odd, odd)

        assert store.entries(EntryFilter()) == []
        assert store.state_row(odd, odd, odd) == StateRow(None, 2)  # revisions go on
        assert store.run(odd) is None
        assert store.events(odd) == []

    def test_different_strings_are_different_ids(self, store):
        """No two strings meet, and sessions are listed in the order of their ids."""
        store.commit(Transaction(state=tuple(write(odd.encode("utf-8", "surrogatepass"), "k", odd) for odd in ODD)))

        assert store.sessions("w") == sorted(ODD)
        for odd in ODD:
            assert store.state_row("w", odd, "k").value == odd.encode("utf-8", "surrogatepass")


class TestSizes:
    TRANSACTIONS = {
        "result": lambda data: Transaction(entries=(entry(payload=data),)),
        "state": lambda data: Transaction(state=(write(data),)),
        "run_arguments": lambda data: Transaction(run=run(arguments=data)),
        "run_result": lambda data: Transaction(run=run(result=data)),
    }

    @pytest.mark.parametrize("kind", TRANSACTIONS)
    def test_the_limit_is_the_largest_size(self, make_store, kind):
        """A value of the limit is kept, one byte more is refused, and nothing of that transaction is written."""
        store = make_store(max_value_bytes=1000)
        make = self.TRANSACTIONS[kind]

        with pytest.raises(PayloadTooLarge, match="1,001 bytes"):
            store.commit(make(b"x" * 1001))
        refused = everything(store)
        store.commit(make(b"x" * 1000))

        assert refused == ([], [], [StateRow(None, 0), StateRow(None, 0)], [], [])
        assert everything(store) != refused

    def test_an_event_is_not_measured(self, make_store):
        """What happened is recorded, however long it is to tell: a failure must not hide behind its own message."""
        store = make_store(max_value_bytes=1000)

        store.commit(Transaction(events=(event(data=b"x" * 5000),), run=run(error="x" * 5000)))

        assert store.last_event("r").data == b"x" * 5000
        assert store.run("r").error == "x" * 5000

    def test_the_future_tells_of_a_refusal(self, make_store):
        """`commit_soon` raises nothing itself."""
        store = make_store(max_value_bytes=1000)

        future = store.commit_soon(Transaction(entries=(entry(payload=b"x" * 1001),)))

        assert isinstance(future.exception(timeout=10), PayloadTooLarge)

    def test_a_large_value_comes_back(self, store):
        """Megabytes are values like others."""
        payload = bytes(range(256)) * 40_000

        store.commit(Transaction(entries=(entry(payload=payload),)))

        assert store.read("key") == payload


class TestSoon:
    def test_what_the_future_promises_is_there(self, store):
        """When the future is done, the transaction is durable."""
        future = store.commit_soon(Transaction(entries=(entry(),), state=(write(b"1"),)))

        assert future.result(timeout=10) is None
        assert store.read("key") == b"payload"
        assert store.state_row("w", "s", "k") == StateRow(b"1", 1)

    def test_the_future_raises_the_refusal(self, store):
        """A refused transaction fails its own future and no other."""
        futures = [
            store.commit_soon(Transaction(state=(write(b"1", expected=0),))),
            store.commit_soon(Transaction(state=(write(b"2", expected=0),))),
            store.commit_soon(Transaction(fence=Fence("r", "me"))),
            store.commit_soon(Transaction(state=(write(b"3", expected=1),))),
        ]

        errors = [future.exception(timeout=10) for future in futures]

        assert [type(error).__name__ for error in errors] == ["NoneType", "StateChanged", "RunConflict", "NoneType"]
        assert store.state_row("w", "s", "k") == StateRow(b"3", 2)

    def test_transactions_keep_the_order_of_one_caller(self, store):
        """What was handed over first is written first."""
        futures = [store.commit_soon(Transaction(state=(write(b"%d" % number),))) for number in range(50)]
        for future in futures:
            future.result(timeout=30)

        assert store.state_row("w", "s", "k") == StateRow(b"49", 50)


class TestLife:
    def test_a_closed_store_can_be_used_again(self, store):
        """Closing releases, and the next use opens anew."""
        store.commit(Transaction(entries=(entry(),)))
        store.close()
        store.close()

        assert store.read("key") == b"payload"
        store.commit(Transaction(forget=("key",)))
        assert store.read("key") is None

    def test_two_stores_of_memory_are_two(self):
        """Single flight goes by the identity, which is never that of a store before."""
        from agentflow.stores import MemoryStore

        identities = {MemoryStore().identity for _ in range(100)}

        assert len(identities) == 100
