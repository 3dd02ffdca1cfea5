"""Where the training images come from: the list of sources, and the labeled image files in each.

`list_sources` writes names, sizes and checksums to `data/sources.csv`, and paths to `data/locations.csv`. DVC tracks
only the first as an input, so moving the data does not trigger retraining.
"""

import glob
import hashlib
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle.manifest import sha256_of
from contract.csv_text import Cell, csv_line, read_records
from training.data.archives import open_archive
from training.errors import TrainingError

SOURCES_FILE = Path("data/sources.csv")
#: Kaggle's flat names: the label is the part before the first dot.
_FLAT_NAME = re.compile(r"^([A-Za-z][\w-]*)\.\d+\.\w+$")


@dataclass(frozen=True)
class Source:
    """A folder or archive of images."""

    name: str
    size_bytes: int
    sha256: str
    path: Path


@dataclass(frozen=True)
class LabeledFile:
    """An encoded image with its label."""

    #: Name of the source and path within it; unique across sources.
    name: str
    label: str
    data: bytes


def list_sources(patterns: list[str], file: Path) -> list[Source]:
    """Find folders and archives by path or glob, list them in `file` and in `locations.csv` beside it, and return them.

    Raises:
        TrainingError: nothing matches, or two sources share a name.
    """
    sources = [_describe(path) for pattern in patterns for path in _matches(pattern)]
    names = [source.name for source in sources]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise TrainingError(f"DATA names {', '.join(sorted(duplicates))} twice. Give each source a unique name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(file, [("name", "size_bytes", "sha256"), *((s.name, s.size_bytes, s.sha256) for s in sources)])
    _write_csv(_locations_file(file), [("name", "path"), *((s.name, str(s.path.resolve())) for s in sources)])
    return sources


def read_locations(file: Path) -> list[Path]:
    """Return the paths of the sources that `list_sources` wrote for `file`.

    Raises:
        TrainingError: the list is missing or empty.
    """
    locations = _locations_file(file)
    if not locations.is_file():
        raise TrainingError(f"{locations} is missing. Run `make train DATA=path` to create it.")
    with locations.open(encoding="utf-8", newline="") as text:
        paths = [Path(row["path"]) for row in read_records(text)]
    if not paths:
        raise TrainingError(f"{locations} lists no sources. Run `make train DATA=path` again.")
    return paths


def read_sources(paths: list[Path], *, rename: dict[str, str], max_unpacked_bytes: float) -> Iterator[LabeledFile]:
    """Yield every labeled image in `paths`. `rename` maps label names in the data, such as `cats`, to labels.

    Raises:
        TrainingError: a source is missing, unreadable, rejected (see `open_archive`), or contains no labeled images.
    """
    for path in paths:
        with open_archive(path, max_unpacked_bytes) as archive:
            labels = label_names(archive.names)
            if not labels:
                raise TrainingError(
                    f"{path} contains no labeled images. Use class folders (cats/1.jpg) or flat names (cat.1.jpg)."
                )
            for name, label in labels.items():
                yield LabeledFile(f"{path.name}/{name}", rename.get(label, label), archive.read(name))


def label_names(names: list[str]) -> dict[str, str]:
    """Map image names to labels in lower case; names without a label are left out.

    The label is the name of the folder (`Cat/1.jpg`). In a folder of flat names with several labels, and for flat names
    without a folder, it is the part before the first dot (`train/cat.0.jpg` beside `train/dog.0.jpg`).
    """
    folders = defaultdict(list)
    for name in names:
        folders[PurePosixPath(name).parent].append(PurePosixPath(name).name)
    flat = {folder for folder, files in folders.items() if _is_flat(folder.name, files)}
    labels = {}
    for name in names:
        path = PurePosixPath(name)
        label = path.name.split(".", 1)[0] if path.parent in flat else path.parent.name
        if label:
            labels[name] = label.lower()
    return labels


def _is_flat(folder: str, files: list[str]) -> bool:
    matches = [_FLAT_NAME.match(file) for file in files]
    prefixes = {match[1].lower() for match in matches if match}
    return all(matches) and (len(prefixes) > 1 or not folder)


def _matches(pattern: str) -> list[Path]:
    """Expand one word of DATA: a path, a glob, or several of them in one quoted string."""
    if Path(pattern).exists():
        return [Path(pattern)]
    found = sorted(Path(match) for match in glob.glob(pattern))  # noqa: PTH207 (absolute patterns)
    if found:
        return found
    if len(parts := shlex.split(pattern)) > 1:
        return [path for part in parts for path in _matches(part)]
    raise TrainingError(f"DATA: nothing matches {pattern!r}. Give a folder, tar or zip of labeled images.")


def _describe(path: Path) -> Source:
    if path.is_file():
        return Source(path.name, path.stat().st_size, sha256_of(path), path)
    digest, total = hashlib.sha256(), 0
    with open_archive(path, float("inf")) as folder:
        for name in folder.names:
            data = folder.read(name)
            total += len(data)
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return Source(path.resolve().name, total, digest.hexdigest(), path)


def _locations_file(file: Path) -> Path:
    return file.with_name("locations.csv")


def _write_csv(file: Path, rows: Sequence[Sequence[Cell]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        text.writelines(map(csv_line, rows))
