"""Temperature scaling: one number that makes confidence honest, fitted on held-out images and folded into weights."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from training.measure import Classes, Probabilities, log_loss

if TYPE_CHECKING:  # the rest is numbers, and loading it takes seconds
    import keras

#: Search bounds of log(temperature): a factor of 20 either way.
_BOUNDS = (-3.0, 3.0)


def fit_temperature(answers: Probabilities, truth: Classes) -> float:
    """Find the temperature at which the log loss of probabilities (n, classes) is least."""
    found = minimize_scalar(
        lambda log_t: log_loss(apply_temperature(answers, float(np.exp(log_t))), truth), bounds=_BOUNDS
    )
    return float(np.exp(found.x))


def apply_temperature(answers: Probabilities, temperature: float) -> Probabilities:
    """Soften (above 1) or sharpen (below 1) probabilities (n, classes); the likeliest class stays."""
    logits = np.log(np.clip(answers, 1e-12, 1)) / temperature
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return shares


def fold_temperature(network: "keras.Model", temperature: float) -> None:
    """Divide the last layer's weights by `temperature`, so that whoever runs the network need not know of it."""
    last = network.layers[-1]
    last.set_weights([weight / temperature for weight in last.get_weights()])
