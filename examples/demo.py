"""The blog post three times: written, remembered, and killed half way and continued; `scripts/demo` runs it.

python examples/demo.py "Why Cats Secretly Run the Internet"
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OFFLINE_DELAY", "0.002")

from blog_post_generator import SERVICES, TOPICS, blog_post, slug

from agentflow import Run, configure
from agentflow.events import StepCompleted, StepHit

SESSION = "killed-half-way"
CHUNKS_BEFORE_THE_KILL = 120


def write(topic: str, session: str) -> None:
    """Write the post in a session, and print it as it comes."""
    for chunk in blog_post.with_options(session_id=session)(topic):
        print(chunk, end="", flush=True)


def heading(text: str) -> None:
    """Print a line that cannot be taken for a part of the post."""
    print(f"\n\n=== {text} ===\n", flush=True)


def newest_run(session: str) -> Run:
    """Return the newest run of a session."""
    return blog_post.session(session).runs(limit=1)[0]


def account(run: Run, attempt: int) -> str:
    """Say how often each step was executed and how often it was a hit in one attempt of a run."""
    said = {"step_completed": "executed", "step_hit": "hit"}
    counts = Counter(
        (event.step.partition(":")[2], said[event.type])
        for event in run.events()
        if isinstance(event, StepCompleted | StepHit) and event.attempt == attempt
    )
    return "\n".join(f"    {step:<15} {what:<9} {count}" for (step, what), count in sorted(counts.items()))


def timed(topic: str) -> None:
    """Write the post, and say how long it took and which steps ran."""
    began = time.perf_counter()
    write(topic, slug(topic))
    run = newest_run(slug(topic))
    print(f"\n\n  [{time.perf_counter() - began:.2f} s]\n{account(run, run.attempt)}")


def kill_half_way(topic: str) -> None:
    """Let another process begin the post, and kill it in the middle of the writing."""
    command = [sys.executable, __file__, "--write", topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603 - this very file
        assert writer.stdout
        for _ in range(CHUNKS_BEFORE_THE_KILL):
            word = writer.stdout.read(8)
            if not word:
                break
            print(word, end="", flush=True)
        os.kill(writer.pid, signal.SIGKILL)


def main() -> None:
    """Show it."""
    if sys.argv[1:2] == ["--write"]:
        write(" ".join(sys.argv[2:]), SESSION)
        return
    topic = " ".join(sys.argv[1:]) or TOPICS[0]
    with tempfile.TemporaryDirectory(prefix="agentflow-demo-") as directory:
        os.environ["AGENTFLOW_STORE"] = str(Path(directory) / "store")
        print(SERVICES.note or "(running on the real services)")
        heading(f"1. Writing about: {topic}")
        timed(topic)
        heading("2. The same call again: every step is remembered")
        timed(topic)
        heading("3. In a new session, by another process, which is killed with kill -9 in the middle of the writing")
        kill_half_way(topic)
        dead = newest_run(SESSION)
        print(f"\n\n  [killed; its run is {dead.status}]\n{account(dead, 1)}")
        heading("The same call once more goes on: what was finished is not done again")
        write(topic, SESSION)
        run = newest_run(SESSION)
        print(f"\n\n  [run {run.id[:8]}, attempt {run.attempt}: {run.status}]\n{account(run, run.attempt)}")
        configure(store=None)


if __name__ == "__main__":
    main()
