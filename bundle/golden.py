"""Golden inputs: images whose expected outputs are stored in a bundle, to verify the loaded model.

They are drawn with integer arithmetic, which produces identical pixels on every machine.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

RECIPE = "golden-1"
COUNT = 8
#: Maximum difference between a probability and the expected one, by precision. In float32, processors differ in the
#: sixth digit; bfloat16 has an 8-bit mantissa.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}


def golden_inputs(height: int, width: int) -> NDArray[np.uint8]:
    """Draw the golden inputs: uint8 of shape (8, height, width, 3), from smooth gradients to noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    across, down = x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1)
    images = [
        np.stack([across, down, (across + down) // 2], -1),
        np.stack([down, 255 - across, across], -1),
        *(_noise(y // cell, x // cell, salt) for cell, salt in ((4, 1), (16, 2), (32, 3))),
        _disc(y, x, height, width, inside=(230, 190, 120), outside=(40, 70, 50)),
        _disc(y, x, height, width, inside=(30, 30, 34), outside=(200, 210, 225)),
        (_noise(y // 8, x // 8, 4) + np.stack([across] * 3, -1)) // 2,
    ]
    return np.stack(images).astype(np.uint8)


def fingerprint(inputs: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the golden inputs. If it differs, the recipe has changed, not the model."""
    return hashlib.sha256(str(inputs.shape).encode() + inputs.tobytes()).hexdigest()


def _noise(y: NDArray[np.int64], x: NDArray[np.int64], salt: int) -> NDArray[np.int64]:
    """Pseudo-random colors: a hash of the coordinates."""
    mixed = (x * 73856093) ^ (y * 19349663) ^ (salt * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0x7FFFFFFF
    return np.stack([mixed & 255, (mixed >> 8) & 255, (mixed >> 16) & 255], -1)


def _disc(
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    height: int,
    width: int,
    *,
    inside: tuple[int, int, int],
    outside: tuple[int, int, int],
) -> NDArray[np.int64]:
    radius = min(height, width) // 3
    within = (2 * y - height) ** 2 + (2 * x - width) ** 2 < (2 * radius) ** 2
    return np.where(within[..., None], np.array(inside), np.array(outside))
