"""Processes that die, begin at once, fork and end: nothing acknowledged is lost, nothing is left behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings

import pytest

from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, EntryFilter, Transaction

PUT = """
    import os, random, signal, sqlite3, sys, threading, time, warnings
    from agentflow.stores import DiskStore
    from agentflow.stores._base import *

    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def put(key, **others):
        return Transaction(entries=(Entry(key=key, payload=key.encode() * 100),), **others)
"""


def test_a_killed_process_loses_nothing_that_was_acknowledged(outcome, tmp_path):
    """`kill -9` at fifty moments, also while opening: every acknowledged commit is there, whole, and the file needs no repair."""
    told = outcome(
        PUT
        + """
    directory, log = sys.argv[1:]
    acknowledged = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for round in range(50):
        size = os.fstat(acknowledged).st_size
        child = os.fork()
        if child == 0:
            store = DiskStore(directory)
            for number in range(10**9):
                key = f"{round}-{number}"
                store.commit(put(key, state=(StateWrite(workflow="w", session_id="s", key=key, value=b"1", expected=0),)))
                os.write(acknowledged, f"{key}\\n".encode())
        if round % 2:  # else it may be opening still
            while os.fstat(acknowledged).st_size == size:
                time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with open(log) as file:
        keys = file.read().split()
    store = DiskStore(directory)
    lost = [key for key in keys if store.read(key) != key.encode() * 100 or store.state_row("w", "s", key).revision != 1]
    results, states = len(store.entries(EntryFilter())), len(store.state_keys("w", "s"))
    store.commit(put("after"))
    store.close()
    con = sqlite3.connect(directory + "/cache.db")
    print(len(lost), len(keys) >= 25, 0 <= results - len(keys) <= 50, results == states, con.execute("PRAGMA integrity_check").fetchone()[0])
    con.close()
    os.close(acknowledged)
    """,
        tmp_path / "store",
        tmp_path / "log",
    )

    assert told == ["0", "True", "True", "True", "ok"]


def test_processes_may_begin_a_store_at_once(outcome, tmp_path):
    """Eight processes open a directory that is not there at the same moment, twenty times: no error, and every write is there."""
    told = outcome(
        PUT
        + """
    errors = 0
    for round in range(20):
        directory = f"{sys.argv[1]}/{round}"
        ready, go = os.pipe()
        children = []
        for number in range(8):
            child = os.fork()
            if child == 0:
                os.close(go)
                store = DiskStore(directory)
                os.read(ready, 1)
                store.read("key") if number % 2 else None
                store.commit(put(f"{number}"))
                store.close()
                os._exit(0)
            children.append(child)
        os.close(go)
        os.close(ready)
        errors += sum(os.waitpid(child, 0)[1] != 0 for child in children)
        store = DiskStore(directory)
        errors += sorted(entry.key for entry in store.entries(EntryFilter())) != [f"{number}" for number in range(8)]
        store.close()
    print(errors)
    """,
        tmp_path,
    )

    assert told == ["0"]


def test_a_forked_child_has_a_store_of_its_own(outcome, tmp_path):
    """Parent and four children of an open store all write, and none disturbs another."""
    told = outcome(
        PUT
        + """
    store = DiskStore(sys.argv[1])
    store.commit(put("before"))
    store.read("before")
    children = []
    for child in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            for number in range(50):
                store.commit(put(f"{child}-{number}"))
                assert store.read("before")
            sys.exit()
    for number in range(50):
        store.commit(put(f"parent-{number}"))
    print([os.waitpid(child, 0)[1] for child in children].count(0))
    print(len(store.entries(EntryFilter())))
    """,
        tmp_path / "store",
    )

    assert told == ["4", "251"]


def test_a_fork_may_come_while_other_threads_use_the_store(outcome, tmp_path):
    """Children forked in the middle of other threads' commits and reads neither hang nor fail, nor do those threads."""
    told = outcome(
        PUT
        + """
    store, other = DiskStore(sys.argv[1]), DiskStore(sys.argv[1])
    store.commit(put("before"))
    stop, errors, counts = threading.Event(), [], [0, 0]

    def work(number, operate):
        while not stop.is_set():
            try:
                operate(f"{number}-{counts[number]}")
                counts[number] += 1
            except BaseException as error:
                errors.append(error)

    threads = [
        threading.Thread(target=work, args=(0, lambda key: (store.commit(put(key)), store.read(key)))),
        threading.Thread(target=work, args=(1, lambda key: other.commit_soon(put(key)).result())),
    ]
    for thread in threads:
        thread.start()
    failed = 0
    for round in range(25):
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # ends a child that hangs
            store.commit(put(f"child-{round}"))
            os._exit(0 if store.read("before") and other.read(f"child-{round}") else 1)
        failed += os.waitpid(child, 0)[1] != 0
    stop.set()
    for thread in threads:
        thread.join()
    print(failed, len(errors), len(store.entries(EntryFilter())) == 1 + 25 + sum(counts), min(counts) > 0)
    """,
        tmp_path / "store",
    )

    assert told == ["0", "0", "True", "True"]


