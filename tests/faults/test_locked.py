"""A store whose write lock another process holds (F8); the store's own methods stand in `tests/stores/test_disk.py`."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("seconds", "patience"), [(2.5, 0.5), pytest.param(60, 10, marks=pytest.mark.slow)])
def test_a_locked_store(program, tmp_path, figure, seconds, patience):
    """R8: reads go on, a write waits as long as it was told to, at next to no CPU, and then raises StoreBusy with the step's result."""
    told = program("locked.py", tmp_path, seconds, patience)

    assert told["remembered"]
    assert told["afterwards"]
    for kind in ("step", "async step"):
        assert told[kind]["busy"]
        assert told[kind]["kept"]
        assert patience <= told[kind]["seconds"]
    if seconds == 60:
        assert told["step"]["seconds"] < patience + 1
        assert told["step"]["cpu_share"] < 0.05
    figure(
        "R8",
        locked_for=f"{seconds:g} s",
        busy_timeout=f"{patience:g} s",
        waited=f"{told['step']['seconds']} s",
        cpu_share=told["step"]["cpu_share"],
        loop_stood_still=f"{told['loop_stood_still']} s",
    )
