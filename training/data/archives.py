"""One interface to folders, tar and zip archives: the names of the images and the bytes of each."""

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from training.errors import TrainingError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
#: No photograph is larger; a member that declares more is a decompression bomb or a mistake.
_MAX_MEMBER_BYTES = 256 * 1024 * 1024
_MAX_MEMBERS = 10_000_000


class Archive(Protocol):
    """A collection of image files."""

    def names(self) -> list[str]:
        """Names of all images, in the order that is fastest to read."""

    def read(self, name: str) -> bytes:
        """Bytes of one image."""


@contextmanager
def open_archive(path: Path, max_unpacked_bytes: float) -> Iterator[Archive]:
    """Open a folder, tar or zip for reading in place, without unpacking it to disk.

    Raises:
        TrainingError: the archive is missing or unreadable, contains paths outside its folder, or unpacks to more than
            `max_unpacked_bytes`. Damage may only be found while images are read.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist. Set DATA to a folder, tar or zip of labelled images.")
    try:
        if path.is_dir():
            yield _Folder(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _Zip(path, archive, max_unpacked_bytes)
        else:
            with tarfile.open(path) as archive_tar:
                yield _Tar(path, archive_tar, max_unpacked_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zipfile.LargeZipFile, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile appends the error of every compression method
        raise TrainingError(f"{path} is not a readable folder, tar or zip ({reason}).") from error
    except OSError as error:
        if error.filename is None:  # raised by gzip, bz2 and lzma for damaged data
            raise TrainingError(f"{path} is damaged ({error}).") from error
        raise


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(
            str(file.relative_to(self._path).as_posix())
            for file in self._path.rglob("*")
            if _is_image(file.name) and file.is_file()
        )

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()


class _Tar:
    def __init__(self, path: Path, archive: tarfile.TarFile, max_unpacked_bytes: float) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        limits = _Limits(path, max_unpacked_bytes)
        for member in archive:
            limits.check(member.name, member.size)
            if member.isreg() and _is_image(member.name):
                self._members[member.name] = member

    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        return file.read() if file else b""


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile, max_unpacked_bytes: float) -> None:
        self._path, self._archive = path, archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        limits = _Limits(path, max_unpacked_bytes)
        for member in archive.infolist():
            limits.check(member.filename, member.file_size)
            if not member.is_dir() and _is_image(member.filename):
                self._members[member.filename] = member

    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        try:
            with self._archive.open(self._members[name]) as file:
                return file.read(_MAX_MEMBER_BYTES)
        except RuntimeError as error:  # encrypted
            raise TrainingError(f"{self._path}: cannot read {name} ({error}).") from error


class _Limits:
    """Rejects archives with unsafe paths, oversized members or too much data, before anything is unpacked."""

    def __init__(self, path: Path, max_bytes: float) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._bytes = self._members = 0

    def check(self, name: str, size: int) -> None:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise TrainingError(f"{self._path} is rejected: its member {name!r} is outside the archive's folder.")
        self._members += 1
        self._bytes += size
        if size > _MAX_MEMBER_BYTES:
            raise TrainingError(f"{self._path} is rejected: {name!r} is larger than any image.")
        if self._members > _MAX_MEMBERS:
            raise TrainingError(f"{self._path} is rejected: it has more than {_MAX_MEMBERS:,} members.")
        if self._bytes > self._max_bytes:
            raise TrainingError(
                f"{self._path} is rejected: it unpacks to more than {self._max_bytes / 1e9:g} GB "
                "(prepare.max_unpacked_gb in params.yaml)."
            )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts
