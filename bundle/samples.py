"""Reads the type, range, polarity and byte order of an image's samples.

Pillow decodes most files, but ignores the sample range that some of them state, and misreads a few kinds of TIFF. This
module reads what Pillow leaves out.
"""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

#: Codes of warnings about an image; `contract/job.py` has their texts.
SAMPLE_RANGE_ASSUMED = "sample_range_assumed"
INVALID_SAMPLES = "invalid_samples"

#: Images are examined in strips of this many rows; examining the whole image would take many times its memory.
STRIP_ROWS = 256

_RIFF_HEADER_SIZE = 12

#: TIFF tags (TIFF 6.0, section 8 and later ones).
_BITS, _PHOTOMETRIC, _FILL_ORDER, _STRIP_SIZES, _MAX_VALUE, _PLANAR = 258, 262, 266, 279, 281, 284
_COLORS, _TILE_SIZES, _INK_SET, _FORMAT, _S_MIN, _S_MAX = 320, 325, 332, 339, 340, 341
_SUBSAMPLING, _REFERENCE_RANGE = 530, 532
_WHITE_IS_ZERO = 0
_FAX = frozenset({"tiff_ccitt", "group3", "group4"})
_FULL_YCBCR = (0, 255, 128, 255, 128, 255)

#: libtiff returns samples in the byte order of this machine, but Pillow swaps these as if they were in the file's.
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
#: The range of 16-bit samples is assumed if none reaches a quarter of it: real pixels rarely leave two bits unused.
_UNUSED_BITS = 2
#: Numbers of bits that image sensors and converters use. The first is that of floating-point samples from 0 to 1.
_DEPTHS = (1, 8, 10, 12, 14, 16, 24, 32)
#: How far samples may exceed the range that the file states, as a share of it.
_OVERSHOOT = 0.05


class UnsupportedSamplesError(ValueError):
    """The file stores its samples in a way that cannot be read correctly."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The sample values of black and white."""

    black: float
    white: float

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale samples of any type to 0..255, with the same shape; values beyond black and white are clipped."""
        bits = int(self.white + 1).bit_length() - 1
        if values.dtype.kind in "ui" and self.black == 0 and bits >= 8 and self.white + 1 == 1 << bits:
            return _as_bytes(np.clip(values >> (bits - 8), 0, 255))  # the highest byte, as Pillow does for RGB
        # Make only one copy: a strip of a wide image is large.
        is_wide = values.dtype.kind != "f" and values.dtype.itemsize == 4
        scaled: NDArray[np.floating] = values.astype(np.float64 if is_wide else np.float32)
        np.subtract(scaled, self.black, out=scaled)
        np.multiply(scaled, 255 / (self.white - self.black), out=scaled)
        np.nan_to_num(scaled, copy=False, posinf=255, neginf=0)
        np.clip(scaled, 0, 255, out=scaled)
        return _as_bytes(np.rint(scaled, out=scaled))


@dataclass(frozen=True, slots=True)
class Samples:
    """How a file stores its samples."""

    #: Of each sample in the file.
    bits: int = 8
    #: `u` unsigned, `i` signed, `f` floating-point.
    kind: str = "u"
    #: The range that the file states.
    stated: tuple[float, float] | None = None
    #: Whether the file format defines the range.
    is_full_range: bool = False
    #: Whether white is stored as zero, and Pillow does not invert it.
    is_inverted: bool = False
    #: Whether the colors have 16 bits, of which Pillow reads the higher 8.
    has_deep_colors: bool = False
    #: The part of the image that its first frame covers, as (left, top, right, bottom); None for all of it.
    frame: tuple[int, int, int, int] | None = None
    #: Codes of assumptions made while reading.
    warnings: tuple[str, ...] = ()

    def values(self, strip: Image.Image) -> NDArray[Any]:
        """The samples of a grey strip, in their own type, of shape (height, width)."""
        values = np.asarray(strip)
        if self.kind == "i" and self.bits == 8:
            return values.view(np.int8)
        if self.kind == "u" and self.bits == 32:
            return values.view(np.uint32)
        return values


_ORDINARY = Samples()


def read_samples(image: ImageFile.ImageFile) -> Samples:
    """How an opened image stores its samples. Call this before its pixels are loaded.

    Raises:
        UnsupportedSamplesError: Pillow would load wrong pixels.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _read_tiff(image)
    if image.format == "PNG":
        return _read_png(image)
    frame = None
    if image.format == "GIF" and image.tile:
        frame = image.tile[0].extents
    elif image.format == "WEBP" and image.mode == "RGB" and image.fp:
        frame = _first_webp_frame(image.fp)
    if frame and frame != (0, 0, *image.size):
        return Samples(frame=frame)
    return Samples(bits=16) if image.mode.startswith("I") else _ORDINARY


