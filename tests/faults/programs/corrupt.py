"""Damages copies of a store and reads them: corrupt.py DIRECTORY flips|wal-flips|cuts COUNT SEED

`flips`: eight random bytes of the file. `wal-flips`: eight random bytes of what a killed process has left beside it.
`cuts`: that is cut short, as by a power cut, at so many places. Each copy is read by a process of its own, in every way there is.
Prints the counts as JSON.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import agentflow
from agentflow import cached_step
from agentflow.exceptions import IncompatibleStore, RunNotFound, StoreCorrupt, StoreError
from agentflow.stores import DiskStore

sys.path.insert(0, str(Path(__file__).parent))
import _flow

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
STEPS = 8
SIZES = (0, 10, 500, 3_000, 9_000)


NOW = ["making"]


def made(n: int) -> dict[str, object]:
    return {"n": n, "text": f"{n}" * SIZES[n % len(SIZES)]}


@cached_step(version="1")
def value(n: int) -> dict[str, object]:
    return made(n) if NOW == ["making"] else {"executed": n}


def make(directory: Path, *, kill: bool) -> None:
    """A store with results, streams, state and runs; if it is killed, with all of its `-wal`."""
    store = DiskStore(directory / "store")
    agentflow.configure(store=store)
    _flow.LOG.open(directory / "log")
    if kill:
        child = os.fork()
        if child == 0:
            for n in range(40):
                value(n)
                _flow.LOG.say(f"V {n} {(directory / 'store/cache.db-wal').stat().st_size}")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        return
    for n in range(40):
        value(n)
    for colour in ("sync", "stream"):
        _flow.RUN[colour]("run", STEPS)
    store.close()


def flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(8):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    file.write_bytes(content)


def asked(calls: dict[str, Callable[[], object]], right: Callable[[str, object], str]) -> Counter[str]:
    """Count what calls give: the right answer, a typed error, or something worse."""
    seen: Counter[str] = Counter()
    for name, call in calls.items():
        try:
            seen[right(name, call())] += 1
        except (StoreCorrupt, IncompatibleStore) as error:
            seen[
                "said to be damaged"
                if error.path and error.hint
                else f"incomplete {type(error).__name__}: {error} ({name})"
            ] += 1
        except StoreError as error:
            seen[f"other typed error: {type(error).__name__}"] += 1
        except RunNotFound:
            seen["missing"] += 1  # it is listed, and its id is another one by now
        except KeyError:
            seen["missing"] += 1  # so is a state key
        except BaseException as error:
            seen[f"untyped: {type(error).__name__}: {error} ({name})"] += 1
    return seen


def judge(name: str, answer: object) -> str:
    kind, _, number = name.partition(" ")
    match kind:
        case "value":
            n = int(number)
            expected: object = made(n)
            if answer == {"executed": n}:
                return "executed again"
        case "step":
            expected = _flow.answer("run", int(number))
        case "streamed":
            expected = [{"first": int(number)}, _flow.answer("run", int(number))]
        case "state":
            expected = int(number)
            if answer is None:
                return "missing"
        case _:
            return "listed"
    return "right" if answer == expected else f"WRONG: {name}: {str(answer)[:200]}"


def read(directory: Path) -> dict[str, int]:
    store = DiskStore(directory / "store")
    agentflow.configure(store=store)
    _flow.LOG.open(Path(os.devnull))
    calls: dict[str, Callable[[], object]] = {}
    session, streams = _flow.flow.session("default"), _flow.stream_flow.session("default")
    for n in range(40):
        calls[f"value {n}"] = lambda n=n: value(n)
    for n in range(STEPS):
        calls[f"step {n}"] = lambda n=n: _flow.step.with_options(workflow=_flow.flow.name, session_id="default")(
            "run", n
        )
        calls[f"streamed {n}"] = lambda n=n: list(
            _flow.streamed.with_options(workflow=_flow.stream_flow.name, session_id="default")("run", n)
        )
        calls[f"state {n}"] = lambda n=n: session.state.get(f"run/{n}")
    calls |= {
        "runs": lambda: [
            (
                run.status,
                run.attempt,
                run.error,
                run.started_at,
                run.finished_at,
                list(run.events(follow=False)),
                run.children(),
            )
            for run in session.runs()
        ],
        "steps": lambda: session.steps() + streams.steps(),
        "all state": lambda: dict(streams.state),
        "new": lambda: _flow.flow("another", 2),
        "forget": lambda: session.forget(),
        "delete": lambda: streams.delete(),
    }
    seen = asked(calls, judge)
    store.close()
    return seen


def in_a_process(read_it: Callable[[], object], patience: float = 60) -> dict[str, int]:
    """Read in a forked process, which a damaged file may kill or stop."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        NOW[:] = ["reading"]
        warnings.simplefilter("ignore")
        os.write(writing, json.dumps(read_it()).encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], patience)
    answer = os.read(reading, 65536) if ready else b""
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    how = os.waitpid(child, 0)[1]
    return json.loads(answer) if answer else {f"DIED {how}" if ready else "HUNG": 1}


