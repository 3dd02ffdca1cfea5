"""Compare two models on the test images that they share, which neither was trained on.

Each bundle contains its predictions on its test images, identified by checksum, so the images are not needed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bundle.manifest import Interval
from contract.csv_text import csv_line, read_csv
from contract.share import mcnemar
from training.data.splits import Split
from training.errors import TrainingError
from training.files import PREDICTIONS_FILE
from training.quality.calibration import (
    Classes,
    Probabilities,
    calibration_error,
    calibration_error_of,
    calibration_gaps,
    recentred,
)

#: Maximum p-value at which a model counts as better.
SIGNIFICANCE = 0.05
_ROUNDS = 1000
_DIGITS = 6


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on n test images."""

    #: SHA-256 (hex) of each image file.
    checksums: list[str]
    #: (n,)
    truth: Classes
    #: (n, labels)
    probabilities: Probabilities
    labels: list[str]


def render_predictions(test: Split, probabilities: Probabilities) -> str:
    """Return the predictions as CSV, one row per test image, in the order of `test`."""
    rows = zip(test.facts, np.round(probabilities, _DIGITS).tolist(), strict=True)
    lines = [csv_line([fact.sha256, fact.label, *row]) for fact, row in rows]
    return "".join([csv_line(["sha256", "label", *test.labels]), *lines])


def read_predictions(source: Path) -> Predictions:
    """Read the predictions from a file, or from `PREDICTIONS_FILE` in a folder.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    path = source if source.is_file() else source / PREDICTIONS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = read_csv(file)
        labels = header[2:]
        truth = np.array([labels.index(row[1]) for row in rows], dtype=np.int64)
        probabilities = np.array([[float(value) for value in row[2:]] for row in rows])
        probabilities = probabilities.reshape(len(rows), len(labels))
    except (OSError, ValueError, IndexError) as error:
        raise TrainingError(f"Cannot read {path} ({error}). Evaluate and export the model again.") from error
    return Predictions([row[0] for row in rows], truth, probabilities, labels)


@dataclass(frozen=True)
class Comparison:
    """A challenger and a champion on the same images."""

    images: int
    challenger_accuracy: float
    champion_accuracy: float
    #: Number of images that only this model predicts correctly.
    only_challenger: int
    only_champion: int
    #: Two-sided exact McNemar test.
    p_value: float
    challenger_calibration: float
    champion_calibration: float
    #: Calibration error of the challenger minus that of the champion.
    calibration_change: Interval

    @property
    def is_better(self) -> bool:
        """Whether the challenger is correct on significantly more images."""
        return self.only_challenger > self.only_champion and self.p_value < SIGNIFICANCE

    @property
    def calibration_is_worse(self) -> bool:
        """Whether the challenger's calibration error is significantly larger."""
        return (self.calibration_change.low or 0) > 0

    def to_json(self) -> dict[str, object]:
        """Return the members of `pawqueue models compare --json`."""
        values = asdict(self) | {"calibration_change": self.calibration_change.model_dump()}
        count = {"pictures": values.pop("images")}  # the JSON member keeps its old name
        return count | values | {"is_better": self.is_better, "calibration_is_worse": self.calibration_is_worse}


def compare(challenger: Predictions, champion: Predictions) -> Comparison:
    """Return the comparison of two models on the test images that they share.

    Raises:
        TrainingError: they share no test images, or have different labels.
    """
    if challenger.labels != champion.labels:
        raise TrainingError(
            "The models have different labels and cannot be compared: "
            f"{', '.join(challenger.labels)}; {', '.join(champion.labels)}."
        )
    champion_row = {checksum: row for row, checksum in enumerate(champion.checksums)}
    shared = [(row, champion_row[image]) for row, image in enumerate(challenger.checksums) if image in champion_row]
    if not shared:
        raise TrainingError("The models share no test images. Train both on the same data with the same prepare.seed.")
    rows, old_rows = (np.array(column) for column in zip(*shared, strict=True))
    truth = challenger.truth[rows]
    new, old = challenger.probabilities[rows], champion.probabilities[old_rows]
    new_correct, old_correct = new.argmax(axis=1) == truth, old.argmax(axis=1) == truth
    only_challenger, only_champion = int((new_correct & ~old_correct).sum()), int((old_correct & ~new_correct).sum())
    return Comparison(
        images=len(shared),
        challenger_accuracy=float(new_correct.mean()),
        champion_accuracy=float(old_correct.mean()),
        only_challenger=only_challenger,
        only_champion=only_champion,
        p_value=mcnemar(only_challenger, only_champion),
        challenger_calibration=calibration_error(new, truth),
        champion_calibration=calibration_error(old, truth),
        calibration_change=_calibration_change(new, old, truth),
    )


def _calibration_change(new: Probabilities, old: Probabilities, truth: Classes) -> Interval:
    rng = np.random.default_rng(0)
    (bins, gaps), (old_bins, old_gaps) = calibration_gaps(new, truth), calibration_gaps(old, truth)
    changes = []
    for _ in range(_ROUNDS):
        rows = rng.integers(len(truth), size=len(truth))
        changes.append(
            calibration_error_of(bins[rows], gaps[rows]) - calibration_error_of(old_bins[rows], old_gaps[rows])
        )
    return recentred(calibration_error_of(bins, gaps) - calibration_error_of(old_bins, old_gaps), changes)
