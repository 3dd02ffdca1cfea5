"""Storage for uploaded images until a worker has processed them. The queue messages contain only job ids."""

import os
import secrets
import struct
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.errors import UnavailableError
from contract.ledger import keys
from contract.ledger.connection import unavailable_reason


class ImageStore(ABC):
    """Stores images by reference; methods raise `UnavailableError` if the store fails."""

    @abstractmethod
    def put(self, data: bytes) -> str:
        """Store an image; returns its reference."""

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        """Store images, in one round trip if the store supports it; returns their references."""
        return [self.put(data) for data in images]

    @abstractmethod
    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        """Read images, in one round trip if the store supports it; None for a missing one."""

    @abstractmethod
    def delete(self, refs: Sequence[str]) -> None:
        """Delete images; unknown references are ignored."""

    def sweep(self, older_than_s: float) -> int:
        """Delete old images and return their number. The default deletes nothing and returns 0."""
        del older_than_s
        return 0


def open_image_store(url: str, ttl_s: int) -> ImageStore:
    """Open the image store at a folder, or at a `file://`, `redis://` or fsspec URL."""
    if url.startswith(("redis://", "rediss://", "unix://")):
        return RedisImageStore(url, ttl_s)
    if "://" not in url or url.startswith("file://"):
        return FileImageStore(Path(url.removeprefix("file://")))
    return FsspecImageStore(url)


class FileImageStore(ImageStore):
    """Stores images as files in a folder that the gateway and the workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = str(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        spread_subfolders(folder)

    def put(self, data: bytes) -> str:
        ref = _new_ref()
        path = self._path(ref)
        try:
            try:
                _write(path, data)
            except FileNotFoundError:
                Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                _write(path, data)
        except OSError as error:
            with suppress(OSError):
                Path(path).unlink()
            raise _not_writable(error) from error
        return ref

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs: list[str] = []
        try:
            for data in images:
                refs.append(self.put(data))  # noqa: PERF401 - if one fails, the images before it are deleted
        except UnavailableError:
            with suppress(UnavailableError):
                self.delete(refs)  # or every retry of a group would fill the disk further
            raise
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        return [self._read(ref) for ref in refs]

    def delete(self, refs: Sequence[str]) -> None:
        failure: OSError | None = None
        for ref in refs:
            try:
                os.unlink(self._path(ref))  # noqa: PTH108 - a str: see `_path`
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = error  # delete the others first
        if failure:
            raise _not_writable(failure) from failure

    def sweep(self, older_than_s: float) -> int:
        before_s, swept = time.time() - older_than_s, 0
        for path in self._folder.glob("??/*"):
            try:
                if path.stat().st_mtime < before_s:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _not_writable(error) from error
        return swept

    def _read(self, ref: str) -> bytes | None:
        try:
            with open(self._path(ref), "rb", buffering=0) as file:  # noqa: PTH123 - a str: see `_path`
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"The image store is not readable ({error.strerror}). Try again later.") from error

    def _path(self, ref: str) -> str:
        """The path of an image in one of 256 subfolders. Building a `Path` would take as long as reading the file."""
        return f"{self._root}/{ref[:2]}/{ref}"


def _not_writable(error: OSError) -> UnavailableError:
    return UnavailableError(f"The image store is not writable ({error.strerror}). Try again later.")


def _write(path: str, data: bytes) -> None:
    # Use system calls, because a file object takes 50% longer.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


#: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of ioctl_iflags(2), on 64-bit Linux.
_GET_FLAGS, _SET_FLAGS, _TOPDIR = 0x80086601, 0x40086602, 0x00020000


def spread_subfolders(folder: Path) -> bool:
    """Make ext4 place new subfolders of `folder` in different block groups; returns False on other file systems.

    Before ext4 gives a new file an inode, it skips every free inode of the subfolder's block group that was in use in
    the last few minutes (`recently_deleted` in fs/ext4/ialloc.c). With all images in one block group, that search takes
    longer than writing the image.
    """
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - not available on every system

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


class RedisImageStore(ImageStore):
    """Stores images in Redis, with an expiry. Use a separate Redis without persistence, not the ledger's."""

    def __init__(self, url: str, ttl_s: int) -> None:
        # No retries in the client: callers decide when to retry.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=1.5, retry=Retry(NoBackoff(), 0)
        )
        self._ttl_s = ttl_s

    def put(self, data: bytes) -> str:
        ref = _new_ref()
        with _redis_available():
            self._redis.set(keys.image(ref), data, ex=self._ttl_s)
        return ref

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [_new_ref() for _ in images]
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

    def delete(self, refs: Sequence[str]) -> None:
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

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415 - slow to import, and only this store needs it

        self._files, self._root = fsspec.core.url_to_fs(url)
        self._files.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        return self.put_many([data])[0]

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [_new_ref() for _ in images]
        try:
            self._files.pipe({self._address(ref): data for ref, data in zip(refs, images, strict=True)})
        except OSError as error:
            raise UnavailableError("The image store is not writable. Try again later.") from error
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        found = self._files.cat([self._address(ref) for ref in refs], on_error="return") if refs else {}
        return [_bytes_or_none(found.get(self._address(ref))) for ref in refs]

    def delete(self, refs: Sequence[str]) -> None:
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
