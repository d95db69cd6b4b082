"""The queue of commits: who shares one, and what happens when whoever commits for all is interrupted."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future

import pytest

from agentflow.stores import DiskStore, _commits
from agentflow.stores._base import Entry, EntryFilter, StateRow, StateWrite, Transaction


def put(key, **others):
    return Transaction(entries=(Entry(key=key, payload=key.encode()),), **others)


def state(value, expected, key="k"):
    return StateWrite(workflow="w", session_id="s", key=key, value=value, expected=expected)


@pytest.fixture
def batches(disk, monkeypatch):
    """How many transactions of the database were opened."""
    begin, opened = disk._commits._begin, []

    def count(deadline):
        opened.append(deadline)
        return begin(deadline)

    monkeypatch.setattr(disk._commits, "_begin", count)
    return opened


def in_threads(number, target):
    threads = [threading.Thread(target=target, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


class TestSharing:
    def test_threads_share_commits_and_none_is_lost(self, disk, batches):
        """Sixteen threads with fifty commits each: all are there when they return, in far fewer transactions."""
        missing = []

        def work(thread):
            for number in range(50):
                key = f"{thread}-{number}"
                disk.commit(put(key))
                if disk.read(key) != key.encode():
                    missing.append(key)

        in_threads(16, work)

        assert missing == []
        assert len(disk.entries(EntryFilter())) == 800
        assert len(batches) < 800  # how far below depends on the disk; `test_futures_share_commits` knows exactly

    def test_futures_share_commits(self, disk, batches):
        """What was handed over while a commit was under way goes into the next one together, in bounded batches."""
        with disk._commits.leader:
            futures = [disk.commit_soon(put(f"{number}")) for number in range(_commits.MOST_JOBS * 2 + 1)]

        for future in futures:
            future.result(timeout=20)

        assert len(batches) == 3

    def test_large_transactions_do_not_pile_up(self, disk, batches):
        """A commit takes no more once it carries some megabytes."""
        large = b"x" * (_commits.MOST_BYTES // 2)
        with disk._commits.leader:
            futures = [
                disk.commit_soon(Transaction(entries=(Entry(key=f"{number}", payload=large),))) for number in range(4)
            ]

        for future in futures:
            future.result(timeout=20)

        assert len(batches) == 2

    def test_a_callback_of_a_future_may_use_the_store(self, disk):
        """It runs where the commit was made; what it writes is written, and nobody waits for himself."""
        done = Future()

        def go_on(future):
            disk.commit(put("from the callback"))
            done.set_result(disk.read("key"))

        disk.commit_soon(put("key")).add_done_callback(go_on)

        assert done.result(timeout=20) == b"key"
        disk.close()
        assert disk.read("from the callback") == b"from the callback"

    def test_a_finalizer_may_write_in_the_middle_of_a_commit(self, disk):
        """The collector may close a stream, which records its end, inside a commit of the same thread: it is written after it."""

        def work(writing):
            disk.commit(put("nested"))
            disk.close()
            seen.append(disk.read("nested"))

        seen = []
        disk._commits.run(work)
        disk.commit(put("next"))

        assert seen == [None]
        assert disk.read("nested") == b"nested"

    def test_the_writer_thread_ends_when_it_has_nothing_to_do(self, disk, monkeypatch):
        """An idle store has no thread, and starts one again when it is needed."""
        monkeypatch.setattr(_commits, "IDLE_SECONDS", 0.01)
        before = threading.active_count()
        disk.commit_soon(put("a")).result(timeout=20)
        deadline = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.005)
        idle = threading.active_count()

        disk.commit_soon(put("b")).result(timeout=20)

        assert idle == before
        assert disk.read("b") == b"b"

    def test_without_a_thread_to_be_had_the_caller_writes(self, disk, monkeypatch):
        """At the end of the interpreter, and where the system gives no more threads."""

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)

        assert disk.commit_soon(put("key")).done()
        assert disk.read("key") == b"key"


class Interrupt:
    """Raises KeyboardInterrupt before the n-th line of the stores' code that this thread executes.

    Not at a line of `with`: the interpreter comes by there again to leave the block, and does not look for signals between
    the block's last line and the release of a lock; a tracer could part them.
    """

    def __init__(self, after):
        self.left = after

    def __call__(self, frame, event, argument):
        if "/agentflow/stores/" not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with "
        ):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def run(self, operate):
        """Whether the operation was interrupted."""
        sys.settrace(self)
        try:
            operate()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


# A connection that was opened in the very line before is closed by the interpreter, which says so.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestInterrupts:
    @pytest.fixture(autouse=True)
    def _collect(self):
        yield
        gc.collect()

    def test_ctrl_c_at_any_line_harms_nobody_else(self, tmp_path):
        """Interrupted before each line in turn, a commit is whole or not there; what another handed over is written once."""
        store = DiskStore(tmp_path / "store", busy_timeout=10)
        store.commit(put("begin"))
        outcomes = Counter()
        for line in range(1, 2000):
            mine, theirs = f"mine {line}", f"theirs {line}"
            job = _commits.Job(
                lambda writing, key=theirs: _write(put(key, state=(state(b"1", 0, key),)), writing),
                1,
                time.monotonic() + 10,
                future=Future(),
            )
            store._commits._queue.append(job)

            interrupted = Interrupt(line).run(lambda: store.commit(put(mine, state=(state(b"1", 0, mine),))))
            store.commit(put(f"next {line}"))

            assert job.future.result(timeout=10) is None
            assert store.state_row("w", "s", theirs) == StateRow(b"1", 1)
            there = store.read(mine) is not None
            assert there == (store.state_row("w", "s", mine) == StateRow(b"1", 1))
            outcomes[interrupted, there] += 1
            if not interrupted:
                break
        store.close()

        assert outcomes[False, True] == 1, "the last one came through"
        assert outcomes[True, True] > 3, "some were interrupted after they were committed"
        assert outcomes[True, False] > 2 * outcomes[True, True], "and nobody commits later what was interrupted before"

    def test_ctrl_c_at_any_line_of_a_read_harms_nothing(self, disk):
        """Interrupted before each line in turn, reading works again at once."""
        disk.commit(put("key"))
        for line in range(1, 500):
            interrupted = Interrupt(line).run(lambda: disk.read("key"))

            assert disk.read("key") == b"key"
            if not interrupted:
                break

        assert line > 5
        assert not interrupted

    def test_ctrl_c_reaches_the_main_thread_only(self, outcome, tmp_path):
        """While the main thread is interrupted again and again, threads that share its commits go on and lose nothing.

        In a process of its own: an interrupt that comes a moment late would end the tests.
        """
        printed = outcome(INTERRUPTED_AGAIN_AND_AGAIN, tmp_path / "store")

        errors, missing, interruptions = map(int, printed)
        assert (errors, missing) == (0, 0)
        assert interruptions >= 20


INTERRUPTED_AGAIN_AND_AGAIN = """
import _thread, signal, sys, threading
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, Transaction

