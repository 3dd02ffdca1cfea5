"""Stage 1: decode every image once, drop what is useless, and split the rest so that nothing alike crosses."""

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
from training.prepared import ImageFacts, split_writers, write_labels
from training.sources import LabelledFile, read_sources
from training.survey import SPLITS, Surveyed, map_in_threads, survey


def prepare(paths: list[Path], params: Params, out: Path) -> None:
    """Write splits and report of the images at `paths` to the folder `out`, which appears only when whole.

    Raises:
        TrainingError: a source cannot be read, or holds too little to train on.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    images = survey(tqdm(_read(paths, params), desc="survey", unit=" images"), params.prepare)
    _check_disk(images, params, out.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        kept = {image.name: image for image in images if not image.dropped}
        files = (file for file in _read(paths, params) if file.name in kept)
        _write_splits(tqdm(files, desc="decode", unit=" images", total=len(kept)), kept, params, unfinished)
        write_labels(unfinished, {image.label for image in kept.values()})
        write_report(images, unfinished)
        replace_folder(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read(paths: list[Path], params: Params) -> Iterator[LabelledFile]:
    limit = params.prepare.max_unpacked_gb * 1e9
    return read_sources(paths, rename=params.prepare.rename, max_unpacked_bytes=limit)


def image_size(split: str, params: Params) -> tuple[int, int]:
    """Height and width at which a split is kept: held-out images just as a worker would decode them."""
    factor = params.prepare.enlarge if split == "train" else 1
    return round(params.input.height * factor), round(params.input.width * factor)


def _shapes(images: Iterable[Surveyed], params: Params) -> dict[str, tuple[int, int, int, int]]:
    counts = Counter(image.split for image in images)
    return {split: (counts[split], *image_size(split, params), 3) for split in SPLITS}


def _check_disk(images: Iterable[Surveyed], params: Params, folder: Path) -> None:
    needed = sum(int(np.prod(shape)) for shape in _shapes(images, params).values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"The disk of {folder} has {free / 1e9:.1f} GB free and the prepared images need {needed / 1e9:.1f}; "
            "free some, or lower input.height and input.width in params.yaml."
        )


def _write_splits(files: Iterable[LabelledFile], kept: dict[str, Surveyed], params: Params, folder: Path) -> None:
    def decoded(file: LabelledFile) -> tuple[Surveyed, NDArray[np.uint8]]:
        image = kept[file.name]
        return image, decode(file.data, *image_size(image.split, params)).pixels

    with split_writers(folder, _shapes(kept.values(), params)) as writers:
        for image, pixels in map_in_threads(decoded, files):
            facts = ImageFacts(image.name, image.label, image.sha256, image.width, image.height)
            writers[image.split].append(pixels, facts)


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