def test_a_child_outlives_its_parents_connections(outcome, tmp_path):
    """What a child commits after its parent has closed the store is kept: they share no connection, and no belief about locks."""
    told = outcome(
        PUT
        + """
    (child_ready, tell), (wait, go) = os.pipe(), os.pipe()
    store = DiskStore(sys.argv[1])
    store.commit(put("before"))
    store.read("before")
    child = os.fork()
    if child == 0:
        store.commit(put("first"))
        os.write(tell, b".")
        os.read(wait, 1)
        store.commit(put("second"))
        os._exit(0)
    os.read(child_ready, 1)
    store.close()
    os.write(go, b".")
    os.waitpid(child, 0)
    print(*[store.read(key) is not None for key in ("before", "first", "second")])
    """,
        tmp_path / "store",
    )

    assert told == ["True", "True", "True"]


def test_a_fork_does_not_wait_for_another_process(outcome, python, tmp_path):
    """While a commit waits for a lock that another process holds, this one can fork, and the child can read."""
    told = outcome(
        PUT
        + """
    import agentflow.stores._forks
    agentflow.stores._forks.LONGEST_WAIT = 10**6
    signal.alarm(60)
    store = DiskStore(sys.argv[1])
    store.commit(put("before"))
    child_ready, tell = os.pipe()
    wait, go = os.pipe()
    if os.fork() == 0:
        con = sqlite3.connect(sys.argv[1] + "/cache.db", isolation_level=None)
        con.execute("BEGIN IMMEDIATE")
        os.write(tell, b".")
        os.read(wait, 1)
        con.execute("COMMIT")
        os._exit(0)
    os.read(child_ready, 1)
    future = store.commit_soon(put("new"))
    time.sleep(0.2)  # so that it waits
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read("before") else 1)
    print(os.waitpid(child, 0)[1], future.done())
    os.write(go, b".")
    print(future.result(timeout=30), store.read("new") == b"new" * 100)
    """,
        tmp_path / "store",
    )

    assert told == ["0", "False", "None", "True"]


def test_a_fork_does_not_wait_for_ever(outcome, tmp_path):
    """If a statement takes too long, the fork goes ahead, and the child leaves alone what the parent had open."""
    told = outcome(
        PUT
        + """
    from agentflow.stores import _forks
    _forks.LONGEST_WAIT = 0.05
    store = DiskStore(sys.argv[1])
    store.commit(put("before"))
    store.read("before")
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with _forks.GATE:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        print(store.read("before") is not None, flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    leave.set()
    thread.join()
    store.commit(put("after"))
    print(store.read("after") is not None)
    """,
        tmp_path / "store",
    )

    assert told == ["True", "0", "True"]


def test_closing_leaves_no_descriptor_and_no_thread(tmp_path):
    """Two hundred times open, written from both sides, read and closed: as many descriptors and threads as before."""

    stores = []

    def cycle():
        store = DiskStore(tmp_path / "store")
        stores.append(store)
        store.commit(Transaction(entries=(Entry(key="key", payload=b"x"),)))
        store.commit_soon(Transaction(entries=(Entry(key="key", payload=b"x"),))).result(timeout=20)
        store.read("key")
        store.try_lock("a")
        store.unlock("a")
        store.close()

    cycle()
    before = len(os.listdir("/dev/fd")), threading.active_count()

    for _ in range(200):
        cycle()

    assert (len(os.listdir("/dev/fd")), threading.active_count()) == before


