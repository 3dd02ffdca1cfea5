"""Predicts labeled images with an imported network; if many are wrong, finds out which options would be better."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.decode import UndecodableImageError, decode
from bundle.target import Resize, Target
from importer.errors import ImportFailedError
from importer.scale import SCALES, Scale
from importer.writing import Plan

#: Images that are predicted, and those with which other options are tried; spread over the labels.
_MAX_IMAGES, _TRIED_IMAGES = 2000, 240
#: Below this accuracy, other options are tried.
_LOW = 0.9
#: By how much another option must be better to be worth telling.
_BETTER = 0.03
_RESIZES: tuple[Resize, ...] = ("squash", "crop", "pad")


@dataclass(frozen=True)
class Advice:
    """Options that give a higher accuracy."""

    options: str
    accuracy: float


@dataclass(frozen=True)
class Checked:
    """What `--check` found."""

    images: int
    #: Files that are no readable images.
    skipped: int
    accuracy: float
    labels: list[str]
    #: Number of images by true label (rows) and predicted label (columns).
    confusion: list[list[int]]
    #: Of the same images with which the advice was found; None if nothing else was tried.
    accuracy_of_tried: float | None = None
    advice: list[Advice] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The findings as text."""
        found = [f"{self.accuracy:.1%} of {self.images} images are right".replace("%", " %")]
        if self.skipped:
            found.append(f"{self.skipped} files are no readable images and were skipped")
        if self.accuracy_of_tried is not None:
            best = [f"{advice.accuracy:.0%} with {advice.options}".replace("%", " %", 1) for advice in self.advice]
            given = f"{self.accuracy_of_tried:.0%} as given".replace("%", " %")
            found.append(
                "; ".join([given, *best]) if best else f"{given}; no other scale, resize rule or label order is better"
            )
        return [*found, *self._matrix()]

    def _matrix(self) -> list[str]:
        if len(self.labels) > 12:
            matrix = np.array(self.confusion)
            np.fill_diagonal(matrix, 0)
            worst = np.argsort(matrix, axis=None)[::-1][:10]
            pairs = [tuple(map(int, np.unravel_index(at, matrix.shape))) for at in worst if matrix.flat[at]]
            return [
                f"{matrix[row, column]} x {self.labels[row]} predicted as {self.labels[column]}"
                for row, column in pairs
            ]
        width = max(len(label) for label in self.labels)
        cell = max(width, 6)
        head = " ".join(["true, then predicted:".ljust(width), *(label.rjust(cell) for label in self.labels)])
        rows = [
            " ".join([label.ljust(max(width, 21)), *(str(count).rjust(cell) for count in row)])
            for label, row in zip(self.labels, self.confusion, strict=True)
        ]
        return [head, *rows]


def check_folder(plan: Plan, folder: Path) -> Checked:
    """Predict the images in the subfolders of `folder`, which are named after the labels.

    Raises:
        ImportFailedError: there are no images, or a subfolder has another name.
    """
    files = _labeled_files(folder, plan.labels)
    target = plan.input.target
    pixels, truth, used = _decode(_spread(files, _MAX_IMAGES), target)
    if not used:
        raise ImportFailedError(f"--check {folder}: none of the files is a readable image.")
    predicted = plan.probabilities(pixels).argmax(axis=1)
    confusion = _confusion(truth, predicted, len(plan.labels))
    found = Checked(
        images=len(used),
        skipped=min(len(files), _MAX_IMAGES) - len(used),
        accuracy=float((predicted == truth).mean()),
        labels=plan.labels,
        confusion=confusion.tolist(),
    )
    if found.accuracy >= _LOW:
        return found
    tried = _spread(used, _TRIED_IMAGES)
    of_given, advice = _try_others(plan, tried)
    return Checked(**(vars(found) | {"accuracy_of_tried": of_given, "advice": advice}))


_File = tuple[Path, int]


