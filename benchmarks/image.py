"""The images that the benchmark sends: generated from a fixed seed, so they are the same on every machine."""

import io

import numpy as np
from PIL import Image


def large_image() -> bytes:
    """A JPEG of 500 x 375 pixels and about 55 kB, as detailed as a photograph."""
    return _draw(500, 375, 55_000)


def small_image() -> bytes:
    """A JPEG of 180 x 180 pixels and about 7 kB."""
    return _draw(180, 180, 7_000)


def _draw(width: int, height: int, max_bytes: int) -> bytes:
    """Smooth colors with noise, at the highest quality that fits into `max_bytes`."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = random.integers(-20, 20, (height, width, 3), dtype=np.int16)
    image = Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))
    for quality in range(95, 5, -1):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= max_bytes:
            break
    return file.getvalue()
