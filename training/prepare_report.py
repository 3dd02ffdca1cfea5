"""What `prepare` found: counts, dropped images, groups of alike ones, and a contact sheet a class."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from training.prepared import read_split
from training.survey import Surveyed

_SHEET_COLUMNS, _SHEET_ROWS, _THUMB_SIDE = 12, 8, 96


def write_report(images: list[Surveyed], folder: Path) -> None:
    """Write `report.json` and `contact-LABEL.jpg` into the folder of prepared images.

    The sheets show the data and, like it, stay untracked.
    """
    (folder / "report.json").write_text(json.dumps(summarize(images), indent=2) + "\n", encoding="utf-8")
    for label in sorted({image.label for image in images if not image.dropped}):
        _contact_sheet(folder, label).save(folder / f"contact-{label}.jpg", quality=85)


def summarize(images: list[Surveyed]) -> dict[str, object]:
    """Count what was kept, what was dropped and why, and what looks alike."""
    kept = [image for image in images if not image.dropped]
    groups = defaultdict(list)
    for image in kept:
        groups[image.group].append(image.name)
    return {
        "found": len(images),
        "kept": len(kept),
        "by_split_and_label": _counts(kept),
        "width_px": _quartiles([image.width for image in kept]),
        "height_px": _quartiles([image.height for image in kept]),
        "size_bytes": _quartiles([image.size_bytes for image in kept]),
        "dropped_by_reason": dict(Counter(p.dropped.split(":")[0].split(" of ")[0] for p in images if p.dropped)),
        "dropped": {image.name: image.dropped for image in images if image.dropped},
        "alike": [sorted(names) for names in groups.values() if len(names) > 1],
    }


def _counts(kept: list[Surveyed]) -> dict[str, dict[str, int]]:
    counts = Counter((image.split, image.label) for image in kept)
    splits: dict[str, dict[str, int]] = {}
    for (split, label), count in sorted(counts.items()):
        splits.setdefault(split, {})[label] = count
    return splits


def _quartiles(values: list[int]) -> list[int]:
    return [int(value) for value in np.percentile(values, [0, 25, 50, 75, 100])]


def _contact_sheet(folder: Path, label: str) -> Image.Image:
    split = read_split(folder, "train")
    shown = [row for row, fact in enumerate(split.facts) if fact.label == label][: _SHEET_COLUMNS * _SHEET_ROWS]
    sheet = Image.new("RGB", (_SHEET_COLUMNS * _THUMB_SIDE, _SHEET_ROWS * _THUMB_SIDE), "white")
    for place, row in enumerate(shown):
        down, across = divmod(place, _SHEET_COLUMNS)
        thumb = Image.fromarray(split.pixels[row]).resize((_THUMB_SIDE, _THUMB_SIDE))
        sheet.paste(thumb, (across * _THUMB_SIDE, down * _THUMB_SIDE))
    return sheet
