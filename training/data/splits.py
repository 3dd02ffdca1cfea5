"""The prepared images on disk. Each split is one array of decoded pixels and one table with a row per image."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.csv_text import csv_line, read_records
from training.errors import TrainingError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageFacts:
    """One row of a split's table."""

    name: str
    label: str
    sha256: str
    #: Size of the original, in pixels.
    width: int
    height: int


@dataclass(frozen=True)
class Split:
    """One split of the prepared data."""

    #: uint8, (n, height, width, 3), memory-mapped.
    pixels: NDArray[np.uint8]
    facts: list[ImageFacts]
    labels: list[str]

    @property
    def targets(self) -> NDArray[np.int64]:
        """Index of each image's label, (n,)."""
        position = {label: index for index, label in enumerate(self.labels)}
        return np.array([position[fact.label] for fact in self.facts], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the checksums and labels of the original files."""
        digest = hashlib.sha256()
        for fact in sorted(self.facts, key=lambda fact: fact.sha256):
            digest.update(f"{fact.sha256} {fact.label}\n".encode())
        return digest.hexdigest()


def read_split(folder: Path, split: str) -> Split:
    """Return a split of the prepared data.

    Raises:
        TrainingError: the folder does not hold the split.
    """
    try:
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as text:
            rows = list(read_records(text))
        pixels = np.load(folder / f"{split}.npy", mmap_mode="r")
        labels = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder} contains no {split} split ({error}). Run `dvc repro prepare`.") from error
    facts = [ImageFacts(r["name"], r["label"], r["sha256"], int(r["width"]), int(r["height"])) for r in rows]
    return Split(pixels, facts, labels)


def write_labels(folder: Path, labels: Iterable[str]) -> None:
    """Write the class names, in the order of the network's outputs."""
    (folder / "labels.txt").write_text("\n".join(sorted(labels)), encoding="utf-8")


class SplitWriter:
    """Appends images of one size to a split.

    It writes to a plain file: if the disk is full, a memory map would crash the process instead of raising OSError.
    """

    def __init__(self, folder: Path, split: str, shape: tuple[int, int, int, int]) -> None:
        self._array = (folder / f"{split}.npy").open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._array, header)
        self._table = (folder / f"{split}.csv").open("w", encoding="utf-8", newline="")
        self._table.write(csv_line(field.name for field in fields(ImageFacts)))

    def append(self, pixels: NDArray[np.uint8], facts: ImageFacts) -> None:
        """Add one image, uint8 (height, width, 3)."""
        self._array.write(pixels.tobytes())
        self._table.write(csv_line(astuple(facts)))

    def close(self) -> None:
        """Close both files."""
        self._array.close()
        self._table.close()


@contextmanager
def split_writers(folder: Path, shapes: dict[str, tuple[int, int, int, int]]) -> Iterator[dict[str, SplitWriter]]:
    """Open a writer for each split; `shapes` holds the shape (n, height, width, 3) of each array."""
    writers = {split: SplitWriter(folder, split, shape) for split, shape in shapes.items()}
    try:
        yield writers
    finally:
        for writer in writers.values():
            writer.close()
