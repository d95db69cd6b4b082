"""What a directory adds to the contract: files, other processes, other users, and what goes wrong with a disk."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import threading
import time

import pytest

from agentflow.exceptions import (
    IncompatibleStore,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreGone,
    StoreLocation,
    UsageError,
)
from agentflow.stores import DiskStore
from agentflow.stores._base import (
    Entry,
    EntryFilter,
    Fence,
    RunFilter,
    RunRecord,
    StateChanged,
    StateRow,
    StateWrite,
    Transaction,
)


def put(key, payload=b"payload", **others):
    return Transaction(entries=(Entry(key=key, payload=payload),), **others)


def state(value, expected, key="k"):
    return StateWrite(workflow="w", session_id="s", key=key, value=value, expected=expected)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def query(path, statement, *values):
    """What plain SQLite says, with the store's file closed or not."""
    con = sqlite3.connect(path, isolation_level=None)
    try:
        return con.execute(statement, values).fetchall()
    finally:
        con.close()


@pytest.fixture
def file(disk):
    """The database of a store that has one result and was closed."""
    disk.commit(put("key"))
    disk.close()
    return disk.path / "cache.db"


class TestBeginning:
    def test_nothing_is_made_before_the_first_write(self, tmp_path):
        """Making the object, looking and reading leave no trace."""
        store = DiskStore(tmp_path / "a" / "store")

        assert store.read("key") is None
        assert store.entries(EntryFilter()) == []
        assert store.runs(RunFilter()) == []
        assert store.sessions("w") == []
        assert not store.is_locked("a")
        store.close()

        assert list(tmp_path.iterdir()) == []

    def test_it_is_for_this_user_alone(self, outcome, tmp_path):
        """Under the widest umask the directory has mode 0700 and every file in it 0600."""
        modes = outcome(
            """
            import os, sys
            from pathlib import Path
            from agentflow.stores import DiskStore
            from agentflow.stores._base import *

            os.umask(0)
            store = DiskStore(sys.argv[1])
            store.commit(Transaction(entries=(Entry(key="key", payload=b"x"),)))
            store.read("key")
            store.try_lock("a")
            for path in [store.path, *sorted(store.path.iterdir())]:
                print(path.name, oct(path.stat().st_mode & 0o777))
            """,
            tmp_path / "store",
        )

        assert dict(zip(modes[::2], modes[1::2], strict=True)) == {
            "store": "0o700",
            ".gitignore": "0o600",
            "AGENTFLOW": "0o600",
            "cache.db": "0o600",
            "cache.db-shm": "0o600",
            "cache.db-wal": "0o600",
            "locks": "0o600",
        }

    def test_git_does_not_see_it(self, disk):
        """The directory holds a `.gitignore` of everything, also where an earlier one came out empty on a full disk."""
        disk.path.mkdir(mode=0o700)
        (disk.path / ".gitignore").touch()

        disk.commit(put("key"))

        assert (disk.path / ".gitignore").read_text() == "*\n"

    def test_git_goes_on_seeing_the_files_of_others(self, disk):
        """In a directory that holds other files, such as a project's own, no `.gitignore` hides them."""
        disk.path.mkdir(mode=0o700)
        (disk.path / "program.py").touch()

        disk.commit(put("key"))

        assert not (disk.path / ".gitignore").exists()

    def test_a_clean_end_leaves_one_database_file(self, file):
        """After closing, all there is stands in the one file."""
        assert sorted(path.name for path in file.parent.iterdir()) == [".gitignore", "AGENTFLOW", "cache.db", "locks"]
        assert query(file, "PRAGMA integrity_check") == [("ok",)]

    @pytest.mark.parametrize(
        "name",
        ["with space", "50%", "who?", "a#b", "~", "$HOME", "${HOME}x", "ü ☃", "line\nbreak", "\udcff", "a;b'c\""],
    )
    def test_any_name_will_do(self, tmp_path, name):
        """A directory's name is taken as it is, and no other one is made."""
        store = DiskStore(tmp_path / name)

        store.commit(put("key"))
        store.close()

        assert DiskStore(tmp_path / name).read("key") == b"payload"
        assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [os.fsencode(name)]

    def test_a_relative_directory_is_fixed_when_the_object_is_made(self, tmp_path, monkeypatch):
        """Changing the working directory later moves no store."""
        monkeypatch.chdir(tmp_path)
        store = DiskStore("store")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

        store.commit(put("key"))
        store.close()

        assert (tmp_path / "store" / "cache.db").exists()
        assert repr(store) == f"DiskStore('{tmp_path / 'store'}')"

    @pytest.mark.parametrize(
        "rest", ["directory", "cache.db", "cache.db.new", "cache.db.new-journal", "cache.db.new-wal"]
    )
    def test_a_beginning_that_was_cut_off_is_no_damage(self, disk, rest):
        """A process that died while it made the store leaves a place to begin at."""
        disk.path.mkdir(mode=0o700)
        if rest == "cache.db":
            (disk.path / rest).touch()
        elif rest != "directory":
            (disk.path / rest).write_bytes(b"half a file")

        assert disk.read("key") is None
        disk.commit(put("key"))

        assert disk.read("key") == b"payload"
        assert not list(disk.path.glob("*.new*"))

    @pytest.mark.parametrize(
        "options",
        [
            {"path": 3},
            {"path": ""},
            {"durability": "fast"},
            {"on_corrupt": "ignore"},
            {"busy_timeout": "soon"},
            {"max_value_bytes": 2 * 10**9},
            {"max_value_bytes": "1 MB"},
        ],
        ids=str,
    )
    def test_an_option_that_cannot_be_is_refused(self, tmp_path, options):
        """The message names the option."""
        with pytest.raises(UsageError, match=next(iter(options))):
            DiskStore(**{"path": tmp_path, **options})


