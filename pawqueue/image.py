"""An image ready to be sent as part of a submission: read once, so that what is hashed is what is sent."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

#: Larger files are not read into memory but streamed; most gateways take no larger ones anyway.
IN_MEMORY_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """The bytes of a file, or where they are."""

    #: Its place among the files of the run.
    index: int
    custom_id: str
    path: Path
    size_bytes: int
    #: Tells whether the file was touched since.
    stamp: str
    sha256: bytes
    #: None when the file is too large to hold.
    content: bytes | None


def read_image(index: int, custom_id: str, path: Path) -> LoadedImage:
    """Read and hash a file; OSError when it cannot be read."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        content = file.read() if status.st_size <= IN_MEMORY_BYTES else None
        digest = hashlib.sha256(content) if content is not None else hashlib.file_digest(file, "sha256")
    size = len(content) if content is not None else status.st_size
    return LoadedImage(index, custom_id, path, size, _stamp(status), digest.digest(), content)


def stamp_of(path: Path) -> str:
    """What changes when a file is touched; OSError when it is not there."""
    return _stamp(path.stat())


def sha256_of(path: Path) -> bytes:
    """Hash of a file's content; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _stamp(status: os.stat_result) -> str:
    # The time of the last change of the record (ctime) cannot be set back, unlike that of the content.
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
