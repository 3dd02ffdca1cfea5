"""Finds the image files to send, in name order, and reads them.

Only the names of one folder are in memory at a time.
"""

import errno
import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from contract.fetch import is_address
from contract.junk import is_junk
from pawqueue.client.jobs import read_whole, valid_unicode

#: File extensions of images, in lower case.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".bmp", ".gif", ".tif", ".tiff")
#: The argument that stands for a list of names on standard input.
STDIN = "-"
#: Called with each file of a folder that is not sent.
OnSkip = Callable[[Path], object]
#: Extensions counted one by one; further ones, and those that are too long to be one, are counted together.
_ENDINGS_MAX, _ENDING_MAX_CHARS = 20, 20
_READ_BYTES = 1 << 16
#: A larger file is not an image, and reading it could use up all memory.
_MAX_BYTES = 1_000_000_000


class MissingSourceError(Exception):
    """An argument matches no file or folder."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to send, and its name in the results."""

    path: Path
    #: Relative to the folder, with `/` between parts, valid Unicode.
    name: str
    #: Where the service fetches the image; empty for a file.
    address: str = ""

    @property
    def key(self) -> str | Path:
        """What identifies it in a run."""
        return self.address or self.path

    @classmethod
    def named(cls, path: Path) -> "FoundFile":
        """A file whose name in the results is its path."""
        return cls(path, valid_unicode(path.as_posix()))

    @classmethod
    def at(cls, address: str) -> "FoundFile":
        """An image at an address. Its name has no query, which may contain a signature."""
        return cls(path_of(address), valid_unicode(address.partition("?")[0]), address)


@dataclass(frozen=True, slots=True)
class FileContent:
    """The bytes of a file, and what identifies this version of it."""

    content: bytes
    sha256: bytes
    #: Changes whenever the file is touched.
    stamp: str


def find_files(
    arguments: Sequence[Path], *, every_file: bool = False, on_skip: OnSkip = lambda _path: None
) -> Iterator[FoundFile]:
    """Yield the images in folders, and files that are named directly.

    Files in folders are selected by their extension, or all with `every_file`; hidden files and system files are
    skipped. Links to folders are not followed, links to files only if the target is in the same folder. Names are
    relative to the folder; with several arguments each name begins with its argument. `on_skip` is called for every
    file that is skipped because of its extension.
    """
    for argument in arguments:
        base = argument if len(arguments) == 1 and argument.is_dir() else None
        yield from _named(argument, base, every_file=every_file, on_skip=on_skip)


def find_sources(
    arguments: Sequence[str], *, every_file: bool, on_skip: OnSkip, stdin: BinaryIO, separator: bytes
) -> Iterator[FoundFile]:
    """Yield the files that command-line arguments name: folders, files, patterns, and `-` for a list on `stdin`.

    Names are relative to a single folder; otherwise each begins with its argument. Patterns that the shell did not
    expand (`'photos/**/*.jpg'`) are expanded here. A listed file that does not exist is yielded too: its row in the
    results gives the reason. Arguments and lists may contain addresses; one of a bucket as an argument stands for all
    images whose address begins with it.

    Raises:
        MissingSourceError: an argument matches nothing.
    """
    if len(arguments) == 1 and arguments[0] != STDIN and Path(arguments[0]).is_dir():
        yield from find_files([Path(arguments[0])], every_file=every_file, on_skip=on_skip)
        return
    for argument in arguments:
        if is_address(argument):
            yield from _at(argument, every_file=every_file, on_skip=on_skip)
            continue
        for name in _expanded(argument, stdin, separator):
            if isinstance(name, str):
                yield FoundFile.at(name)
            else:
                yield from _named(name, None, every_file=every_file, on_skip=on_skip)


def listed_files(file: BinaryIO, separator: bytes) -> Iterator[FoundFile]:
    """Yield the files and addresses that a list names."""
    for name in _listed(file, separator):
        yield FoundFile.at(name) if isinstance(name, str) else FoundFile.named(name)


def path_of(address: str) -> Path:
    """The path in an address: the name of its last folder can be a label."""
    _, _, path = address.partition("://")[2].partition("?")[0].partition("/")
    return Path(unquote(path).lstrip("/"))


def _at(address: str, *, every_file: bool, on_skip: OnSkip) -> Iterator[FoundFile]:
    """Yield an address, or all images of a bucket whose address begins with it."""
    if address.startswith(("http://", "https://")):
        yield FoundFile.at(address)
        return
    for found in _objects(address):
        if every_file or found.lower().endswith(ENDINGS):
            yield FoundFile.at(found)
        else:
            on_skip(path_of(found))


