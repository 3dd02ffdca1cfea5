"""Space on disk for uploads that must be complete before they can be read, with a limit for each gateway process."""

import errno
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from contract.errors import UnavailableError

#: Share of the space that one owner may use.
_OWNER_SHARE = 0.5
_RETRY_S = 30
_ADVICE = "Send a tar, which the gateway reads as it arrives, or try again later."


class Spool:
    """Temporary files without a name in a folder that several gateways may share.

    The operating system frees them when their process ends, even if it is killed.

    Args:
        folder: Is created when it is first used.
        max_bytes: Maximum size of all files of this process. An owner may use half of it; without API keys, all of it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        #: Size of the files by owner.
        self._held: Counter[str] = Counter()

    def limit_of(self, owner: str) -> int:
        """Maximum size of the files of one owner, in bytes."""
        return int(self._max_bytes * _OWNER_SHARE) if owner else self._max_bytes

    def check(self, owner: str, size: int) -> None:
        """Check that a file of `size` bytes would fit at the moment.

        Raises:
            UnavailableError: it would not.
        """
        if self._held.total() + size > self._max_bytes:
            raise UnavailableError(f"The gateway's space for zips is full. {_ADVICE}", retry_after_s=_RETRY_S)
        if self._held[owner] + size > self.limit_of(owner):
            raise UnavailableError(f"Your share of the space for zips is full. {_ADVICE}", retry_after_s=_RETRY_S)

    @contextmanager
    def file(self, owner: str) -> Iterator["SpoolFile"]:
        """An empty file, deleted when the context exits.

        Raises:
            UnavailableError: the disk is full.
        """
        file: SpoolFile | None = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with TemporaryFile(dir=self._folder) as handle:
                file = SpoolFile(self, owner, handle)
                yield file
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UnavailableError(f"The disk of the gateway is full. {_ADVICE}", retry_after_s=_RETRY_S) from error
        finally:
            if file:
                self.resize(owner, -file.size)

    def resize(self, owner: str, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            UnavailableError: they do not fit.
        """
        with self._lock:
            if size > 0:
                self.check(owner, size)
            self._held[owner] += size
            if not self._held[owner]:
                del self._held[owner]


class SpoolFile:
    """A file whose size counts toward the limits of its spool."""

    def __init__(self, spool: Spool, owner: str, file: IO[bytes]) -> None:
        self._spool = spool
        self._owner = owner
        self.file = file
        #: In bytes.
        self.size = 0

    def append(self, data: bytes) -> None:
        """Write `data` at the end.

        Raises:
            UnavailableError: the spool is full.
        """
        self._spool.resize(self._owner, len(data))
        self.size += len(data)
        self.file.write(data)
