"""`kill -9` at random moments (F1): nothing acknowledged is lost or executed again, and nothing needs a repair."""

from __future__ import annotations

import pytest

FILES = [".gitignore", "AGENTFLOW", "cache.db", "locks"]
slow = pytest.mark.slow


def check(counts: dict[str, object]) -> dict[str, object]:
    assert counts["acknowledged"] > 0
    assert [counts[name] for name in ("lost", "executed_again", "wrong")] == [0, 0, 0]
    assert counts["in_flight_again"] <= counts["kills"]
    assert counts["integrity"] == "ok"
    assert counts["files"] == FILES
    return {name: counts[name] for name in ("kills", "acknowledged", "lost", "executed_again", "in_flight_again")}


@pytest.mark.parametrize(
    ("colour", "kills"),
    [
        ("sync", 12),
        *[pytest.param(colour, 250, marks=slow) for colour in ("sync", "async", "stream", "astream")],
    ],
)
def test_forked_processes_are_killed(program, tmp_path, figure, colour, kills):
    """R1: kills between opening the store and the end of a workflow; the next process goes on, and at most one step a kill runs again."""
    counts = program("kills.py", tmp_path, kills, "fork", colour)

    figure("R1", **check(counts))


@slow
@pytest.mark.parametrize("colour", ["sync", "astream"])
def test_fresh_interpreters_are_killed(program, tmp_path, figure, colour):
    """R1: the same with two hundred interpreters of their own."""
    counts = program("kills.py", tmp_path, 100, "fresh", colour)

    figure("R1 fresh interpreters", **check(counts))
