"""Huge results (F20): equal on return, or refused before anything is written."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("megabytes", "kind"),
    [(8, "bytes"), *[pytest.param(100, kind, marks=pytest.mark.slow) for kind in ("bytes", "str")]],
)
def test_a_huge_result(program, tmp_path, figure, megabytes, kind):
    """It comes back equal, as a miss and as a hit, and is in memory three times at most; other results are untouched."""
    told = program("huge.py", tmp_path, megabytes, kind)

    assert (told["same"], told["hit"], told["others"]) == (True, True, True)
    assert told["more_megabytes"] < 3 * megabytes + 15  # beside what the interpreter takes for anything
    figure(
        "F20", megabytes=megabytes, kind=kind, seconds=told["seconds"], more_megabytes_in_memory=told["more_megabytes"]
    )


@pytest.mark.slow
def test_a_million_rows(program, tmp_path, figure):
    """A list of a million numbers."""
    told = program("huge.py", tmp_path, 1, "list")

    assert (told["same"], told["hit"], told["others"]) == (True, True, True)
    figure("F20", rows=10**6, seconds=told["seconds"], more_megabytes_in_memory=told["more_megabytes"])


@pytest.mark.slow
def test_a_result_over_the_limit(program, tmp_path, figure):
    """300 MB are over the store's limit: refused with the result in the error, and everything else untouched."""
    told = program("huge.py", tmp_path, 300, "bytes")

    assert (told["refused"], told["others"]) == (True, True)
    figure("F20", megabytes=300, refused=True, seconds=told["seconds"])


@pytest.mark.slow
def test_a_result_under_a_raised_limit(program, tmp_path):
    """300 MB are kept by a store that was told to."""
    told = program("huge.py", tmp_path, 300, "bytes", 400_000_000)

    assert (told["same"], told["hit"], told["others"]) == (True, True, True)
