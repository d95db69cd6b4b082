"""Two faults at once (F31); a kill while a killed process's store is opened is part of `test_kill.py`."""

from __future__ import annotations

import sqlite3
import threading
import time
import warnings

import pytest

from agentflow import cached_step
from agentflow._settings import using_store
from agentflow.exceptions import StoreCorrupt, StoreError, StoreFull
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, Transaction

from .test_corrupt import query


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_full_disk_after_a_kill(program, small_disk, figure, rounds):
    """What a killed process has left is read on a disk without any room, or said not to be readable for want of it; with room all is there."""
    told = program("full_after_kill.py", small_disk, rounds)

    assert (told["lost"], told["untyped"]) == (0, [])
    assert told["acknowledged"] > 0
    figure(
        "F31 full after a kill",
        **{name: told[name] for name in ("rounds", "acknowledged", "lost", "said_to_be_full")},
        untyped=0,
    )


def test_a_lock_on_what_a_cut_off_opening_has_left(tmp_path, figure):
    """A store is made aside and put in its place whole, in WAL mode already: so whoever holds the empty file that a killed opening left holds up nobody."""
    place = tmp_path / "store"
    place.mkdir(mode=0o700)
    (place / "cache.db").touch(mode=0o600)
    holder = sqlite3.connect(place / "cache.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store = DiskStore(place, busy_timeout=0.5)

    store.commit(Transaction(entries=(Entry(key="key", payload=b"value"),)))

    holder.execute("ROLLBACK")
    holder.close()
    assert store.read("key") == b"value"
    store.close()
    con = sqlite3.connect(place / "cache.db")
    assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    con.close()
    figure("F31 locked during the first opening", lost=0, waited=0)


@pytest.mark.parametrize("on_corrupt", ["raise", "recompute"])
@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_stampede_at_a_damaged_result(tmp_path, figure, on_corrupt, rounds):
    """Sixteen threads ask for one damaged result: all are told, or one of them makes it anew, with a warning."""
    executed: list[int] = []

    @cached_step(name="compound.step")
    def step(n: int) -> list[int]:
        executed.append(n)
        time.sleep(0.02)
        return [n]

    def ask() -> None:
        try:
            answers.append(step(1))
        except StoreError as error:
            answers.append(type(error))

    for number in range(rounds):
        executed.clear()
        place = tmp_path / str(number)
        store = DiskStore(place / "store", on_corrupt=on_corrupt)
        with using_store(store), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step(1)
            query(place, "UPDATE Cache SET value = zeroblob(60)")
            answers: list[object] = []
            threads = [threading.Thread(target=ask) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        store.close()

        assert answers == ([[1]] * 16 if on_corrupt == "recompute" else [StoreCorrupt] * 16)
        assert len(executed) == (2 if on_corrupt == "recompute" else 1)
        assert bool(caught) == (on_corrupt == "recompute")
    figure("F31 stampede at a damaged result", rounds=rounds, wrong=0, on_corrupt=on_corrupt)


def test_a_full_disk_and_a_stream(small_disk, figure):
    """A stream that ends when there is no room gives what was seen in its error, and the next call works when there is some."""
    executed: list[int] = []

    @cached_step(name="compound.stream")
    def stream(n: int):
        executed.append(n)
        for k in range(n):
            yield f"{k}" * 10_000

    ballast = small_disk / "ballast"
    store = DiskStore(small_disk / "store")
    with using_store(store):
        list(stream(1))
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(b"\0" * 3_000_000)
        with pytest.raises(StoreFull) as full:
            list(stream(8))
        ballast.unlink()
        again = list(stream(8))
        hit = list(stream(8))
    store.close()

    assert full.value.result == "".join(again)
    assert hit == again
    assert executed == [1, 8, 8]
    figure("F31 full disk and a stream", wrong=0)
