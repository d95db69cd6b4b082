"""Locks between processes: they die with their holder, and looking at them takes nothing."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from agentflow.exceptions import StoreGone
from agentflow.stores import DiskStore

HOLD = """
    import sys
    from agentflow.stores import DiskStore

    store = DiskStore(sys.argv[1])
    print(store.try_lock("a"), flush=True)
    sys.stdin.read()
"""
HOLD_AND_FORK = """
    import os, sys, time
    from agentflow.stores import DiskStore

    store = DiskStore(sys.argv[1])
    print(store.try_lock("a"), flush=True)
    if os.fork() == 0:
        store.is_locked("b")
        os.write(1, b"%d\\n" % os.getpid())
        os.close(1)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


def until(condition, seconds=20):
    """Whether a condition comes true in time; the time is there to end a test that would hang."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def test_a_lock_excludes_other_processes(disk, python):
    """What another process holds is seen and cannot be taken; given back by its normal end, it can."""
    holder = python(HOLD, disk.path)
    holder.stdout.readline()

    assert disk.is_locked("a")
    assert not disk.try_lock("a")
    assert disk.try_lock("b")

    holder.communicate()
    assert not disk.is_locked("a")
    assert disk.try_lock("a")


def test_a_lock_dies_with_a_killed_holder(disk, python):
    """After `kill -9` of its holder a lock is free, with nothing to clean up."""
    holder = python(HOLD, disk.path)
    holder.stdout.readline()
    held = disk.is_locked("a")

    holder.kill()
    holder.wait()

    assert held
    assert not disk.is_locked("a")
    assert disk.try_lock("a")


def test_a_lock_dies_with_its_holder_whose_child_lives(disk, python):
    """A forked child inherits no lock: it holds nothing of its dead parent's, though it used the store itself."""
    holder = python(HOLD_AND_FORK, disk.path)
    holder.stdout.readline()
    child = int(holder.stdout.readline())
    held = disk.is_locked("a")
    try:
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives

        assert held
        assert until(lambda: disk.try_lock("a"), seconds=1)
    finally:
        os.kill(child, 9)


def test_a_forked_child_does_not_disturb_its_parents_locks(outcome, tmp_path):
    """In a child the parent's locks are another process's: seen, not to be had, not to be given back; nor does its end free them."""
    seen = outcome(
        """
        import os, sys
        from agentflow.stores import DiskStore

        store, other = DiskStore(sys.argv[1]), DiskStore(sys.argv[2])
        store.try_lock("a")
        if os.fork() == 0:
            other.try_lock("b")
            print(store.is_locked("a"), store.try_lock("a"), store.try_lock("c"))
            store.unlock("a")
            store.close()
            sys.exit()
        os.wait()
        if os.fork() == 0:
            print(store.is_locked("a"), store.is_locked("c"), other.is_locked("b"))
            sys.exit()
        os.wait()
        """,
        tmp_path / "store",
        tmp_path / "other",
    )

    assert seen == ["True", "False", "True", "True", "False", "False"]


def test_a_forked_child_sees_its_parents_locks_end(outcome, tmp_path):
    """What a child has inherited of the table of locks does not hold them when the parent is gone."""
    seen = outcome(
        """
        import os, sys
        from agentflow.stores import DiskStore

        store = DiskStore(sys.argv[1])
        ended, end = os.pipe()
        if os.fork() == 0:
            store.try_lock("a")
            if os.fork():
                os._exit(0)
            os.close(end)
            os.read(ended, 1)  # until nobody else has the other end
            print(store.is_locked("a"), store.try_lock("a"))
            sys.exit()
        os.wait()
        """,
        tmp_path / "store",
    )

    assert seen == ["False", "True"]


def test_looking_from_elsewhere_takes_nothing(disk, python):
    """While one process looks again and again, another can take the lock at any moment."""
    looker = python(
        """
        import sys
        from agentflow.stores import DiskStore

        store = DiskStore(sys.argv[1])
        print(store.is_locked("a"), flush=True)
        while not store.is_locked("end"):
            store.is_locked("a")
        """,
        disk.path,
    )
    looker.stdout.readline()

    taken = []
    for _ in range(300):
        taken.append(disk.try_lock("a"))
        disk.unlock("a")
    disk.try_lock("end")
    complaints = looker.communicate(timeout=60)[1]

    assert all(taken)
    assert (looker.returncode, complaints) == (0, "")


