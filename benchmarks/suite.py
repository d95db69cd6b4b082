"""Measure everything, against floors taken in the same minute, and write down what was seen.

    python benchmarks/suite.py [--quick] [--peers] [--only GROUP] [--write-docs]

Each repeat runs every group in a process of its own, in which candidates and floors take turns (`measuring.py`); shown are the medians of the
repeats' ratios. `--quick` (under three minutes) measures less and three times; else seven times (under fifteen).
`--peers` measures the other libraries too, in environments that it makes; `--write-docs` writes the tables of docs/performance.md, and
the medians and the plots of them into docs/performance/.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from figures import BY_NAME, FIGURES, UNITS, Figure
from peers.environments import python_of, version_of
from tables import replace_block, table

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"

GROUPS = ("steps", "flows", "starting", "model_requests")
PEERS = ("diskcache", "joblib", "langgraph", "dbos", "prefect")
QUICK, FULL = (3, "100 1000 4000"), (7, "300 1000 10000")  # repeats; calls, length of many, steps of a long run

# Bytecode is kept, as where a package is installed: else an import would be its compilation.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
NOT_TIMES = frozenset({"long run, memory", "state, 10 000 keys, bytes"})

Samples = dict[str, list[dict[str, Any]]]


def samples_of(program: Path, python: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a program once in an empty directory; return its samples."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        out = subprocess.run(
            [python, str(program), place, *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    line = next(line for line in out.splitlines() if line.startswith("samples: "))
    return json.loads(line.removeprefix("samples: "))


def measured(groups: list[str], repeats: int, amounts: str) -> Samples:
    """Measure this project: every group in every repeat."""
    found: Samples = defaultdict(list)
    for repeat in range(repeats):
        for group in groups:
            print(f"repeat {repeat + 1} of {repeats}: {group}", file=sys.stderr, flush=True)
            for sample in samples_of(HERE / f"{group}.py", sys.executable, *amounts.split()):
                found[sample["figure"]].append(sample)
    return found


def measured_peers(repeats: int, amounts: str) -> dict[str, Samples]:
    """Measure this project and the others with the same program."""
    found: dict[str, Samples] = {peer: defaultdict(list) for peer in ("agentflow", *PEERS)}
    for repeat in range(repeats):
        for peer, samples in found.items():
            print(f"repeat {repeat + 1} of {repeats}: {peer}", file=sys.stderr, flush=True)
            try:
                answered = samples_of(HERE / "peers/timing.py", python_of(peer), peer, amounts.split(maxsplit=1)[0])
            except subprocess.CalledProcessError:  # it has said why; the others go on
                continue
            for sample in answered:
                samples[sample["figure"]].append(sample)
    return found


def ratio(samples: list[dict[str, Any]]) -> float:
    """The median of the repeats' ratios, or of the values where there is no floor."""
    return statistics.median(
        sample["value"] if sample["floor"] is None else sample["value"] / sample["floor"] for sample in samples
    )


def shown(value: float | None, figure: Figure) -> str:
    if value is None:
        return ""
    number = f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.2f}"
    return number if figure.floor in UNITS else f"{number} x"


def verdict(seen: float, figure: Figure) -> str:
    if figure.must is None:
        return ""
    if seen > figure.must:
        return "**no**"
    return "stretch" if figure.stretch is not None and seen <= figure.stretch < figure.must else "yes"


def figures_table(found: Samples) -> str:
    rows = []
    for figure in FIGURES:
        if figure.name in found:
            seen = ratio(found[figure.name])
            rows.append(
                [
                    figure.text,
                    figure.floor,
                    shown(figure.must, figure),
                    shown(figure.stretch, figure),
                    shown(seen, figure),
                    absolute(found[figure.name], figure),
                    verdict(seen, figure),
                ]
            )
    return table(["what", "against", "must", "stretch", "seen", "time", "met"], rows)


def absolute(samples: list[dict[str, Any]], figure: Figure) -> str:
    """The median time, for orientation."""
    if figure.floor in UNITS or figure.name in NOT_TIMES:
        return ""
    return duration(statistics.median(sample["value"] for sample in samples))


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


PEER_FIGURES = {
    "miss": "step, missed",
    "miss / fsync": "x raw insert, fsync",
    "miss / insert": "x raw insert",
    "hit": "hit, 1 KiB",
    "hit / select": "x raw select",
    "hit 1 MiB": "hit, 1 MiB",
    "run": "run of nothing",
    "fan-out": "1000 x 50 ms at once",
    "import": "import",
    "modules": "modules",
    "memory": "MiB after it",
}


def peers_table(found: dict[str, Samples], floors: dict[str, float]) -> str:
    rows = [floors_row(floors)]
    for peer, samples in found.items():
        cells = [peer]
        for figure in PEER_FIGURES:
            against = " / " in figure
            chosen = samples.get(figure, [])
            if not chosen:
                cells.append("–")
            elif against:
                cells.append(f"{ratio(chosen):.1f}")
            elif figure in ("modules", "memory"):
                cells.append(f"{ratio(chosen):.0f}")
            else:
                cells.append(duration(statistics.median(sample["value"] for sample in chosen)))
        rows.append(cells)
    return table(["", *PEER_FIGURES.values()], rows, right=len(PEER_FIGURES))


