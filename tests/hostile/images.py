"""Images that are small to send and costly to read, in addition to those of `tests/support/hostile.py`."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.images import draw, encode, png_header_of
from tests.support.tiff import tiff

_SHORT, _LONG = 3, 4


def costly_headers() -> Iterator[tuple[str, bytes]]:
    """Images with huge headers, by name. The gateway reads them."""
    ending = draw()[33:]
    yield "PNG of 160,000 empty chunks", draw()[:33] + _chunk(b"teXt", b"") * 160_000 + ending
    yield "PNG with a second header", draw()[:33] + png_header_of(60_000, 60_000)[8:33] + ending
    yield "JPEG of 4,000,000 fill bytes", b"\xff\xd8" + b"\xff" * 4_000_000
    yield "JPEG of 500,000 empty segments", b"\xff\xd8" + b"\xff\xe0\0\2" * 500_000 + draw(form="JPEG")[2:]
    yield "GIF of 2,000,000 blocks", draw(form="GIF")[:13] + b"\x21\xfe" + b"\1a" * 2_000_000
    yield "GIF of 500,000 frames", draw((1, 1), 0, "GIF", "P")[:-1] + _empty_frame() * 500_000 + b";"
    yield "WebP of 500,000 chunks", _webp_of_chunks(500_000)
    yield "TIFF of 2,000,000 strips", _tiff_of_strips(2_000_000)
    yield "TIFF of 65,535 tags", b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 273, _LONG, 1, 8) * 65_535
    yield "TIFF whose directories form a circle", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(90)]
    yield "AVIF of 90 frames", encode(frames[0], "AVIF", speed=10, save_all=True, append_images=frames[1:])


def costly_pixels() -> Iterator[tuple[str, bytes]]:
    """Images with an innocent header whose pixels are costly to decode, by name. The worker reads them."""
    yield "TIFF of 64 x 64 with a tile of 16,384 x 16,384", tile_bomb(16_384)
    yield "PNG of 50 megapixels", draw((7070, 7070), 0, mode="L")
    yield "PNG of 16 bits and 20 megapixels", draw((4470, 4470), 0, mode="I;16")
    strip = np.zeros((64, 64, 3), np.uint8)
    yield "TIFF with one strip of 4 billion rows", tiff(strip, 2, tags={278: (_LONG, [0xFFFF_FFFF])})
    yield "TIFF of 4,096 samples per pixel", tiff(np.zeros((64, 64, 1), np.uint8), tags={277: (_SHORT, [4096])})
    smooth = Image.radial_gradient("L").resize((2000, 2000)).convert("RGB")
    progressive = encode(smooth, "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield "JPEG of 4 megapixels and 100 scans", progressive[:-2] + scan * 100 + progressive[-2:]


def tile_bomb(side: int) -> bytes:
    """A TIFF of 64 x 64 pixels in a single compressed tile with this side."""
    packer = zlib.compressobj(1)
    row = bytes(side * 3)
    tile = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    entries = (
        (256, _SHORT, 64),
        (257, _SHORT, 64),
        (259, _SHORT, 8),
        (262, _SHORT, 2),
        (277, _SHORT, 3),
        (322, _LONG, side),
        (323, _LONG, side),
        (324, _LONG, 8),
        (325, _LONG, len(tile)),
    )
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory + bytes(4)


def slow_png(chunks: int = 1_000_000) -> bytes:
    """A PNG of 40 x 30 pixels with empty chunks after its header: 12 bytes each, and several seconds to decode."""
    return draw()[:33] + _chunk(b"teXt", b"") * chunks + draw()[33:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _empty_frame() -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"


def _webp_of_chunks(count: int) -> bytes:
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(10) + (b"JUNK" + bytes(4)) * count
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _tiff_of_strips(count: int) -> bytes:
    entries = ((256, _SHORT, 1, 64), (257, _SHORT, 1, 64), (273, _LONG, count, 50))
    return b"II*\0\x08\0\0\0\3\0" + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4 * count)
