"""Runs the tests of faults and prints what was seen as a table: `python -m tests.faults [--quick] [pytest's arguments]`.

`--quick` leaves out the long ones. `python -m tests.faults -k kill` runs those of one name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


class Figures:
    """Collects what the tests tell about."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "figure" and report.when == "call":
                test = report.nodeid.partition("tests/faults/")[2] or report.nodeid
                self.rows.append((value[0], told(value[1]), test if report.passed else f"FAILED {test}"))

    def table(self) -> str:
        order = sorted(self.rows, key=lambda row: (row[0][:1], int("".join(filter(str.isdigit, row[0])) or 0), row[2]))
        lines = ["| figure | seen | test |", "|---|---|---|", *("| {} | {} | `{}` |".format(*row) for row in order)]
        return "\n".join(lines)


def told(counts: dict[str, object]) -> str:
    """The counts in words: `1 000 kills, 0 lost`."""
    return ", ".join(f"{_number(value)} {name.replace('_', ' ')}" for name, value in counts.items())


def _number(value: object) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    rest = [argument for argument in arguments if argument != "--quick"]
    figures = Figures()
    chosen = ["-m", "not slow" if quick else ""]
    status = pytest.main(
        [str(Path(__file__).parent), "-q", "-p", "no:cacheprovider", *chosen, *rest], plugins=[figures]
    )
    print(f"\n{figures.table()}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
