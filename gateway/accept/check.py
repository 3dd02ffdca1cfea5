"""Checks the size, format and pixel count of an uploaded image, from its header alone.

The gateway never decodes pixels.
"""

import io
import struct
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from contract.errors import (
    EmptyUploadError,
    NotAnImageError,
    TooManyPixelsError,
    UnsupportedFormatError,
    UploadTooLargeError,
)
from gateway.accept.samples import unsupported_samples

#: Supported formats, by Pillow's names.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_JPEG_START, _JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
#: Encoders write about ten scans; the decoder processes the whole image once for each.
_JPEG_SCANS_MAX = 200
#: A JPEG segment: 0xFF, kind, length; a frame header continues with depth, height, width, components.
_FRAME_HEADER = struct.Struct(">BBHBHHB")
#: Frames that the worker decodes: baseline, extended, progressive.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
#: Markers that cannot precede a frame header: restarts, start, end, scan.
_NO_SEGMENT = frozenset(range(0xD0, 0xDB))
_SUPPORTED = "Send JPEG, PNG, WebP, BMP, GIF or TIFF."


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The maximum size of an image."""

    max_bytes: int
    max_pixels: int


def check_upload(data: bytes, limits: UploadLimits) -> None:
    """Check that `data` looks like an image that a worker can decode.

    Raises:
        UploadError: a subclass that describes the problem.
    """
    if not data:
        raise EmptyUploadError("The image is empty. Send the contents of an image file.")
    if len(data) > limits.max_bytes:
        raise UploadTooLargeError(too_large_text(limits.max_bytes))
    if data.startswith(_JPEG_START) and data.count(_JPEG_SCAN) > _JPEG_SCANS_MAX:
        raise NotAnImageError(f"The JPEG has more than {_JPEG_SCANS_MAX} scans. Save it again and send that file.")
    width, height = _size_of(data)
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(
            f"The image has {width} x {height} pixels; the maximum is {limits.max_pixels:,}. Send a smaller image."
        )


def too_large_text(max_bytes: int) -> str:
    """The detail of the error for an upload over the limit."""
    return f"The upload is larger than the limit of {max_bytes:,} bytes. Send a smaller image."


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header of an ordinary JPEG; None for anything else.

    Most uploads are ordinary JPEGs, and opening one with Pillow would take a fifth of the time of its upload.
    """
    position = len(_JPEG_START)
    while data.startswith(_JPEG_START) and len(data) - position > _FRAME_HEADER.size:
        mark, kind, length, depth, height, width, components = _FRAME_HEADER.unpack_from(data, position)
        if mark != 0xFF or not (0xC0 <= kind <= 0xFE) or kind in _NO_SEGMENT or length < 2:
            return None
        if kind in _FRAMES:
            is_ordinary = depth == 8 and components in (1, 3, 4) and length == 8 + 3 * components and width and height
            return (width, height) if is_ordinary else None
        position += 2 + length
    return None


def _size_of(data: bytes) -> tuple[int, int]:
    if size := jpeg_size(data):
        return size
    try:
        return _read_header(data, FORMATS)
    except Image.DecompressionBombError:
        raise TooManyPixelsError("The image has far too many pixels. Send a smaller image.") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    # Pillow's header readers raise nearly any exception on hostile input.
    except Exception as error:
        raise NotAnImageError(f"The header of the image is corrupt. {_SUPPORTED}") from error


def _unidentified(data: bytes) -> NotAnImageError | UnsupportedFormatError:
    """The error for data in none of the supported formats, or with samples that no worker can decode."""
    if detail := unsupported_samples(data):
        return UnsupportedFormatError(detail)
    try:
        _read_header(data, None)
    except Exception:  # noqa: BLE001 - whatever Pillow raises, this is not an image
        return NotAnImageError(f"The upload is not an image, or its header is corrupt. {_SUPPORTED}")
    return UnsupportedFormatError(f"This image format is not supported. {_SUPPORTED}")


def _read_header(data: bytes, formats: tuple[str, ...] | None) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=formats) as image:
        return image.size
