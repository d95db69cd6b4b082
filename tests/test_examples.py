"""The examples and the demo run as a newcomer runs them: as scripts, without a key and without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(tmp_path):
    """Run an example in a directory of its own; the package comes from this checkout."""

    def run_example(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / name), *arguments],
            cwd=tmp_path,
            env={**os.environ, "OFFLINE_DELAY": "0", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run_example


def seconds(output: str) -> list[float]:
    return [float(found) for found in re.findall(r"\[([\d.]+) s\]", output)]


def body(output: str) -> str:
    """The output less the line that says how long it took."""
    return re.sub(r"\[[\d.]+ s\]", "", output)


def test_a_background_run_is_started_here_and_asked_for_there(run):
    """Each command is a process of its own; what the first one starts outlives it."""
    run_id = run("background_run.py", "start", "boxes").strip()

    assert run("background_run.py", "result", run_id).splitlines() == [
        "1. what is known about 'boxes: history'",
        "2. what is known about 'boxes: numbers'",
        "3. what is known about 'boxes: opinions'",
    ]
    assert run("background_run.py", "status", run_id).startswith("completed, attempt 1, 3 chapters\n  completed in 0.")
    assert run("background_run.py", "list") == f"{run_id} completed\n"


def test_simple_cache_answers_twice_alike(run):
    """The second answer is the first one, from memory; so is the one of the next process."""
    output = run("simple_cache.py", "Tell me about rubber ducks.")

    note, *lines = [line for line in body(output).splitlines() if line.strip()]
    half = len(lines) // 2
    assert "OPENAI_API_KEY is not set" in note
    assert "duck" in lines[0]
    assert lines[:half] == lines[half:]
    assert body(run("simple_cache.py", "Tell me about rubber ducks.")) == body(output)


def test_the_blog_post_is_remembered_by_the_next_process(run):
    """The second run prints the very same post, without doing anything."""
    first = run("blog_post_generator.py", "Why Cats Secretly Run the Internet")
    second = run("blog_post_generator.py", "Why Cats Secretly Run the Internet")

    assert body(first) == body(second)
    assert "# Why Cats" in first
    assert first.count("https://offline.example/") >= 6


def test_parts_of_the_blog_post_can_be_made_anew(run):
    """--refresh takes one of the seed's three caches away for one run."""
    topic = "The Secret Society of Office Plants"
    run("blog_post_generator.py", topic)

    for part in ("search", "articles", "post", "all"):
        assert "office-plants" in run("blog_post_generator.py", "--refresh", part, topic)


def test_nothing_found_is_said_and_not_remembered(run):
    """A topic that no page is about ends in a sentence, every time."""
    assert "Sorry" in run("blog_post_generator.py", "xylograph zzyzx")
    assert "Sorry" in run("blog_post_generator.py", "xylograph zzyzx")


def test_the_reporters_work_in_parallel(run):
    """The async example reports on every subject."""
    output = run("hackernews_reporter.py", "cats", "pizza")

    assert "cats" in output
    assert "https://offline.example/pizza" in output


def test_the_demo_shows_what_ran_and_what_was_a_hit(run):
    """The post is written, remembered, and continued after kill -9, with counts that say so."""
    output = run("demo.py")

    counts = [re.findall(r"^    (\w+) +(executed|hit) +(\d+)$", part, re.MULTILINE) for part in output.split("===")]
    told = [found for found in counts if found]
    assert told == [
        [("find_articles", "executed", "1"), ("read_article", "executed", "3"), ("write_post", "executed", "1")],
        [("find_articles", "hit", "1"), ("read_article", "hit", "3"), ("write_post", "hit", "1")],
        [("find_articles", "executed", "1"), ("read_article", "executed", "3")],
        [("find_articles", "hit", "1"), ("read_article", "hit", "3"), ("write_post", "executed", "1")],
    ]
    assert "its run is interrupted" in output
    assert "attempt 2: completed" in output
