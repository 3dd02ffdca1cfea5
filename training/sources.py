"""Labelled images out of any number of folders and archives."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.archives import open_archive
from training.errors import TrainingError

#: Kaggle's flat naming: the label before the first dot.
_FLAT_NAME = re.compile(r"^([A-Za-z][\w-]*)\.\d+\.\w+$")


@dataclass(frozen=True)
class LabelledFile:
    """One image file, still encoded."""

    #: Name of the source and path within it, unique over all sources.
    name: str
    label: str
    data: bytes


def read_sources(paths: list[Path], *, rename: dict[str, str], max_unpacked_bytes: float) -> Iterator[LabelledFile]:
    """Yield every image of `paths` with its label; `rename` maps names found, such as `cats`, to labels.

    Raises:
        TrainingError: a source is missing, unreadable, refused (see `archives`) or holds no labelled image.
    """
    for path in paths:
        with open_archive(path, max_unpacked_bytes) as archive:
            labels = label_names(archive.names())
            if not labels:
                raise TrainingError(
                    f"{path} holds no labelled image: give class folders (cats/1.jpg) or flat names (cat.1.jpg)."
                )
            for name, label in labels.items():
                yield LabelledFile(f"{path.name}/{name}", rename.get(label, label), archive.read(name))


def label_names(names: list[str]) -> dict[str, str]:
    """Give each image's name its label, in lower case; names without one are left out.

    The label is the folder's name (`Cat/1.jpg`), or what stands before the first dot where one folder holds several
    such labels or has no name (`train/cat.0.jpg` beside `train/dog.0.jpg`).
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
