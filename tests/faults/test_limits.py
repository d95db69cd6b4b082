"""Too few descriptors, too little memory, files that may not grow (F26): typed errors that say which limit, and the process goes on when it is lifted.

That closing a store a thousand times leaves no descriptor and no thread stands in `tests/stores/test_processes.py`.
"""

from __future__ import annotations


def check(told: dict[str, dict[str, object]], expected: str) -> dict[str, object]:
    for counts in told.values():
        assert set(counts["seen"]) == {expected, "works"}
        assert counts["afterwards"] == {"works": counts["rounds"]}
        assert counts["executed_again"] == 0
    return {
        "rounds": sum(counts["rounds"] for counts in told.values()),
        "typed_errors": sum(counts["seen"][expected] for counts in told.values()),
        "untyped": 0,
        "executed_again": 0,
    }


def test_too_few_descriptors(program, tmp_path, figure):
    """With 0 to 11 descriptors to spare: EMFILE, with the step's result if there was one, or it works."""
    told = program("limits.py", tmp_path, "descriptors", "sync", "stream")

    figure("F26 descriptors", **check(told, "StoreError 24"))


def test_files_that_may_not_grow(program, tmp_path, figure):
    """With a limit of the size of files (`ulimit -f`), from one page to enough: EFBIG, or it works."""
    told = program("limits.py", tmp_path, "filesize", "sync")

    figure("F26 size of files", **check(told, "StoreError 27"))


def test_too_little_memory(program, tmp_path, figure):
    """With 1 to 24 megabytes to spare for a result of six: it works, or the error has the result; the process goes on with more."""
    told = program("memory.py", tmp_path, 24)

    errors = {
        name: number for name, number in told["seen"].items() if name not in ("works", "the body's own MemoryError")
    }
    assert set(errors) == {"StoreError 12 with the result"}
    assert told["wrong_afterwards"] == 0
    figure("F26 memory", rounds=24, typed_errors=sum(errors.values()), results_lost=0)
