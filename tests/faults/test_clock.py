"""A clock that jumps (F23): nothing remembered is lost or lengthened by it, and no duration is negative."""

from __future__ import annotations


def test_a_clock_that_jumps(program, tmp_path, figure):
    """A day back, ten years on: a step without a ttl stays a hit; a ttl ends no later than the jump explains; waiting and durations do not care."""
    told = program("clock.py", tmp_path)

    assert told["hits"] == [True] * 4
    assert (told["within the hour"], told["after it"]) == (True, False)
    assert told["a day and an hour later by a true clock"] is False
    assert all(0 <= seconds < 60 for seconds in told["seconds of steps"])
    assert (told["order"], told["status"], told["utc"]) == (True, "completed", True)
    figure("F23", jumps=7, wrong_hits=0, negative_durations=0)
