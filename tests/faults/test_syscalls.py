"""A kill (F2) or an error (F3) at every system call that changes the store, by strace: nothing is lost, nothing hangs, every error is typed.

What a forked process does is written down in `programs/syscalls.py`. In the regular suite one call in many is tried, here and there all of them.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("strace")

NONE = ("lost", "executed_again", "wrong", "hung", "broken", "slow", "not_working_again", "untyped")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES")


def check(counts: dict[str, object]) -> dict[str, object]:
    assert {name: counts.get(name, 0) for name in NONE} == dict.fromkeys(NONE, 0), counts["bad"]
    assert counts["runs"] > 0
    return {name: counts.get(name, 0) for name in ("points", "runs", *NONE)}


def test_faults_at_some_calls(program, tmp_path, figure):
    """A few of what the long tests try: a kill and each error, once and for ever, each at other calls."""
    both = [f"{error}{how}" for error in ERRORS for how in ("", "+")]
    counts = program("syscalls.py", tmp_path, "sync", 250, "KILL", *both)

    figure("R2 and R3, some", **check(counts))


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "astream"])
def test_a_kill_at_every_call(program, tmp_path, figure, colour):
    """R2: whichever call is the last one, the next process finds every acknowledged step, within a second, and goes on."""
    counts = program("syscalls.py", tmp_path, colour, 1, "KILL")

    figure("R2", **check(counts))
    assert counts["killed"] == counts["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_at_every_call(program, tmp_path, figure, error):
    """R3: once and for ever: a typed error with path, hint and the step's result; the process works again when the fault is over."""
    counts = program("syscalls.py", tmp_path, "sync", 1, error, f"{error}+")

    figure(f"R3 {error}", **check(counts))


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_error_at_every_call_of_async_code(program, tmp_path, figure, error):
    """R3 for an async workflow of streamed steps, whose writes are another thread's."""
    counts = program("syscalls.py", tmp_path, "astream", 1, error, f"{error}+")

    figure(f"R3 {error} async", **check(counts))


@pytest.mark.slow
def test_an_error_at_every_read(program, tmp_path, figure):
    """A page that cannot be read is a typed error, too."""
    counts = program("syscalls.py", tmp_path, "sync", 1, "READ")

    figure("R3 EIO when reading", **check(counts))
