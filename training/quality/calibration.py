"""Calibration: how far confidence is from accuracy, and the temperature and biases that correct it.

The correction is bias-corrected temperature scaling: A. Alexandari, A. Kundaje, A. Shrikumar, "Maximum Likelihood with
Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation", ICML 2020. A temperature alone cannot correct a
network that favors one class.

scikit-learn's calibration curve does not return the number of images per bin, which the calibration error needs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

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
#: Standard deviation of the biases' normal prior, in nats. It keeps them near 0 if there are few images of a class.
_BIAS_DEVIATION = 1.0


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


@dataclass(frozen=True)
class Calibration:
    """A correction of the logits: they are divided by the temperature, then the bias of each class is added."""

    temperature: float
    #: One per class; their sum is 0.
    biases: tuple[float, ...]

    def apply(self, probabilities: Probabilities) -> Probabilities:
        """Correct probabilities (n, classes)."""
        logits = np.log(np.clip(probabilities, 1e-12, 1)) / self.temperature + self.biases
        powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
        scaled: Probabilities = powers / powers.sum(axis=1, keepdims=True)
        return scaled

    def fold(self, network: "keras.Model") -> None:
        """Apply it to the weights of the last layer, so that workers need no code for it."""
        kernel, bias = network.layers[-1].get_weights()
        biases = np.array(self.biases)
        added = biases[1:] - biases[:1] if len(bias) == 1 else biases  # one unit is the probability of the second class
        network.layers[-1].set_weights([kernel / self.temperature, bias / self.temperature + added])


def fit_calibration(probabilities: Probabilities, truth: Classes) -> Calibration:
    """Return the calibration with the lowest log loss; the biases have a normal prior."""

    def read(point: NDArray[np.float64]) -> Calibration:
        centered = point[1:] - point[1:].mean()
        return Calibration(float(np.exp(point[0])), tuple(centered.tolist()))

    def loss(point: NDArray[np.float64]) -> float:
        prior = float((point[1:] ** 2).sum()) / (2 * _BIAS_DEVIATION**2 * len(truth))
        return log_loss(read(point).apply(probabilities), truth) + prior

    classes = probabilities.shape[1]
    found = minimize(loss, np.zeros(1 + classes), bounds=[_LOG_TEMPERATURE_BOUNDS, *[(None, None)] * classes])
    return read(found.x)


def _binned(probabilities: Probabilities, truth: Classes) -> tuple[Bins, Probabilities, NDArray[np.bool_]]:
    """Return each image's bin, its confidence, and whether its most probable class is correct."""
    chosen = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(probabilities)), chosen]
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    return bins, confidence, chosen == truth
