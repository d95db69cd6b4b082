"""Which file system a directory is on: SQLite's log and the kernel's locks hold on one machine only.

A WAL is shared memory between the processes of one machine, and locks over a network are not what they say (sqlite.org/wal.html,
sqlite.org/howtocorrupt.html, 2.1), so a store there would lose what it promises without a word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["MOUNTINFO", "file_system", "is_network"]

MOUNTINFO: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "lustre", "glusterfs", "gfs2", "ocfs2", "beegfs"),
        *("fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.blobfuse2", "fuse.davfs"),
        *("davfs", "fuse.smbnetfs", "fuse.curlftpfs", "fuse.juicefs", "fuse.mount-s3"),
    }
)  # fmt: skip
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def is_network(kind: str | None) -> bool:
    """Whether a file system of this type is kept by another machine."""
    return kind in _NETWORK


def file_system(directory: Path, mountinfo: Path = MOUNTINFO) -> str | None:
    """Return the type of the file system that a directory is or would be on, as Linux names it; None if nothing says.

    Args:
        directory: It need not exist.
        mountinfo: The kernel's table of mounts (see `man 5 proc`).
    """
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    where = os.path.realpath(directory)
    found: tuple[int, str | None] = (-1, None)
    for line in lines:
        mount, kind = _entry(line)
        if mount is not None and _holds(mount, where) and len(mount) >= found[0]:
            found = len(mount), kind  # of two mounts at one place the later one is seen
    return found[1]


def _entry(line: str) -> tuple[str | None, str]:
    fields = line.split(" ")
    try:
        end = fields.index("-")
        return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4]), fields[end + 1]
    except (ValueError, IndexError):
        return None, ""


def _holds(mount: str, where: str) -> bool:
    return where == mount or where.startswith(mount.rstrip("/") + "/")
