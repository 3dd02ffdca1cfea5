"""Tells costly images from cheap ones by their first bytes, and rejects files that waste time or memory."""

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from PIL import ImageFile, TiffImagePlugin

#: Larger files count as costly, so that a worker need not read a file to know that it is.
CHEAP_FILE_MAX_BYTES = 1_000_000
#: The largest images that count as cheap, in pixels: decoding one takes at most about 64 MB and 0.2 s.
_BASELINE_JPEG_MAX = _PNG_MAX = _BMP_MAX = 16_000_000
_OTHER_JPEG_MAX = _GIF_MAX = 8_000_000  # all coefficients of a JPEG with several scans are kept: 6 bytes per pixel
#: Cheap images with several scans have at most so many, including those of thumbnails.
_CHEAP_SCANS_MAX = 20
_WEBP_MAX = 4_000_000  # a canvas for the animation, one for its previous frame, and two copies
#: A longer walk to the size in the header is left to a helper process.
_STEPS_MAX = 100

#: Encoders write up to 8 KB per chunk; 20 MB in such chunks are 2,500. Each costs the decoder 5 us.
_CHUNKS_MAX = 20_000
#: Encoders write about ten; for each, the decoder processes the whole image.
_SCANS_MAX = 200
#: A tile or strip has at most this many pixels, or four times as many as its image.
_TILE_MAX_PIXELS = 4_000_000
_TILE_SHARE_MAX = 4

_PNG_START, _PNG_HEADER = b"\x89PNG\r\n\x1a\n", struct.Struct(">II")
_RIFF_HEADER_SIZE = 12
#: A segment: 0xFF and kind, length. A frame continues with depth, height, width, number of components; the start of a
#: scan with its number of components.
_JPEG_SEGMENT, _JPEG_SIZE = struct.Struct(">HH"), struct.Struct(">HHB")
_JPEG_SCAN = 0xFFDA
#: The largest cheap image by kind of frame: baseline and extended, then progressive, lossless and arithmetic coding.
_JPEG_SEQUENTIAL = frozenset({0xFFC0, 0xFFC1})
_JPEG_FRAMES = dict.fromkeys(_JPEG_SEQUENTIAL, _BASELINE_JPEG_MAX) | dict.fromkeys(
    (0xFFC2, 0xFFC3, 0xFFC9, 0xFFCA), _OTHER_JPEG_MAX
)
#: Tables, application data and comments.
_JPEG_SEGMENTS = frozenset({0xFFC4, 0xFFDB, 0xFFDD, *range(0xFFE0, 0xFFF0), 0xFFFE})
_BMP_HEADER = struct.Struct("<IiiHHI")
_BMP_CORE_BYTES = 12
#: No compression; masks for the colors. Pillow decodes run lengths in Python.
_BMP_PLAIN = frozenset({0, 3})
_GIF_SCREEN, _GIF_PLACE = struct.Struct("<HHB"), struct.Struct("<HHHH")
_TILE_WIDTH, _TILE_LENGTH = 322, 323


class WastefulImageError(ValueError):
    """Decoding the file would take far more time or memory than its pixels need."""


def is_costly(data: bytes) -> bool:
    """Whether decoding an image may take more than 64 MB of memory or 0.2 s; what is not certainly cheap is costly.

    Every TIFF, HEIC and AVIF is costly: their headers do not bound the memory that their libraries allocate.
    """
    if len(data) > CHEAP_FILE_MAX_BYTES:
        return True
    judge = _JUDGES.get(data[:2])
    try:
        return judge is None or judge(data)
    except (struct.error, IndexError):
        return True


def webp_pixels(data: bytes) -> int:
    """The pixels of a WebP, for which memory is allocated when it is opened; 0 for anything else."""
    kind = data[12:16] if data.startswith(b"RIFF") else b""
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        return 0
    return width * height


def check_bytes(data: bytes) -> None:
    """Reject a file with more parts than any encoder writes.

    Raises:
        WastefulImageError: it is such a file.
    """
    if data.startswith(_PNG_START):
        _check_chunks(data, len(_PNG_START), "big", around=12)
    elif data.startswith(b"RIFF"):
        _check_chunks(data, _RIFF_HEADER_SIZE, "little", around=8)


