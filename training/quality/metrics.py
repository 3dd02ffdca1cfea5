"""Metrics of a classifier, each with a 95 % confidence interval from bootstrap resampling of the test images.

In all functions, `probabilities` is float64 (n, classes) and `truth` holds the true class indices (n,).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bundle.manifest import Interval
from training.quality.calibration import (
    Classes,
    Probabilities,
    calibration_error,
    log_loss,
    percentile_interval,
    recentred,
)


def accuracy(probabilities: Probabilities, truth: Classes) -> float:
    """Fraction of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def confusion(probabilities: Probabilities, truth: Classes) -> NDArray[np.int64]:
    """Counts of images (classes, classes): rows are true classes, columns predicted ones."""
    labels = range(probabilities.shape[1])
    table: NDArray[np.int64] = confusion_matrix(truth, probabilities.argmax(axis=1), labels=labels)
    return table


def precision_recall_f1(probabilities: Probabilities, truth: Classes) -> NDArray[np.float64]:
    """Precision, recall and F1 of each class, (classes, 3); 0 if undefined."""
    labels = range(probabilities.shape[1])
    columns = precision_recall_fscore_support(truth, probabilities.argmax(axis=1), labels=labels, zero_division=0)
    return np.stack(columns[:3], axis=1)


def area_under_curve(probabilities: Probabilities, truth: Classes) -> float:
    """Area under the ROC curve, of each class against the rest, averaged. Classes without images are left out."""
    # Uses the Mann-Whitney U statistic: scikit-learn's `roc_auc_score` makes the bootstrap ten times slower.
    in_class = truth[:, None] == np.arange(probabilities.shape[1])
    positives = in_class.sum(axis=0)
    pairs = positives * (len(truth) - positives)
    ordered_pairs = (rankdata(probabilities, axis=0) * in_class).sum(axis=0) - positives * (positives + 1) / 2
    defined = pairs > 0
    return float((ordered_pairs[defined] / pairs[defined]).mean()) if defined.any() else 0.0


def measure(probabilities: Probabilities, truth: Classes, *, rounds: int, seed: int) -> dict[str, Interval]:
    """Return every metric with its interval: the 2.5th and 97.5th percentile of `rounds` resamplings.

    The interval of the calibration error is shifted; see `recentred`.
    """
    values = _metrics(probabilities, truth)
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(rounds):
        rows = rng.integers(len(truth), size=len(truth))
        for name, value in _metrics(probabilities[rows], truth[rows]).items():
            resampled[name].append(value)
    intervals = {name: percentile_interval(value, resampled[name]) for name, value in values.items()}
    error = recentred(values["calibration_error"], resampled["calibration_error"])
    return intervals | {"calibration_error": error.model_copy(update={"low": max(0.0, error.low or 0.0)})}


def _metrics(probabilities: Probabilities, truth: Classes) -> dict[str, float]:
    """Every metric by name. Precision, recall and F1 are averaged over the classes."""
    precision, recall, f1 = precision_recall_f1(probabilities, truth).mean(axis=0).tolist()
    return {
        "accuracy": accuracy(probabilities, truth),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": area_under_curve(probabilities, truth),
        "log_loss": log_loss(probabilities, truth),
        "calibration_error": calibration_error(probabilities, truth),
    }
