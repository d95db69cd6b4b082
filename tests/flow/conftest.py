"""Every test of the flow tower runs over both stores, each fresh, as the default of the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow import _step_state
from agentflow._settings import using_store
from agentflow.stores import DiskStore, MemoryStore, Store


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    fresh: Store = MemoryStore() if request.param == "memory" else DiskStore(tmp_path / "store", durability="process")
    with using_store(fresh):
        yield fresh
    fresh.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    fresh = DiskStore(tmp_path / "store", durability="process")
    with using_store(fresh):
        yield fresh
    fresh.close()


@pytest.fixture(autouse=True)
def _warn_again() -> None:
    """What a process is told once is told once in every test."""
    _step_state._warned.clear()