def test_looking_makes_nothing(tmp_path):
    """Asking after a lock, or giving back one, where there is no store does not begin one."""
    store = DiskStore(tmp_path / "store")

    assert not store.is_locked("a")
    store.unlock("a")

    assert not store.path.exists()


@pytest.mark.parametrize("link", [False, True], ids=["same path", "by a link"])
def test_two_stores_of_one_directory_exclude_each_other(tmp_path, link):
    """The kernel knows processes only, so two objects in one process agree among themselves, whatever the path is called."""
    first = DiskStore(tmp_path / "store")
    first.try_lock("begun")
    if link:
        (tmp_path / "link").symlink_to(tmp_path / "store")
    second = DiskStore(tmp_path / ("link" if link else "store"))

    assert first.identity == second.identity
    assert first.try_lock("a")
    assert second.is_locked("a")
    assert not second.try_lock("a")
    second.unlock("a")
    assert first.try_lock("a")
    for store in (first, second):
        store.unlock("begun")
        store.unlock("a")
        store.close()


def test_closing_a_store_keeps_locks(disk, python):
    """Closing one of two stores of a directory, or reading and writing it, drops no lock of the other."""
    other = DiskStore(disk.path)
    disk.try_lock("a")

    other.is_locked("a")
    other.close()
    disk.close()
    asked = python(
        "import sys; from agentflow.stores import DiskStore; print(DiskStore(sys.argv[1]).try_lock('a'))", disk.path
    ).communicate(timeout=60)[0]

    assert asked.strip() == "False"
    disk.unlock("a")


def test_only_one_of_many_threads_takes_a_lock(disk):
    """Of threads that ask at once one gets it, in every round."""
    winners = []

    def race(number, barrier):
        barrier.wait()
        if disk.try_lock(f"round {number}"):
            winners.append(number)

    for number in range(20):
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=race, args=(number, barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert winners == list(range(20))


def test_only_one_of_many_processes_takes_a_lock(outcome, tmp_path):
    """Of processes that ask at once one gets it, in every round."""
    winners = outcome(
        """
        import os, sys
        from agentflow.stores import DiskStore

        (ready, go), (done, tell), (wait, end) = os.pipe(), os.pipe(), os.pipe()
        for _ in range(8):
            if os.fork() == 0:
                os.close(go), os.close(end)
                store = DiskStore(sys.argv[1])
                os.read(ready, 1)
                for number in range(50):
                    if store.try_lock(f"round {number}"):
                        os.write(1, b"%d\\n" % number)
                os.write(tell, b".")
                os.read(wait, 1)  # a lock ends with its holder, so all stay to the end
                os._exit(0)
        os.close(go)
        for _ in range(8):
            os.read(done, 1)
        os.close(end)
        for _ in range(8):
            os.wait()
        """,
        tmp_path / "store",
    )

    assert sorted(map(int, winners)) == list(range(50))


def test_locks_of_a_deleted_directory_do_not_count(tmp_path):
    """A lock on a file without a name would exclude nobody: it is an error while one is held, and then begins anew."""
    store = DiskStore(tmp_path / "store")
    store.try_lock("a")
    shutil.rmtree(store.path)

    with pytest.raises(StoreGone):
        store.try_lock("b")
    store.unlock("a")

    assert store.try_lock("b")
    assert DiskStore(store.path).is_locked("b")
    assert (store.path / "locks").exists()
    store.unlock("b")
    store.close()


def test_a_finalizer_may_use_locks(disk):
    """Code that the garbage collector runs in the middle of a lock operation gives its own lock back without a deadlock."""
    disk.try_lock("a")

    with disk._locks._mutex:
        disk.unlock("a")

    assert not disk.is_locked("a")


CHILDREN = """
import multiprocessing, sys
from agentflow.stores import DiskStore

def take(path):
    return DiskStore(path).try_lock("a")

if __name__ == "__main__":
    store = DiskStore(sys.argv[1])
    print(store.try_lock("a"))
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.apply(take, (sys.argv[1],)))
    print(DiskStore(sys.argv[1]).is_locked("a"))
"""


def test_children_of_multiprocessing_are_other_processes(outcome, tmp_path):
    """However a child process was made, the parent's lock excludes it, and its end does not free it."""
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)

    told = outcome(f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='__main__')", tmp_path / "store")

    assert (told[0], told[-1]) == ("True", "True")
    assert dict(zip(told[1:-1:2], told[2:-1:2], strict=True)) == dict.fromkeys(("fork", "spawn", "forkserver"), "False")
