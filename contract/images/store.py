"""Storage for uploaded images until a worker has processed them. Queues contain only job ids."""

import ctypes
import errno
import os
import secrets
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.errors import UnavailableError
from contract.fetch import is_address
from contract.ledger import keys
from contract.ledger.connection import unavailable_reason

#: Runs a function with its arguments.
Run = Callable[..., None]

#: How long a process appends to a segment, and how large the segment may be before another one is started.
_SEGMENT_S, _SEGMENT_BYTES = 60, 128_000_000
#: After this time, no process appends to a segment any more, even if a write or a clock is late.
_LATE_S = 600
#: Name of a segment: Unix time of its start, then random digits.
_SEGMENT = "[0-9a-f]" * 24
_BLOCK_BYTES = 4096
_PIECE_BYTES = 1 << 20
#: FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE of fallocate(2), which only Linux has.
_PUNCH_HOLE = 3
_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
if _fallocate:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class ImageStore(ABC):
    """Stores images by reference; methods raise `UnavailableError` if the store fails."""

    @abstractmethod
    def put_many(self, images: Sequence[bytes]) -> list[str]:
        """Store images, in one round trip if the store supports it; returns their references."""

    def put(self, data: bytes) -> str:
        """Store one image; returns its reference."""
        return self.put_many([data])[0]

    @abstractmethod
    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        """Read images, in one round trip if the store supports it; None for a missing one."""

    def delete(self, refs: Sequence[str]) -> None:
        """Delete images. Unknown references are ignored, and so are addresses of images that were not fetched yet."""
        self._delete([ref for ref in refs if not is_address(ref)])

    @abstractmethod
    def _delete(self, refs: Sequence[str]) -> None:
        """Delete images; unknown references are ignored."""

    def sweep(self, older_than_s: float) -> int:
        """Delete old images and return their number. The default deletes nothing and returns 0."""
        del older_than_s
        return 0


def _run_here(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)


def open_image_store(url: str, ttl_s: int, *, part: str = "", sync: bool = False, run: Run = _run_here) -> ImageStore:
    """Open the image store at a folder, or at a `file://`, `redis://` or fsspec URL.

    With `part`, such as `review/`, the references of images that are put begin with it, and `sweep` deletes only such
    images. Every part reads and deletes the images of all. `sync` and `run` are those of `FileImageStore`; the other
    stores ignore them.
    """
    if url.startswith(("redis://", "rediss://", "unix://")):
        return RedisImageStore(url, ttl_s, part)
    if "://" not in url or url.startswith("file://"):
        return FileImageStore(Path(url.removeprefix("file://")), part=part, sync=sync, run=run)
    return FsspecImageStore(url, part)