class TestPlace:
    @pytest.mark.parametrize("bits", [0o770, 0o707, 0o720])
    def test_a_directory_that_others_can_write_is_refused(self, disk, bits):
        """Whoever can write there could plant results: neither read, written nor locked, until it is mended."""
        disk.commit(put("key"))
        disk.close()
        disk.path.chmod(bits)

        for operate in (
            lambda: disk.read("key"),
            lambda: disk.commit(put("other")),
            lambda: disk.try_lock("a"),
            lambda: disk.is_locked("a"),
        ):
            with pytest.raises(StoreLocation, match="chmod go-w") as refusal:
                operate()
            assert refusal.value.path == str(disk.path)

        disk.path.chmod(0o755)
        assert disk.read("key") == b"payload"

    @pytest.mark.parametrize("operation", ["read", "commit", "try_lock"])
    def test_a_file_in_its_place_is_refused(self, tmp_path, operation):
        """It stays as it was."""
        (tmp_path / "store").write_text("mine")
        store = DiskStore(tmp_path / "store")

        with pytest.raises(StoreLocation) as refusal:
            getattr(store, operation)(put("key") if operation == "commit" else "key")

        assert refusal.value.path == str(store.path)
        assert (tmp_path / "store").read_text() == "mine"

    def test_a_foreign_database_is_refused(self, disk):
        """It is neither read as a store nor written."""
        disk.path.mkdir(mode=0o700)
        file = disk.path / "cache.db"
        query(file, "CREATE TABLE Cache (key, raw, mode, value, filename)")
        query(file, "INSERT INTO Cache VALUES ('key', 1, 1, x'00', NULL)")
        before = file.read_bytes()

        with pytest.raises(IncompatibleStore, match="not one of agentflow"):
            disk.read("key")
        with pytest.raises(IncompatibleStore, match="not one of agentflow"):
            disk.commit(put("key"))

        assert file.read_bytes() == before

    def test_a_newer_store_is_refused(self, file, disk):
        """An older agentflow leaves a newer store alone."""
        query(file, "PRAGMA user_version = 2")
        before = file.read_bytes()

        with pytest.raises(IncompatibleStore, match="upgrade agentflow"):
            disk.read("key")
        with pytest.raises(IncompatibleStore, match="upgrade agentflow"):
            disk.commit(put("key"))

        assert file.read_bytes() == before

    @pytest.mark.parametrize("content", [b"no database at all\n" * 500, b"SQLite format 3\x00" + b"\xff" * 8000])
    def test_garbage_is_no_store(self, file, disk, content):
        """It is damage, and stays as it is."""
        file.write_bytes(content)

        with pytest.raises(StoreCorrupt, match="damaged"):
            disk.read("key")
        with pytest.raises(StoreCorrupt, match="damaged"):
            disk.commit(put("key"))

        assert file.read_bytes() == content

    def test_a_file_cut_in_half_is_no_store(self, disk):
        """What is left of it gives an error, never a wrong value."""
        disk.commit(put("key", b"x" * 100_000))
        disk.close()
        os.truncate(disk.path / "cache.db", 40_000)

        with pytest.raises(StoreCorrupt):
            disk.read("key")

    @pytest.mark.parametrize("how", ["zero length", "no tables"])
    def test_a_store_that_lost_its_content_is_damaged(self, file, disk, how):
        """The mark tells an emptied store from a new one."""
        file.unlink()
        file.touch()
        if how == "no tables":
            query(file, "PRAGMA journal_mode = WAL")

        with pytest.raises(StoreCorrupt, match="lost its content"):
            disk.read("key")
        with pytest.raises(StoreCorrupt, match="lost its content"):
            disk.commit(put("key"))

    def test_a_store_without_its_file_is_gone(self, file, disk):
        """The mark without the file is no new store."""
        file.unlink()

        with pytest.raises(StoreGone):
            disk.read("key")
        with pytest.raises(StoreGone):
            disk.commit(put("key"))

        assert not file.exists()

    def test_a_lost_mark_loses_nothing(self, file, disk):
        """The file alone is a store; the next write marks it again."""
        (disk.path / "AGENTFLOW").unlink()

        assert disk.read("key") == b"payload"
        disk.commit(put("other"))

        assert (disk.path / "AGENTFLOW").exists()
        assert disk.read("key") == b"payload"


