"""Every kind of file decodes to the same pixels as an 8-bit RGB file of the same image."""

import io
import re
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from bundle.decode import UndecodableImageError, decode
from contract.job import WARNINGS
from tests.support import icc
from tests.support.images import encode
from tests.support.png import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, png
from tests.support.tiff import tiff

SIDE = 64
_Y, _X = np.mgrid[0:SIDE, 0:SIDE]
#: Grey from 0 to 252, as uint8; and a color image whose channels differ.
GREYS = (_X * 3 + _Y).astype(np.uint8)
COLORS = np.stack([_X * 4, _Y * 4, (_X + _Y) * 2], -1).astype(np.uint8)
#: Colors that every wider color space contains.
MILD = np.stack([40 + _X * 2, 60 + _Y * 2, 50 + _X + _Y], -1).astype(np.uint8)
ON_GREY = np.repeat(GREYS[..., None], 3, 2)
OPAQUE = np.full((SIDE, SIDE, 1), 255, np.uint8)
INKS = np.concatenate([255 - COLORS, 0 * OPAQUE], -1)
HALF = GREYS > 100
ON_HALF = np.repeat(HALF[..., None] * np.uint8(255), 3, 2)

SAMPLE_RANGE, PROFILE, POLARITY, INVALID, _UNFAMILIAR = WARNINGS


def stretched(values: NDArray[np.uint8], white: int, kind: Any = np.uint16) -> NDArray[Any]:
    """8-bit values as samples from 0 to `white`."""
    return np.rint(values.astype(np.float64) * (white / 255)).astype(kind)


def stated(low: float, high: float, channels: int = 1) -> dict[int, tuple[int, list[float]]]:
    """The TIFF tags `SMinSampleValue` and `SMaxSampleValue`."""
    return {340: (12, [low] * channels), 341: (12, [high] * channels)}


