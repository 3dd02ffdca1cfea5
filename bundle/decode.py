"""Decodes images to RGB pixels for a model. Training and serving use the same code."""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

#: Supported formats, by their names in Pillow. The gateway has its own copy of this list and rejects all others.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "TIFF")

# The image itself is decoded, not the thumbnail that a phone stored with it. The worker decodes several images at a
# time, so one image does not need several threads.
register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

#: Images in modes other than RGB are converted in strips of this many rows. Converting a large image as a whole would
#: take many times its memory.
_STRIP_ROWS = 256

_ORIENTATION_TAG = 0x0112
#: The transformation that undoes each EXIF orientation (EXIF 2.32, table 5).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: An image that shrinks to half its size or less is first reduced by an integer factor, which is fast (decisions/030).
_REDUCING_GAP = 1.0
_SWAPS_SIDES = frozenset({5, 6, 7, 8})


class UndecodableImageError(ValueError):
    """The bytes are not an image, or its pixels are truncated, corrupt or of an unsupported kind."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image."""

    #: uint8 RGB of shape (height, width, 3), at the model's input size.
    pixels: NDArray[np.uint8]
    #: Original size in pixels, after EXIF rotation.
    width: int
    height: int


def decode(data: bytes, height: int, width: int) -> DecodedImage:
    """Decode `data`, apply its EXIF rotation and resize it to `height` x `width`, ignoring the aspect ratio.

    An animation is decoded to its first frame. Transparent images are placed on white. 16-bit grey keeps its high byte.

    Raises:
        UndecodableImageError: the image cannot be decoded; the message comes from Pillow.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode_opened(image, height, width)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        # Pillow's message contains the memory address of the file object, which differs between runs.
        raise UndecodableImageError("UnidentifiedImageError: cannot identify image file") from error
    # Pillow's decoders raise almost any exception on hostile bytes: struct.error, IndexError, SyntaxError, ...
    except Exception as error:
        raise UndecodableImageError(f"{type(error).__name__}: {error}") from error


def _decode_opened(image: Image.Image, height: int, width: int) -> DecodedImage:
    longest = max(height, width)
    full_width, full_height = image.size
    # JPEG only: decode at 1/2, 1/4 or 1/8 of the size, if that is still at least the size of the input.
    image.draft("RGB", (longest, longest))
    image.load()
    orientation = _orientation(image)
    if image.format in ("TIFF", "HEIF"):
        full_width, full_height = image.size  # already rotated; the crop of a HEIC may claim more than there is
    elif orientation in _SWAPS_SIDES:
        full_width, full_height = full_height, full_width
    target = (height, width) if orientation in _SWAPS_SIDES else (width, height)
    small = _resize(image, target)
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    return DecodedImage(np.asarray(small, dtype=np.uint8), full_width, full_height)


def _resize(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Convert to RGB and resize. The result equals that of `Image.resize`, but the conversion needs less memory."""
    width, height = image.size
    x_factor = max(1, int(width / target[0] / _REDUCING_GAP))
    y_factor = max(1, int(height / target[1] / _REDUCING_GAP))
    if (x_factor, y_factor) == (1, 1) or image.mode == "RGB":
        return _to_rgb(image).resize(target, Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    reduced = Image.new("RGB", (math.ceil(width / x_factor), math.ceil(height / y_factor)))
    max_value = _max_value(image)
    strip_rows = y_factor * math.ceil(_STRIP_ROWS / y_factor)
    for top in range(0, height, strip_rows):
        strip = image.crop((0, top, width, min(height, top + strip_rows)))
        reduced.paste(_to_rgb(strip, max_value).reduce((x_factor, y_factor)), (0, top // y_factor))
    return reduced.resize(target, Image.Resampling.BILINEAR, box=(0, 0, width / x_factor, height / y_factor))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - an image with a broken EXIF block can be decoded
        return 1


def _to_rgb(image: Image.Image, max_value: float | None = None) -> Image.Image:
    """Convert to RGB. For a strip of a deep grey image, pass the largest value of the whole image as `max_value`."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        return _deep_grey_to_rgb(image, _max_value(image) if max_value is None else max_value)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image, max_value: float) -> Image.Image:
    """Convert deep grey (16-bit, 32-bit or floating-point) to 8 bits per channel."""
    values = _values(image)
    if image.mode.startswith("I;16") or max_value > 255:
        values /= 256
    elif image.mode == "F" and max_value <= 1:
        values *= 255
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def _max_value(image: Image.Image) -> float:
    """The largest value of a deep grey image; 0 for all other modes."""
    if not image.mode.startswith(("I", "F")):
        return 0.0
    tops = range(0, image.height, _STRIP_ROWS)
    strips = (image.crop((0, top, image.width, min(image.height, top + _STRIP_ROWS))) for top in tops)
    return max(float(_values(strip).max(initial=0)) for strip in strips)


def _values(image: Image.Image) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.nan_to_num(np.asarray(image).astype(np.float32))
    return values
