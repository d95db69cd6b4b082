"""The figures: what each is, what it is measured against, and what we want of it.

`must` and `stretch` are the targets; None where there is none and the figure is for orientation. A figure with a floor is a ratio to it.
"""

from __future__ import annotations

from dataclasses import dataclass

INSERT = "raw insert"
SYNCED = "raw insert, fsync"
SELECT = "raw select"


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    Attributes:
        name: What a sample calls it.
        text: What a reader calls it.
        floor: What it is a ratio to; a unit if it is none.
        must: The bar.
        stretch: The aim.
    """

    name: str
    text: str
    floor: str
    must: float | None = None
    stretch: float | None = None


FIGURES = (
    Figure("miss", "step, missed (default: fsync)", SYNCED, 1.7, 1.2),
    Figure("miss, process", 'step, missed (`durability="process"`)', INSERT, 3.5, 1.8),
    Figure("miss, memory", "step, missed (memory store)", INSERT, 0.25, 0.12),
    Figure("hit", "step, hit, 1 KiB", SELECT, 1.5, 0.8),
    Figure("hit typed", "hit of a pydantic model, beyond a plain hit", "`validate_json`", 1.3, 1.0),
    Figure("hit 1 MiB", "step, hit, 1 MiB", "read and parse", 3.0, 1.3),
    Figure("hit, memory", "step, hit, 1 KiB (memory store)", SELECT),
    Figure("key, small", "key of small arguments", "JSON and SHA-256"),
    Figure("key, model", "key of a pydantic model of 1 KiB", "JSON and SHA-256"),
    Figure("key, 1 MiB", "key of a text of 1 MiB", "SHA-256"),
    Figure("key, 100 MB", "key of 100 MB of bytes", "SHA-256"),
    Figure("value, encoded", "value, encoded", "pydantic `to_json`"),
    Figure("value, decoded", "value, decoded", "`validate_json`"),
    Figure("run", "run of nothing (default: fsync)", SYNCED, 5.0, 2.0),
    Figure("run, process", 'run of nothing (`durability="process"`)', INSERT, 5.0, 2.0),
    Figure("run, late", "run 1000 of a session", "run 10", 1.2, 1.05),
    Figure("fan-out", "1000 async steps of 50 ms at once (default: fsync)", "bare `gather`", 2.2, 1.4),
    Figure("fan-out, limit 100", "the same, 100 at a time", "bare `Semaphore`", 1.1, 1.04),
    Figure("loop lag, fan-out", "longest lag of the loop meanwhile", "ms", 40, 15),
    Figure("loop lag, no garbage collection", "the same, without Python's collections of garbage", "ms"),
    Figure("loop lag, locked out", "longest lag of the loop while another process holds the write lock", "ms", 40, 10),
    Figure("state", "state key changed (default: fsync)", SYNCED, 2.0, 1.0),
    Figure("state, process", 'state key changed (`durability="process"`)', INSERT, 2.0, 1.0),
    Figure("state, 1 000 keys", "state key changed, of 1 000", "of 1", 1.5, 1.1),
    Figure("state, 10 000 keys", "state key changed, of 10 000", "of 1", 1.5, 1.1),
    Figure("state, 10 000 keys, bytes", "the same, in bytes written", "of 1", 1.5, 1.1),
    Figure("replay, loop", "replay of 1000 steps after `kill`, each", SELECT, 4.0, 1.2),
    Figure("replay, open to result", "the same, from opening to the result, each", SELECT, 8.0, 4.0),
    Figure("replay, executed again", "finished steps executed again by the replay", "steps", 0, 0),
    Figure("event", "streamed item", "tee and attrs event", 3.0, 1.5),
    Figure("event, async", "streamed item, async", "tee and attrs event", 3.0, 1.5),
    Figure("8 threads", "8 threads, one store", "one raw connection", 2.5, 1.4),
    Figure("8 threads, longest", "8 threads, longest step", "ms", 120, 30),
    Figure("4 processes, longest", "4 processes, longest step", "ms", 150, 30),
    Figure("4 processes, lost", "4 processes, results lost", "steps", 0, 0),
    Figure("long run, last steps", "last 100 steps of a run of 10 000", "first 100", 1.2, 1.0),
    Figure("long run, memory", "memory of that run", "of 100 steps", 1.3, 1.1),
    Figure(
        "import",
        "`from agentflow import Context, cached_step, workflow`",
        "import of attrs, asyncio, diskcache, pydantic",
        1.25,
        1.1,
    ),
    Figure("import, modules", "modules after it", "modules", 300, 270),
    Figure("import, memory", "memory after it", "MiB", 36, 32),
    Figure("process of ten hits", "whole process with ten hits", "1.3 x such a process + 30 ms", 1.0, 0.8),
    Figure("fresh memory store", "fresh memory store: open, step, hit, close", "ms", 1.0, 0.3),
    Figure("decoration", "decorating a function", "µs", 150, 70),
    Figure("request", "model request through an agent", "the same bytes through httpx", 2.0, 1.3),
)

BY_NAME = {figure.name: figure for figure in FIGURES}
UNITS = frozenset({"ms", "µs", "MiB", "modules", "steps"})