def flips(directory: Path, count: int, seed: int, *, wal: bool) -> dict[str, object]:
    make(directory, kill=wal)
    seen: Counter[str] = Counter()
    for number in range(count):
        copy = directory / "copy"
        shutil.copytree(directory / "store", copy / "store")
        flip(copy / ("store/cache.db-wal" if wal else "store/cache.db"), random.Random(seed + number))
        seen.update(in_a_process(lambda copy=copy: read(copy)))
        shutil.rmtree(copy)
    return {"databases": count, **counted(seen)}


def counted(seen: Counter[str]) -> dict[str, object]:
    return {
        "reads": sum(seen.values()),
        "right": seen["right"] + seen["listed"],
        "said_to_be_damaged": seen["said to be damaged"],
        "missing": seen["executed again"] + seen["missing"],
        "wrong": sum(number for name, number in seen.items() if name.startswith("WRONG")),
        "untyped": sum(
            number for name, number in seen.items() if name.startswith(("untyped", "incomplete", "DIED", "HUNG"))
        ),
        "seen": seen,
    }


def cuts(directory: Path, count: int, seed: int) -> dict[str, object]:
    """Cut what was not yet in the file; what is there then is a beginning of what was acknowledged, and all that was synced before the cut."""
    make(directory, kill=True)
    sizes = [int(line.split()[2]) for line in (directory / "log").read_text().splitlines()]
    whole = (directory / "store/cache.db-wal").stat().st_size
    rng = random.Random(seed)
    telling = [*sizes, *(size - 1 for size in sizes), *(rng.randrange(whole) for _ in range(count))]
    places = sorted(rng.sample(sorted(set(telling)), count))
    bad: list[object] = []
    for place in places:
        copy = directory / "copy"
        shutil.copytree(directory / "store", copy / "store")
        os.truncate(copy / "store/cache.db-wal", place)
        (copy / "store/cache.db-shm").unlink()
        there = in_a_process(lambda copy=copy: kept(copy))
        synced = sum(size <= place for size in sizes)
        if there != {"kept": max(synced, there.get("kept", 0)), "ok": 1} or there["kept"] > synced + 1:
            bad.append([place, synced, there])
        shutil.rmtree(copy)
    return {"cuts": len(places), "acknowledged": len(sizes), "bad": bad}


def kept(directory: Path) -> dict[str, int]:
    """How many of the first results are there, and whether that is all, and whether the store can be used."""
    store = DiskStore(directory / "store")
    agentflow.configure(store=store)
    cached = [value.is_cached(n) and judge(f"value {n}", value(n)) == "right" for n in range(40)]
    first = cached.index(False) if False in cached else len(cached)
    value(1000)
    usable = value.is_cached(1000) and not any(cached[first:])
    store.close()
    con = sqlite3.connect(directory / "store/cache.db")
    usable = usable and con.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    con.close()
    return {"kept": first, "ok": int(usable)}


if __name__ == "__main__":
    place, what, count, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if what == "cuts":
        told = cuts(place, count, seed)
    else:
        told = flips(place, count, seed, wal=what == "wal-flips")
    print(json.dumps(told))
