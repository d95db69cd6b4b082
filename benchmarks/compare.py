"""Ask every library what a cache may get wrong, and write the answers into docs/comparison.md.

    python benchmarks/compare.py [--peers agentflow,joblib,...] [--write-docs]

Makes the peers' environments at the first run (`peers/environments.py`). With Prefect, whose server starts anew for every question, it takes ten minutes.
A library that is not named in --peers keeps the answers that it gave last.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from peers.asking import REPLAYS, ROOT, ROWS, Answer, Row, ask, replay
from peers.environments import python_of, version_of
from tables import replace_block, table

CACHES = {
    "agentflow": "agentflow",
    "diskcache": "diskcache `memoize`",
    "joblib": "joblib `Memory`",
    "langgraph": "LangGraph `CachePolicy`",
    "prefect": "Prefect `INPUTS`",
}
ENGINES = {"agentflow": "agentflow", "langgraph": "LangGraph", "dbos": "DBOS"}
# A thread of LangGraph that is finished is a conversation: another argument is its next turn, not a repetition.
# DBOS keeps no state of sessions.
NOT_ASKED = {("langgraph", "id"), ("dbos", "state")}


LAST = Path(__file__).parent / ".environments/answers.json"
"""What each library answered last, so that one can be asked anew without all others."""


def answers(
    rows: tuple[Row, ...], names: dict[str, str], asked: set[str], asking: Callable[[str, str, Row], Answer]
) -> list[list[str]]:
    last = json.loads(LAST.read_text()) if LAST.exists() else {}
    found = []
    for row in rows:
        cells = [row.text]
        for peer in names:
            if peer in asked and (peer, row.question) not in NOT_ASKED:
                last[f"{peer} {row.question}"] = asking(python_of(peer), peer, row).verdict(row)
                print(f"{row.question:16} {peer:10} {last[f'{peer} {row.question}']}", file=sys.stderr, flush=True)
            cells.append(last.get(f"{peer} {row.question}", "–"))
        found.append(cells)
    LAST.parent.mkdir(exist_ok=True)
    LAST.write_text(json.dumps(last, indent=1))
    return found


def main() -> None:
    """Ask, print, and write the page if told to."""
    parser = argparse.ArgumentParser(description="Ask every library what a cache may get wrong.")
    parser.add_argument("--peers", default=",".join(CACHES | ENGINES))
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    asked = set(options.peers.split(","))
    replays = table(["program", *ENGINES.values()], answers(REPLAYS, ENGINES, asked, replay))
    caches = table(["question", *CACHES.values()], answers(ROWS, CACHES, asked, ask))
    versions = ", ".join(filter(None, (version_of(peer) for peer in CACHES | ENGINES)))
    when = dt.datetime.now(dt.UTC).strftime("%d %B %Y")
    seen = f"Seen on {when} with Python {platform.python_version()}: {versions}."
    print(replays, caches, seen, sep="\n\n")
    if options.write_docs:
        page = ROOT / "docs/comparison.md"
        replace_block(page, "replay", replays)
        replace_block(page, "caches", caches)
        replace_block(page, "seen", seen)


if __name__ == "__main__":
    main()
