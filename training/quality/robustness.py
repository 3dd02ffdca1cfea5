"""Accuracy on degraded test images, as an indication of the accuracy on images from other sources."""

import io
from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from training.data.splits import Split
from training.networks.architectures import predict
from training.quality.metrics import accuracy
from training.terminal import progress_bar


def _dim(image: Image.Image) -> Image.Image:
    curve = (0.35 * 255 * (np.arange(256) / 255) ** 1.6).astype(np.uint8)
    return image.point(curve.tolist() * 3)


def _crop(image: Image.Image) -> Image.Image:
    """Keep the middle 60 % of each side."""
    x, y = image.width / 5, image.height / 5
    return image.resize(image.size, Image.Resampling.BILINEAR, (x, y, image.width - x, image.height - y))


def _far(image: Image.Image) -> Image.Image:
    """Shrink each side to 60 % and fill the border by mirroring."""
    small = image.resize((image.width * 3 // 5, image.height * 3 // 5), Image.Resampling.BILINEAR, reducing_gap=2)
    down, across = image.height - small.height, image.width - small.width
    padding = ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    return Image.fromarray(np.pad(np.asarray(small), padding, mode="reflect"))


def _stretch(image: Image.Image) -> Image.Image:
    """Stretch the middle two thirds to the full width, like a narrow image that was resized to a square."""
    x = image.width / 6
    return image.resize(image.size, Image.Resampling.BILINEAR, (x, 0, image.width - x, image.height))


def _recompress(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(file).convert("RGB")


def _noise(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(0).normal(0, 15, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


#: Degradations by their name in `results.json`.
DEGRADATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "low light": _dim,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 100)),
    "noisy": _noise,
    "JPEG at quality 20": _recompress,
    "cropped": _crop,
    "far away": _far,
    "stretched": _stretch,
    "mirrored": ImageOps.mirror,
    "on its side": lambda image: image.transpose(Image.Transpose.ROTATE_90).resize(image.size),
}


def measure_robustness(network: keras.Model, test: Split) -> dict[str, float]:
    """Accuracy on the test images under each degradation."""
    return {
        name: accuracy(predict(network, _apply(degrade, test.pixels)).astype(float), test.targets)
        for name, degrade in progress_bar(DEGRADATIONS.items(), desc="degraded test images", unit=" kinds")
    }


def _apply(degrade: Callable[[Image.Image], Image.Image], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(degrade(Image.fromarray(image))) for image in pixels])