class TestGone:
    @pytest.mark.parametrize("operation", ["read", "commit"])
    @pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
    def test_a_store_deleted_while_open_is_noticed(self, disk, operation, replaced):
        """The next operation is an error: a write would be lost in an unlinked file, and a read would find what is gone."""
        disk.commit(put("key"))
        disk.read("key")
        shutil.rmtree(disk.path)
        if replaced:
            other = DiskStore(disk.path)
            other.commit(put("other"))
            other.close()

        with pytest.raises(StoreGone, match="deleted or replaced"):
            getattr(disk, operation)(put("new") if operation == "commit" else "key")

    def test_after_that_it_begins_anew(self, disk):
        """Whoever removed the directory on purpose meets one error, then a new store, not the old one's results."""
        disk.commit(put("key"))
        disk.read("key")
        shutil.rmtree(disk.path)
        with pytest.raises(StoreGone):
            disk.read("key")

        disk.commit(put("new"))

        assert disk.read("new") == b"payload"
        assert disk.read("key") is None
        assert DiskStore(disk.path).read("new") == b"payload"

    def test_a_directory_that_was_moved_can_be_put_back(self, disk):
        """Nothing is written meanwhile, and all is there again."""
        disk.commit(put("key"))
        disk.path.rename(disk.path.with_name("moved"))
        with pytest.raises(StoreGone):
            disk.commit(put("new"))

        disk.path.with_name("moved").rename(disk.path)

        assert disk.read("key") == b"payload"
        assert disk.read("new") is None

    def test_a_run_of_a_deleted_store_brings_nothing_into_the_new_one(self, disk):
        """Its fence does not hold there."""
        disk.commit(Transaction(run=RunRecord(id="r", workflow="w", session_id="s", call="c", owner="me")))
        shutil.rmtree(disk.path)
        with pytest.raises(StoreGone):
            disk.commit(put("1", fence=Fence("r", "me")))

        with pytest.raises(StoreError.__mro__[1], match="taken over"):
            disk.commit(put("2", fence=Fence("r", "me")))

        assert disk.entries(EntryFilter()) == []