def check_opened(image: ImageFile.ImageFile, data: bytes) -> None:
    """Reject an opened image whose tiles are far larger than itself, or that has too many scans.

    Raises:
        WastefulImageError: it is such an image.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = _integer(image.tag_v2.get(_TILE_WIDTH)) * _integer(image.tag_v2.get(_TILE_LENGTH))
        if tile > max(_TILE_MAX_PIXELS, _TILE_SHARE_MAX * image.width * image.height):
            raise WastefulImageError(f"its tiles of {tile:,} pixels are much larger than the image")
    elif data.startswith(b"\xff\xd8") and _jpeg_scans(data) > _SCANS_MAX:
        raise WastefulImageError(f"it has more than {_SCANS_MAX} scans")


def _check_chunks(data: bytes, position: int, order: Any, around: int) -> None:
    """Reject a PNG or WebP with too many chunks, or with two headers: decoders believe the second one."""
    end, is_png, headers = len(data), order == "big", 0
    for _ in range(_CHUNKS_MAX):
        if is_png:
            headers += data[position + 4 : position + 8] == b"IHDR"
            size = int.from_bytes(data[position : position + 4], "big")
        else:
            size = int.from_bytes(data[position + 4 : position + 8], "little")
            size += size % 2
        position += around + size
        if position >= end:
            if headers > 1:
                raise WastefulImageError("it has more than one header")
            return
    raise WastefulImageError(f"it has more than {_CHUNKS_MAX:,} chunks")


def _is_costly_jpeg(data: bytes) -> bool:
    frame = _after_segments(data, 2)
    (kind, _), (height, width, _) = _JPEG_SEGMENT.unpack_from(data, frame), _JPEG_SIZE.unpack_from(data, frame + 5)
    limit = _JPEG_FRAMES.get(kind, 0)
    scans = _jpeg_scans(data)
    if scans > 1:
        limit = min(limit, _OTHER_JPEG_MAX)
    return scans > _CHEAP_SCANS_MAX or not 0 < width * height <= limit


def _jpeg_scans(data: bytes) -> int:
    """At least as many as the scans of a JPEG; 1 only if the first scan is surely the last one."""
    with suppress(struct.error, IndexError):
        frame = _after_segments(data, 2)
        (kind, length), (*_, components) = (
            _JPEG_SEGMENT.unpack_from(data, frame),
            _JPEG_SIZE.unpack_from(data, frame + 5),
        )
        scan = _after_segments(data, frame + 2 + length)
        (start, _) = _JPEG_SEGMENT.unpack_from(data, scan)
        # Decoders reject a second scan if the first one contains all components, unless the frame is progressive.
        if kind in _JPEG_SEQUENTIAL and start == _JPEG_SCAN and data[scan + 4] == components:
            return 1
    return max(2, data.count(_JPEG_SCAN.to_bytes(2, "big")))


def _after_segments(data: bytes, position: int) -> int:
    """The position of the first segment that is no table, application data or comment."""
    for _ in range(_STEPS_MAX):
        kind, length = _JPEG_SEGMENT.unpack_from(data, position)
        if kind not in _JPEG_SEGMENTS:
            break
        position += 2 + length
    return position


def _is_costly_png(data: bytes) -> bool:
    width, height = _PNG_HEADER.unpack_from(data, 16)
    return bool(width * height > _PNG_MAX)


def _is_costly_webp(data: bytes) -> bool:
    return not 0 < webp_pixels(data) <= _WEBP_MAX


def _is_costly_gif(data: bytes) -> bool:
    width, height, flags = _GIF_SCREEN.unpack_from(data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    steps = 0
    while steps < _STEPS_MAX and data[position] == 0x21:
        position += 2
        while steps < _STEPS_MAX and (block := data[position]):
            position += 1 + block
            steps += 1
        position += 1
        steps += 1
    if data[position] != 0x2C:
        return True
    # The decoder enlarges the screen if the first image does not fit.
    left, top, frame_width, frame_height = _GIF_PLACE.unpack_from(data, position + 1)
    return bool(max(width, left + frame_width) * max(height, top + frame_height) > _GIF_MAX)


def _is_costly_bmp(data: bytes) -> bool:
    size, width, height, _, _, compression = _BMP_HEADER.unpack_from(data, 14)
    if size == _BMP_CORE_BYTES:
        return False  # at most 65,535 pixels wide and high, without compression: not larger than the file
    return compression not in _BMP_PLAIN or abs(width * height) > _BMP_MAX


#: The first two bytes of a format, and whether an image in it is costly.
_JUDGES: dict[bytes, Callable[[bytes], bool]] = {
    b"\xff\xd8": _is_costly_jpeg,
    b"\x89P": _is_costly_png,
    b"RI": _is_costly_webp,
    b"GI": _is_costly_gif,
    b"BM": _is_costly_bmp,
}


def _integer(value: Any) -> int:
    """The value of a TIFF tag; 0 if it is missing or not a number."""
    return int(value) if isinstance(value, int | float) else 0
