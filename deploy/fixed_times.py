"""Normalizes the modification times and modes of files, so that identical files give identical image layers."""

import os
import sys
import zlib
from pathlib import Path

_MAX_TIME_S = 10**9


def content_time_s(path: Path) -> int:
    """Return a time derived from the file's content, in seconds since 1970; 0 for folders and links.

    The time must change with the content: Dash puts it into the URLs of assets, which browsers cache.
    """
    return zlib.crc32(path.read_bytes()) % _MAX_TIME_S if path.is_file() and not path.is_symlink() else 0


def fix_time_and_mode(path: Path) -> None:
    """Set the time and mode of one file, folder or link."""
    if not path.is_symlink():
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    os.utime(path, (content_time_s(path),) * 2, follow_symlinks=False)


if __name__ == "__main__":
    for root in map(Path, sys.argv[1:]):
        for path in (*root.rglob("*"), root):
            fix_time_and_mode(path)
