"""Draw what the suite has seen: `plot.py FIGURES.json DIRECTORY`, in the environment that has matplotlib.

`figures.svg` has this project's figures against their bars; `peers.svg` has floors, this project and the other libraries, in seconds.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "agentflow"  # so that equal figures give an equal file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a third of the size

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of a backend
from matplotlib.axes import Axes  # noqa: E402 - the same
from matplotlib.figure import Figure  # noqa: E402 - the same

MET, MISSED = "#2a7f62", "#b5483a"
FLOOR, OURS, PEER = "#9a9a9a", "#2a7f62", "#5b7db1"

# What is drawn of the libraries: its name among their figures, its title, and the floors: a name (theirs, or else of a figure of ours) and what it is.
PANELS = (
    ("miss", "step, missed", (("miss / fsync", "raw insert, fsync"), ("miss / insert", "raw insert"))),
    ("hit", "step, hit, 1 KiB", (("hit / select", "raw select"),)),
    ("hit 1 MiB", "step, hit, 1 MiB", (("hit 1 MiB", "read and parse"),)),
    ("run", "run of nothing", (("miss / fsync", "raw insert, fsync"),)),
    ("fan-out", "1000 × 50 ms at once", (("fan-out", "bare gather"),)),
    ("import", "import", (("import", "attrs, asyncio, diskcache, pydantic"),)),
)

Read = dict[str, Any]


def main() -> None:
    """Draw both."""
    read, directory = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    if "figures" in read:
        write(against_bars(read), directory / "figures.svg")
    if "peers" in read:
        write(against_peers(read), directory / "peers.svg")


def against_bars(read: Read) -> Figure:
    """Draw one bar for each figure that has a target: what was seen, in units of the target."""
    bars = {name: figure["seen"] / figure["must"] for name, figure in read["figures"].items() if figure["must"]}
    names = list(reversed(bars))
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(names) + 1.2), layout="constrained")
    axes.barh(names, [bars[name] for name in names], color=[MET if bars[name] <= 1 else MISSED for name in names])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("seen / target (left of the line: met)")
    axes.margins(y=0.01)
    axes.tick_params(labelsize=8)
    return figure


def against_peers(read: Read) -> Figure:
    """Draw one panel for each thing that several libraries do: floors, this project, the others, quickest floor on top."""
    panels = [panel_of(read, *panel) for panel in PANELS]
    rows = [len(bars) for _, bars in panels]
    figure, places = plt.subplots(
        len(panels), figsize=(8, 0.24 * sum(rows) + 0.6 * len(rows)), layout="constrained", height_ratios=rows
    )
    for axes, (title, bars) in zip(places, panels, strict=True):
        draw(axes, title, bars)
    return figure


def panel_of(read: Read, name: str, title: str, floors: tuple[tuple[str, str], ...]) -> tuple[str, list[Read]]:
    """Return the bars of a panel, those that have a value."""
    below = [{"text": f"floor: {text}", "color": FLOOR, "value": read["floors"].get(floor)} for floor, text in floors]
    found = [
        {"text": peer, "color": OURS if peer == "agentflow" else PEER, "value": figures.get(name)}
        for peer, figures in read["peers"].items()
    ]
    return title, [bar for bar in below + found if bar["value"]]


def draw(axes: Axes, title: str, bars: list[Read]) -> None:
    """Draw a panel: bars on a scale of powers of ten, each with its time."""
    drawn = axes.barh(
        [bar["text"] for bar in bars], [bar["value"] for bar in bars], color=[bar["color"] for bar in bars]
    )
    axes.bar_label(drawn, [duration(bar["value"]) for bar in bars], fontsize=7, padding=3)
    axes.set_xscale("log")
    values = [bar["value"] for bar in bars]
    axes.set_xlim(min(values) / 3, max(values) * 5)  # a bar of the least, and room for the label of the longest
    axes.set_title(title, fontsize=9, loc="left")
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.minorticks_off()
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def write(figure: Figure, path: Path) -> None:
    """Write it without a date, and without the blanks at the ends of lines, which the repository's checks refuse."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n")


if __name__ == "__main__":
    main()
