"""Calibration: how far confidence is from accuracy, and the temperature that corrects it.

scikit-learn's calibration curve does not return the number of images per bin, which the calibration error needs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from bundle.manifest import Interval

if TYPE_CHECKING:  # importing Keras takes seconds, and `pawqueue models` does not need it
    import keras

Probabilities = NDArray[np.float64]
Classes = NDArray[np.int64]
Bins = NDArray[np.intp]

#: Number of bins of equal width in which confidence and accuracy are compared.
CALIBRATION_BINS = 15
_MIN_PROBABILITY = 1e-7
#: Search bounds of log(temperature): a factor of 20 in either direction.
_LOG_TEMPERATURE_BOUNDS = (-3.0, 3.0)


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence lies between `low` and `high`."""

    low: float
    high: float
    count: int
    #: Mean confidence and accuracy of the images; 0 if there are none.
    confidence: float
    accuracy: float


def log_loss(probabilities: Probabilities, truth: Classes) -> float:
    """Mean of -log(probability of the true class), in nats."""
    # scikit-learn warns about float32 probabilities, whose sums differ from 1 by rounding.
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], _MIN_PROBABILITY)).mean())


def calibration_bins(probabilities: Probabilities, truth: Classes) -> list[CalibrationBin]:
    """Compare confidence and accuracy in bins of equal width."""
    bins, confidence, correct = _binned(probabilities, truth)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    means = [np.bincount(bins, values, CALIBRATION_BINS) / np.maximum(counts, 1) for values in (confidence, correct)]
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    columns = (edges[:-1], edges[1:], counts, *means)
    return [CalibrationBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def calibration_error(probabilities: Probabilities, truth: Classes) -> float:
    """Expected calibration error (ECE): mean distance between confidence and accuracy, weighted by images per bin."""
    return calibration_error_of(*calibration_gaps(probabilities, truth))


def calibration_gaps(probabilities: Probabilities, truth: Classes) -> tuple[Bins, Probabilities]:
    """Return each image's bin and gap, both (n,). The gap is confidence - 1 if correct, else confidence."""
    bins, confidence, correct = _binned(probabilities, truth)
    return bins, confidence - correct


def calibration_error_of(bins: Bins, gaps: Probabilities) -> float:
    """Return the calibration error computed from `calibration_gaps`."""
    return float(np.abs(np.bincount(bins, gaps, CALIBRATION_BINS)).sum() / len(bins))


def percentile_interval(value: float, resampled: list[float]) -> Interval:
    """Return `value` with the 95 % percentile interval of its resamplings."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def recentred(value: float, resampled: list[float]) -> Interval:
    """Return `value` with the interval of its resamplings, shifted so that their mean is `value`.

    A calibration error is a mean of absolute values, so resampling biases it upwards; all resamples may exceed `value`.
    """
    shift = value - float(np.mean(resampled))
    return percentile_interval(value, [sample + shift for sample in resampled])


def fit_temperature(probabilities: Probabilities, truth: Classes) -> float:
    """Return the temperature at which the log loss is lowest."""
    found = minimize_scalar(
        lambda log_t: log_loss(apply_temperature(probabilities, float(np.exp(log_t))), truth),
        bounds=_LOG_TEMPERATURE_BOUNDS,
    )
    return float(np.exp(found.x))


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Soften (above 1) or sharpen (below 1) probabilities; the most probable class does not change."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def fold_temperature(network: "keras.Model", temperature: float) -> None:
    """Divide the last layer's weights by `temperature`, so that workers need no code for it."""
    last = network.layers[-1]
    last.set_weights([weight / temperature for weight in last.get_weights()])


def _binned(probabilities: Probabilities, truth: Classes) -> tuple[Bins, Probabilities, NDArray[np.bool_]]:
    """Return each image's bin, its confidence, and whether its most probable class is correct."""
    chosen = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(probabilities)), chosen]
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    return bins, confidence, chosen == truth
