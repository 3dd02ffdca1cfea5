"""The images that are sent: drawn from a seed, so that every machine sends the same pixels."""

import io

import numpy as np
from PIL import Image

#: Bytes of the usual image (500 x 375) and of a small one (180 x 180).
_PHOTO_BYTES, _SMALL_BYTES = 55_000, 7_000


def photo() -> bytes:
    """A JPEG of 500 x 375 pixels and about 55 kB, as detailed as a photograph."""
    return _draw(500, 375, _PHOTO_BYTES)


def small_photo() -> bytes:
    """A JPEG of 180 x 180 pixels and about 7 kB."""
    return _draw(180, 180, _SMALL_BYTES)


def _draw(width: int, height: int, most_bytes: int) -> bytes:
    """Smooth colours with grain, in the highest quality that fits into `most_bytes`."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.integers(-20, 20, (height, width, 3), dtype=np.int16)
    image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
    for quality in range(95, 5, -1):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= most_bytes:
            break
    return file.getvalue()
