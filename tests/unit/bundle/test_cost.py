"""Files that waste time or memory are rejected, and costly images are told from cheap ones."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bundle.cost import is_costly
from bundle.decode import UndecodableImageError, decode
from tests.support.hostile import small_image
from tests.support.images import draw, encode, png_header_of
from tests.support.tiff import tiff

SMALL = np.full((64, 64), 200, np.uint8)


def png_with(count: int, kind: bytes, content: bytes = b"") -> bytes:
    data = draw()
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk * count + data[33:]


def webp_with(count: int) -> bytes:
    data = draw(form="WEBP", mode="RGBA", color=(1, 2, 3, 99)) + b"junk\0\0\0\0" * count
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def jpeg_of_scans(count: int) -> bytes:
    data = draw((64, 64), form="JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * count + data[-2:]


def sequential_jpeg(scans: int, side: int = 64) -> bytes:
    """A JPEG that is not progressive, with a scan of ten bytes for one of its components in turn."""
    segment = struct.Struct(">HH")
    frame = struct.pack(">BHHB", 8, side, side, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    code = b"\1" + bytes(16)  # one code of one bit, for the value 0
    parts = [(0xFFDB, b"\0" + b"\1" * 64), (0xFFC0, frame), (0xFFC4, b"\0" + code), (0xFFC4, b"\x10" + code)]
    parts += [(0xFFDA, bytes([1, 1 + n % 3, 0, 0, 63, 0])) for n in range(scans)]
    return b"\xff\xd8" + b"".join(segment.pack(kind, len(it) + 2) + it for kind, it in parts) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(png_with(30_000, b"teXt"), "more than 20,000 chunks", id="PNG of empty chunks"),
        pytest.param(webp_with(30_000), "more than 20,000 chunks", id="WebP of empty chunks"),
        pytest.param(png_with(1, b"IHDR", png_header_of(9, 9)[16:29]), "more than one header", id="PNG of two headers"),
        pytest.param(jpeg_of_scans(300), "more than 200 scans", id="progressive JPEG of scans"),
        pytest.param(sequential_jpeg(300), "more than 200 scans", id="JPEG of scans"),
        pytest.param(
            tiff(SMALL, tags={322: (4, [16_384]), 323: (4, [16_384]), 324: (4, [8]), 325: (4, [4096])}),
            "its tiles of 268,435,456 pixels are much larger than the image",
            id="TIFF of a large tile",
        ),
    ],
)  # fmt: skip
def test_a_file_with_silly_parts_is_rejected_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImageError, match=reason):
        decode(data, 8, 8)


@pytest.mark.parametrize(
    "data",
    [png_with(1000, b"teXt"), webp_with(1000), jpeg_of_scans(50), sequential_jpeg(50), tiff(SMALL)],
    ids=["PNG", "WebP", "progressive JPEG", "JPEG", "TIFF"],
)
def test_a_file_with_many_parts_is_decoded(data: bytes) -> None:
    assert decode(data, 8, 8).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_small_image_is_cheap(form: str) -> None:
    assert not is_costly(small_image(form))


@pytest.mark.parametrize(
    "data",
    [
        *(draw(form=form) for form in ("TIFF", "HEIF", "AVIF")),
        draw((4100, 4100), 0, "JPEG", "L"),
        draw((3000, 3000), 0, "JPEG", "L", progressive=True),
        jpeg_of_scans(30),
        sequential_jpeg(30),
        sequential_jpeg(3, 3000),
        png_header_of(4100, 4100),
        draw((2100, 2100), 0, "WEBP"),
        draw((2100, 2100), 0, "WEBP", lossless=True),
        draw((2100, 2100), (0, 0, 0, 0), "WEBP", "RGBA"),
        draw((3000, 3000), 0, "GIF", "L"),
        draw()[:16],
        b"\xff\xd8" + b"\xff\xe0\0\2" * 200,
        b"unknown",
        draw() + bytes(1_000_000),
    ],
    ids=["TIFF", "HEIC", "AVIF", "JPEG", "progressive JPEG", "progressive JPEG of scans", "JPEG of scans",
         "JPEG of large scans", "PNG", "WebP VP8", "WebP VP8L", "WebP VP8X", "GIF",
         "PNG cut off", "JPEG of segments", "unknown", "large file"],
)  # fmt: skip
def test_an_image_that_is_not_certainly_cheap_is_costly(data: bytes) -> None:
    assert is_costly(data)


def test_a_jpeg_of_few_scans_is_cheap() -> None:
    assert not is_costly(sequential_jpeg(3))
    assert not is_costly(draw((64, 64), form="JPEG", progressive=True))


def test_a_photo_followed_by_a_video_is_decoded() -> None:
    assert decode(draw((64, 64), form="JPEG") + b"\xff\xda" * 300, 8, 8).pixels.shape == (8, 8, 3)


def test_a_bmp_is_costly_if_it_is_large_or_compressed() -> None:
    data = bytearray(encode(Image.new("L", (16, 16)), "BMP"))
    assert not is_costly(bytes(data))
    data[30] = 1
    assert is_costly(bytes(data))
    data[30] = 0
    data[18:26] = struct.pack("<ii", 8000, -8000)
    assert is_costly(bytes(data))


def test_a_gif_is_costly_if_its_first_frame_is_large() -> None:
    data = draw((16, 16), 0, "GIF", "L", comment=b"c" * 300)
    frame = data.index(b",") + 1
    assert not is_costly(data)
    assert is_costly(data[:frame] + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + data[frame + 8 :])