READ_ONLY = """
    import os, sys, time
    from pathlib import Path
    from agentflow.exceptions import StoreReadOnly
    from agentflow.stores import DiskStore
    from agentflow.stores._base import *

    store = DiskStore(sys.argv[1])
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    begun = sorted(os.listdir(store.path))
    print(store.read("key"), len(store.entries(EntryFilter())), store.is_locked("held"), store.is_locked("a"))
    for operate in (
        lambda: store.commit(Transaction(entries=(Entry(key="new", payload=b"x"),))),
        lambda: store.commit_soon(Transaction(entries=(Entry(key="new", payload=b"x"),))).result(),
        lambda: store.delete_session("w", "s"),
        lambda: store.try_lock("a"),
    ):
        started = time.monotonic()
        try:
            operate()
        except StoreReadOnly as error:
            print(error.path == str(store.path), time.monotonic() - started < store._busy_timeout / 3)
    print(store.read("key"), sorted(os.listdir(store.path)) == begun)
"""


class TestReadOnly:
    @pytest.fixture
    def store(self, open_directory):
        """A store that others may read: what they need for it is given, and taken away again for the cleanup."""
        store = DiskStore(open_directory / "store")
        store.commit(put("key"))
        store.try_lock("held")
        yield store
        store.path.chmod(0o700)
        store.unlock("held")
        store.close()

    def freeze(self, store):
        for path in store.path.iterdir():
            path.chmod(0o444)
        store.path.chmod(0o555)

    def thaw(self, store):
        store.path.chmod(0o755)
        for path in store.path.iterdir():
            path.chmod(0o644)

    @pytest.mark.parametrize("closed", [True, False], ids=["cleanly closed", "in use"])
    def test_it_can_be_read_and_not_written(self, store, outcome, closed):
        """Results are found, also when the last writer took SQLite's other files away; every write says at once that it cannot be."""
        if closed:
            store.close()
            assert not (store.path / "cache.db-wal").exists()
        self.freeze(store)

        seen = outcome(READ_ONLY, store.path)

        assert seen == ["b'payload'", "1", "True", "False", *["True"] * 8, "b'payload'", "True"]

    def test_it_can_be_read_after_a_crash(self, store, python, outcome):
        """What a killed writer left beside the file is read with it."""
        store.close()
        writer = python(
            """
            import os, sys
            from agentflow.stores import DiskStore
            from agentflow.stores._base import *

            store = DiskStore(sys.argv[1])
            store.commit(Transaction(entries=(Entry(key="key", payload=b"newer"),)))
            os.kill(os.getpid(), 9)
            """,
            store.path,
        )
        writer.wait()
        self.freeze(store)

        seen = outcome(READ_ONLY, store.path)

        assert seen[0] == "b'newer'"

    def test_a_reader_sees_what_is_written_meanwhile(self, store, python):
        """A store that nobody had open is read as it is now, not as it was at the first look."""
        store.close()
        self.freeze(store)
        reader = python(
            """
            import os, sys
            from agentflow.stores import DiskStore

            store = DiskStore(sys.argv[1])
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            for line in sys.stdin:
                print(store.read("key"), flush=True)
            """,
            store.path,
        )

        def ask():
            reader.stdin.write("\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        answers = [ask()]
        for payload in (b"second", b"third"):
            self.thaw(store)
            store.commit(put("key", payload))
            self.freeze(store)
            answers.append(ask())
            self.thaw(store)
            store.close()
            self.freeze(store)
            answers.append(ask())

        assert answers == ["b'payload'", "b'second'", "b'second'", "b'third'", "b'third'"]

    def test_a_store_that_may_not_be_read_says_so(self, store, outcome):
        """Without the right to read there is an error, never an empty store."""
        store.path.chmod(0o000)
        seen = outcome(
            """
            import os, sys
            from agentflow.exceptions import StoreError, StoreReadOnly
            from agentflow.stores import DiskStore

            store = DiskStore(sys.argv[1])
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                print(store.read("key"))
            except StoreError as error:
                print(type(error).__name__, error.errno)
            """,
            store.path,
        )

        assert seen == ["StoreError", "13"]


class TestFull:
    def test_a_full_disk_loses_nothing(self, small_disk):
        """Writes are errors until there is room again; what was stored is readable all the time; no restart is needed."""
        store = DiskStore(small_disk / "store")
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"\0" * 700_000)
        kept = []
        with pytest.raises(StoreFull, match="free some space") as refusal:
            for number in range(1000):
                store.commit(put(f"{number}", b"x" * 20_000))
                kept.append(f"{number}")
        assert refusal.value.path == str(store.path)

        readable = [store.read(key) == b"x" * 20_000 for key in kept]
        with pytest.raises(StoreFull):
            store.commit_soon(put("big", b"x" * 2_000_000)).result()
        ballast.unlink()
        store.commit(put("after"))

        assert len(kept) > 5
        assert all(readable)
        assert store.read("after") == b"payload"
        assert len(store.entries(EntryFilter())) == len(kept) + 1
        store.close()
        assert query(store.path / "cache.db", "PRAGMA integrity_check") == [("ok",)]

    def test_a_store_begins_whole_or_not_at_all(self, small_disk):
        """However much room is missing when it is made: what there was no room for is begun when there is."""
        ballast, outcomes = small_disk / "ballast", set()
        for pages in range(0, 150, 2):
            store = DiskStore(small_disk / "store")
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(b"\0" * 3_000_000)
            os.truncate(ballast, max(0, ballast.stat().st_size - 4096 * pages))

            try:
                store.commit(put("key"))
                outcomes.add("begun")
            except StoreFull:
                outcomes.add("full")
                assert store.read("key") is None
            ballast.unlink()
            store.commit(put("key"))

            assert store.read("key") == b"payload"
            assert (store.path / ".gitignore").read_text() == "*\n"
            store.close()
            assert query(store.path / "cache.db", "PRAGMA integrity_check") == [("ok",)]
            shutil.rmtree(store.path)

        assert outcomes == {"begun", "full"}


