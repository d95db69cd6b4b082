"""A store that may be read and not written (F7), as workflows meet it; the store's own methods stand in `tests/stores/test_disk.py`."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def kept(program):
    """A store with a remembered step, state and a run, in a directory that others can look into."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        place = Path(directory) / "store"
        program("read_only.py", place, "make")
        yield place
        os.chmod(place, 0o700)


@pytest.mark.parametrize("locks", [True, False], ids=["with its file of locks", "without it"])
def test_a_directory_without_the_right_to_write(program, kept, figure, locks):
    """Hits, state and runs are read; what must be written is refused at once as StoreReadOnly, also where the file of locks is missing."""
    if not locks:
        (kept / "locks").unlink()
    for path in kept.iterdir():
        path.chmod(0o444)
    kept.chmod(0o555)

    told = program("read_only.py", kept, "nobody")

    assert told["remembered"]
    assert told["step"] == told["workflow"] == ["StoreReadOnly", 13, True, True]
    assert (told["state"], told["runs"]) == (0, ["completed"])
    assert told["seconds"] < 1
    figure("F7", errors=2, untyped=0, seconds=told["seconds"])


def test_a_file_system_that_is_mounted_read_only(program, kept, figure):
    """The same on a read-only mount, where not even root may write."""
    mounted = (
        subprocess.run(["mount", "--bind", str(kept), str(kept)], capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("only root may mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(kept)], check=True)
        for path in [kept, *kept.iterdir()]:
            assert not os.access(path, os.W_OK)
        told = program("read_only.py", kept, "root")
    finally:
        subprocess.run(["umount", "-l", str(kept)], check=True)

    assert told["remembered"]
    assert told["step"] == told["workflow"] == ["StoreReadOnly", 30, True, True]
    figure("F7", errors=2, untyped=0, seconds=told["seconds"])
