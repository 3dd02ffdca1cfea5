"""Stage 1: drop unusable images, split the rest, and store their decoded pixels."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.decode import decode
from bundle.staging import staged_folder
from training.data.sources import SOURCES_FILE, LabeledFile, read_locations, read_sources
from training.data.splits import SPLITS, ImageFacts, read_split, split_writers, write_labels
from training.data.survey import SurveyedImage, map_in_threads, survey
from training.errors import TrainingError, run_command
from training.files import PARAMS_FILE, PREPARED, parse_paths
from training.params import Params, read_params
from training.terminal import progress_bar

_SHEET_COLUMNS, _SHEET_ROWS, _THUMB_SIDE = 12, 8, 96


def prepare(paths: list[Path], params: Params, out: Path) -> None:
    """Write the splits, `report.json` and a contact sheet per class to the folder `out`.

    Raises:
        TrainingError: a source cannot be read, there are too few images, or the disk is full.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    images = survey(progress_bar(_read(paths, params), desc="survey", unit=" images"), params.prepare)
    _check_disk(images, params, out.parent)
    with staged_folder(out) as folder:
        kept = {image.name: image for image in images if not image.dropped}
        files = (file for file in _read(paths, params) if file.name in kept)
        _write_splits(progress_bar(files, desc="decode", unit=" images", total=len(kept)), kept, params, folder)
        labels = sorted({image.label for image in kept.values()})
        write_labels(folder, labels)
        (folder / "report.json").write_text(json.dumps(_report(images), indent=2) + "\n", encoding="utf-8")
        for label in labels:
            _contact_sheet(folder, label).save(folder / f"contact-{label}.jpg", quality=85)


def _read(paths: list[Path], params: Params) -> Iterator[LabeledFile]:
    limit = params.prepare.max_unpacked_gb * 1e9
    return read_sources(paths, rename=params.prepare.rename, max_unpacked_bytes=limit)


def _image_size(split: str, params: Params) -> tuple[int, int]:
    """Height and width of a split's images. Validation and test images are decoded exactly as in workers."""
    factor = params.prepare.enlarge if split == "train" else 1
    return round(params.input.height * factor), round(params.input.width * factor)


def _shapes(images: Iterable[SurveyedImage], params: Params) -> dict[str, tuple[int, int, int, int]]:
    counts = Counter(image.split for image in images)
    return {split: (counts[split], *_image_size(split, params), 3) for split in SPLITS}


def _check_disk(images: Iterable[SurveyedImage], params: Params, folder: Path) -> None:
    needed = sum(int(np.prod(shape)) for shape in _shapes(images, params).values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"Disk is full: the prepared images need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free. "
            "Free some space, or lower input.height and input.width in params.yaml."
        )


def _write_splits(files: Iterable[LabeledFile], kept: dict[str, SurveyedImage], params: Params, folder: Path) -> None:
    def decoded(file: LabeledFile) -> tuple[SurveyedImage, NDArray[np.uint8]]:
        image = kept[file.name]
        return image, decode(file.data, *_image_size(image.split, params)).pixels

    with split_writers(folder, _shapes(kept.values(), params)) as writers:
        for image, pixels in map_in_threads(decoded, files):
            facts = ImageFacts(image.name, image.label, image.sha256, image.width, image.height)
            writers[image.split].append(pixels, facts)


def _report(images: list[SurveyedImage]) -> dict[str, object]:
    """Counts of kept and dropped images with the reasons, sizes, and groups of near-duplicates."""
    kept = [image for image in images if not image.dropped]
    dropped = {image.name: image.dropped for image in images if image.dropped}
    groups = defaultdict(list)
    for image in kept:
        groups[image.group].append(image.name)
    splits: dict[str, dict[str, int]] = {}
    for (split, label), count in sorted(Counter((image.split, image.label) for image in kept).items()):
        splits.setdefault(split, {})[label] = count
    return {
        "found": len(images),
        "kept": len(kept),
        "by_split_and_label": splits,
        "width_px": _quartiles([image.width for image in kept]),
        "height_px": _quartiles([image.height for image in kept]),
        "size_bytes": _quartiles([image.size_bytes for image in kept]),
        "dropped_by_reason": dict(Counter(reason.split(":")[0].split(" of ")[0] for reason in dropped.values())),
        "dropped": dropped,
        "alike": [sorted(names) for names in groups.values() if len(names) > 1],
    }


def _quartiles(values: list[int]) -> list[int]:
    return [int(value) for value in np.percentile(values, [0, 25, 50, 75, 100])]


def _contact_sheet(folder: Path, label: str) -> Image.Image:
    split = read_split(folder, "train")
    shown = [row for row, fact in enumerate(split.facts) if fact.label == label][: _SHEET_COLUMNS * _SHEET_ROWS]
    sheet = Image.new("RGB", (_SHEET_COLUMNS * _THUMB_SIDE, _SHEET_ROWS * _THUMB_SIDE), "white")
    for position, row in enumerate(shown):
        down, across = divmod(position, _SHEET_COLUMNS)
        thumb = Image.fromarray(split.pixels[row]).resize((_THUMB_SIDE, _THUMB_SIDE))
        sheet.paste(thumb, (across * _THUMB_SIDE, down * _THUMB_SIDE))
    return sheet


def main() -> None:
    """Run the stage."""
    paths = parse_paths("training.stages.prepare", __doc__, sources=SOURCES_FILE, params=PARAMS_FILE, out=PREPARED)
    prepare(read_locations(paths.sources), read_params(paths.params), paths.out)


if __name__ == "__main__":
    run_command(main)