class FileImageStore(ImageStore):
    """Stores images in files of a folder that the gateway and the workers share.

    A process appends its images to a file of its own, the segment, and starts another one every minute, so storing a
    group of images takes one file and one sync. A reference contains the image's place in the segment and its checksum,
    so a write that a crash interrupted is read as a missing image. Deleting an image makes a hole in the segment, which
    frees its blocks. `sweep` deletes the segments that contain nothing else.

    A reference of an earlier version is the name of a file with one image.
    """

    def __init__(
        self,
        folder: Path,
        *,
        part: str = "",
        sync: bool = False,
        run: Run = _run_here,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the store at a folder.

        Args:
            folder: Created if it does not exist.
            part: Name of a subfolder in which images are put, with a slash at its end; empty for the folder itself.
            sync: Whether images must survive a power failure.
            run: Runs a function that waits for the disk. By default it runs in the calling thread.
            clock: Returns Unix time in seconds.
        """
        self._folder = folder / part
        self._root = str(folder)
        self._part = part
        self._sync = sync
        self._run = run
        self._clock = clock
        self._lock = threading.Lock()
        self._segment = ""
        self._started_s = 0.0
        #: Where the next image starts in the segment.
        self._end = _SEGMENT_BYTES
        #: The last segment whose entry in the folder was synced.
        self._synced = ""
        self._make_folder()

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        if not images:
            return []
        segment, starts = self._reserve(images)
        refs = [
            f"{segment}-{start:x}-{len(data):x}-{zlib.crc32(data):08x}"
            for start, data in zip(starts, images, strict=True)
        ]
        try:
            if self._sync:
                self._run(self._write, segment, starts, images)
            else:
                self._write(segment, starts, images)  # to the page cache, which is faster than changing the thread
        except OSError as error:
            with suppress(UnavailableError):
                self.delete(refs)  # or every retry of a group would fill the disk further
            raise _not_writable(error) from error
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        try:
            for path, group in groupby(refs, self._path):
                found += _read(path, list(group))
        except OSError as error:
            raise UnavailableError(f"The image store is not readable ({error.strerror}). Try again later.") from error
        return found

    def _delete(self, refs: Sequence[str]) -> None:
        failure: OSError | None = None
        for path, group in groupby(sorted(refs), self._path):
            try:
                _delete_from(path, list(group))
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = error  # delete the others first
        if failure:
            raise _not_writable(failure) from failure

    def sweep(self, older_than_s: float) -> int:
        now_s, swept = self._clock(), 0
        files = (
            *((path, _sweep_segment) for path in self._folder.glob(_SEGMENT)),
            *((path, _sweep_image) for path in self._folder.glob("??/*")),
        )
        try:
            for path, sweep in files:
                with suppress(FileNotFoundError):  # it has been deleted just now
                    swept += sweep(path, now_s, older_than_s)
        except OSError as error:
            raise _not_writable(error) from error
        return swept

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        if self._sync:
            _sync_folder(str(self._folder.parent))

    def _reserve(self, images: Sequence[bytes]) -> tuple[str, list[int]]:
        """Reserve the places of images in a segment; returns where they start."""
        with self._lock:
            now_s = self._clock()
            if self._end >= _SEGMENT_BYTES or not 0 <= now_s - self._started_s < _SEGMENT_S:
                self._segment = f"{self._part}{int(now_s):08x}{secrets.token_hex(8)}"
                self._started_s, self._end = now_s, 0
            starts = []
            for data in images:
                starts.append(self._end)
                self._end = _block_end(self._end + len(data))
            return self._segment, starts

    def _write(self, segment: str, starts: Sequence[int], images: Sequence[bytes]) -> None:
        path, flags = f"{self._root}/{segment}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        # The file is closed after each group: over NFS, others see only what was synced or closed.
        try:
            handle = os.open(path, flags, 0o640)
        except FileNotFoundError:  # somebody has deleted the folder
            self._make_folder()
            handle = os.open(path, flags, 0o640)
        try:
            for start, data in zip(starts, images, strict=True):
                _write_at(handle, start, data)
            if self._sync:
                _sync_data(handle)
        finally:
            os.close(handle)
        if self._sync and self._synced != segment:
            _sync_folder(str(self._folder))
            self._synced = segment

    def _path(self, ref: str) -> str:
        """The path of an image's file. Building a `Path` would take as long as reading an image."""
        segment, is_place, _ = ref.partition("-")
        return f"{self._root}/{segment}" if is_place else f"{self._root}/{ref[:2]}/{ref}"


def _not_writable(error: OSError) -> UnavailableError:
    return UnavailableError(f"The image store is not writable ({error.strerror}). Try again later.")


def _block_end(at: int) -> int:
    """The end of the block that ends at or after `at`. A block contains one image, so that all blocks can be freed."""
    return -(-at // _BLOCK_BYTES) * _BLOCK_BYTES


def _place(ref: str) -> tuple[int, int, int]:
    """The image's place in its segment: start, length, checksum."""
    _, start, length, checksum = ref.split("-")
    return int(start, 16), int(length, 16), int(checksum, 16)


def _write_at(handle: int, at: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(handle, left, at)
        at, left = at + written, left[written:]


def _sync_folder(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: str, refs: Sequence[str]) -> list[bytes | None]:
    """Read images of one file."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a str: see `_path`
            return [_read_at(file.fileno(), ref) if "-" in ref else file.read() for ref in refs]
    except FileNotFoundError:
        return [None] * len(refs)


def _read_at(handle: int, ref: str) -> bytes | None:
    start, length, checksum = _place(ref)
    data = os.pread(handle, length, start)
    return data if len(data) == length and zlib.crc32(data) == checksum else None


def _delete_from(path: str, refs: Sequence[str]) -> None:
    """Delete images of one file."""
    if "-" not in refs[0]:
        os.unlink(path)  # noqa: PTH108 - a str: see `FileImageStore._path`
        return
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        ranges: list[list[int]] = []
        for start, length, _ in sorted(map(_place, refs)):
            end = _block_end(start + length)
            if ranges and ranges[-1][1] == start:
                ranges[-1][1] = end
            else:
                ranges.append([start, end])
        for start, end in ranges:
            _clear(handle, start, end)
    finally:
        os.close(handle)


def _clear(handle: int, start: int, end: int) -> None:
    """Free the blocks of a range, or write zeros if the file system cannot free them."""
    if _fallocate:
        if _fallocate(handle, _PUNCH_HOLE, start, end - start) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    end = min(end, os.fstat(handle).st_size)
    for at in range(start, end, _PIECE_BYTES):
        _write_at(handle, at, bytes(min(_PIECE_BYTES, end - at)))


def _sweep_segment(path: Path, now_s: float, older_than_s: float) -> bool:
    """Delete a segment whose images are all old; returns whether they were. Also deletes an empty segment."""
    age_s = now_s - int(path.name[:8], 16) - _SEGMENT_S
    is_old = age_s > older_than_s
    if is_old:
        os.truncate(path, 0)  # processes that have the file open cannot read it any more
    if is_old or (age_s > _LATE_S and _is_empty(path)):
        path.unlink()
    return is_old


def _is_empty(path: Path) -> bool:
    """Whether a segment contains nothing but holes and zeros."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while True:
            try:
                at = file.seek(at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return True
                raise
            data = file.read(_PIECE_BYTES)
            if data.strip(b"\0"):
                return False
            at += len(data)


def _sweep_image(path: Path, now_s: float, older_than_s: float) -> bool:
    """Delete an image of an earlier version if it is old; returns whether it was."""
    is_old = now_s - path.stat().st_mtime > older_than_s
    if is_old:
        path.unlink()
    return is_old


class RedisImageStore(ImageStore):
    """Stores images in Redis, with an expiry. Use a separate Redis without persistence, not the ledger's."""

    def __init__(self, url: str, ttl_s: int, part: str = "") -> None:
        # No retries in the client: callers decide when to retry.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=1.5, retry=Retry(NoBackoff(), 0)
        )
        self._ttl_s = ttl_s
        self._part = part

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [self._part + _new_ref() for _ in images]
        pipeline = self._redis.pipeline(transaction=False)
        for ref, data in zip(refs, images, strict=True):
            pipeline.set(keys.image(ref), data, ex=self._ttl_s)
        with _redis_available():
            pipeline.execute()
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        if not refs:
            return []
        with _redis_available():
            found: list[bytes | None] = self._redis.mget([keys.image(ref) for ref in refs])  # type: ignore[assignment]
        return found

    def _delete(self, refs: Sequence[str]) -> None:
        if refs:
            with _redis_available():
                self._redis.unlink(*(keys.image(ref) for ref in refs))


@contextmanager
def _redis_available() -> Iterator[None]:
    """Convert Redis errors in the `with` block to `UnavailableError`."""
    try:
        yield
    except redis.RedisError as error:
        reason = unavailable_reason(error) or f"failed ({error})"
        raise UnavailableError(f"The image store (Redis) {reason}. Try again shortly.") from error


class FsspecImageStore(ImageStore):
    """Stores images at any URL that fsspec supports. Install its driver separately, for example s3fs.

    Old images are not swept: set an expiry rule in the storage.
    """

    def __init__(self, url: str, part: str = "") -> None:
        import fsspec  # noqa: PLC0415 - slow to import, and only this store needs it

        self._files, self._root = fsspec.core.url_to_fs(url)
        self._part = part
        self._files.makedirs(f"{self._root}/{part}".rstrip("/"), exist_ok=True)

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [self._part + _new_ref() for _ in images]
        try:
            self._files.pipe({self._address(ref): data for ref, data in zip(refs, images, strict=True)})
        except OSError as error:
            raise UnavailableError("The image store is not writable. Try again later.") from error
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        found = self._files.cat([self._address(ref) for ref in refs], on_error="return") if refs else {}
        return [_bytes_or_none(found.get(self._address(ref))) for ref in refs]

    def _delete(self, refs: Sequence[str]) -> None:
        try:
            for ref in refs:
                if self._files.exists(self._address(ref)):
                    self._files.rm_file(self._address(ref))
        except OSError as error:
            raise UnavailableError("The image store is not writable. Try again later.") from error

    def _address(self, ref: str) -> str:
        return f"{self._root}/{ref}"


def _bytes_or_none(found: bytes | Exception | None) -> bytes | None:
    if found is None or isinstance(found, FileNotFoundError):
        return None
    if isinstance(found, Exception):
        raise UnavailableError("The image store is not readable. Try again later.") from found
    return found


def _new_ref() -> str:
    return secrets.token_hex(16)
