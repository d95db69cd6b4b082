"""The example that costs money per request, killed after each of its model answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def counted():
    def count(max_concurrency: int) -> dict[int, dict[str, int]]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/programs/killed_blog_post.py"), str(max_concurrency)],
            env={**os.environ, "PYTHONPATH": path, "OFFLINE_DELAY": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return {int(k): case for k, case in json.loads(done.stdout).items()}

    return count


def test_no_recorded_answer_is_paid_twice(counted):
    """Killed after k recorded answers of n, the next call makes exactly n-k further requests, for every k."""
    cases = counted(max_concurrency=1)
    n = cases[0]["first"]

    assert n == 9  # searcher 2, reader 3 x 2, writer 1
    assert cases[0] == {"ended": 0, "first": n, "continued": 0, "second": 0}
    for k in range(1, n + 1):
        assert cases[k] == {"ended": -signal.SIGKILL, "first": k, "continued": 0, "second": n - k}, k


@pytest.mark.slow
def test_in_parallel_only_requests_in_flight_repeat(counted):
    """With articles read three at once, at most the two other requests in flight at the kill are asked again."""
    cases = counted(max_concurrency=3)
    n = cases[0]["first"]

    assert n == 9
    for k in range(1, n + 1):
        case = cases[k]
        assert case["ended"] == -signal.SIGKILL
        assert n - k - 2 <= case["second"] <= n - k
        assert case["first"] - k <= 2