def find_levels(image: Image.Image, samples: Samples) -> tuple[Levels, list[str]]:
    """The levels of a loaded grey image, and warnings if they are assumed.

    Raises:
        UnsupportedSamplesError: no sample is a finite number.
    """
    lows, highs, are_finite = zip(*(_extent(samples.values(strip)) for strip in _strips(image)), strict=True)
    low, high = min(lows), max(highs)
    if low > high:
        raise UnsupportedSamplesError("none of its samples is a finite number")
    warnings = [] if all(are_finite) else [INVALID_SAMPLES]
    levels, is_assumed = _levels(samples, low, high)
    return levels, [*warnings, *([SAMPLE_RANGE_ASSUMED] if is_assumed else [])]


def color_levels(image: Image.Image, samples: Samples) -> tuple[Levels, bool]:
    """The levels of a loaded image with 16-bit colors, and whether they are assumed."""
    return _levels(samples, 0, max_color(image) * 256 + 255)  # Pillow has loaded only the higher bytes


def max_color(image: Image.Image) -> int:
    """The largest value of the color channels of an RGB or RGBA image."""
    return max(top for _, top in cast("tuple[tuple[int, int], ...]", image.getextrema())[:3])


def low_bytes(file: IO[bytes]) -> Image.Image:
    """The lower bytes of a TIFF with 16-bit RGB samples, as an RGB image: read in the other byte order."""
    file.seek(0)
    other = Image.open(file, formats=("TIFF",))
    swapped = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
    tiles = []
    for tile in other.tile:
        mode, *rest = cast("tuple[str, Any, Any]", tile.args)
        tiles.append(tile._replace(args=(mode[:-1] + swapped[mode[-1]], *rest)))
    other.tile = tiles
    other.load()
    return other


def _first_webp_frame(file: IO[bytes]) -> tuple[int, int, int, int] | None:
    """The part of an animated WebP that its first frame covers; None for other images."""
    file.seek(_RIFF_HEADER_SIZE)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            break
        if kind == b"ANMF":
            # 24-bit numbers: half of left and top, width - 1, height - 1.
            left, top, width, height = (int.from_bytes(file.read(3), "little") for _ in range(4))
            return 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1
        file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _read_png(image: ImageFile.ImageFile) -> Samples:
    stored_mode = str(image.tile[0].args) if image.tile else ""
    key, is_deep = image.info.get("transparency"), ";16" in stored_mode
    if image.mode == "L" and isinstance(key, int):
        # The key is stored with the bits of the samples, which Pillow has expanded to 8.
        image.info["transparency"] = (key & 255) * {"L;2": 85, "L;4": 17}.get(stored_mode, 1)
    elif image.mode == "RGB" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 if is_deep else value & 255 for value in key)
    return Samples(
        bits=16 if is_deep else 8, is_full_range=True, has_deep_colors=is_deep and not image.mode.startswith("I")
    )


def _read_tiff(image: TiffImagePlugin.TiffImageFile) -> Samples:
    tags = image.tag_v2
    bits = int(max(_numbers(tags, _BITS), default=1))
    kind = {2: "i", 3: "f"}.get(int(next(iter(_numbers(tags, _FORMAT)), 1)), "u")
    photometric = next(iter(_numbers(tags, _PHOTOMETRIC)), None)
    _refuse_misread(image, bits)
    for at, tile in enumerate(image.tile):
        mode, *rest = cast("tuple[str, Any, Any]", tile.args)
        if tile.codec_name == "libtiff" and mode in _NATIVE:
            image.tile[at] = tile._replace(args=(_NATIVE[mode], *rest))
    # Pillow inverts up to 8 bits, and reads a missing tag as "white is zero"; other readers assume the opposite.
    is_guess = photometric is None and image.mode in ("1", "L") and image.info.get("compression") not in _FAX
    has_small_colors = _mend_palette(image)
    return Samples(
        bits,
        kind,
        stated=_stated_range(tags),
        is_inverted=is_guess or (photometric == _WHITE_IS_ZERO and image.mode.startswith(("I", "F"))),
        has_deep_colors=bits == 16 and image.mode in ("RGB", "RGBA"),
        warnings=(SAMPLE_RANGE_ASSUMED,) if is_guess or has_small_colors else (),
    )


