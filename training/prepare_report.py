"""What `prepare` found: counts, dropped pictures, groups of alike ones, and a contact sheet a class."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from training.prepared import read_split
from training.survey import Surveyed

_SHEET_COLUMNS, _SHEET_ROWS, _THUMB_SIDE = 12, 8, 96


def write_report(pictures: list[Surveyed], folder: Path) -> None:
    """Write `report.json` and `contact-LABEL.jpg` into the folder of prepared pictures.

    The sheets show the data and, like it, stay untracked.
    """
    (folder / "report.json").write_text(json.dumps(summarize(pictures), indent=2) + "\n", encoding="utf-8")
    for label in sorted({picture.label for picture in pictures if not picture.dropped}):
        _contact_sheet(folder, label).save(folder / f"contact-{label}.jpg", quality=85)


def summarize(pictures: list[Surveyed]) -> dict[str, object]:
    """Count what was kept, what was dropped and why, and what looks alike."""
    kept = [picture for picture in pictures if not picture.dropped]
    groups = defaultdict(list)
    for picture in kept:
        groups[picture.group].append(picture.name)
    return {
        "found": len(pictures),
        "kept": len(kept),
        "by_split_and_label": _counts(kept),
        "width_px": _quartiles([picture.width for picture in kept]),
        "height_px": _quartiles([picture.height for picture in kept]),
        "size_bytes": _quartiles([picture.size_bytes for picture in kept]),
        "dropped_by_reason": dict(Counter(p.dropped.split(":")[0].split(" of ")[0] for p in pictures if p.dropped)),
        "dropped": {picture.name: picture.dropped for picture in pictures if picture.dropped},
        "alike": [sorted(names) for names in groups.values() if len(names) > 1],
    }


def _counts(kept: list[Surveyed]) -> dict[str, dict[str, int]]:
    counts = Counter((picture.split, picture.label) for picture in kept)
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
