"""The first stage of training a pretrained network: fit its head on the features of the frozen backbone."""

import warnings
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from training.data.augment import resized
from training.data.splits import Split
from training.terminal import progress_bar

_BATCH = 64
#: Regularization strengths that are tried, from strong to weak.
_STRENGTHS = (0.01, 0.1, 1.0)
_MAX_ITERATIONS = 300


@dataclass(frozen=True)
class Features:
    """The pooled outputs of a backbone for the images of a split, and the images' classes."""

    #: float32 (n, filters).
    values: NDArray[np.float32]
    #: (n,).
    classes: NDArray[np.int64]


def compute_features(network: keras.Model, split: Split, height: int, width: int) -> Features:
    """Return the input of the network's last layer for each image at this size in pixels, without augmentation."""
    backbone = keras.Model(network.input, network.layers[-1].input)
    values = []
    for start in progress_bar(range(0, len(split.facts), _BATCH), desc="features", unit=" batches"):
        pixels = split.pixels[start : start + _BATCH]
        values.append(backbone.predict_on_batch(resized(pixels, height, width)))
    return Features(np.concatenate(values).astype(np.float32), split.targets)


def fit_head(network: keras.Model, train: Features, validation: Features, *, is_balanced: bool) -> float:
    """Set the last layer's weights to those of a logistic regression, and return its log loss on the training split.

    The regularization is the one with the lowest loss on the validation split. `is_balanced` gives each class the same
    total weight.
    """
    fits = [_fit(train, strength, is_balanced=is_balanced) for strength in _STRENGTHS]
    best = min(fits, key=lambda fit: _loss(fit, validation))
    network.layers[-1].set_weights([best.coef_.T.astype(np.float32), best.intercept_.astype(np.float32)])
    return _loss(best, train)


def _fit(train: Features, strength: float, *, is_balanced: bool) -> LogisticRegression:
    weights = "balanced" if is_balanced else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fine-tuning continues from there
        regression = LogisticRegression(C=strength, class_weight=weights, max_iter=_MAX_ITERATIONS)
        return regression.fit(train.values, train.classes)


def _loss(fit: LogisticRegression, features: Features) -> float:
    return float(log_loss(features.classes, fit.predict_proba(features.values), labels=fit.classes_))