HOLD_THE_WRITE_LOCK = """
    import sqlite3, sys

    con = sqlite3.connect(sys.argv[1], isolation_level=None)
    con.execute("BEGIN " + sys.argv[2])
    con.execute("UPDATE af_state SET revision = revision")
    print("locked", flush=True)
    sys.stdin.readline()
    con.execute("COMMIT")
    con.close()
"""


class TestBusy:
    @pytest.fixture
    def lock(self, python):
        """Has another process hold the write lock of a store, until told to let go."""

        def lock(store, kind="IMMEDIATE"):
            holder = python(HOLD_THE_WRITE_LOCK, store.path / "cache.db", kind)
            assert holder.stdout.readline() == "locked\n"
            return lambda: holder.communicate("\n", timeout=60)

        return lock

    @pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
    def test_reading_goes_on_while_another_process_writes(self, disk, lock, kind):
        """Readers wait for no writer, those that were open and those that open now."""
        disk.commit(put("key"))
        lock(disk, kind)

        assert disk.read("key") == b"payload"
        assert DiskStore(disk.path).read("key") == b"payload"

    @pytest.mark.parametrize("opened", [True, False], ids=["open", "opening"])
    def test_a_write_waits_and_then_says_so(self, tmp_path, lock, opened):
        """It waits for `busy_timeout`, in vain; when the lock is free, it writes."""
        store = DiskStore(tmp_path / "store", busy_timeout=0.3)
        store.commit(put("key"))
        if not opened:
            store.close()
        release = lock(store)

        started = time.monotonic()
        with pytest.raises(StoreBusy, match="busy_timeout") as refusal:
            store.commit(put("new"))
        waited = time.monotonic() - started
        release()
        store.commit(put("later"))

        assert waited >= 0.3
        assert refusal.value.path == str(store.path)
        assert store.read("new") is None
        assert store.read("later") == b"payload"
        store.close()

    def test_a_write_goes_through_when_the_lock_is_free(self, disk, lock):
        """Whoever waits is served as soon as the other process is done."""
        disk.commit(put("key"))
        release = lock(disk)
        future = disk.commit_soon(put("new"))
        waiting = not future.done()

        release()

        assert waiting
        assert future.result(timeout=20) is None
        assert disk.read("new") == b"payload"

    def test_a_late_comer_waits_its_own_time(self, tmp_path, lock):
        """Whoever queues up behind a write that waits already neither fails with it nor waits twice as long."""
        store = DiskStore(tmp_path / "store", busy_timeout=0.6)
        store.commit(put("key"))
        release = lock(store)
        early = store.commit_soon(put("early"))
        time.sleep(0.3)
        late = store.commit_soon(put("late"))

        error = early.exception(timeout=20)
        late_was_waiting = not late.done()
        release()

        assert isinstance(error, StoreBusy)
        assert late_was_waiting
        assert late.result(timeout=20) is None

    def test_a_loop_is_not_blocked(self, disk, lock):
        """Handing over a transaction returns at once while another process holds the lock, and the loop goes on."""
        disk.commit(put("key"))
        disk.close()
        release = lock(disk)

        async def main():
            futures = [asyncio.wrap_future(disk.commit_soon(put(f"{number}"))) for number in range(20)]
            for _ in range(200):
                await asyncio.sleep(0.001)
            waiting = not any(future.done() for future in futures)
            await asyncio.to_thread(release)
            await asyncio.gather(*futures)
            return waiting

        assert asyncio.run(main())
        assert len(disk.entries(EntryFilter())) == 21

    def test_a_cancelled_future_is_not_written(self, disk, lock):
        """What was cancelled before its turn does not happen, and disturbs nobody else's."""
        disk.commit(put("key"))
        release = lock(disk)
        futures = [disk.commit_soon(put(name)) for name in ("a", "b", "c")]

        cancelled = futures[1].cancel()
        release()

        assert cancelled
        assert [futures[0].result(timeout=20), futures[2].result(timeout=20)] == [None, None]
        assert [disk.read(name) for name in ("a", "b", "c")] == [b"payload", None, b"payload"]

    def test_a_refused_transaction_takes_nothing_from_its_batch(self, disk, lock):
        """Of transactions that share a commit, each fails or succeeds alone."""
        disk.commit(put("key"))
        release = lock(disk)
        futures = [
            disk.commit_soon(Transaction(state=(state(b"1", 0),))),
            disk.commit_soon(put("lost", state=(state(b"2", 0),))),
            disk.commit_soon(put("owned", fence=Fence("r", "nobody"))),
            disk.commit_soon(put("bad", run=RunRecord(id="r", workflow=object(), session_id="s", call="c"))),
            disk.commit_soon(put("good", state=(state(b"3", 1),))),
        ]

        release()
        errors = [future.exception(timeout=20) for future in futures]

        assert [type(error) for error in errors[:2]] == [type(None), StateChanged]
        assert errors[1].rows == {"k": StateRow(b"1", 1)}
        assert errors[2].run_id == "r"
        assert isinstance(errors[3], sqlite3.Error)
        assert errors[4] is None
        assert [disk.read(key) for key in ("lost", "owned", "bad", "good")] == [None, None, None, b"payload"]
        assert disk.state_row("w", "s", "k") == StateRow(b"3", 2)

    def test_a_transaction_that_cannot_be_bound_leaves_nothing(self, disk):
        """An error of SQLite about one value takes the whole transaction back, alone in its commit as well."""
        with pytest.raises(sqlite3.Error):
            disk.commit(put("bad", run=RunRecord(id="r", workflow=object(), session_id="s", call="c")))
        disk.commit(put("good"))

        assert [entry.key for entry in disk.entries(EntryFilter())] == ["good"]
        assert disk.read("bad") is None

    def test_everyone_raises_an_exception_of_their_own(self, tmp_path, lock):
        """Threads whose shared commit failed do not add their tracebacks and notes to one object."""
        store = DiskStore(tmp_path / "store", busy_timeout=0.2)
        store.commit(put("key"))
        lock(store)
        errors = []

        def commit(number):
            with pytest.raises(StoreBusy) as refusal:
                store.commit(put(f"{number}"))
            refusal.value.add_note(f"mine is {number}")
            errors.append(refusal.value)

        threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len({id(error) for error in errors}) == 8
        assert all(len(error.__notes__) == 1 for error in errors)
        assert all(isinstance(error.__cause__, sqlite3.OperationalError) for error in errors)
        store.close()


