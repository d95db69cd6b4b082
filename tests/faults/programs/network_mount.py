"""A file system that another machine might keep, mounted for real: `network_mount.py DIRECTORY KIND`, as root on Linux with FUSE.

It is an empty directory of the given kind (`sshfs`, say), served by this very process, which speaks the kernel's protocol (linux/fuse.h)
without any library. Prints "mounted", serves until its input ends, unmounts, and prints as JSON the numbers of the requests it had.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
import threading

IN_HEADER, OUT_HEADER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
INIT, GETATTR, OPENDIR, READDIR, RELEASEDIR, STATFS = 26, 3, 27, 28, 29, 17
FORGET, BATCH_FORGET, INTERRUPT = 2, 42, 36  # which want no answer
A_DIRECTORY = 0o040755
DETACH = 2  # MNT_DETACH


def directory_attributes() -> bytes:
    """A fuse_attr_out of the only directory there is: valid for no time, so that the kernel asks each time."""
    return struct.pack("<QII", 0, 0, 0) + ATTRIBUTES.pack(1, 0, 0, 0, 0, 0, 0, 0, 0, A_DIRECTORY, 2, 0, 0, 0, 4096, 0)


def answer(operation: int) -> bytes | None:
    """Return the body of an answer, or None for what this file system cannot do: there is nothing in it, and nothing can be made."""
    if operation == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 4096, 0, 0, 0, 4096, 1, 0, 0, 0)
    if operation == GETATTR:
        return directory_attributes()
    if operation == OPENDIR:
        return struct.pack("<QII", 0, 0, 0)
    if operation == STATFS:
        return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 512, 255, 512, 0)
    return b"" if operation in (READDIR, RELEASEDIR) else None


def serve(device: int, asked: list[int]) -> None:
    """Answer the kernel until the file system is unmounted."""
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:  # ENODEV: it is unmounted
            return
        _, operation, unique, *_ = IN_HEADER.unpack_from(request)
        asked.append(operation)
        if operation in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        body = answer(operation)
        error = 0 if body is not None else -errno.ENOENT
        body = body or b""
        os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body)


def main() -> None:
    """Mount, serve, unmount."""
    directory, kind = sys.argv[1].encode(), sys.argv[2].encode()
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device
    if libc.mount(b"host:/share", directory, b"fuse." + kind, 0, options):
        raise OSError(ctypes.get_errno(), "the kernel does not mount it", sys.argv[1])
    asked: list[int] = []
    server = threading.Thread(target=serve, args=(device, asked), daemon=True)
    server.start()
    print("mounted", flush=True)
    sys.stdin.read()
    libc.umount2(directory, DETACH)
    server.join(10)
    print(json.dumps(asked))


if __name__ == "__main__":
    main()
