"""Finds the files to send, in order of name, one folder's names in memory at a time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pawqueue.text import valid_unicode

#: File name endings of images, in lower case.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to send, and its name in the results."""

    path: Path
    #: Relative to the folder, with `/` between parts, valid Unicode.
    name: str

    @classmethod
    def of(cls, path: Path) -> "FoundFile":
        """A file under the name by which it was given."""
        return cls(path, valid_unicode(path.as_posix()))


def find_files(arguments: Sequence[Path], *, every_file: bool = False) -> Iterator[FoundFile]:
    """Walk folders and take files as named.

    Files in folders are taken by their ending, or all with `every_file`; hidden ones are passed over. Links to folders
    are not followed, links to files only where they stay within their folder. Names are relative to the folder; with
    several arguments each name begins with its argument.
    """
    for argument in arguments:
        yield from walk(argument, argument if len(arguments) == 1 else None, every_file=every_file)


def walk(argument: Path, base: Path | None, *, every_file: bool) -> Iterator[FoundFile]:
    """Yield a file, or the files of a folder, with names relative to `base`, if that is a folder, else as they are."""
    for path in _walk(argument, argument, every_file=every_file) if argument.is_dir() else [argument]:
        name = path.relative_to(base) if base and base.is_dir() else path
        yield FoundFile(path, valid_unicode(name.as_posix()))


def _walk(folder: Path, root: Path, *, every_file: bool) -> Iterator[Path]:
    try:
        names = _wanted_names(folder, root, every_file=every_file)
    except OSError:
        # It is handed on like a file, so that the results say why it could not be read.
        yield folder
        return
    for name, is_folder in names:
        if is_folder:
            yield from _walk(folder / name, root, every_file=every_file)
        else:
            yield folder / name


def _wanted_names(folder: Path, root: Path, *, every_file: bool) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, is_folder)
            for entry in entries
            if not entry.name.startswith(".")
            and ((is_folder := entry.is_dir(follow_symlinks=False)) or _is_wanted(entry, root, every_file=every_file))
        )


def _is_wanted(entry: os.DirEntry[str], root: Path, *, every_file: bool) -> bool:
    if not every_file and not entry.name.lower().endswith(ENDINGS):
        return False
    return _stays_within(entry.path, root) if entry.is_symlink() else entry.is_file()


def _stays_within(link: str, root: Path) -> bool:
    """Whether a link leads to a regular file in `root`."""
    target = Path(os.path.realpath(link))
    return target.is_file() and target.is_relative_to(os.path.realpath(root))