def _refuse_misread(image: TiffImagePlugin.TiffImageFile, bits: int) -> None:
    """Raise for the kinds of TIFF that Pillow opens, but misreads."""
    tags, is_raw = image.tag_v2, image.info.get("compression") == "raw"
    if tags.get(_PLANAR) == 2:
        if image.mode in ("LA", "La", "PA"):
            raise UnsupportedSamplesError(
                "a TIFF with alpha in a separate plane is not supported; save it without alpha"
            )
        is_usual = (
            bits == 8 and tags.get(_FILL_ORDER, 1) == 1 and tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO) != _WHITE_IS_ZERO
        )
        if is_raw and not is_usual:
            raise UnsupportedSamplesError(
                "an uncompressed TIFF in separate planes is supported only with 8-bit samples and black as zero;"
                " save it with PlanarConfiguration 1"
            )
    if image.mode == "CMYK" and tags.get(_INK_SET) == 2:
        raise UnsupportedSamplesError("its inks are not cyan, magenta, yellow and black; save it as RGB")
    if image.mode == "YCbCr" and is_raw:
        size = sum(_numbers(tags, _STRIP_SIZES) or _numbers(tags, _TILE_SIZES))
        is_subsampled = _numbers(tags, _SUBSAMPLING) != (1, 1) and size < 3 * math.prod(image.size)
        if is_subsampled or _numbers(tags, _REFERENCE_RANGE) not in ((), _FULL_YCBCR):
            raise UnsupportedSamplesError(
                "an uncompressed YCbCr TIFF with subsampled or scaled colors is not supported; save it as RGB"
            )


def _mend_palette(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Replace a palette whose 16-bit entries hold 8-bit values. Like libtiff, assume that if no entry exceeds 255."""
    colors = _numbers(image.tag_v2, _COLORS) if image.mode == "P" else ()
    if not 0 < max(colors, default=0) < 256:
        return False
    table = np.array(colors, np.uint8).reshape(3, -1).T
    image.putpalette(table.tobytes())
    return True


def _stated_range(tags: Any) -> tuple[float, float] | None:
    low, high = min(_numbers(tags, _S_MIN), default=0), max(_numbers(tags, _S_MAX), default=math.nan)
    if math.isnan(high):
        # Some writers store the largest sample of the image here, others the largest value of the scanner.
        top = max(_numbers(tags, _MAX_VALUE), default=0)
        low, high = 0, top if top >= 255 and math.log2(top + 1).is_integer() else math.nan
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    converted: NDArray[np.uint8] = values.astype(np.uint8)
    return converted


def _numbers(tags: Any, tag: int) -> tuple[float, ...]:
    """The values of a tag; none if it is missing or does not contain numbers."""
    found = tags.get(tag, ())
    try:
        return tuple(float(value) for value in (found if isinstance(found, tuple) else (found,)))
    except (TypeError, ValueError, ArithmeticError):
        return ()


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    for top in range(0, image.height, STRIP_ROWS):
        yield image.crop((0, top, image.width, min(image.height, top + STRIP_ROWS)))


def _extent(values: NDArray[Any]) -> tuple[float, float, bool]:
    """Smallest and largest finite value, and whether all are finite."""
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max()), True
    finite = values[np.isfinite(values)]
    return float(finite.min(initial=math.inf)), float(finite.max(initial=-math.inf)), finite.size == values.size


def _levels(samples: Samples, low: float, high: float) -> tuple[Levels, bool]:
    """The levels of samples between `low` and `high`, and whether they are assumed."""
    if samples.stated:
        black, white = samples.stated
        slack = _OVERSHOOT * (white - black)
        if black - slack <= low and high <= white + slack:
            return Levels(black, white), False
    if low < 0:
        return Levels(low, max(high, low + 1)), True
    if samples.kind == "f":
        depth = next((depth for depth in _DEPTHS if high < 1 << depth), None)
        return Levels(0, high if depth is None else (1 << depth) - 1), high > 1
    full = samples.bits - (samples.kind == "i")
    depth = next((depth for depth in _DEPTHS[1:] if depth < full and high < 1 << depth), full)
    is_assumed = samples.kind == "i" or (full >= 16 and 0 < high < 1 << (full - _UNUSED_BITS))
    if samples.is_full_range or not is_assumed:
        depth = full
    return Levels(0, (1 << depth) - 1), is_assumed
