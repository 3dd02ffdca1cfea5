"""A model's answers to its test images, by checksum, so that two models can be compared on the same images."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.artifacts import PREDICTIONS_FILE
from training.errors import TrainingError
from training.measure import Classes, Probabilities
from training.prepared import Split

_DIGITS = 6


@dataclass(frozen=True)
class Predictions:
    """Answers to n images."""

    #: SHA-256 (hex) of each image's file.
    checksums: list[str]
    #: (n,)
    truth: Classes
    #: (n, labels)
    answers: Probabilities
    labels: list[str]


def render_predictions(test: Split, answers: Probabilities) -> str:
    """Write one row of CSV a test image, in the order of `test`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["sha256", "label", *test.labels])
    for fact, answer in zip(test.facts, np.round(answers, _DIGITS).tolist(), strict=True):
        rows.writerow([fact.sha256, fact.label, *answer])
    return text.getvalue()


def read_predictions(folder: Path) -> Predictions:
    """Read what `render_predictions` wrote to `PREDICTIONS_FILE` in `folder`.

    Raises:
        TrainingError: there is no such file, or it is damaged.
    """
    path = folder / PREDICTIONS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        labels = header[2:]
        truth = np.array([labels.index(row[1]) for row in rows], dtype=np.int64)
        answers = np.array([[float(value) for value in row[2:]] for row in rows]).reshape(len(rows), len(labels))
    except (OSError, ValueError, IndexError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); evaluate and export the model again.") from error
    return Predictions([row[0] for row in rows], truth, answers, labels)