def _labeled_files(folder: Path, labels: Sequence[str]) -> list[_File]:
    if not folder.is_dir():
        raise ImportFailedError(f"--check: {folder} is not a folder.")
    found: list[_File] = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if path.name not in labels:
            raise ImportFailedError(
                f"--check {folder}: the subfolder {path.name!r} is not one of the labels ({', '.join(labels[:10])})."
            )
        number = labels.index(path.name)
        found += [
            (file, number) for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")
        ]
    if not found:
        raise ImportFailedError(f"--check {folder}: expected subfolders named after the labels, with images.")
    return found


def _spread(files: Sequence[_File], count: int) -> list[_File]:
    """At most `count` files, evenly from the list, which is sorted by label."""
    if len(files) <= count:
        return list(files)
    return [files[at] for at in np.linspace(0, len(files) - 1, count).round().astype(int)]


def _decode(files: Sequence[_File], target: Target) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[_File]]:
    pixels, used = [], []
    for path, number in files:
        try:
            pixels.append(decode(path.read_bytes(), *target).pixels)
        except (UndecodableImageError, OSError):
            continue
        used.append((path, number))
    shape = (0, target.height, target.width, 3)
    return np.stack(pixels) if pixels else np.empty(shape, np.uint8), np.array([number for _, number in used]), used


def _confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    return np.bincount(truth * labels + predicted, minlength=labels**2).reshape(labels, labels)


def _try_others(plan: Plan, files: Sequence[_File]) -> tuple[float, list[Advice]]:
    """The accuracy of the given options for these images, and what is better, the best first.

    One option after the other is changed: first the scale, then the resize rule, then the order of the labels.
    """
    pixels, truth, _ = _decode(files, plan.input.target)
    given = best = _accuracy(plan, pixels, truth, plan.scale)
    scale, options, advice = plan.scale, [], []
    scales = [] if plan.network.form.channels == 1 else list(SCALES.values())
    scales = scales or [one for one in SCALES.values() if len(one.factors) == 1]
    for other in scales:
        accuracy = _accuracy(plan, pixels, truth, other)
        if other != plan.scale and accuracy > best + _BETTER:
            scale, best, options = other, accuracy, [f"--scale {other.name}"]
    if options:
        advice.append(Advice(" ".join(options), best))
    best_pixels, before = pixels, best
    resize_options: list[str] = []
    for resize in _RESIZES:
        if resize == plan.input.resize:
            continue
        resized, _, _ = _decode(files, plan.input.target._replace(resize=resize))
        accuracy = _accuracy(plan, resized, truth, scale)
        if accuracy > max(best, before + _BETTER):
            best, best_pixels, resize_options = accuracy, resized, [f"--resize {resize}"]
    if resize_options:
        options += resize_options
        advice.append(Advice(" ".join(options), best))
    order = _better_order(plan.labels, truth, plan.probabilities(best_pixels, scale).argmax(axis=1))
    if order and order[1] > best + _BETTER:
        advice.append(Advice(" ".join([*options, f"--labels {','.join(order[0])}"]), order[1]))
    advice.sort(key=lambda one: one.accuracy, reverse=True)
    return given, advice


def _accuracy(plan: Plan, pixels: NDArray[np.uint8], truth: NDArray[np.int64], scale: Scale) -> float:
    values = plan.probabilities(pixels, scale)
    return float((values.argmax(axis=1) == truth).mean()) if np.isfinite(values).all() else 0.0


def _better_order(
    labels: Sequence[str], truth: NDArray[np.int64], predicted: NDArray[np.int64]
) -> tuple[list[str], float] | None:
    """The labels in the order with which most images are right, and their share; None if it is the given one."""
    left = _confusion(truth, predicted, len(labels)).astype(np.int64)
    total, order = int(left.sum()), [-1] * len(labels)
    right = 0
    for _ in labels:  # the most frequent pair of true and predicted label first
        row, column = (int(at) for at in np.unravel_index(left.argmax(), left.shape))
        order[column] = row
        right += max(0, int(left[row, column]))
        left[row, :] = left[:, column] = -1
    if all(one < other for one, other in pairwise(order)):
        return None
    return [labels[at] for at in order], right / total
