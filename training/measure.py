"""Figures of merit of a classifier, each with a 95 % interval from resampling the test images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bundle.manifest import Interval

Probabilities = NDArray[np.float64]
Classes = NDArray[np.int64]
Bins = NDArray[np.intp]

#: Bins of equal width over which confidence and accuracy are compared.
CALIBRATION_BINS = 15
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose confidence lies within one bin."""

    low: float
    high: float
    count: int
    #: Means over the images of the bin; 0 where there are none.
    confidence: float
    accuracy: float


def accuracy(answers: Probabilities, truth: Classes) -> float:
    """Share of images whose likeliest class is right."""
    return float((answers.argmax(axis=1) == truth).mean())


def log_loss(answers: Probabilities, truth: Classes) -> float:
    """Mean of -log(probability of the right class), in nats."""
    return float(-np.log(np.maximum(answers[np.arange(len(truth)), truth], _LEAST_PROBABILITY)).mean())


def confusion(answers: Probabilities, truth: Classes) -> NDArray[np.int64]:
    """Counts of images, (classes, classes): a row a true class, a column a predicted one."""
    classes = answers.shape[1]
    pairs = truth * classes + answers.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_recall_f1(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision, recall and F1 of each class, (classes, 3), from a confusion table; 0 where undefined."""
    hits = np.diag(table).astype(float)
    precision = hits / np.maximum(table.sum(axis=0), 1)
    recall = hits / np.maximum(table.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.stack([precision, recall, f1], axis=1)


def area_under_curve(answers: Probabilities, truth: Classes) -> float:
    """Area under the ROC curve, the mean over each class against the rest; classes without images are left out."""
    areas = []
    for label in range(answers.shape[1]):
        positive = truth == label
        count, others = int(positive.sum()), int((~positive).sum())
        if count and others:
            ranks = rankdata(answers[:, label])[positive].sum()
            areas.append((ranks - count * (count + 1) / 2) / (count * others))
    return float(np.mean(areas)) if areas else 0.0


def calibration_bins(answers: Probabilities, truth: Classes) -> list[CalibrationBin]:
    """Compare confidence with accuracy over bins of equal width."""
    place, confidence, right = _binned(answers, truth)
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    means = [np.bincount(place, values, CALIBRATION_BINS) / np.maximum(counts, 1) for values in (confidence, right)]
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    columns = (edges[:-1], edges[1:], counts, *means)
    return [
        CalibrationBin(float(a), float(b), int(n), float(c), float(r)) for a, b, n, c, r in zip(*columns, strict=True)
    ]


def calibration_error(answers: Probabilities, truth: Classes) -> float:
    """Mean distance of confidence from accuracy over `CALIBRATION_BINS` bins, weighted by their images (ECE)."""
    return calibration_error_of(*calibration_gaps(answers, truth))


def calibration_gaps(answers: Probabilities, truth: Classes) -> tuple[Bins, Probabilities]:
    """The bin of each image, and by how much its confidence is above being right; (n,) both."""
    place, confidence, right = _binned(answers, truth)
    return place, confidence - right


def calibration_error_of(place: Bins, gaps: Probabilities) -> float:
    """The calibration error of images in those bins with those gaps."""
    return float(np.abs(np.bincount(place, gaps, CALIBRATION_BINS)).sum() / len(place))


def _binned(answers: Probabilities, truth: Classes) -> tuple[Bins, Probabilities, NDArray[np.bool_]]:
    """Of each image: its bin, its confidence, whether it is right."""
    chosen = answers.argmax(axis=1)
    confidence = answers[np.arange(len(answers)), chosen]
    place = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    return place, confidence, chosen == truth


def _macro(column: int) -> Callable[[Probabilities, Classes], float]:
    return lambda answers, truth: float(precision_recall_f1(confusion(answers, truth))[:, column].mean())


#: Every figure by name; precision, recall and F1 are means over the classes.
FIGURES: dict[str, Callable[[Probabilities, Classes], float]] = {
    "accuracy": accuracy,
    "precision": _macro(0),
    "recall": _macro(1),
    "f1": _macro(2),
    "auc": area_under_curve,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}


def measure(answers: Probabilities, truth: Classes, *, rounds: int, seed: int) -> dict[str, Interval]:
    """Every figure with its 95 % bootstrap interval, from percentiles of `rounds` resamplings.

    Those of the calibration error are moved, see `recentred`.
    `answers` are probabilities (n, classes), `truth` the right classes (n,).
    """
    draw = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(rounds):
        rows = draw.integers(len(truth), size=len(truth))
        for name, figure in FIGURES.items():
            drawn[name].append(figure(answers[rows], truth[rows]))
    intervals = {name: interval(figure(answers, truth), drawn[name]) for name, figure in FIGURES.items()}
    error = recentred(intervals["calibration_error"].value, drawn["calibration_error"])
    return intervals | {"calibration_error": error.model_copy(update={"low": max(0.0, error.low or 0.0)})}


def interval(value: float, drawn: list[float]) -> Interval:
    """Give `value` the 95 % interval of its resamplings."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def recentred(value: float, drawn: list[float]) -> Interval:
    """Give `value` the spread of its resamplings, their mean moved onto it.

    A calibration error is a mean of distances, to which each resampling adds its own unevenness: all of them may lie
    above the value.
    """
    shift = value - float(np.mean(drawn))
    return interval(value, [one + shift for one in drawn])