PLANTED = """
    import json, os, pickle, sqlite3, sys
    from pathlib import Path
    from agentflow.exceptions import StoreCorrupt
    from agentflow.stores import DiskStore
    from agentflow.stores._base import *

    store, victim, executed = DiskStore(sys.argv[1]), sys.argv[2], sys.argv[3]

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {executed}",)

    evil, plain = pickle.dumps(Attack()), b"planted"
    relative = os.path.relpath(victim, store.path)
    rows = {  # key, raw, mode, filename, value
        "pickled value": ("pickled value", 1, 4, None, evil),
        "pickled file": ("pickled file", 1, 4, victim, None),
        "file of bytes": ("file of bytes", 1, 2, victim, None),
        "file of text": ("file of text", 1, 3, relative, None),
        "bytes and a file": ("bytes and a file", 1, 1, victim, plain),
        "text": ("text", 1, 1, None, "planted"),
        "number": ("number", 1, 1, None, 5),
        "nothing": ("nothing", 1, 1, None, None),
        "no mode": ("no mode", 1, None, None, plain),
        "unknown mode": ("unknown mode", 1, 9, None, plain),
        "pickled key": (evil, 0, 1, None, plain),
    }
    store.commit(Transaction(entries=tuple(Entry(key=key, payload=b"x") for key in rows)))
    store.close()
    con = sqlite3.connect(store.path / "cache.db", isolation_level=None)
    for key, row in rows.items():
        con.execute("UPDATE Cache SET key = ?, raw = ?, mode = ?, filename = ?, value = ? WHERE key = ?", (*row, key))
    for setting in (
        ("eviction_policy", "least-recently-stored"), ("size_limit", 1), ("cull_limit", 10), ("statistics", 1),
        ("sqlite_journal_mode", "delete"), ("sqlite_synchronous", 0), ("disk_min_file_size", 0), ("disk_evil", 1), ("set", 1),
    ):
        con.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", setting)
    con.close()

    events = []
    inside = (str(store.path), os.path.dirname(os.__file__))

    def watch(event, args):
        if event in ("os.remove", "os.rmdir", "os.rename", "open"):
            known = args[0] == "/proc/self/mountinfo"  # the kernel's table of mounts, which no row can name
            if isinstance(args[0], str) and not known and not os.path.abspath(args[0]).startswith(inside):
                events.append((event, args[0]))
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "marshal.loads", "exec"):
            events.append((event, str(args)))

    def refused(operate):
        try:
            return repr(operate())
        except StoreCorrupt:
            return "refused"

    store.read("warm up")
    sys.addaudithook(watch)
    seen = {}
    for key in rows:
        overwrite = Transaction(entries=(Entry(key=key, payload=b"mine"),))
        seen[key] = [refused(lambda: store.read(key)), refused(lambda: store.commit(overwrite)), refused(lambda: store.read(key))]
        store.commit(Transaction(forget=(key,)))
        seen[key].append(repr(store.read(key)))
    listed = len(store.entries(EntryFilter()))
    store.commit(Transaction(entries=tuple(Entry(key=str(number), payload=b"x" * 50_000) for number in range(50))))
    kept = sum(store.read(str(number)) == b"x" * 50_000 for number in range(50))
    journal = store._writer._cache._con.execute("PRAGMA journal_mode").fetchone()[0]
    store.delete_session("", "")
    store.close()
    print(json.dumps({"seen": seen, "events": events, "listed": listed, "kept": kept, "journal": journal,
                      "files": sorted(os.listdir(store.path))}))
"""


