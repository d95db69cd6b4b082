"""A report that is written in the background: start it, close the terminal, and ask for it later from anywhere.

python examples/background_run.py start "Why cats love boxes"     prints the run's id, and ends at once
python examples/background_run.py list                            the runs that there are
python examples/background_run.py status ID                       where it stands, step by step
python examples/background_run.py result ID                       waits for the report
python examples/background_run.py cancel ID
python examples/background_run.py resume ID                       goes on with it, if it stopped

No server is needed: the runs live in the directory `.agentflow`.
"""

from __future__ import annotations

import sys
import time

from agentflow import Context, cached_step, get_run, list_runs, workflow
from agentflow.exceptions import RunError


@cached_step(retry=3)
def research(question: str) -> str:
    """Stand for something that takes its time: a search, an agent, a crawl."""
    time.sleep(0.3)
    return f"what is known about {question!r}"


@workflow
def report(ctx: Context, topic: str) -> str:
    """Ask three questions one after the other; a step that is done is never done again."""
    chapters = []
    for question in (f"{topic}: history", f"{topic}: numbers", f"{topic}: opinions"):
        chapters.append(research(question))
        ctx.state["chapters"] = len(chapters)  # seen by whoever asks meanwhile
    return "\n".join(f"{number}. {chapter}" for number, chapter in enumerate(chapters, 1))


def show(run_id: str) -> None:
    """Print where a run stands."""
    run = get_run(run_id)
    print(f"{run.status}, attempt {run.attempt}, {report.session('default').state.get('chapters', 0)} chapters")
    for step in run.steps():
        took = "" if step.seconds is None else f" in {step.seconds:.1f} s"
        print(f"  {step.status}{' from memory' if step.hit else took}")
    if run.error:
        print(f"  {run.error}")


def main(command: str, *arguments: str) -> None:
    """Do what the command line says."""
    match command, *arguments:
        case "start", topic:
            # A process of its own: it goes on when this one has ended.
            print(report.with_options(executor="process").start(topic).id)
        case "list", *_:
            for run in list_runs(workflow=report.name):
                print(run.id, run.status)
        case "status", run_id:
            show(run_id)
        case "result", run_id:
            print(get_run(run_id).result(timeout=60))
        case "cancel", run_id:
            print("cancelled" if get_run(run_id).cancel() else "it has ended already")
        case "resume", run_id:
            print(get_run(run_id).resume().status)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or ["help"])
    except RunError as error:  # not yet, failed, cancelled, interrupted, or not there: each says which
        sys.exit(f"{type(error).__name__}: {error}")
