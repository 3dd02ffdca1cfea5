"""Read images from folders, tar and zip archives through one interface."""

import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from contract.junk import is_junk
from training.errors import TrainingError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
#: No photograph is larger than this. A larger member is a decompression bomb or a mistake.
_MAX_MEMBER_BYTES = 256 * 1024 * 1024
_MAX_MEMBERS = 10_000_000

_Member = TypeVar("_Member")


@dataclass(frozen=True)
class Archive:
    """The image files in a folder, tar or zip."""

    #: In the order that is fastest to read.
    names: list[str]
    #: Returns the bytes of one image.
    read: Callable[[str], bytes]


@contextmanager
def open_archive(path: Path, max_unpacked_bytes: float) -> Iterator[Archive]:
    """Open a folder, tar or zip for reading in place, without unpacking it to disk.

    Raises:
        TrainingError: the archive is missing or unreadable, contains paths outside its folder, or unpacks to more than
            `max_unpacked_bytes`. Some damage is found only when an image is read.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist. Set DATA to a folder, tar or zip of labeled images.")
    try:
        if path.is_dir():
            yield _folder(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zip_file:
                yield _zip(path, zip_file, max_unpacked_bytes)
        else:
            with tarfile.open(path) as tar_file:
                yield _tar(path, tar_file, max_unpacked_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zipfile.LargeZipFile, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile appends the error of every compression method
        raise TrainingError(f"{path} is not a readable folder, tar or zip ({reason}).") from error
    except OSError as error:
        if error.filename is None:  # raised by gzip, bz2 and lzma for damaged data
            raise TrainingError(f"{path} is damaged ({error}).") from error
        raise


def _folder(path: Path) -> Archive:
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return Archive(sorted(filter(_is_image, names)), lambda name: (path / name).read_bytes())


def _tar(path: Path, archive: tarfile.TarFile, max_unpacked_bytes: float) -> Archive:
    found = _within_limits(path, ((member, member.name, member.size) for member in archive), max_unpacked_bytes)
    members = {member.name: member for member in found if member.isreg() and _is_image(member.name)}

    def read(name: str) -> bytes:
        file = archive.extractfile(members[name])
        return file.read() if file else b""

    return Archive(list(members), read)


def _zip(path: Path, archive: zipfile.ZipFile, max_unpacked_bytes: float) -> Archive:
    listed = ((member, member.filename, member.file_size) for member in archive.infolist())
    found = _within_limits(path, listed, max_unpacked_bytes)
    members = {member.filename: member for member in found if not member.is_dir() and _is_image(member.filename)}

    def read(name: str) -> bytes:
        try:
            with archive.open(members[name]) as file:
                return file.read(_MAX_MEMBER_BYTES)
        except RuntimeError as error:  # encrypted
            raise TrainingError(f"{path}: cannot read {name} ({error}).") from error

    return Archive(list(members), read)


def _within_limits(path: Path, members: Iterable[tuple[_Member, str, int]], max_bytes: float) -> Iterator[_Member]:
    """Yield the members of `(member, name, size)`; reject unsafe paths and too much data before unpacking any."""
    total = 0
    for count, (member, name, size) in enumerate(members, start=1):
        total += size
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise TrainingError(f"{path} is rejected: its member {name!r} is outside the archive's folder.")
        if size > _MAX_MEMBER_BYTES:
            raise TrainingError(f"{path} is rejected: {name!r} is larger than {_MAX_MEMBER_BYTES >> 20} MiB.")
        if count > _MAX_MEMBERS:
            raise TrainingError(f"{path} is rejected: it has more than {_MAX_MEMBERS:,} members.")
        if total > max_bytes:
            raise TrainingError(
                f"{path} is rejected: it unpacks to more than {max_bytes / 1e9:g} GB "
                "(prepare.max_unpacked_gb in params.yaml)."
            )
        yield member


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not is_junk(name)
