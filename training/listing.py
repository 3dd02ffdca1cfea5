"""`data/sources.csv`: what the training data is, by name, size and checksum, and beside it where it lies."""

import argparse
import csv
import glob
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.manifest import sha256_of
from training.archives import open_archive
from training.errors import TrainingError, run_command

SOURCES_FILE = Path("data/sources.csv")


@dataclass(frozen=True)
class Source:
    """One folder or archive of images."""

    name: str
    size_bytes: int
    sha256: str
    path: Path


def list_sources(given: list[str], file: Path) -> list[Source]:
    """Find the folders and archives named by paths or globs and write them to `file`, untouched if nothing changed.

    Stages depend on `file`, which names no outside path; where each source lies is kept in a second file beside it,
    so that data that merely moved trains nothing anew.

    Raises:
        TrainingError: nothing matches, or two sources share a name.
    """
    paths = [path for words in given for path in _matches(words)]
    sources = [_describe(path) for path in paths]
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TrainingError(f"DATA names {', '.join(sorted(twice))} twice; give each source a name of its own.")
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [("name", "size_bytes", "sha256"), *((s.name, s.size_bytes, s.sha256) for s in sources)]
    _write_csv(file, rows)
    _write_csv(_locations_file(file), [("name", "path"), *((s.name, s.path.resolve()) for s in sources)])
    return sources


def read_locations(file: Path) -> list[Path]:
    """Paths of the sources that `list_sources` wrote.

    Raises:
        TrainingError: the list is missing or names nothing.
    """
    locations = _locations_file(file)
    if not locations.is_file():
        raise TrainingError(f"{locations} is missing; run `make train DATA=path`, which writes it.")
    with locations.open(encoding="utf-8", newline="") as text:
        paths = [Path(row["path"]) for row in csv.DictReader(text)]
    if not paths:
        raise TrainingError(f"{locations} names no source; run `make train DATA=path` again.")
    return paths


def _locations_file(file: Path) -> Path:
    return file.with_name("locations.csv")


def _matches(words: str) -> list[Path]:
    """Find what one word of DATA stands for: a path, a glob, or several of them in one quoted text."""
    if Path(words).exists():
        return [Path(words)]
    found = sorted(Path(match) for match in glob.glob(words))  # noqa: PTH207 (absolute patterns)
    if found:
        return found
    if len(parts := shlex.split(words)) > 1:
        return [path for part in parts for path in _matches(part)]
    raise TrainingError(f"DATA: nothing matches {words!r}; give a folder, tar or zip of labelled images.")


def _describe(path: Path) -> Source:
    if path.is_file():
        return Source(path.name, path.stat().st_size, sha256_of(path), path)
    digest, total = hashlib.sha256(), 0
    with open_archive(path, float("inf")) as folder:
        for name in folder.names():
            data = folder.read(name)
            total += len(data)
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return Source(path.resolve().name, total, digest.hexdigest(), path)


def _write_csv(file: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows(rows)


def main() -> None:
    """Read the command line and write the list."""
    parser = argparse.ArgumentParser(
        prog="python -m training.listing",
        description=__doc__,
        epilog="example: python -m training.listing '../images/*.tar'",
    )
    parser.add_argument("data", nargs="+", help="folders, archives or quoted globs of them")
    parser.add_argument("--out", type=Path, default=SOURCES_FILE)
    given = parser.parse_args()
    for source in list_sources(given.data, given.out):
        print(f"{source.name}: {source.size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