# Which floor stands above which column: the floor's name among those of the libraries, or the name of a figure of ours.
PEER_FLOORS = {
    "miss": "miss / fsync",
    "hit": "hit / select",
    "hit 1 MiB": "hit 1 MiB",
    "run": "miss / fsync",
    "fan-out": "fan-out",
    "import": "import",
}


def floors_row(floors: dict[str, float]) -> list[str]:
    """The least that can be done, as the first line of the table."""
    seen = {figure: floors[floor] for figure, floor in PEER_FLOORS.items() if floor in floors}
    return ["*floor*", *(duration(seen[figure]) if figure in seen else "–" for figure in PEER_FIGURES)]


def circumstances(repeats: int, amounts: str) -> str:
    when = dt.datetime.now(dt.UTC).strftime("%d %B %Y")
    load = os.getloadavg()[2]
    return (
        f"Seen on {when}: {repeats} repeats (amounts {amounts}), Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} cores, with a load of {load:.1f} on the machine."
    )


def main() -> None:
    """Measure what was asked for, print it, and write it down if told to."""
    parser = argparse.ArgumentParser(description="Measure agentflow against floors, and against other libraries.")
    parser.add_argument("--quick", action="store_true", help="measure less, three times")
    parser.add_argument("--peers", action="store_true", help="measure the other libraries too")
    parser.add_argument("--only", choices=[*GROUPS, "peers"], help="one group of figures")
    parser.add_argument("--repeats", type=int, help="instead of 3 or 7")
    parser.add_argument("--amounts", help="calls, length of many, length of a long run: instead of '300 1000 10000'")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the tables, the medians and the plots into docs/"
    )
    options = parser.parse_args()
    repeats, amounts = QUICK if options.quick else FULL
    repeats, amounts = options.repeats or repeats, options.amounts or amounts
    groups = [group for group in GROUPS if options.only in (None, group)]
    found = measured(groups, repeats, amounts)
    peers = measured_peers(repeats, amounts) if options.peers or options.only == "peers" else {}
    seen = circumstances(repeats, amounts)
    compared = [peers_table(peers, floors_of(peers, found))] if peers else []
    print(*([seen, figures_table(found)] if found else []), *compared, sep="\n\n")
    if options.write_docs:
        write(found, peers, seen)


def write(found: Samples, peers: dict[str, Samples], seen: str) -> None:
    """Write the tables, the medians and the plots. What was not measured this time keeps what was seen last."""
    page, place = DOCS / "performance.md", DOCS / "performance"
    place.mkdir(exist_ok=True)
    kept = place / "figures.json"
    medians = json.loads(kept.read_text()) if kept.exists() else {}
    if found:
        replace_block(page, "figures", f"{seen}\n\n{figures_table(found)}")
        medians |= {"seen": seen, "figures": figure_medians(found)}
    if peers:
        versions = ", ".join(filter(None, (version_of(peer) for peer in peers)))
        floors = medians.get("floors", {}) | floors_of(peers, found)
        replace_block(page, "peers", f"{seen} {versions}.\n\n{peers_table(peers, floors)}")
        medians |= {"seen, peers": seen, "peers": peer_medians(peers), "floors": floors}
    kept.write_text(json.dumps(medians, indent=1) + "\n")
    subprocess.run([python_of("plots"), str(HERE / "plot.py"), str(kept), str(place)], check=True)


def figure_medians(found: Samples) -> dict[str, dict[str, float | None]]:
    """What the plots need of this project's figures: as seen, and as wanted."""
    return {name: {"seen": ratio(samples), "must": BY_NAME[name].must} for name, samples in found.items()}


def peer_medians(peers: dict[str, Samples]) -> dict[str, dict[str, float | None]]:
    """What the plots need of every library: what each thing took, in seconds."""
    return {
        peer: {name: median_of("value", samples[name]) for name in PEER_FIGURES if samples.get(name)}
        for peer, samples in peers.items()
    }


def floors_of(peers: dict[str, Samples], found: Samples) -> dict[str, float]:
    """The floors in seconds: those that every library's process took, and those of this project's figures."""
    taken = {
        name: [each for samples in peers.values() for each in samples[name]] for name in PEER_FIGURES if " / " in name
    }
    taken |= {name: found.get(name, []) for name in PEER_FLOORS.values() if name not in taken}
    medians = {name: median_of("floor", samples) for name, samples in taken.items()}
    return {name: median for name, median in medians.items() if median is not None}


def median_of(part: str, samples: list[dict[str, Any]]) -> float | None:
    """The median of a part of the samples, None where they have it not."""
    parts = [sample[part] for sample in samples if sample[part] is not None]
    return statistics.median(parts) if parts else None


if __name__ == "__main__":
    main()
