"""The benchmarks run as documented, and say something about every figure."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmarks(monkeypatch):
    """Import modules of the directory, which is no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module
    for name in ("suite", "figures", "tables", "peers", "peers.environments"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_figure_is_measured_and_printed(benchmarks):
    """One repeat with small amounts prints a line for each figure, and a verdict where there is a target."""
    command = [sys.executable, str(ROOT / "benchmarks/suite.py"), "--repeats", "1", "--amounts", "20 150 300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    figures = benchmarks("figures").FIGURES
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [figure.text for figure in figures]


@pytest.mark.slow
def test_the_requests_of_two_providers_are_measured():
    """In all four ways to run an agent, each beside a bare client."""
    command = [sys.executable, str(ROOT / "benchmarks/providers.py"), "--repeats", "1", "--times", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)

    assert done.returncode == 0, done.stderr
    measured = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()[2:]]
    ways = ("run", "stream", "arun", "astream")
    assert measured == [f"{provider}: {way}" for provider in ("openai", "anthropic") for way in ways]


@pytest.mark.slow
def test_readers_are_measured():
    """A line for each workflow and number of readers; that each has seen every chunk is checked where it is measured."""
    command = [sys.executable, str(ROOT / "benchmarks/readers.py"), "--readers", "0", "2", "--chunks", "3000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    assert done.returncode == 0, done.stderr
    lines = [line.split(" | ")[:2] for line in done.stdout.splitlines()[2:]]
    assert lines == [["| talk", "0"], ["| talk", "2"], ["| mark", "0"], ["| mark", "2"]]


def test_a_verdict_is_that_of_the_median_ratio(benchmarks):
    """What is shown is the median over the repeats of each one's own ratio, judged by the bar and the aim."""
    suite, figures = benchmarks("suite"), benchmarks("figures")
    samples = [{"value": value, "floor": floor} for value, floor in ((1.0, 1.0), (30.0, 10.0), (4.0, 2.0))]
    figure = figures.Figure("name", "text", "floor", must=2.0, stretch=1.0)

    assert suite.ratio(samples) == 2.0
    assert [suite.verdict(seen, figure) for seen in (0.9, 2.0, 2.1)] == ["stretch", "yes", "**no**"]


def test_what_is_drawn_of_the_libraries_is_medians_in_seconds(benchmarks):
    """A library lacks what it does not do; a floor is the median over all processes that took it."""
    suite = benchmarks("suite")
    ours = {
        "miss": [{"value": value, "floor": None} for value in (3.0, 1.0, 2.0)],
        "miss / insert": [{"value": 2.0, "floor": floor} for floor in (0.1, 0.3)],
    }
    theirs = {"miss": [{"value": 5.0, "floor": None}], "miss / insert": [{"value": 5.0, "floor": 0.2}]}
    peers = {"agentflow": defaultdict(list, ours), "other": defaultdict(list, theirs), "broken": defaultdict(list)}

    assert suite.peer_medians(peers) == {
        "agentflow": {"miss": 2.0, "miss / insert": 2.0},
        "other": {"miss": 5.0, "miss / insert": 5.0},
        "broken": {},
    }
    floors = suite.floors_of(peers, {"fan-out": [{"value": 9.0, "floor": 3.0}], "hit": []})
    assert floors == {"miss / insert": 0.2, "fan-out": 3.0}
    assert suite.floors_row({"miss / fsync": 0.001, **floors})[:9] == ["*floor*", "1 ms", *["–"] * 5, "1 ms", "3 s"]


def test_the_kept_picture_has_floors_this_project_and_the_libraries(benchmarks):
    """It was drawn from the medians beside it: every library that answered is in it, and every floor."""
    place = ROOT / "docs/performance"
    medians = json.loads((place / "figures.json").read_text())
    drawn = (place / "peers.svg").read_text()

    assert set(medians["peers"]) == {"agentflow", *benchmarks("suite").PEERS}
    assert [peer for peer in medians["peers"] if f">{peer}<" not in drawn] == []
    assert drawn.count(">floor: ") == 7


def test_a_block_of_a_page_is_replaced_and_nothing_else(benchmarks, tmp_path):
    """What stands between the markers goes, the markers and the rest of the page stay; a page without them is refused."""
    tables = benchmarks("tables")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t: begin (by a script) -->\nold\n<!-- t: end -->\nafter\n")

    tables.replace_block(page, "t", tables.table(["a", "b"], [["1", "2"]], right=1))

    assert page.read_text() == (
        "before\n<!-- t: begin (by a script) -->\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n<!-- t: end -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="no block 'other'"):
        tables.replace_block(page, "other", "text")
