"""Decodes images to RGB pixels for a model. Training and serving use the same code."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageFile, UnidentifiedImageError
from pillow_heif import register_heif_opener

from bundle.color import Converter
from bundle.cost import WastefulImageError, check_bytes, check_opened, webp_pixels
from bundle.samples import STRIP_ROWS, UnsupportedSamplesError
from bundle.target import Filter, Resize, Target
from bundle.unreadable import unreadable_samples

#: Supported formats, by their names in Pillow. The gateway rejects all others; it has its own copy of this list.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "TIFF")

# The image itself is decoded, not the thumbnail that a phone stored with it. The worker decodes several images at a
# time, so one image does not need several threads.
register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

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
#: An image resized to half its size or less is first reduced by an integer factor, which is fast (decisions/030).
_REDUCING_GAP = 1.0
_SWAPS_SIDES = frozenset({5, 6, 7, 8})
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
}


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
    #: Codes of the assumptions made about its pixels; see `bundle/samples.py` and `bundle/color.py`.
    warnings: tuple[str, ...] = ()


def decode(
    data: bytes,
    height: int,
    width: int,
    resize: Resize = "squash",
    filter: Filter = "bilinear",  # noqa: A002 - its name in the manifest
    *,
    before_loading: Callable[[int], None] = lambda _: None,
) -> DecodedImage:
    """Decode `data`, apply its EXIF rotation and resize it to `height` x `width` pixels.

    The pixels are sRGB: color profiles are applied, and samples of other types and ranges are scaled. An animation is
    decoded to its first frame. Transparent images are placed on white. `before_loading` is called with the number of
    pixels before memory is allocated for them.

    Raises:
        UndecodableImageError: the image cannot be decoded; the message gives the reason, usually Pillow's.
    """
    try:
        check_bytes(data)
        if pixels := webp_pixels(data):
            before_loading(pixels)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_opened(image, data)
            if not pixels:
                before_loading(image.width * image.height)
            return _decode_opened(image, Target(height, width, resize, filter))
    except MemoryError:
        raise
    except (WastefulImageError, UnsupportedSamplesError) as error:
        raise UndecodableImageError(str(error)) from error
    except UnidentifiedImageError as error:
        # Pillow's message contains the memory address of the file object, which differs between runs.
        reason = unreadable_samples(data) or "UnidentifiedImageError: cannot identify image file"
        raise UndecodableImageError(reason) from error
    # Pillow's decoders raise almost any exception on hostile bytes: struct.error, IndexError, SyntaxError, ...
    except Exception as error:
        raise UndecodableImageError(f"{type(error).__name__}: {error}") from error


def _decode_opened(image: ImageFile.ImageFile, target: Target) -> DecodedImage:
    full_width, full_height = image.size
    if target.filter == "bilinear":
        # JPEG only: decode at 1/2, 1/4 or 1/8 of the size, if that is still at least the size of the input.
        image.draft("RGB", _draft_size(image.size, target))
    converter = Converter(image)
    orientation = _orientation(image)
    if image.format in ("TIFF", "HEIF"):
        full_width, full_height = image.size  # already rotated; the crop of a HEIC may claim more than there is
    elif orientation in _SWAPS_SIDES:
        full_width, full_height = full_height, full_width
    if orientation in _SWAPS_SIDES:
        target = target._replace(height=target.width, width=target.height)
    small = converter.finish(_resize(converter, image.size, target))
    if target.resize == "pad" and small.size != (target.width, target.height):
        padded = Image.new(small.mode, (target.width, target.height))
        padded.paste(small, ((target.width - small.width) // 2, (target.height - small.height) // 2))
        small = padded
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    return DecodedImage(np.asarray(small, dtype=np.uint8), full_width, full_height, converter.warnings)


def _draft_size(size: tuple[int, int], target: Target) -> tuple[int, int]:
    """The smallest size, as width and height, at which a JPEG may be decoded."""
    longest = max(target.height, target.width)
    if target.resize != "crop":
        return longest, longest
    # Only a part of the image is used: the whole of it has to be larger by that factor.
    left, top, right, bottom = _box(size, target)
    return math.ceil(longest * size[0] / (right - left)), math.ceil(longest * size[1] / (bottom - top))


def _box(size: tuple[int, int], target: Target) -> tuple[int, int, int, int]:
    """The part of the image that is used: left, top, right and bottom, the same as Keras's `smart_resize` crops."""
    width, height = size
    if target.resize != "crop":
        return 0, 0, width, height
    used_width = max(1, min(width, height * target.width // target.height))
    used_height = max(1, min(height, width * target.height // target.width))
    left, top = (width - used_width) // 2, (height - used_height) // 2
    return left, top, left + used_width, top + used_height


def _inner_size(size: tuple[int, int], target: Target) -> tuple[int, int]:
    """Width and height to which the image is resized, without borders."""
    if target.resize != "pad":
        return target.width, target.height
    scale = min(target.width / size[0], target.height / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    return min(width, target.width), min(height, target.height)


def _resize(converter: Converter, size: tuple[int, int], target: Target) -> Image.Image:
    """Convert and resize. The result equals that of `Image.resize`, but the conversion needs less memory."""
    width, height = size
    box, inner, how = _box(size, target), _inner_size(size, target), _FILTERS[target.filter]
    if target.filter != "bilinear":
        return converter.rows(0, height).resize(inner, how, box=box)
    x_factor = max(1, int((box[2] - box[0]) / inner[0] / _REDUCING_GAP))
    y_factor = max(1, int((box[3] - box[1]) / inner[1] / _REDUCING_GAP))
    if (x_factor, y_factor) == (1, 1) or converter.is_plain:
        return converter.rows(0, height).resize(inner, how, box=box, reducing_gap=_REDUCING_GAP)
    reduced = Image.new(converter.mode, (math.ceil(width / x_factor), math.ceil(height / y_factor)))
    strip_rows = y_factor * math.ceil(STRIP_ROWS / y_factor)
    for top in range(0, height, strip_rows):
        strip = converter.rows(top, min(height, top + strip_rows))
        reduced.paste(strip.reduce((x_factor, y_factor)), (0, top // y_factor))
    left, top, right, bottom = box
    return reduced.resize(inner, how, box=(left / x_factor, top / y_factor, right / x_factor, bottom / y_factor))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - an image with a broken EXIF block can still be decoded
        return 1
