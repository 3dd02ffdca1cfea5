"""Augmentation of training images: changes in framing, shape, light, focus and compression."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.params import AugmentParams

_LUMA = np.array([0.299, 0.587, 0.114])
_QUARTER_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
#: Parameters that `at_strength` scales towards 0, where they have no effect.
_SCALED = (
    *("rotation", "quarter_turn", "brightness", "contrast", "saturation", "white_balance"),
    *("grey", "low_light", "blur", "jpeg", "noise", "erase"),
)
#: Radius of the strongest blur, as a fraction of the image height.
_BLUR_MAX_RADIUS = 0.012


def augment(
    pixels: NDArray[np.uint8], height: int, width: int, params: AugmentParams, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a random variation, uint8 (`height`, `width`, 3), of a uint8 image of any size.

    The result depends only on the arguments and the state of `rng`.
    """
    image = _reframe(Image.fromarray(pixels), height, width, params, rng)
    image = _recolor(image, params, rng)
    if rng.random() < params.blur:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1) * _BLUR_MAX_RADIUS * height))
    if rng.random() < params.noise:
        image = _add_noise(image, rng)
    if rng.random() < params.jpeg:
        image = _recompress(image, rng)
    if rng.random() < params.erase:
        _erase(image, rng)
    return np.asarray(image)


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 images (n, `height`, `width`, 3) of uint8 images of any size."""
    if pixels.shape[1:3] == (height, width):
        return np.asarray(pixels)
    images = (Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in pixels)
    return np.stack([np.asarray(image) for image in images])


def at_strength(params: AugmentParams, strength: float) -> AugmentParams:
    """Scale the augmentation: 1 keeps `params`; 0 turns off everything except mirroring and mixup."""
    weaker = {name: strength * getattr(params, name) for name in _SCALED}
    area = tuple(1 + strength * (bound - 1) for bound in params.area)
    return params.model_copy(update={**weaker, "area": area, "aspect": params.aspect**strength})


def _reframe(
    image: Image.Image, height: int, width: int, params: AugmentParams, rng: np.random.Generator
) -> Image.Image:
    """Rotate, mirror, crop and stretch with a single resampling."""
    if rng.random() < params.quarter_turn:
        image = image.transpose(_QUARTER_TURNS[int(rng.integers(2))])
    side = math.sqrt(rng.uniform(*params.area))
    stretch = math.sqrt(params.aspect) ** rng.uniform(-1, 1)
    scale_x, scale_y = side * stretch * image.width / width, side / stretch * image.height / height
    if params.flip and rng.random() < 0.5:
        scale_x = -scale_x
    angle = math.radians(rng.uniform(-params.rotation, params.rotation))
    cosine, sine = math.cos(angle), math.sin(angle)
    # Pillow maps output (x, y) to input (a x + b y + c, d x + e y + f).
    a, b, d, e = scale_x * cosine, -scale_y * sine, scale_x * sine, scale_y * cosine
    center_x = image.width / 2 + _shift(image.width, side * stretch, rng)
    center_y = image.height / 2 + _shift(image.height, side / stretch, rng)
    c = center_x - (a * width + b * height) / 2
    f = center_y - (d * width + e * height) / 2
    border = tuple(int(value) for value in np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0])
    return image.transform(
        (width, height),
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        resample=Image.Resampling.BILINEAR,
        fillcolor=border,
    )


def _shift(length: int, shown: float, rng: np.random.Generator) -> float:
    """Random shift of the center, in pixels, that keeps the crop inside the image (or the image inside the crop)."""
    return rng.uniform(-0.5, 0.5) * abs(1 - shown) * length


def _recolor(image: Image.Image, params: AugmentParams, rng: np.random.Generator) -> Image.Image:
    """Change saturation, white balance, contrast and brightness with one color matrix, then darken."""
    saturation = 0.0 if rng.random() < params.grey else 1 + rng.uniform(-1, 1) * params.saturation
    matrix = saturation * np.eye(3) + (1 - saturation) * _LUMA
    if saturation:
        matrix = (1 + rng.uniform(-1, 1, (3, 1)) * params.white_balance) * matrix
    contrast = 1 + rng.uniform(-1, 1) * params.contrast
    gain = contrast * (1 + rng.uniform(-1, 1) * params.brightness)
    offset = 128 * (1 - contrast)
    flat = np.concatenate([gain * matrix, np.full((3, 1), offset)], axis=1).ravel()
    image = image.convert("RGB", tuple(flat.tolist()))
    if rng.random() < params.low_light:
        gamma, dim = rng.uniform(1, 2.2), rng.uniform(0.3, 0.8)
        curve = (255 * dim * (np.arange(256) / 255) ** gamma).astype(np.uint8)
        image = image.point(curve.tolist() * 3)
    return image


def _add_noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(np.float32)
    grain = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(3, 18)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _recompress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(15, 75)))
    return Image.open(file).convert("RGB")


def _erase(image: Image.Image, rng: np.random.Generator) -> None:
    """Cover a random rectangle, like a hand or a cage bar in front of the animal."""
    width, height = (int(rng.uniform(0.1, 0.4) * side) for side in image.size)
    left, top = int(rng.integers(image.width - width)), int(rng.integers(image.height - height))
    color = tuple(int(value) for value in rng.integers(256, size=3))
    image.paste(color, (left, top, left + width, top + height))
