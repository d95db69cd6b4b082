"""Tables in Markdown, and the blocks of the documents that are written by a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 0) -> str:
    """Return a table; the last `right` columns are numbers."""
    marks = ["---"] * (len(head) - right) + ["---:"] * right
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, marks, *rows])


def replace_block(page: Path, name: str, text: str) -> None:
    """Put a text between `<!-- name: begin ... -->` and `<!-- name: end -->`."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name}: begin")
    mark, _, rest = rest.partition("\n")
    _, end, after = rest.partition(f"<!-- {name}: end")
    if not (begin and end):
        raise SystemExit(f"{page} has no block {name!r}")
    page.write_text(f"{before}{begin}{mark}\n\n{text}\n\n{end}{after}", encoding="utf-8")
