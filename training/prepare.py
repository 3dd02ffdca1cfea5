"""Stage 1: decode every picture once, drop what is useless, and split the rest so that nothing alike crosses."""

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bundle.decode import decode
from training.errors import TrainingError, run_command
from training.folders import replace_folder
from training.listing import SOURCES_FILE, read_locations
from training.params import Params, read_params
from training.prepare_report import write_report
from training.prepared import PictureFacts, split_writers, write_labels
from training.sources import LabelledFile, read_sources
from training.survey import SPLITS, Surveyed, map_in_threads, survey


def prepare(paths: list[Path], params: Params, out: Path) -> None:
    """Write splits and report of the pictures at `paths` to the folder `out`, which appears only when whole.

    Raises:
        TrainingError: a source cannot be read, or holds too little to train on.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures = survey(tqdm(_read(paths, params), desc="survey", unit=" pictures"), params.prepare)
    _check_disk(pictures, params, out.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        kept = {picture.name: picture for picture in pictures if not picture.dropped}
        files = (file for file in _read(paths, params) if file.name in kept)
        _write_splits(tqdm(files, desc="decode", unit=" pictures", total=len(kept)), kept, params, unfinished)
        write_labels(unfinished, {picture.label for picture in kept.values()})
        write_report(pictures, unfinished)
        replace_folder(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read(paths: list[Path], params: Params) -> Iterator[LabelledFile]:
    limit = params.prepare.max_unpacked_gb * 1e9
    return read_sources(paths, rename=params.prepare.rename, max_unpacked_bytes=limit)


def picture_size(split: str, params: Params) -> tuple[int, int]:
    """Height and width at which a split is kept: held-out pictures just as a worker would decode them."""
    factor = params.prepare.enlarge if split == "train" else 1
    return round(params.input.height * factor), round(params.input.width * factor)


def _shapes(pictures: Iterable[Surveyed], params: Params) -> dict[str, tuple[int, int, int, int]]:
    counts = Counter(picture.split for picture in pictures)
    return {split: (counts[split], *picture_size(split, params), 3) for split in SPLITS}


def _check_disk(pictures: Iterable[Surveyed], params: Params, folder: Path) -> None:
    needed = sum(int(np.prod(shape)) for shape in _shapes(pictures, params).values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"The disk of {folder} has {free / 1e9:.1f} GB free and the prepared pictures need {needed / 1e9:.1f}; "
            "free some, or lower input.height and input.width in params.yaml."
        )


def _write_splits(files: Iterable[LabelledFile], kept: dict[str, Surveyed], params: Params, folder: Path) -> None:
    def decoded(file: LabelledFile) -> tuple[Surveyed, NDArray[np.uint8]]:
        picture = kept[file.name]
        return picture, decode(file.data, *picture_size(picture.split, params)).pixels

    with split_writers(folder, _shapes(kept.values(), params)) as writers:
        for picture, pixels in map_in_threads(decoded, files):
            facts = PictureFacts(picture.name, picture.label, picture.sha256, picture.width, picture.height)
            writers[picture.split].append(pixels, facts)


def main() -> None:
    """Read the command line and run the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare",
        description=__doc__,
        epilog="example: python -m training.prepare --sources data/sources.csv",
    )
    parser.add_argument("--sources", type=Path, default=SOURCES_FILE)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("build/prepared"))
    given = parser.parse_args()
    prepare(read_locations(given.sources), read_params(given.params), given.out)


if __name__ == "__main__":
    run_command(main)