def put(key):
    return Transaction(entries=(Entry(key=key, payload=b"value"),))

signal.signal(signal.SIGINT, signal.default_int_handler)
store = DiskStore(sys.argv[1])
errors, acknowledged, interruptions, stop = [], [], 0, threading.Event()

def work(thread):
    for number in range(60):
        try:
            store.commit(put(f"{thread}-{number}"))
        except BaseException as error:
            errors.append(error)

def interrupt():
    while not stop.wait(0.003):
        _thread.interrupt_main()

threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
interrupter = threading.Thread(target=interrupt)
number = begun = 0
while True:
    try:
        while begun < 5:
            begun += 1
            (*threads, interrupter)[begun - 1].start()
        while any(thread.is_alive() for thread in threads) or interruptions < 20:
            number += 1
            store.commit(put(f"main-{number}"))
            acknowledged.append(f"main-{number}")
        stop.set()
        interrupter.join()
        break
    except KeyboardInterrupt:
        interruptions += 1
missing = [key for key in acknowledged if not store.read(key)]
missing += [f"{t}-{n}" for t in range(4) for n in range(60) if not store.read(f"{t}-{n}")]
store.close()
print(len(errors), len(missing), interruptions)
"""


def _write(transaction, writing):
    from agentflow.stores._applying import apply

    apply(transaction, writing)
