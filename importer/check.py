"""Predicts labeled images with an imported network; if many are wrong, finds out which options would be better."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bundle.decode import UndecodableImageError, decode
from bundle.target import Resize, Target
from importer.request import ImportFailedError
from importer.scale import SCALES, Scale

if TYPE_CHECKING:
    from importer.writing import Plan  # loads TensorFlow

#: Images that are predicted, and those with which other options are tried; spread over the labels.
_MAX_IMAGES, _TRIED_IMAGES = 2000, 240
#: Images that are in memory at a time while all are predicted.
_AT_ONCE = 64
#: Below this accuracy, other options are tried.
_LOW = 0.9
#: By how much another option must be better to be worth telling. An order of the labels is chosen among many, so the
#: best one is better by chance, too.
_BETTER, _CLEARLY_BETTER = 0.03, 0.15
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
    advice: Advice | None = None

    def lines(self) -> list[str]:
        """The findings as text."""
        found = [f"{self.accuracy:.1%} of {self.images} images are right".replace("%", " %")]
        if self.skipped:
            found.append(f"{self.skipped} files are no readable images and were skipped")
        if self.accuracy_of_tried is not None:
            text = f"{self.accuracy_of_tried:.0%} as given; ".replace("%", " %")
            if self.advice:
                text += f"{self.advice.accuracy:.0%} with ".replace("%", " %") + self.advice.options
            else:
                text += "no other scale, resize rule or order of the labels is better"
            found.append(text)
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


def check_folder(plan: "Plan", folder: Path) -> Checked:
    """Predict the images in the subfolders of `folder`, which are named after the labels.

    Raises:
        ImportFailedError: there are no images, or a subfolder has another name.
    """
    files = _spread(_labeled_files(folder, plan.labels), _MAX_IMAGES)
    truth, predicted, used = _predict_files(plan, files)
    if not used:
        raise ImportFailedError(f"--check {folder}: none of the files is a readable image.")
    confusion = _confusion(truth, predicted, len(plan.labels))
    found = Checked(
        images=len(used),
        skipped=len(files) - len(used),
        accuracy=float((predicted == truth).mean()),
        labels=plan.labels,
        confusion=confusion.tolist(),
    )
    if found.accuracy >= _LOW:
        return found
    tried = _spread(used, _TRIED_IMAGES)
    of_given, advice = _try_others(plan, tried)
    return replace(found, accuracy_of_tried=of_given, advice=advice)


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


def _predict_files(plan: "Plan", files: Sequence[_File]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[_File]]:
    """The true and the predicted labels, and the files that are readable images."""
    truth, predicted, used = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
    for at in range(0, len(files), _AT_ONCE):
        pixels, numbers, readable = _decode(files[at : at + _AT_ONCE], plan.input.target)
        if readable:
            truth.append(numbers)
            predicted.append(_predicted(plan, pixels, plan.scale))
            used += readable
    return np.concatenate(truth), np.concatenate(predicted), used


def _decode(files: Sequence[_File], target: Target) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[_File]]:
    pixels, used = [], []
    for path, number in files:
        try:
            pixels.append(decode(path.read_bytes(), *target).pixels)
        except (UndecodableImageError, OSError):
            continue
        used.append((path, number))
    return np.array(pixels), np.array([number for _, number in used]), used


def _confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    return np.bincount(truth * labels + predicted, minlength=labels**2).reshape(labels, labels)


def _try_others(plan: "Plan", files: Sequence[_File]) -> tuple[float, Advice | None]:
    """The accuracy of the given options for these images, and options that are better, if there are any.

    First the scale and the order of the labels are changed, then the resize rule.
    """
    pixels, truth, _ = _decode(files, plan.input.target)
    given = _predicted(plan, pixels, plan.scale)
    found = of_given = float((given == truth).mean())
    scale, order, options = plan.scale, list(range(len(plan.labels))), []
    is_grey = plan.network.form.channels == 1
    usable = [
        one for one in SCALES.values() if one != plan.scale and not (is_grey and (one.bgr or len(one.factors) > 1))
    ]
    for other in (plan.scale, *usable):
        predicted = given if other == plan.scale else _predicted(plan, pixels, other)
        changed = [f"--scale {other.name}"] if other != plan.scale else []
        right = float((predicted == truth).mean())
        if right > found + _BETTER:
            scale, order, options, found = other, list(range(len(plan.labels))), changed, right
        better_order = _best_order(truth, predicted, len(plan.labels))
        right = float((np.array(better_order)[predicted] == truth).mean())
        if right > found + _CLEARLY_BETTER:
            names = ",".join(plan.labels[at] for at in better_order)
            scale, order, options, found = other, better_order, [*changed, f"--labels {names}"], right
    before, chosen = found, list(options)
    for resize in _RESIZES:
        if resize != plan.input.resize:
            resized, _, _ = _decode(files, plan.input.target._replace(resize=resize))
            right = float((np.array(order)[_predicted(plan, resized, scale)] == truth).mean())
            if right > max(found, before + _BETTER):
                found, options = right, [*chosen, f"--resize {resize}"]
    return of_given, Advice(" ".join(options), found) if options else None


def _predicted(plan: "Plan", pixels: NDArray[np.uint8], scale: Scale) -> NDArray[np.int64]:
    found: NDArray[np.int64] = plan.probabilities(pixels, scale).argmax(axis=1)
    return found


def _best_order(truth: NDArray[np.int64], predicted: NDArray[np.int64], count: int) -> list[int]:
    """For each output, the label that makes most images right; each label is used once."""
    left = _confusion(truth, predicted, count).astype(np.int64)
    order = [0] * count
    for _ in range(count):  # the most frequent pair of true label and output first
        row, column = (int(at) for at in np.unravel_index(left.argmax(), left.shape))
        order[column] = row
        left[row, :] = left[:, column] = -1
    return order
