"""Draw the figures against their bars: `plot.py FIGURES.json OUT.svg`, in the environment that has matplotlib."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "agentflow"  # so that equal figures give an equal file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a third of the size

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of a backend

MET, MISSED = "#2a7f62", "#b5483a"


def main() -> None:
    """Draw one bar for each figure that has a target: what was seen, in units of the target."""
    read = json.loads(Path(sys.argv[1]).read_text())
    bars = {name: figure["seen"] / figure["must"] for name, figure in read["figures"].items() if figure["must"]}
    names = list(reversed(bars))
    height = 0.28 * len(names) + 1.2
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    axes.barh(names, [bars[name] for name in names], color=[MET if bars[name] <= 1 else MISSED for name in names])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("seen / target (left of the line: met)")
    axes.margins(y=0.01)
    axes.tick_params(labelsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    # Without the blanks at the ends of lines, which the repository's checks refuse.
    Path(sys.argv[2]).write_text("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n")


if __name__ == "__main__":
    main()