def _objects(prefix: str) -> list[str]:
    """The addresses of the objects of a bucket, in name order."""
    try:
        import fsspec  # noqa: PLC0415 - an extra, which only buckets need

        files, path = fsspec.core.url_to_fs(prefix)
        found = sorted(files.find(path))
    except (ImportError, ValueError) as error:
        raise MissingSourceError(f"{prefix!r} cannot be listed ({error}). Install fsspec and its driver.") from error
    # Drivers raise errors of their libraries.
    except Exception as error:
        raise MissingSourceError(f"{prefix!r} cannot be listed ({type(error).__name__}: {error}).") from error
    if not found:
        raise MissingSourceError(f"There is nothing at {prefix!r}. Check the address.")
    scheme = prefix.partition("://")[0]
    return [f"{scheme}://{name.lstrip('/')}" for name in found]


def count_skipped(counts: Counter[str], path: Path) -> None:
    """Count a skipped file by its extension, or as a link or special file.

    The number of different extensions is limited.
    """
    reason = valid_unicode(path.suffix.lower()) or "without extension"
    if path.is_symlink():
        reason = "links out of the folder"
    elif not path.is_file():
        reason = "special files"
    elif len(reason) > _ENDING_MAX_CHARS or (reason not in counts and len(counts) >= _ENDINGS_MAX):
        reason = "other extensions"
    counts[reason] += 1


def skipped_text(counts: Counter[str]) -> str:
    """For example `3 files skipped: 2 .txt, 1 .jp2`."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    files = "1 file" if counts.total() == 1 else f"{counts.total():,} files"
    return f"{files} skipped: {', '.join(f'{number:,} {ending}' for ending, number in ranked)}"


def folder_name(folder: str | os.PathLike[str]) -> str:
    """The last part of a path, made absolute first so that `.` and `..` have a name."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100 - `resolve` would follow links


def read_file(path: Path) -> FileContent:
    """Read and hash a file; raises OSError, also for a file that is far too large to be an image."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size > _MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        stamp = _stamp(status)
        content = read_whole(file)
    return FileContent(content, hashlib.sha256(content).digest(), stamp)


def stamp_of(path: Path) -> str:
    """A value that changes whenever the file is touched; raises OSError."""
    return _stamp(path.stat())


def sha256_of(path: Path) -> bytes:
    """The hash of a file's content; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _named(argument: Path, base: Path | None, *, every_file: bool, on_skip: OnSkip) -> Iterator[FoundFile]:
    """Yield a file, or the files of a folder; names are relative to `base` if there is one."""
    if not argument.is_dir():
        yield FoundFile.named(argument)
        return
    for path in _walk(argument, argument, every_file=every_file, on_skip=on_skip):
        yield FoundFile.named(path) if base is None else FoundFile(path, FoundFile.named(path.relative_to(base)).name)


def _walk(folder: Path, root: Path, *, every_file: bool, on_skip: OnSkip) -> Iterator[Path]:
    try:
        names = _selected_names(folder, root, every_file=every_file, on_skip=on_skip)
    except OSError:
        # Yielded like a file: the sender fails to read it too, and its row in the results gives the reason.
        yield folder
        return
    for name, is_folder in names:
        if is_folder:
            yield from _walk(folder / name, root, every_file=every_file, on_skip=on_skip)
        else:
            yield folder / name


def _selected_names(folder: Path, root: Path, *, every_file: bool, on_skip: OnSkip) -> list[tuple[str, bool]]:
    """The names of images and folders in a folder, each with whether it is a folder."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or is_junk(entry.name):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or _is_selected(entry, root, every_file=every_file):
                names.append((entry.name, is_folder))
            elif not entry.is_dir():
                on_skip(folder / entry.name)
    return sorted(names)


def _is_selected(entry: os.DirEntry[str], root: Path, *, every_file: bool) -> bool:
    if not every_file and not entry.name.lower().endswith(ENDINGS):
        return False
    return _is_inside(entry.path, root) if entry.is_symlink() else entry.is_file()


def _is_inside(link: str, root: Path) -> bool:
    """Whether a link points to a regular file in `root`."""
    target = Path(os.path.realpath(link))
    return target.is_file() and target.is_relative_to(os.path.realpath(root))


def _expanded(argument: str, stdin: BinaryIO, separator: bytes) -> Iterator[Path | str]:
    if argument == STDIN:
        yield from _listed(stdin, separator)
    elif Path(argument).exists():
        yield Path(argument)
    else:
        yield from _matches(argument)


def _listed(file: BinaryIO, separator: bytes) -> Iterator[Path | str]:
    """The names of a list: a path, or an address as text."""
    for line in _split(file, separator):
        name = os.fsdecode(line)
        yield name.strip() if is_address(name) else Path(name)


def _matches(pattern: str) -> list[Path]:
    found = sorted(glob.iglob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207 - supports `**`
    files = [Path(name) for name in found if not Path(name).is_dir()]
    if not files:
        raise MissingSourceError(f"No file or folder matches {pattern!r}. Check the path.")
    return files


def _split(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Split a stream of any length; empty names are skipped."""
    rest = b""
    while piece := stream.read(_READ_BYTES):
        *names, rest = (rest + piece).split(separator)
        yield from (name for name in names if name)
    if rest:
        yield rest


def _stamp(status: os.stat_result) -> str:
    # Unlike the modification time, the inode change time (ctime) cannot be set back.
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
