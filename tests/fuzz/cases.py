"""Damaged images: each is determined by its number."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.support.boxes import heic
from tests.support.images import draw, encode
from tests.support.tiff import tiff

#: Values at which readers of integers go wrong.
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 255, 256, 1000, 4096, 7000, 16_384, 65_535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
#: Repeated parts and the whole file have at most this many bytes.
_FILE_MAX_BYTES = 1_500_000
_PNG_START = b"\x89PNG\r\n\x1a\n"


def case(number: int) -> tuple[str, bytes]:
    """The format and the bytes of the case with this number."""
    chance = random.Random(number)
    images = seeds()
    form = chance.choice(sorted(images))
    data = bytearray(chance.choice(images[form]))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = chance.choice(_MUTATIONS)(data, chance, images[form])[:_FILE_MAX_BYTES] or bytearray(b"\0")
    if form == "PNG" and chance.random() < 0.8:
        data = _with_checksums(data)
    return form, bytes(data)


@cache
def seeds() -> dict[str, Sequence[bytes]]:
    """Images by format, each written in several ways, and a large one that compresses well."""
    photo = Image.radial_gradient("L").resize((96, 64)).convert("RGB")
    clear, grey, deep = photo.convert("RGBA"), photo.convert("L"), np.asarray(photo).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    film = [photo, photo.rotate(180)]
    quick: Any = {"enc_params": {"preset": "ultrafast"}}
    large = (2500, 2500)
    tile = {322: (4, [64]), 323: (4, [64]), 324: (4, [8]), 325: (4, [4096])}
    return {
        "JPEG": [
            encode(photo, "JPEG", exif=exif.tobytes()), encode(photo, "JPEG", progressive=True, icc_profile=bytes(500)),
            encode(photo.convert("CMYK"), "JPEG"), encode(grey, "JPEG", restart_marker_blocks=4),
            encode(photo, "MPO", save_all=True, append_images=film), draw(large, 9, "JPEG", "L", progressive=True),
        ],
        "PNG": [
            encode(photo), encode(clear, exif=exif.tobytes()), encode(photo.quantize(9), transparency=1),
            encode(Image.fromarray(deep[..., 0])), encode(photo, save_all=True, append_images=film), draw(large),
        ],
        "WEBP": [
            encode(photo, "WEBP"), encode(clear, "WEBP", lossless=True, exif=exif.tobytes()),
            encode(photo, "WEBP", save_all=True, append_images=film), draw(large, 0, "WEBP", method=0),
        ],
        "GIF": [
            encode(grey, "GIF", comment=b"c" * 300), encode(photo, "GIF", save_all=True, append_images=film),
            draw(large, 0, "GIF", "L"),
        ],
        "BMP": [encode(photo, "BMP"), encode(photo.quantize(9), "BMP"), encode(clear, "BMP")],
        "TIFF": [
            *(encode(photo, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits")),
            *(encode(photo, "TIFF", compression=name) for name in ("jpeg", "zstd", "lzma")),
            *(encode(grey.convert("1"), "TIFF", compression=name) for name in ("group3", "group4")),
            tiff(deep, 2, compressed=True), tiff(deep.astype(np.float32)), tiff(np.asarray(photo), 2, planar=True),
            tiff(np.full((64, 64), 9, np.uint8), tags=tile), draw(large, 999, "TIFF", "I;16", compression="tiff_lzw"),
            draw(large, (9, 9, 9, 9), "TIFF", "CMYK", compression="tiff_adobe_deflate"),
        ],
        "HEIF": [
            encode(photo, "HEIF", **quick), encode(clear, "HEIF", **quick), draw(large, form="HEIF", **quick),
            encode(photo, "HEIF", tile_size=32, **quick),
            heic([(64, 64), (32, 32)], struct.pack(">I4sHHH", 14, b"dimg", 1, 1, 2)),
        ],
        "AVIF": [
            encode(photo, "AVIF", speed=10), encode(clear, "AVIF", speed=10, exif=exif.tobytes()),
            encode(photo, "AVIF", speed=10, save_all=True, append_images=film), draw(large, form="AVIF", speed=10),
        ],
    }  # fmt: skip


def _position(data: bytearray, chance: random.Random) -> int:
    """A position in the file; headers are damaged more often than pixels."""
    return chance.randrange(min(len(data), chance.choice((32, 128, 1024, len(data)))) or 1)


def _change_bytes(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> bytearray:
    for _ in range(chance.randint(1, 8)):
        data[_position(data, chance)] = chance.randrange(256)
    return data


def _change_number(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> bytearray:
    form = chance.choice(("<H", ">H", "<I", ">I"))
    position = _position(data, chance)
    packed = struct.pack(form, chance.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    data[position : position + len(packed)] = packed
    return data


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> bytearray:
    start, size = _position(data, chance), chance.choice((1, 2, 4, 8, 12, 32, 100, 1000))
    part = data[start : start + size]
    return data[:start] + part * chance.choice((2, 10, 100, 1000, 100_000)) + data[start:]


def _remove(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> bytearray:
    start = _position(data, chance)
    del data[start : start + chance.choice((1, 2, 4, 12, 100))]
    return data


def _cut_off(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> bytearray:
    return data[: 1 + _position(data, chance)]


def _join(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> bytearray:
    other = chance.choice(seeds)
    return data[: 1 + _position(data, chance)] + other[chance.randrange(len(other)) :]


_MUTATIONS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], bytearray], ...] = (
    _change_bytes, _change_number, _change_number, _change_number, _repeat, _remove, _cut_off, _join,
)  # fmt: skip


def _with_checksums(data: bytearray) -> bytearray:
    """A PNG whose chunks have the right checksums, or the first thousand of them."""
    position = len(_PNG_START)
    for _ in range(1000):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return data