def test_a_forgotten_store_closes_itself(tmp_path):
    """A store that is not closed gives everything back when nothing refers to it, without a warning."""
    gc.collect()
    before = len(os.listdir("/dev/fd"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            store = DiskStore(tmp_path / "store")
            store.commit(Transaction(entries=(Entry(key="key", payload=b"x"),)))
            store.read("key")
            del store
        gc.collect()

    assert len(os.listdir("/dev/fd")) == before
    assert not (tmp_path / "store" / "cache.db-wal").exists()


ENDINGS = {
    "after a commit": 'store.commit(put("key"))',
    "after a future": 'store.commit_soon(put("key")).result()',
    "before a future": 'store.commit(put("key")); [store.commit_soon(put(f"{number}")) for number in range(1000)]',
    "at exit": 'import atexit; atexit.register(lambda: store.commit(put("key")))',
    "at exit, soon": 'import atexit; atexit.register(lambda: store.commit_soon(put("key")).result())',
    "by sys.exit": 'store.commit(put("key")); store.commit_soon(put("other")); sys.exit(0)',
    "with a thread that goes on": """
def go_on():
    while True:
        store.commit(put("key"))
threading.Thread(target=go_on, daemon=True).start()
while not store.read("key"):
    pass
""",
    "holding a lock": 'store.try_lock("a"); store.commit(put("key"))',
    "in a child": 'store.commit(put("key")); os.fork() or sys.exit(store.read("key") is None); os.wait()',
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_interpreter_ends_quietly(outcome, tmp_path, ending):
    """However a program that used a store ends, it ends with status 0, says nothing, and has kept what it was told is kept."""
    import textwrap

    script = textwrap.dedent(PUT) + "store = DiskStore(sys.argv[1])\n" + ENDINGS[ending] + "\n"

    outcome(script, tmp_path / "store")

    store = DiskStore(tmp_path / "store")
    assert store.read("key") == b"key" * 100
    if ending == "before a future":
        assert len(store.entries(EntryFilter())) == 1001
    store.close()


def test_an_interpreter_ends_while_another_process_holds_the_lock(python, tmp_path):
    """A write that was handed over and cannot be done does not keep a program from ending."""
    store = DiskStore(tmp_path / "store")
    store.commit(Transaction(entries=(Entry(key="key", payload=b"x"),)))
    holder = python(
        """
        import sqlite3, sys
        con = sqlite3.connect(sys.argv[1], isolation_level=None)
        con.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.read()
        """,
        store.path / "cache.db",
    )
    holder.stdout.readline()

    ending = python(PUT + "    DiskStore(sys.argv[1]).commit_soon(put('new'))\n    print('end')\n", store.path)
    printed, complaints = ending.communicate(timeout=25)  # busy_timeout is 30

    assert (ending.returncode, printed, complaints) == (0, "end\n", "")
    store.close()


def test_importing_stores_opens_nothing(outcome):
    """No file, no thread, and SQLite's and diskcache's own state untouched: the first use opens."""
    told = outcome(
        """
        import os, sys, threading
        before = set(os.listdir("/dev/fd"))
        import agentflow.stores
        store = agentflow.stores.DiskStore("somewhere")
        print(len(set(os.listdir("/dev/fd")) - before), threading.active_count())
        """
    )

    assert told == ["0", "1"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_store_in_memory_survives_a_fork(outcome):
    """A child has a copy; locks that the parent's threads held are not held in it."""
    told = outcome(
        """
        import os, sys
        from agentflow.stores import MemoryStore
        from agentflow.stores._base import *

        store = MemoryStore()
        store.commit(Transaction(entries=(Entry(key="key", payload=b"x"),)))
        store.try_lock("a")
        store._mutex.acquire()
        if os.fork() == 0:
            store.commit(Transaction(entries=(Entry(key="other", payload=b"x"),)))
            print(store.is_locked("a"), len(store.entries(EntryFilter())))
            sys.exit()
        os.wait()
        print(store.is_locked("a"), len(store.entries(EntryFilter())))
        """
    )

    assert told == ["False", "2", "True", "1"]
