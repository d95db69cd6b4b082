"""What `docs/reliability.md` refers to is there."""

from __future__ import annotations

import re

from .conftest import ROOT


def test_the_page_names_tests_that_exist():
    """Every path in the table of faults is a file of tests, and every class in it is in that file."""
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = {found[1] for found in re.finditer(r"`([\w/]+\.py(?:::\w+)*)`", page)}

    assert len(named) > 20
    for name in named:
        path, _, thing = name.partition("::")
        text = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert all(re.search(rf"(class|def) {part}\b", text) for part in thing.split("::") if part), name
