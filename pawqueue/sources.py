"""What the command line names as images: folders, files, patterns, and lists on standard input."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pawqueue.files import FoundFile, find_files, walk

#: The argument that stands for a list on standard input.
STDIN = "-"
_READ_BYTES = 1 << 16


class MissingSourceError(Exception):
    """An argument names nothing that is there."""


def find_sources(
    arguments: Sequence[str], *, every_file: bool, stdin: BinaryIO, separator: bytes
) -> Iterator[FoundFile]:
    """Yield the files that the arguments name, in order.

    A folder alone gives names relative to it; otherwise each name begins with what was given. A pattern that the
    shell has left alone (`'photos/**/*.jpg'`) is resolved here. A file on a list that is not there is handed on, so
    that the results say so.

    Raises:
        MissingSourceError: an argument names nothing.
    """
    if len(arguments) == 1 and arguments[0] != STDIN and Path(arguments[0]).is_dir():
        yield from find_files([Path(arguments[0])], every_file=every_file)
        return
    for argument in arguments:
        for path in _paths(argument, stdin, separator):
            yield from walk(path, None, every_file=every_file)


def _paths(argument: str, stdin: BinaryIO, separator: bytes) -> Iterator[Path]:
    if argument == STDIN:
        yield from (Path(os.fsdecode(name)) for name in _names(stdin, separator))
    elif Path(argument).exists():
        yield Path(argument)
    else:
        yield from _matches(argument)


def _matches(pattern: str) -> list[Path]:
    found = sorted(glob.iglob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207 - it knows `**`
    files = [Path(name) for name in found if not Path(name).is_dir()]
    if not files:
        raise MissingSourceError(f"{pattern!r} does not exist.")
    return files


def _names(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Split a stream; empty names are passed over."""
    rest = b""
    while piece := stream.read(_READ_BYTES):
        *names, rest = (rest + piece).split(separator)
        yield from (name for name in names if name)
    if rest:
        yield rest