class TestPlanted:
    def test_planted_rows_run_nothing_and_touch_nothing(self, python, tmp_path):
        """Whatever somebody writes into the file: no code runs, no other file is opened or removed, nothing is evicted.

        The interpreter's own audit events are the witness. A pickled key names nothing; every other planted row is refused,
        unless it cannot be told from an absent one, and can be forgotten.
        """
        victim, executed = tmp_path / "victim", tmp_path / "executed"
        victim.write_bytes(b"secret")

        process = python(PLANTED, tmp_path / "store", victim, executed)
        printed, complaints = process.communicate(timeout=60)
        told = json.loads(printed or "{}")

        assert (process.returncode, complaints) == (0, "")
        assert told["events"] == []
        assert victim.read_bytes() == b"secret"
        assert not executed.exists()
        for key, (read, _, after, forgotten) in told["seen"].items():
            assert read == ("None" if key == "pickled key" else "refused")
            assert after in ("b'mine'", "refused")
            assert forgotten == "None"
        assert told["listed"] == 1  # what is left of the result whose key was planted over
        assert (told["kept"], told["journal"]) == (50, "wal")
        assert told["files"] == [".gitignore", "AGENTFLOW", "cache.db", "locks"]

    @pytest.mark.parametrize(
        ("statement", "read"),
        [
            ("UPDATE af_entries SET tags = 'no json'", lambda store: store.entries(EntryFilter())),
            ("UPDATE af_entries SET tags = 5", lambda store: store.entries(EntryFilter())),
            ("UPDATE af_entries SET step = x'ff'", lambda store: store.entries(EntryFilter(tag="?"))),
            ("UPDATE af_entries SET step = CAST(x'ff' AS TEXT)", lambda store: store.entries(EntryFilter())),
            ("UPDATE af_entries SET detail = x'ff'", lambda store: store.recent(EntryFilter(), 1)),
            ("UPDATE af_versions SET pieces = 'no json'", lambda store: store.pieces("x", "v")),
            ("UPDATE af_versions SET pieces = '[]'", lambda store: store.pieces("x", "v")),
            ("UPDATE af_runs SET status = 'unknown'", lambda store: store.run("r")),
            ("UPDATE af_runs SET id = 'r', error = CAST(x'c0' AS TEXT)", lambda store: store.runs(RunFilter())),
            ("DROP TABLE af_runs", lambda store: store.run("r")),
            ("DROP TABLE Cache", lambda store: store.read("key")),
            ("ALTER TABLE Cache RENAME COLUMN filename TO other", lambda store: store.read("key")),
        ],
    )
    def test_what_cannot_be_read_is_damage(self, disk, statement, read):
        """A row or a table that agentflow would not have written is a typed error."""
        disk.commit(put("key", run=RunRecord(id="r", workflow="w", session_id="s", call="c")))
        disk.commit(Transaction(entries=(Entry(key="k", payload=b"", step="x", version="v", pieces={}),)))
        disk.close()
        query(disk.path / "cache.db", statement)

        with pytest.raises(StoreCorrupt) as damage:
            read(disk)

        assert damage.value.path == str(disk.path)


class TestDurability:
    @pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
    def test_every_connection_that_writes_syncs_as_asked(self, tmp_path, durability, synchronous):
        """Whoever made the store, and however often it was closed, a commit is synced as this object's option says."""
        DiskStore(tmp_path / "store", durability="process").commit(put("begun"))
        store = DiskStore(tmp_path / "store", durability=durability)

        levels = []
        for key in ("a", "b"):
            store.commit(put(key))
            levels.append(store._writer._cache.execute("PRAGMA synchronous").fetchone()[0])
            store.close()

        assert levels == [synchronous, synchronous]


def test_a_huge_value_replaces_and_is_replaced(disk):
    """What is written in pieces is one value with the rest of its transaction: whole, or not there."""
    small, huge, other = b"small", bytes(range(256)) * 20_000, b"\0" * 4_500_000
    for payload in (small, huge, other, small, huge):
        disk.commit(put("key", payload))

        assert disk.read("key") == payload
        (entry,) = disk.entries(EntryFilter())
        assert entry.size == len(payload)
    with pytest.raises(sqlite3.Error):
        disk.commit(put("key", other, run=RunRecord(id="r", workflow=object(), session_id="s", call="c")))

    assert disk.read("key") == huge
