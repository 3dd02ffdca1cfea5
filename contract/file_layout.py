"""A hint to the file system about folders in which files come and go by the thousand."""

import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

#: Of ioctl_iflags(2) on 64-bit Linux: read and write a folder's flags; ext4's "the folders in here are unrelated".
_GET_FLAGS, _SET_FLAGS, _TOPDIR = 0x80086601, 0x40086602, 0x00020000


def spread_subfolders(folder: Path) -> bool:
    """Have the file system lay subfolders of `folder` that are made from now on far apart; whether it will.

    Before ext4 gives a new file an inode, it passes over each free one of the subfolder's block group that was in use
    within the last minutes (`recently_deleted` in fs/ext4/ialloc.c). With all of the images in one group that takes
    longer than to write them. Other file systems know no such hint, and need none.
    """
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - not on every system

    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            flags = bytearray(8)
            fcntl.ioctl(handle, _GET_FLAGS, flags)
            fcntl.ioctl(handle, _SET_FLAGS, struct.pack("q", struct.unpack_from("i", flags)[0] | _TOPDIR))
        finally:
            os.close(handle)
        return True
    return False
