"""Checks of uploaded bytes by size and header alone; pixels are never decoded here."""

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

#: Pillow's names of the formats that are served.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_JPEG_START, _JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
#: Encoders write about ten; each costs a decoder the whole image's time again.
_JPEG_SCANS_MAX = 200
#: Of a JPEG's segment: 0xFF, kind, length, and of a frame header further depth, height, width, components.
_FRAME_HEADER = struct.Struct(">BBHBHHB")
#: Kinds of frames that are decoded: baseline, extended, progressive.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
#: Marks that no frame header can follow: restarts, start, end, scan.
_NO_SEGMENT = frozenset(range(0xD0, 0xDB))
_SERVED = "Send JPEG, PNG, WebP, BMP, GIF or TIFF."


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How large an image may be."""

    max_bytes: int
    max_pixels: int


def check_upload(data: bytes, limits: UploadLimits) -> None:
    """Return if `data` looks like an image that a worker can be asked to decode.

    Raises:
        UploadError: a subclass that says what is wrong and what to send instead.
    """
    if not data:
        raise EmptyUploadError("The image has no bytes. Send the content of an image file.")
    if len(data) > limits.max_bytes:
        raise UploadTooLargeError(too_large_text(limits.max_bytes))
    if data.startswith(_JPEG_START) and data.count(_JPEG_SCAN) > _JPEG_SCANS_MAX:
        raise NotAnImageError("The JPEG has far more scans than an image needs. Save it anew and send that.")
    width, height = _size_of(data)
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(
            f"The image has {width} x {height} pixels, more than the limit of {limits.max_pixels:,}. "
            "Send a smaller one."
        )


def too_large_text(max_bytes: int) -> str:
    """What a caller is told whose upload is over the limit."""
    return f"The upload is larger than the limit of {max_bytes:,} bytes. Send a smaller image."


def _size_of(data: bytes) -> tuple[int, int]:
    if size := jpeg_size(data):
        return size
    try:
        return _read_header(data, FORMATS)
    except Image.DecompressionBombError:
        raise TooManyPixelsError("The image has far more pixels than the limit. Send a smaller one.") from None
    except UnidentifiedImageError:
        raise _refusal(data) from None
    # Pillow's header readers raise nearly anything on hostile bytes.
    except Exception as error:
        raise NotAnImageError(f"The image's header is broken. {_SERVED}") from error


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height out of the frame header of a plain JPEG; None for anything else, which Pillow is to judge.

    Most uploads are plain JPEGs, and Pillow takes a fifth of a submit's whole time for what is read here.
    """
    at = len(_JPEG_START)
    while data.startswith(_JPEG_START) and len(data) - at > _FRAME_HEADER.size:
        mark, kind, length, depth, height, width, components = _FRAME_HEADER.unpack_from(data, at)
        if mark != 0xFF or not (0xC0 <= kind <= 0xFE) or kind in _NO_SEGMENT or length < 2:
            return None
        if kind in _FRAMES:
            is_plain = depth == 8 and components in (1, 3, 4) and length == 8 + 3 * components and width and height
            return (width, height) if is_plain else None
        at += 2 + length
    return None


def _refusal(data: bytes) -> NotAnImageError | UnsupportedFormatError:
    """Tell an image of another format from what is no image at all."""
    try:
        _read_header(data, None)
    except Exception:  # noqa: BLE001 - whatever it is, it is not an image
        return NotAnImageError(f"The upload is not an image, or its header is broken. {_SERVED}")
    return UnsupportedFormatError(f"Images of this format are not served. {_SERVED}")


def _read_header(data: bytes, formats: tuple[str, ...] | None) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=formats) as image:
        return image.size
