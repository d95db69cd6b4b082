"""A network file system (F24), mounted for real: the kernel's own table of mounts says what it is. Made-up tables: `tests/stores/test_network.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentflow import cached_step
from agentflow._settings import using_store
from agentflow.exceptions import StoreLocation
from agentflow.stores import DiskStore
from agentflow.stores._base import Transaction

# Of linux/fuse.h: what changes a file system, each of which would be a write.
CHANGES = {
    4: "setattr",
    6: "symlink",
    8: "mknod",
    9: "mkdir",
    12: "rename",
    13: "link",
    16: "write",
    21: "setxattr",
    35: "create",
}

executed: list[str] = []


@cached_step(name="network.read")
def read(url: str) -> str:
    executed.append(url)
    return url


@pytest.mark.parametrize("kind", ["sshfs", "rclone"])
def test_a_store_on_a_mounted_network_file_system_is_refused(kind, program, tmp_path, figure):
    """Nothing is executed, and the file system is never asked to change anything; elsewhere the same process works."""
    share = tmp_path / "share"
    share.mkdir()
    executed.clear()
    mount = mounted(program, share, kind)
    try:
        store = DiskStore(share / "deep" / "store")
        with using_store(store), pytest.raises(StoreLocation, match=rf"fuse\.{kind}") as refused:
            read("a")
        with pytest.raises(StoreLocation):
            store.commit(Transaction())
        store.close()
    finally:
        asked = json.loads(mount.communicate(timeout=30)[0])
    with using_store(DiskStore(tmp_path / "store")) as beside:
        read("a")
    beside.close()

    assert refused.value.path == str(share / "deep" / "store")
    assert "a disk of this machine" in refused.value.hint
    assert executed == ["a"]
    assert [CHANGES[request] for request in asked if request in CHANGES] == []
    assert 1 in asked  # it was looked at: lookups came
    figure("F24", kind=f"fuse.{kind}", executed=0, changes=0)


def mounted(program, share: Path, kind: str):
    """Start the process that keeps the file system, and return it once the kernel has mounted it."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("only root may mount, and only with FUSE")
    process = program.start("network_mount.py", share, kind)
    if process.stdout.readline() != "mounted\n":
        pytest.skip("the kernel does not mount it here")
    return process
