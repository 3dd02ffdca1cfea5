"""Where images wait between gateway and worker: beside the queue, never in a message nor in the append-only file."""

import os
import secrets
import struct
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.errors import UnavailableError
from contract.ledger import keys

#: Of ioctl_iflags(2) on 64-bit Linux: read and write a folder's flags; ext4's "the folders in here are unrelated".
_GET_FLAGS, _SET_FLAGS, _TOPDIR = 0x80086601, 0x40086602, 0x00020000


class ImageStore(ABC):
    """Keeps the bytes of images by reference; methods raise `UnavailableError` when the store fails."""

    @abstractmethod
    def put(self, data: bytes) -> str:
        """Store an image; returns the reference that a job record carries."""

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        """Store images, in one round trip where the store can; returns their references."""
        return [self.put(data) for data in images]

    @abstractmethod
    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        """Read images in one round trip; None for one that is gone."""

    @abstractmethod
    def delete(self, refs: Sequence[str]) -> None:
        """Forget images; unknown references are passed over."""

    def sweep(self, older_than_s: float) -> int:
        """Forget and count images that were stored longer ago; stores that do so by themselves need not."""
        del older_than_s
        return 0


class FileImageStore(ImageStore):
    """Images as files under one folder, which gateway and workers share."""

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
            Path(path).unlink(missing_ok=True)
            raise UnavailableError(f"The image store cannot be written ({error.strerror}); try again later.") from error
        return ref

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        return [self._read(ref) for ref in refs]

    def delete(self, refs: Sequence[str]) -> None:
        for ref in refs:
            with suppress(FileNotFoundError):
                os.unlink(self._path(ref))  # noqa: PTH108 - text: see `_path`

    def sweep(self, older_than_s: float) -> int:
        before_s, swept = time.time() - older_than_s, 0
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before_s:
                    path.unlink()
                    swept += 1
        return swept

    def _read(self, ref: str) -> bytes | None:
        try:
            with open(self._path(ref), "rb", buffering=0) as file:  # noqa: PTH123 - text: see `_path`
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"The image store cannot be read ({error.strerror}).") from error

    def _path(self, ref: str) -> str:
        """Spread over 256 folders, so that none grows slow to list. Text: a `Path` costs as much as the reading."""
        return f"{self._root}/{ref[:2]}/{ref}"


def _write(path: str, data: bytes) -> None:
    # Without a file object, which costs as much as half of the system calls.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


class RedisImageStore(ImageStore):
    """Images in a Redis of their own, one that keeps nothing on disk."""

    def __init__(self, url: str, ttl_s: int) -> None:
        # No retries: the caller says 503, or asks again by itself.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=1.5, retry=Retry(NoBackoff(), 0)
        )
        self._ttl_s = ttl_s

    def put(self, data: bytes) -> str:
        ref = _new_ref()
        self._call("set", keys.image(ref), data, ex=self._ttl_s)
        return ref

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [_new_ref() for _ in images]
        pipeline = self._redis.pipeline(transaction=False)
        for ref, data in zip(refs, images, strict=True):
            pipeline.set(keys.image(ref), data, ex=self._ttl_s)
        self._call("execute", on=pipeline)
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = self._call("mget", [keys.image(ref) for ref in refs]) if refs else []
        return found

    def delete(self, refs: Sequence[str]) -> None:
        if refs:
            self._call("unlink", *(keys.image(ref) for ref in refs))

    def _call(self, command: str, *arguments: Any, on: Any = None, **options: Any) -> Any:
        try:
            return getattr(on or self._redis, command)(*arguments, **options)
        except redis.RedisError as error:
            raise UnavailableError("The image store (Redis) does not answer; try again shortly.") from error


class FsspecImageStore(ImageStore):
    """Images at any address that fsspec knows, such as s3://bucket/folder (its package is to be installed beside)."""

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415 - heavy, and needed by this store alone

        self._files, self._root = fsspec.core.url_to_fs(url)
        self._files.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        ref = _new_ref()
        try:
            self._files.pipe_file(self._address(ref), data)
        except OSError as error:
            raise UnavailableError("The image store cannot be written; try again later.") from error
        return ref

    def put_many(self, images: Sequence[bytes]) -> list[str]:
        refs = [_new_ref() for _ in images]
        try:  # at the same time, where the file system can
            self._files.pipe({self._address(ref): data for ref, data in zip(refs, images, strict=True)})
        except OSError as error:
            raise UnavailableError("The image store cannot be written; try again later.") from error
        return refs

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        found = self._files.cat([self._address(ref) for ref in refs], on_error="return") if refs else {}
        return [self._bytes_of(found.get(self._address(ref))) for ref in refs]

    def delete(self, refs: Sequence[str]) -> None:
        for ref in refs:
            if self._files.exists(self._address(ref)):
                self._files.rm_file(self._address(ref))

    def _address(self, ref: str) -> str:
        return f"{self._root}/{ref}"

    @staticmethod
    def _bytes_of(found: bytes | Exception | None) -> bytes | None:
        if found is None or isinstance(found, FileNotFoundError):
            return None
        if isinstance(found, Exception):
            raise UnavailableError("The image store cannot be read.") from found
        return found


def open_image_store(url: str, ttl_s: int) -> ImageStore:
    """Open the store at `url`: a folder's path, `file://`, `redis://`, or any address that fsspec knows."""
    if url.startswith(("redis://", "rediss://", "unix://")):
        return RedisImageStore(url, ttl_s)
    if "://" not in url or url.startswith("file://"):
        return FileImageStore(Path(url.removeprefix("file://")))
    return FsspecImageStore(url)


def _new_ref() -> str:
    return secrets.token_hex(16)


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