def compare(data: bytes, expected: NDArray[np.uint8], *warnings: str, at_most: float = 0.6) -> None:
    """Check the pixels, by mean absolute difference in levels of 255, and the warnings."""
    decoded = decode(data, SIDE, SIDE)
    assert np.abs(decoded.pixels.astype(int) - expected).mean() <= at_most
    assert decoded.warnings == warnings


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "deflate"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(
    ("samples", "options", "expected", "warnings"),
    [
        pytest.param(GREYS, {}, ON_GREY, (), id="uint8"),
        pytest.param(255 - GREYS, {"photometric": 0}, ON_GREY, (), id="uint8, white is zero"),
        pytest.param(GREYS, {"photometric": None}, ON_GREY, (SAMPLE_RANGE,), id="uint8, no photometric"),
        pytest.param(HALF.astype(np.uint8), {"bits": 1}, ON_HALF, (), id="1 bit"),
        pytest.param(1 - HALF.astype(np.uint8), {"bits": 1, "photometric": 0}, ON_HALF, (), id="1 bit, white is zero"),
        pytest.param(stretched(GREYS, 65535), {}, ON_GREY, (), id="uint16"),
        pytest.param(stretched(GREYS, 4095), {}, ON_GREY, (SAMPLE_RANGE,), id="12 bits in 16"),
        pytest.param(stretched(GREYS, 1023), {}, ON_GREY, (SAMPLE_RANGE,), id="10 bits in 16"),
        pytest.param(stretched(GREYS, 16383), {}, ON_GREY, (SAMPLE_RANGE,), id="14 bits in 16"),
        pytest.param(GREYS.astype(np.uint16), {}, ON_GREY, (SAMPLE_RANGE,), id="8 bits in 16"),
        pytest.param(stretched(GREYS, 4095), {"tags": stated(0, 4095)}, ON_GREY, (), id="stated 0..4095"),
        pytest.param(1000 + stretched(GREYS, 3000), {"tags": stated(1000, 4000)}, ON_GREY, (), id="stated 1000..4000"),
        pytest.param(stretched(GREYS, 4095), {"tags": {281: (3, [4095])}}, ON_GREY, (), id="MaxSampleValue 4095"),
        pytest.param(stretched(GREYS, 65535), {"tags": {281: (3, [900])}}, ON_GREY, (), id="MaxSampleValue 900"),
        pytest.param(stretched(GREYS, 65535), {"tags": stated(0, 4095)}, ON_GREY, (), id="stated, but exceeded"),
        pytest.param(GREYS.astype(np.int8) + 0, {}, None, (SAMPLE_RANGE,), id="int8, from -128"),
        pytest.param((GREYS // 2).astype(np.int8), {}, ON_GREY, (SAMPLE_RANGE,), id="int8, from 0"),
        pytest.param(stretched(GREYS, 32767, np.int16), {}, ON_GREY, (SAMPLE_RANGE,), id="int16, from 0"),
        pytest.param(
            (stretched(GREYS, 65535, np.int32) - 32768).astype(np.int16),
            {"tags": stated(-32768, 32767)}, ON_GREY, (), id="int16, stated",
        ),
        pytest.param(
            (stretched(GREYS, 2040, np.int32) - 1024).astype(np.int16),
            {}, ON_GREY, (SAMPLE_RANGE,), id="int16, unknown",
        ),
        pytest.param(stretched(GREYS, 2**31 - 1, np.int32), {}, ON_GREY, (SAMPLE_RANGE,), id="int32"),
        pytest.param(GREYS.astype(np.float32) / 255, {}, ON_GREY, (), id="float, 0..1"),
        pytest.param(GREYS.astype(np.float32) / 250, {}, None, (SAMPLE_RANGE,), id="float, beyond 1"),
        pytest.param(GREYS.astype(np.float32), {}, ON_GREY, (SAMPLE_RANGE,), id="float, 0..255"),
        pytest.param(stretched(GREYS, 4095, np.float32), {}, ON_GREY, (SAMPLE_RANGE,), id="float, 0..4095"),
        pytest.param(GREYS.astype(np.float32) - 900, {"tags": stated(-900, -645)}, ON_GREY, (), id="float, stated"),
        pytest.param(1 - GREYS.astype(np.float32) / 255, {"photometric": 0}, ON_GREY, (), id="float, white is zero"),
        pytest.param(COLORS, {"photometric": 2}, COLORS, (), id="RGB8"),
        pytest.param(COLORS, {"photometric": 2, "planar": True}, COLORS, (), id="RGB8, planar"),
        pytest.param(stretched(COLORS, 65535), {"photometric": 2}, COLORS, (), id="RGB16"),
        pytest.param(stretched(COLORS, 4095), {"photometric": 2}, COLORS, (SAMPLE_RANGE,), id="RGB, 12 bits in 16"),
        pytest.param(
            stretched(COLORS, 4095), {"photometric": 2, "tags": stated(0, 4095, 3)}, COLORS, (), id="RGB16, stated"
        ),
        pytest.param(
            stretched(np.concatenate([COLORS, OPAQUE], -1), 65535),
            {"photometric": 2, "tags": {338: (3, [2])}}, COLORS, (), id="RGBA16",
        ),
        pytest.param(
            np.concatenate([COLORS // 2, OPAQUE // 2], -1),
            {"photometric": 2, "tags": {338: (3, [1])}}, COLORS // 2 + 128, (), id="RGBA8, premultiplied",
        ),
        pytest.param(
            np.stack([GREYS // 2, np.full_like(GREYS, 127)], -1),
            {"tags": {338: (3, [1])}}, ON_GREY // 2 + 128, (), id="grey with alpha, premultiplied",
        ),
        pytest.param(
            INKS, {"photometric": 5}, COLORS, (), id="CMYK8"
        ),
        pytest.param(
            stretched(INKS, 65535), {"photometric": 5}, COLORS, (), id="CMYK16"
        ),
        pytest.param(
            np.asarray(Image.fromarray(MILD).convert("YCbCr")),
            {"photometric": 6, "tags": {530: (3, [1, 1])}}, MILD, (), id="YCbCr",
        ),
        pytest.param(
            GREYS, {"photometric": 3, "tags": {320: (3, [*range(0, 65536, 257)] * 3)}}, ON_GREY, (), id="palette",
        ),
        pytest.param(
            GREYS,
            {"photometric": 3, "tags": {320: (3, [*range(256)] * 3)}}, ON_GREY, (SAMPLE_RANGE,), id="8-bit palette",
        ),
    ],
)  # fmt: skip
def test_a_tiff_gives_the_pixels_of_the_8_bit_image(
    samples: NDArray[Any],
    options: Mapping[str, Any],
    expected: NDArray[np.uint8] | None,
    warnings: tuple[str, ...],
    order: str,
    *,
    compressed: bool,
) -> None:
    data = tiff(samples, **options, order=order, compressed=compressed)
    if expected is None:  # the scale is a guess; the image must keep its contrast
        decoded = decode(data, SIDE, SIDE)
        assert decoded.pixels.std() > 50
        assert decoded.warnings == warnings
    else:
        compare(data, expected, *warnings, at_most=1.5)


@pytest.mark.parametrize(
    ("samples", "photometric", "bits"),
    [
        (stretched(GREYS, 4095), 1, 12),
        (stretched(GREYS, 2**32 - 1, np.uint32), 1, 32),
        (65535 - stretched(GREYS, 65535), 0, 16),
    ],
    ids=["packed 12 bits", "uint32", "uint16, white is zero"],
)  # fmt: skip
def test_a_little_endian_tiff_gives_the_pixels_of_the_8_bit_image(
    samples: NDArray[Any], photometric: int, bits: int
) -> None:
    compare(tiff(samples, photometric, bits), ON_GREY)
    compare(tiff(samples, photometric, bits, compressed=True), ON_GREY)


#: The TIFF tag `ReferenceBlackWhite` of video: pairs of numerator and denominator.
VIDEO_RANGE = (5, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])


@pytest.mark.parametrize(
    ("samples", "options", "reason"),
    [
        (stretched(COLORS, 65535), {"photometric": 2, "planar": True}, "separate planes"),
        (np.stack([GREYS, GREYS], -1), {"planar": True, "compressed": True, "tags": {338: (3, [2])}}, "separate plane"),
        (stretched(GREYS, 65535), {"planar": True}, "PlanarConfiguration 1"),
        (GREYS, {"photometric": 0, "planar": True}, "PlanarConfiguration 1"),
        (np.concatenate([COLORS, OPAQUE], -1), {"photometric": 5, "tags": {332: (3, [2])}}, "not cyan"),
        (COLORS, {"photometric": 6, "tags": {530: (3, [1, 1]), 532: VIDEO_RANGE}}, "YCbCr"),
        (COLORS, {"photometric": 6, "tags": {530: (3, [2, 2]), 279: (4, [SIDE * SIDE * 3 // 2])}}, "YCbCr"),
        (np.full((8, 8), np.nan, np.float32), {}, "none of its samples is a finite number"),
    ],
)  # fmt: skip
def test_a_tiff_that_pillow_misreads_is_rejected_with_the_reason(
    samples: NDArray[Any], options: Mapping[str, Any], reason: str
) -> None:
    with pytest.raises(UndecodableImageError, match=reason):
        decode(tiff(samples, **options), SIDE, SIDE)


def test_samples_that_are_not_numbers_are_black_and_reported() -> None:
    values = GREYS.astype(np.float32) / 255
    values[HALF] = np.nan
    compare(tiff(values), np.where(HALF[..., None], 0, ON_GREY).astype(np.uint8), INVALID)


def test_a_black_image_is_black_without_a_warning() -> None:
    compare(tiff(np.zeros((SIDE, SIDE), np.uint16)), np.zeros_like(COLORS))
    compare(tiff(np.zeros((SIDE, SIDE, 3), np.uint16), 2), np.zeros_like(COLORS))


def on_white(values: NDArray[Any], is_transparent: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(is_transparent[..., None], 255, values).astype(np.uint8)


KEYED, KEYED_GREY = COLORS.copy(), GREYS.copy()
KEYED[:32], KEYED_GREY[:32] = (9, 8, 7), 9
FOURS = np.where(_Y < 32, 1, _X // 16).astype(np.uint8)
UPPER = _Y < 32
RAMP = bytes(value for at in range(256) for value in (at, 255 - at, at // 2))


@pytest.mark.parametrize(
    ("data", "expected", "warnings"),
    [
        pytest.param(png(stretched(GREYS, 65535), GREY), ON_GREY, (), id="grey, 16 bits"),
        pytest.param(png(stretched(COLORS, 65535), RGB), COLORS, (), id="RGB, 16 bits"),
        pytest.param(
            png(stretched(np.concatenate([COLORS, OPAQUE], -1), 65535), RGBA), COLORS, (), id="RGBA, 16 bits"
        ),
        pytest.param(
            png(stretched(np.stack([GREYS, OPAQUE[..., 0]], -1), 65535), GREY_ALPHA), ON_GREY, (), id="LA, 16 bits"
        ),
        pytest.param(png(stretched(GREYS, 4095), GREY), ON_GREY // 16, (SAMPLE_RANGE,), id="grey, 12 bits in 16"),
        pytest.param(png(stretched(COLORS, 4095), RGB), COLORS // 16, (SAMPLE_RANGE,), id="RGB, 12 bits in 16"),
        pytest.param(png(FOURS, GREY, bits=2), np.repeat(FOURS[..., None] * 85, 3, 2), (), id="grey, 2 bits"),
        pytest.param(png(HALF.astype(np.uint8), GREY, bits=1), ON_HALF, (), id="1 bit"),
        pytest.param(
            png(KEYED, RGB, (b"tRNS", struct.pack(">3H", 9, 8, 7))), on_white(KEYED, UPPER), (), id="RGB, key"
        ),
        pytest.param(
            png(stretched(KEYED, 65535), RGB, (b"tRNS", struct.pack(">3H", 9 * 257, 8 * 257, 7 * 257))),
            on_white(KEYED, UPPER), (), id="RGB, 16 bits, key",
        ),
        pytest.param(
            png(KEYED_GREY, GREY, (b"tRNS", b"\0\x09")),
            on_white(KEYED_GREY[..., None], KEYED_GREY == 9), (), id="grey, key",
        ),
        pytest.param(
            png(stretched(KEYED_GREY, 65535), GREY, (b"tRNS", struct.pack(">H", 9 * 257))),
            on_white(KEYED_GREY[..., None], KEYED_GREY == 9), (), id="grey, 16 bits, key",
        ),
        pytest.param(
            png(FOURS, GREY, (b"tRNS", b"\0\1"), bits=2),
            on_white(FOURS[..., None] * 85, FOURS == 1), (), id="grey, 2 bits, key",
        ),
        pytest.param(
            png(GREYS, PALETTE, (b"PLTE", RAMP), (b"tRNS", bytes(range(256)))),
            (np.stack([GREYS, 255 - GREYS, GREYS // 2], -1) / 255.0 * GREYS[..., None] + 255 - GREYS[..., None])
            .astype(np.uint8), (), id="palette with alpha",
        ),
        pytest.param(
            png(GREYS, PALETTE, (b"PLTE", RAMP)), np.stack([GREYS, 255 - GREYS, GREYS // 2], -1), (), id="palette"
        ),
    ],
)  # fmt: skip
def test_a_png_gives_the_pixels_of_the_8_bit_image(
    data: bytes, expected: NDArray[np.uint8], warnings: tuple[str, ...]
) -> None:
    compare(data, expected, *warnings)


def jpeg_of_inks(colors: NDArray[np.uint8], *, inverted: bool, marked: bool) -> bytes:
    """A CMYK JPEG: `inverted` stores 255 for no ink, as Adobe does; `marked` keeps Adobe's marker."""
    inks = Image.fromarray(colors).convert("CMYK")
    data = encode(inks if inverted else ImageChops.invert(inks), "JPEG", quality=95)  # Pillow inverts
    at = data.index(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    return data if marked else data[:at] + data[at + 2 + length :]


def test_a_cmyk_jpeg_with_the_adobe_marker_is_inverted() -> None:
    compare(jpeg_of_inks(COLORS, inverted=True, marked=True), COLORS)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("colors", [COLORS, np.full_like(COLORS, 255)], ids=["ramps", "white"])
def test_a_cmyk_jpeg_without_the_marker_is_read_with_little_black_ink(
    colors: NDArray[np.uint8], *, inverted: bool
) -> None:
    compare(jpeg_of_inks(colors, inverted=inverted, marked=False), colors, POLARITY)


def test_a_jpeg_in_rgb_and_one_in_ycck_keep_their_colors() -> None:
    compare(encode(Image.fromarray(COLORS), "JPEG", quality=95, keep_rgb=True), COLORS)
    # Adobe transform 2: the first three channels are YCbCr, with ink instead of light.
    ycc = Image.fromarray(255 - MILD).convert("YCbCr")
    ycck = Image.merge("CMYK", [ImageChops.invert(band) for band in ycc.split()] + [Image.new("L", ycc.size, 0)])
    data = bytearray(encode(ycck, "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    compare(bytes(data), MILD, at_most=1.5)


def test_a_lab_tiff_keeps_its_colors() -> None:
    to_lab = ImageCms.ImageCmsTransform(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "RGB", "LAB",
    )  # fmt: skip
    compare(encode(to_lab.apply(Image.fromarray(MILD)), "TIFF"), MILD, at_most=1.5)


PROFILES = {
    "Display P3": icc.rgb_profile(icc.DISPLAY_P3),
    "Adobe RGB": icc.rgb_profile(icc.ADOBE_RGB, 2.19921875),
    "ProPhoto": icc.rgb_profile(icc.PROPHOTO, 1.8, icc.D50),
    "linear": icc.rgb_profile(icc.SRGB, 1.0),
}


def in_profile(profile: bytes) -> Image.Image:
    """`MILD` in the color space of a profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(srgb, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC).apply(
        Image.fromarray(MILD)
    )


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_color_profile_is_applied(profile: bytes, form: str) -> None:
    image = in_profile(profile)
    assert np.abs(np.asarray(image).astype(int) - MILD).mean() > 3
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    compare(encode(image, form, icc_profile=profile, **options), MILD, at_most=1.2)


def test_the_color_profile_of_images_with_alpha_or_palette_is_applied() -> None:
    profile = PROFILES["Adobe RGB"]
    flat = Image.new("RGB", (SIDE, SIDE), (180, 60, 60))
    expected = decode(encode(flat, icc_profile=profile), SIDE, SIDE).pixels
    assert np.abs(expected[0, 0].astype(int) - (180, 60, 60)).max() > 10
    for image in (flat.convert("RGBA"), flat.quantize(2)):
        compare(encode(image, icc_profile=profile), expected)


def test_a_grey_profile_is_applied_to_grey_images() -> None:
    linear = icc.grey_profile(1.0)
    for image in (Image.new("L", (SIDE, SIDE), 55), Image.new("LA", (SIDE, SIDE), (55, 255))):
        compare(encode(image, icc_profile=linear), np.full_like(COLORS, 128), at_most=1.5)
    compare(
        encode(Image.new("L", (SIDE, SIDE), 55), icc_profile=PROFILES["linear"]), np.full_like(COLORS, 128), at_most=1.5
    )


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_a_cmyk_profile_is_applied(form: str) -> None:
    pale = icc.cmyk_profile()
    for inks, grey in (((0, 0, 0, 0), 255), ((0, 0, 0, 255), 119)):
        image = Image.new("CMYK", (SIDE, SIDE), inks)
        compare(encode(image, form, icc_profile=pale), np.full_like(COLORS, grey), at_most=1.5)


def test_an_srgb_profile_changes_no_pixel() -> None:
    data = encode(Image.fromarray(COLORS), icc_profile=icc.rgb_profile(icc.SRGB))
    assert np.array_equal(decode(data, SIDE, SIDE).pixels, COLORS)


@pytest.mark.parametrize(
    "profile",
    [b"\xa5" * 5000, PROFILES["Display P3"][:300], bytes(5_000_000), icc.grey_profile(1.0), icc.cmyk_profile()],
    ids=["noise", "truncated", "huge", "grey", "CMYK"],
)
def test_an_unusable_profile_is_ignored_and_reported(profile: bytes) -> None:
    compare(encode(Image.fromarray(COLORS), "JPEG", quality=95, icc_profile=profile), COLORS, PROFILE, at_most=3)


def test_threads_share_a_profile() -> None:
    profile = PROFILES["ProPhoto"]
    data = encode(in_profile(profile), icc_profile=profile)
    expected, found = decode(data, SIDE, SIDE).pixels, []

    def run() -> None:
        found.extend(np.array_equal(decode(data, SIDE, SIDE).pixels, expected) for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


P3_PRIMARIES = struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


@pytest.mark.parametrize(
    ("chunks", "exponent", "warnings"),
    [
        pytest.param([(b"gAMA", struct.pack(">I", 100_000))], 1 / 2.2, (), id="linear"),
        pytest.param([(b"gAMA", struct.pack(">I", 45_455))], 1, (), id="as sRGB"),
        pytest.param([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))], 1, (), id="overruled by sRGB"),
        pytest.param([(b"gAMA", struct.pack(">I", 1))], 1, (PROFILE,), id="absurd"),
        pytest.param(
            [(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", P3_PRIMARIES)], 1, (PROFILE,), id="other primaries"
        ),
    ],
)  # fmt: skip
def test_the_gamma_of_a_png_is_applied(
    chunks: list[tuple[bytes, bytes]], exponent: float, warnings: tuple[str, ...]
) -> None:
    expected = np.rint(255 * (COLORS / 255.0) ** exponent).astype(np.uint8)
    compare(png(COLORS, RGB, *chunks), expected, *warnings)


def test_the_first_frame_of_a_gif_is_placed_on_white() -> None:
    frame = Image.new("P", (32, 32), 1)
    frame.putpalette([0, 0, 0, 200, 30, 30])
    data = bytearray(encode(frame, "GIF"))
    data[6:10] = struct.pack("<HH", SIDE, SIDE)
    at = data.index(b",", 13)
    data[at + 1 : at + 5] = struct.pack("<HH", 16, 8)
    expected = np.full_like(COLORS, 255)
    expected[8:40, 16:48] = (200, 30, 30)
    compare(bytes(data), expected)


@pytest.mark.parametrize("has_alpha", [False, True])
def test_the_first_frame_of_a_webp_is_placed_on_white(*, has_alpha: bool) -> None:
    def numbers(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    frame = encode(Image.new("RGB", (32, 32), (200, 30, 30)), "WEBP", lossless=True)[12:]
    content = b"WEBP" + chunk(b"VP8X", bytes([18 if has_alpha else 2, 0, 0, 0]) + numbers(SIDE - 1, SIDE - 1))
    content += chunk(b"ANIM", bytes(6))
    content += chunk(b"ANMF", numbers(16 // 2, 8 // 2, 31, 31, 100) + b"\0" + frame)
    expected = np.full_like(COLORS, 255)
    expected[8:40, 16:48] = (200, 30, 30)
    compare(chunk(b"RIFF", content), expected)


LARGE_GREY = np.asarray(Image.effect_noise((431, 803), 90))
LARGE = np.stack([LARGE_GREY, LARGE_GREY[::-1], LARGE_GREY[:, ::-1]], -1)


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (lambda: tiff(stretched(LARGE_GREY, 4095)), LARGE_GREY),
        (lambda: tiff(LARGE_GREY.astype(np.float32) / 255), LARGE_GREY),
        (lambda: tiff(65535 - stretched(LARGE_GREY, 65535), 0), LARGE_GREY),
        (lambda: tiff(stretched(LARGE, 4095), 2), LARGE),
        (lambda: encode(Image.fromarray(LARGE), icc_profile=icc.rgb_profile(icc.SRGB)), LARGE),
        (lambda: jpeg_of_inks(LARGE, inverted=False, marked=False), LARGE),
    ],
    ids=["12 bits in 16", "float", "white is zero", "RGB, 12 bits in 16", "profile", "CMYK"],
)
def test_a_large_image_of_any_kind_equals_its_8_bit_image(
    stored: Callable[[], bytes], plain: NDArray[np.uint8]
) -> None:
    expected = decode(encode(Image.fromarray(plain).convert("RGB")), 96, 96).pixels.astype(int)
    assert np.abs(decode(stored(), 96, 96).pixels - expected).mean() < 2


def test_every_warning_of_the_decoder_is_documented() -> None:
    from bundle import color, samples

    codes = {
        samples.SAMPLE_RANGE_ASSUMED,
        samples.INVALID_SAMPLES,
        color.COLOR_PROFILE_IGNORED,
        color.CMYK_POLARITY_ASSUMED,
    }
    assert codes <= WARNINGS.keys()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.zeros((8, 8))), "1 sample of 64 bits per pixel (floating-point; grey)"),
        (tiff(np.zeros((8, 8), np.float16)), "1 sample of 16 bits per pixel (floating-point; grey)"),
        (tiff(np.zeros((8, 8), np.uint16), bits=10), "1 sample of 10 bits per pixel (unsigned; grey)"),
        (tiff(np.zeros((8, 8), np.uint16), bits=14), "1 sample of 14 bits per pixel (unsigned; grey)"),
        (tiff(np.zeros((8, 8, 3), np.float32), 2), "3 samples of 32 bits per pixel (floating-point; RGB)"),
        (tiff(np.zeros((8, 8, 3), np.int16), 8), "3 samples of 16 bits per pixel (signed; CIE L*a*b*)"),
        (tiff(np.zeros((8, 8), np.uint16), 0, order=">"), "1 sample of 16 bits per pixel (unsigned; grey, white"),
        (tiff(np.zeros((8, 8), np.uint8), tags={259: (3, [34712])}), "compressed with method 34712"),
    ],
)  # fmt: skip
def test_samples_that_pillow_does_not_read_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImageError, match=re.escape(reason)):
        decode(data, 8, 8)
