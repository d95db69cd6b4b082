"""The questions of docs/comparison.md, asked of this version: the same programs as for the other libraries, and every answer right.

The program is `benchmarks/peers/questions.py`, and `replay.py` for what goes on after a stop; each runs in processes of its own.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks/peers"))

asking = importlib.import_module("asking")
questions = importlib.import_module("questions")
sys.path.pop(0)

REFUSED = {"methods": "an object is no argument that one sees in the call"}


def by_name(rows):
    return [pytest.param(row, id=row.question) for row in rows]


@pytest.mark.parametrize(
    "row", by_name(row for row in asking.ROWS if row.how == "once" and row.question not in REFUSED)
)
def test_one_process_answers_right(row, disk, tmp_path, monkeypatch):
    """The values are right, and the function is executed as often as there are different calls."""
    from agentflow import cached_step

    monkeypatch.setattr(questions, "DIRECTORY", tmp_path)

    value = getattr(questions, row.question)(cached_step)

    answer = asking.Answer([value], executions=len(asking.lines(tmp_path / "executed")))
    assert answer.verdict(row) == "right"


@pytest.mark.parametrize("row", by_name(row for row in asking.ROWS if row.how != "once"))
def test_several_processes_answer_right(row):
    """Processes at once, or one after another with other hash seeds, execute once."""
    answer = asking.ask(sys.executable, "agentflow", row)

    assert answer.verdict(row) == "right"


@pytest.mark.parametrize("question", REFUSED)
def test_what_would_be_ambiguous_is_refused(question, disk):
    """A method is refused at decoration, with what to do instead."""
    from agentflow import cached_step
    from agentflow.exceptions import UsageError

    with pytest.raises(UsageError, match="plain functions"):
        getattr(questions, question)(cached_step)


@pytest.mark.parametrize("row", by_name(asking.REPLAYS))
def test_a_continued_program_answers_right(row):
    """Where libraries that replay by position swap values, give the old answer to a new question or to another argument, ours are right."""
    answer = asking.replay(sys.executable, "agentflow", row)

    assert answer.verdict(row) == "right"


def test_wrong_answers_are_seen():
    """The judge tells a wrong value, a needless execution and an error from what is right."""
    closures = next(row for row in asking.ROWS if row.question == "closures")

    assert asking.Answer([[20, 30]], executions=2).verdict(closures) == "right"
    assert "wrong" in asking.Answer([[20, 20]], executions=1).verdict(closures)
    assert asking.Answer([[20, 30]], executions=3).verdict(closures) == "executed 3 times"
    assert asking.Answer(error="`TypeError`").verdict(closures) == "`TypeError`"
