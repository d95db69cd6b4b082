"""Opens stores that somebody has written into: planted.py DIRECTORY COUNT SEED

Each is a copy of a good one with pickles, names of files, settings, tags of other types, triggers and views planted in random rows of every table,
and in half of them random bytes changed as well. The interpreter's own audit events tell what happens while each is read and written in every way.
Prints the counts as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import agentflow
from agentflow.exceptions import AgentflowError
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow
from corrupt import flip

STEPS = 3
RUNS_CODE = (
    "os.system",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "marshal.loads",
    "exec",
    "import",
    "ctypes.dlopen",
    "sqlite3.enable_load_extension",
    "sqlite3.load_extension",
    "code.__new__",
    "socket.connect",
)
TOUCHES_FILES = (
    "open",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.mkdir",
    "shutil.rmtree",
)
COLUMNS = {
    "Cache": ("key", "raw", "mode", "filename", "value", "store_time", "tag"),
    "Settings": ("key", "value"),
    "af_entries": ("key", "kind", "workflow", "scope", "step", "version", "created_at", "size", "tags"),
    "af_state": ("value", "revision", "key"),
    "af_runs": ("call", "status", "attempt", "owner", "started_at", "finished_at", "arguments", "result", "error"),
    "af_events": ("seq", "at", "data"),
}
SCHEMAS = (
    "CREATE TRIGGER planted AFTER INSERT ON af_events BEGIN DELETE FROM af_state; END",
    "CREATE TRIGGER planted BEFORE INSERT ON Cache BEGIN SELECT load_extension('/nowhere/evil'); END",
    "ALTER TABLE af_runs RENAME TO hidden; CREATE VIEW af_runs AS SELECT *, load_extension('/nowhere/evil') FROM hidden",
    "ALTER TABLE af_state RENAME TO hidden; CREATE VIEW af_state AS SELECT *, writefile('/nowhere/evil', 'x') AS more FROM hidden",
    "CREATE TABLE more (a); CREATE INDEX planted ON af_state (readfile('/etc/passwd'))",
)


ALL_STATE = 2 * STEPS


class Attack:
    """Executes a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> object:
        return os.system, (self.command,)


class Guard:
    """What the interpreter did that it must not."""

    def __init__(self, inside: Path) -> None:
        self.inside = (str(inside), "/dev/", "/proc/self/mountinfo")
        self.watching = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.watching:
            return
        if event in RUNS_CODE:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event in TOUCHES_FILES:
            self._judge(event, *arguments[:3])

    def _judge(self, event: str, name: object, _mode: object = None, flags: object = 0) -> None:
        # From 3.13 on, a mistake in a text that no file has makes Python look for the line in a file of this name.
        if not isinstance(name, str | bytes | os.PathLike) or name == "<unknown>":
            return
        path = os.path.abspath(os.fsdecode(name))
        # A failed run's traceback quotes the lines of its code.
        is_source = event == "open" and path.endswith(".py") and not int(str(flags)) & (os.O_WRONLY | os.O_RDWR)
        if not is_source and not path.startswith(self.inside):
            self.seen.append(f"{event} {name!r}")


def plant(file: Path, rng: random.Random, poisons: list[object]) -> None:
    con = sqlite3.connect(file, isolation_level=None)
    con.execute("PRAGMA writable_schema = ON")
    for _ in range(rng.randrange(1, 12)):
        table = rng.choice(list(COLUMNS))
        with contextlib.suppress(sqlite3.Error):  # a constraint stands against it
            column = rng.choice(COLUMNS[table])
            rows = con.execute(f"SELECT rowid FROM {table}").fetchall()
            con.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (rng.choice(poisons), *rng.choice(rows)))
    for setting in (
        "eviction_policy",
        "size_limit",
        "cull_limit",
        "sqlite_journal_mode",
        "disk_pickle_protocol",
        "get",
        "__class__",
    ):
        if rng.random() < 0.2:
            con.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (setting, rng.choice(poisons)))
    if rng.random() < 0.2:
        with contextlib.suppress(sqlite3.Error):
            con.executescript(rng.choice(SCHEMAS))
    con.close()


def use(directory: Path) -> Counter[str]:
    """Read and write everything; only typed errors may come of it."""
    store = DiskStore(directory)
    agentflow.configure(store=store)
    session = _flow.flow.session("default")
    calls: list[Callable[[], object]] = [
        *(
            lambda n=n: _flow.step.with_options(workflow=_flow.flow.name, session_id="default")("run", n)
            for n in range(STEPS)
        ),
        *(
            lambda n=n: list(
                _flow.streamed.with_options(workflow=_flow.stream_flow.name, session_id="default")("run", n)
            )
            for n in range(STEPS)
        ),
        lambda: dict(session.state),
        lambda: [
            (run.status, run.error, run.started_at, list(run.events(follow=False)), run.children())
            for run in session.runs()
        ],
        session.steps,
        lambda: _flow.flow("run", STEPS),
        lambda: _flow.flow("another", 1),
        lambda: session.forget(),
        lambda: session.delete(),
    ]
    seen: Counter[str] = Counter()
    for number, call in enumerate(calls):
        try:
            call()
            seen["answered"] += 1
        except (AgentflowError, KeyError) as error:
            # A key of the state whose row was changed may be listed and not be found.
            kind = "typed errors" if isinstance(error, AgentflowError) or number == ALL_STATE else f"untyped: {error!r}"
            seen[kind] += 1
        except Exception as error:
            seen[f"untyped: {type(error).__name__}: {error} (call {number})"] += 1
    with contextlib.suppress(AgentflowError):
        store.close()
    return seen


def main(directory: Path, count: int, seed: int) -> dict[str, object]:
    victim, executed = directory / "victim", directory / "executed"
    victim.write_text("secret")
    evil = pickle.dumps(Attack(f"touch {executed}"))
    poisons: list[object] = [
        evil, evil.decode("latin-1"), str(victim), "../../victim", "../victim", b"", "", None, -1, 0, 1, 2, 3, 4, 5, 2**62, 1.5, float("inf"), -1e300, 1e300,
        "x" * 2_000, b"\x80\x05.", "least-recently-used", "[[", '["os:system"]', '{"$type": "os.system"}', "completed", "running", "\ue000\ue000", "__import__",
    ]  # fmt: skip
    store = DiskStore(directory / "good")
    agentflow.configure(store=store)
    _flow.LOG.open(Path(os.devnull))
    _flow.flow("run", STEPS)
    list(_flow.stream_flow("run", STEPS))
    store.close()
    shutil.copytree(directory / "good", directory / "stores/warm")
    use(directory / "stores/warm")  # what is imported late is imported now
    guard = Guard(directory / "stores")
    seen: Counter[str] = Counter()
    for number in range(count):
        rng = random.Random(seed + number)
        place = directory / "stores" / str(number)
        shutil.copytree(directory / "good", place)
        plant(place / "cache.db", rng, poisons)
        if rng.random() < 0.5:
            flip(place / "cache.db", rng)
        guard.watching = True
        seen.update(use(place))
        guard.watching = False
        shutil.rmtree(place)
    untyped = {name: n for name, n in seen.items() if name.startswith("untyped")}
    return {
        "stores": count,
        "answered": seen["answered"],
        "typed_errors": seen["typed errors"],
        "untyped": untyped,
        "audited": guard.seen[:20],
        "executed": executed.exists(),
        "victim_unharmed": victim.read_text() == "secret",
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
