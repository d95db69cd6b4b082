"""A store that is deleted while it is open (F25), as workflows meet it; the store's own methods stand in `tests/stores/test_disk.py`."""

from __future__ import annotations

import shutil

import pytest

from agentflow import cached_step, workflow
from agentflow._settings import using_store
from agentflow.exceptions import StoreGone
from agentflow.stores import DiskStore


@cached_step(name="deleted.step")
def step(n: int) -> dict[str, int]:
    if n == 1:
        shutil.rmtree(DIRECTORY[-1])
    return {"n": n}


DIRECTORY: list[object] = []


@workflow(name="deleted.flow")
def flow() -> list[dict[str, int]]:
    return [step(n) for n in range(3)]


def test_a_store_deleted_in_the_middle_of_a_run(tmp_path, figure):
    """The very step during which it happens says so and gives its result, instead of writing into a file without a name."""
    store = DiskStore(tmp_path / "store")
    DIRECTORY.append(store.path)

    with using_store(store):
        with pytest.raises(StoreGone) as gone:
            flow()
        left = flow.session("default").runs()

    assert gone.value.result == {"n": 1}
    assert (gone.value.path, bool(gone.value.hint)) == (str(store.path), True)
    assert left == []
    store.close()
    figure("F25", steps_until_told=0)
