"""Labeled images are predicted a few at a time, and show whether other options are better."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.manifest import InputSpec
from importer.check import check_folder
from importer.request import ImportFailedError
from importer.scale import SCALES, Scale
from tests.support.images import draw


class BrightnessPlan:
    """Stands in for `importer.writing.Plan`: with the scale 0..1, the network tells bright images from dark ones."""

    labels = ("dark", "bright")
    input = InputSpec(height=8, width=8)
    network = SimpleNamespace(form=SimpleNamespace(channels=3))

    def __init__(self, scale: str = "0..1") -> None:
        self.scale = SCALES[scale]
        self.sizes: list[int] = []

    def probabilities(self, pixels: NDArray[np.uint8], scale: Scale | None = None) -> NDArray[np.float32]:
        self.sizes.append(len(pixels))
        bright = pixels.mean(axis=(1, 2, 3)) > (128 if (scale or self.scale).name == "0..1" else 0)
        return np.stack([~bright, bright], axis=1).astype(np.float32)


def write_images(folder: Path, count: int) -> Path:
    for label, color in (("dark", (20, 20, 20)), ("bright", (230, 230, 230))):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number}.png").write_bytes(draw((8, 8), color))
    return folder


def check(plan: BrightnessPlan, folder: Path) -> Any:
    return check_folder(plan, folder)  # type: ignore[arg-type]


def test_few_images_are_in_memory_at_a_time(tmp_path: Path) -> None:
    plan = BrightnessPlan()
    found = check(plan, write_images(tmp_path, 100))
    assert (found.images, found.accuracy, found.confusion) == (200, 1.0, [[100, 0], [0, 100]])
    assert sum(plan.sizes) == 200
    assert max(plan.sizes) <= 64


def test_another_scale_is_advised_if_it_is_better(tmp_path: Path) -> None:
    found = check(BrightnessPlan("none"), write_images(tmp_path, 4))
    assert (found.accuracy, found.advice.options, found.advice.accuracy) == (0.5, "--scale 0..1", 1.0)


def test_files_that_are_no_images_are_skipped(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2)
    (folder / "dark" / "notes.txt").write_text("no image")
    found = check(BrightnessPlan(), folder)
    assert (found.images, found.skipped) == (4, 1)


def test_a_folder_without_readable_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    (tmp_path / "dark" / "notes.txt").write_text("no image")
    with pytest.raises(ImportFailedError, match="none of the files is a readable image"):
        check(BrightnessPlan(), tmp_path)
