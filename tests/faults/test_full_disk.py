"""A full disk (F6), as workflows meet it; the store's own methods stand in `tests/stores/test_disk.py`."""

from __future__ import annotations

import os

import pytest

from agentflow import Context, cached_step, workflow
from agentflow._settings import using_store
from agentflow.exceptions import StoreFull
from agentflow.stores import DiskStore
from agentflow.stores._base import Entry, Transaction

executed: list[int] = []


@cached_step(name="full.write")
def write(n: int) -> bytes:
    executed.append(n)
    return bytes([n]) * 20_000


@workflow(name="full.flow")
def flow(ctx: Context, count: int) -> int:
    for n in range(count):
        assert write(n) == bytes([n]) * 20_000
        ctx.state["seen"] = n
    return count


def test_a_small_disk_is_filled_with_results(small_disk, figure):
    """Of 2 MB most are results when there is no room left: the log is copied into the file while there is room to."""
    store = DiskStore(small_disk / "store")
    kept = 0
    with pytest.raises(StoreFull):
        while True:
            store.commit(Transaction(entries=(Entry(key=str(kept), payload=bytes(2000)),)))
            kept += 1

    assert kept * 2000 > 1_000_000
    assert all(store.read(str(n)) == bytes(2000) for n in range(kept))
    store.close()
    figure("F6 small disk", bytes_of_disk=2 * 1024**2, bytes_of_results=kept * 2000)


def test_a_full_disk_loses_nothing(small_disk, figure):
    """The step that found no room gives its result in the error; those before are hits; with some room the same process goes on."""
    executed.clear()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_000_000)
    store = DiskStore(small_disk / "store")

    with using_store(store):
        with pytest.raises(StoreFull) as full:
            flow(200)
        at = len(executed)
        kept = [write.with_options(workflow=flow.name, session_id="default").is_cached(n) for n in range(at - 1)]
        state = flow.session("default").state["seen"]
        ballast.unlink()
        flow(at)

    assert (full.value.errno, full.value.path) == (28, str(store.path))
    assert full.value.result in (bytes([at - 1]) * 20_000, None)
    assert all(kept)
    assert at > 10
    assert state in (at - 2, at - 1)
    assert len(executed) <= at + 1
    store.close()
    assert not [name for name in os.listdir(store.path) if name.endswith((".new", ".tmp"))]
    figure("F6", acknowledged=at - 1, lost=0, executed_again=len(executed) - at)
