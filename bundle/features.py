"""What is measured on every picture, to compare live pictures with those of training."""

import numpy as np
from numpy.typing import NDArray

#: ITU-R BT.601 weights of red, green and blue in luma.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: Every n-th pixel is enough for a mean and a spread, at a sixteenth of the cost.
_STRIDE = 4


def brightness_contrast(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of the luma of uint8 (height, width, 3) RGB pixels, both within 0..1."""
    luma = pixels[::_STRIDE, ::_STRIDE].astype(np.float32) @ _LUMA / 255
    return float(luma.mean()), float(luma.std())
