"""Nothing is ever dropped that nobody asked to drop (R18)."""

from __future__ import annotations

import sqlite3

from agentflow import cached_step
from agentflow._settings import using_store
from agentflow.stores import DiskStore


def test_nothing_is_evicted(tmp_path, figure):
    """A hundred results of 50 kB stay, also if the file's settings of diskcache ask for eviction beyond 1 MiB."""
    executed = []

    @cached_step(name="eviction.step")
    def step(n: int) -> bytes:
        executed.append(n)
        return bytes([n]) * 50_000

    store = DiskStore(tmp_path / "store", durability="process")
    with using_store(store):
        step(0)
        store.close()
        con = sqlite3.connect(store.path / "cache.db", isolation_level=None)
        for setting in (("eviction_policy", "least-recently-stored"), ("size_limit", 2**20), ("cull_limit", 10)):
            con.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", setting)
        con.close()
        for n in range(100):
            step(n)
        kept = sum(step(n) == bytes([n]) * 50_000 for n in range(100))
    store.close()

    assert (kept, len(executed)) == (100, 100)
    figure("R18", acknowledged=100, dropped=100 - kept)
