"""Children of a process that has its store open (F14), made by fork, spawn and forkserver; forks in the middle of something: `tests/stores/test_processes.py`."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("children", "times"), [(2, 20), pytest.param(8, 100, marks=pytest.mark.slow)])
def test_children_of_an_open_store_all_write(program, tmp_path, figure, children, times):
    """However they were made, each has connections of its own: what all of them and their parent write is there, and the parent's lock is its own."""
    counts = program("children.py", tmp_path, children, times)

    wanted = (children + 1) * times
    assert counts["right"] == dict.fromkeys(("fork", "spawn", "forkserver"), wanted)
    assert (counts["kept"], counts["lock_kept"]) == (3 * wanted, True)
    figure("F14", children=children, results=3 * wanted, lost=0, wrong=0)
