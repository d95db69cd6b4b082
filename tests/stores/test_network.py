"""Fault F24: a store on a network file system is refused before the first write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentflow.exceptions import StoreLocation
from agentflow.stores import DiskStore
from agentflow.stores._base import Transaction
from agentflow.stores._mounts import file_system
from agentflow.stores._place import Place

LINE = "36 35 98:0 / {mount} rw,noatime {optional}- {kind} {source} rw\n"


def table(file: Path, *mounts: tuple[object, str]) -> Path:
    """Write a table of mounts as the kernel shows it: with any number of optional fields, and octal for blanks."""
    lines = [("/", "ext4"), *mounts]
    text = "".join(
        LINE.format(
            mount=str(mount).replace(" ", r"\040"),
            kind=kind,
            source="host:/x",
            optional=["", "shared:1 master:2 "][n % 2],
        )
        for n, (mount, kind) in enumerate(lines)
    )
    file.write_text(text)
    return file


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_store_on_a_network_file_system_is_refused_before_the_first_write(kind, tmp_path, monkeypatch):
    """Nothing is made there, neither by a write nor by a lock; the error says what to do."""
    monkeypatch.setattr(Place, "mountinfo", table(tmp_path / "mounts", (tmp_path / "share", kind)))
    (tmp_path / "share").mkdir()
    store = DiskStore(tmp_path / "share" / "deep" / "store")

    for attempt in (lambda: store.commit(Transaction()), lambda: store.try_lock("a")):
        with pytest.raises(StoreLocation, match=rf"\({kind}\).*AGENTFLOW_STORE") as caught:
            attempt()
        assert caught.value.path == str(store.path)
    assert list((tmp_path / "share").iterdir()) == []
    store.close()


def test_an_existing_store_that_is_mounted_from_elsewhere_is_not_written(tmp_path, monkeypatch):
    """It can be looked at; the first write is refused."""
    with_it = DiskStore(tmp_path / "store")
    with_it.commit(Transaction())
    with_it.close()
    monkeypatch.setattr(Place, "mountinfo", table(tmp_path / "mounts", (tmp_path / "store", "nfs4")))
    store = DiskStore(tmp_path / "store")

    assert store.read("a") is None
    with pytest.raises(StoreLocation):
        store.commit(Transaction())
    store.close()


def test_the_deepest_and_latest_mount_counts(tmp_path):
    """Of mounts inside each other the innermost is meant, of those at one place the one mounted last; links are followed."""
    share, disk = tmp_path / "a share", tmp_path / "a share" / "disk"
    disk.mkdir(parents=True)
    (tmp_path / "link").symlink_to(share)
    mounts = table(tmp_path / "mounts", (share, "ext4"), (share, "nfs4"), (disk, "xfs"), ("broken line", ""))

    kinds = {
        path: file_system(Path(path), mounts)
        for path in (str(share), str(disk / "x" / "y"), str(tmp_path / "link" / "new"), f"{share} beside", "/")
    }

    assert list(kinds.values()) == ["nfs4", "xfs", "nfs4", "ext4", "ext4"]
    assert file_system(tmp_path, tmp_path / "no such table") is None


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="only Linux has this table")
def test_the_kernel_s_own_table_is_understood():
    """What is mounted at /proc is a proc file system."""
    assert file_system(Path("/proc/self")) == "proc"
