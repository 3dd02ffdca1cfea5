"""Malicious and broken uploads, with the expected result of each."""

import base64
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.support.boxes import box, heic
from tests.support.icc import DISPLAY_P3, cmyk_profile, rgb_profile
from tests.support.images import draw, encode, png_header_of
from tests.support.tiff import tiff

#: Expected results of an upload: HTTP status and error code, or job status and error code.
NOT_AN_IMAGE = "415 not_an_image"
UNSUPPORTED = "415 unsupported_format"
TOO_MANY_PIXELS = "413 too_many_pixels"
NO_FILE = "400 no_file"
UNDECODABLE = "failed undecodable_image"
SUCCEEDED = "succeeded"
_BROKEN = (NOT_AN_IMAGE, UNDECODABLE)
#: Options with which a format is written fast.
_QUICK: dict[str, dict[str, Any]] = {"HEIF": {"enc_params": {"preset": "ultrafast"}}, "AVIF": {"speed": 10}}
_SERVED = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "TIFF")


@dataclass(frozen=True)
class Hostile:
    """A hostile upload and its expected result."""

    name: str
    data: bytes
    #: Acceptable results; more than one if either the gateway or the decoder may detect the problem.
    expected: tuple[str, ...]
    file: str = "x"


def corpus() -> list[Hostile]:
    """All hostile uploads."""
    parts = (_truncated, _false_headers, _bombs, _polyglots, _odd_modes, _odd_samples, _metadata, _names)
    return [hostile for part in parts for hostile in part()]


def small_image(form: str) -> bytes:
    """An image with some structure, so that truncation affects its pixels."""
    image = Image.radial_gradient("L").resize((160, 120)).convert("RGB")
    return encode(image, form, **({"lossless": True} if form == "WEBP" else _QUICK.get(form, {})))


def _truncated() -> Iterator[Hostile]:
    for form in _SERVED:
        whole = small_image(form)
        yield Hostile(f"first 4 bytes of a {form}", whole[:4], (NOT_AN_IMAGE,))
        for percent in (5, 20, 50, 80):
            yield Hostile(f"{form} truncated to {percent} %", whole[: len(whole) * percent // 100], _BROKEN)
        yield Hostile(f"{form} with 64 bytes in the middle zeroed", _zeroed(whole), (*_BROKEN, SUCCEEDED))


def _zeroed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


def _false_headers() -> Iterator[Hostile]:
    bmp, gif = bytearray(small_image("BMP")), bytearray(small_image("GIF"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield Hostile("PNG that claims 65535 x 65535", png_header_of(65_535, 65_535), (TOO_MANY_PIXELS,))
    yield Hostile("PNG that claims 7000 x 7000", png_header_of(7000, 7000), _BROKEN)
    yield Hostile("PNG that claims 0 x 0", png_header_of(0, 0), (*_BROKEN, TOO_MANY_PIXELS))
    yield Hostile("PNG that claims 2^31 x 1", png_header_of(2**31, 1), (TOO_MANY_PIXELS, NOT_AN_IMAGE))
    yield Hostile("BMP that claims 60000 x 60000", bytes(bmp), (TOO_MANY_PIXELS,))
    yield Hostile("GIF that claims 65535 x 65535", bytes(gif), (TOO_MANY_PIXELS,))
    yield Hostile("JPEG that claims 65535 x 65535", _with_jpeg_size(65_535, 65_535), (TOO_MANY_PIXELS,))
    yield Hostile("JPEG that claims 4000 x 4000", _with_jpeg_size(4000, 4000), (UNDECODABLE, SUCCEEDED))
    yield Hostile("PNG with a wrong checksum", draw()[:29] + b"oops" + draw()[33:], _BROKEN)
    yield Hostile("PNG with an undefined color type", _png_of_color_type(color=9), _BROKEN)
    yield Hostile(
        "TIFF whose directory points to itself", b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0", _BROKEN
    )
    yield Hostile("TIFF that points past its end", b"II*\0\xff\xff\xff\x7f", (NOT_AN_IMAGE,))
    for size, expected in (((65_535, 65_535), TOO_MANY_PIXELS), ((7000, 7000), UNDECODABLE), ((0, 9), NOT_AN_IMAGE)):
        yield Hostile(f"HEIC that claims {size[0]} x {size[1]}", heic([size]), (expected,))
        claimed = small_image("HEIF").replace(b"ispe" + bytes(4) + struct.pack(">II", 160, 120), _ispe(size))
        yield Hostile(f"HEIC of 160 x 120 that claims {size[0]} x {size[1]}", claimed, (expected, UNDECODABLE))
        claimed = small_image("AVIF").replace(b"ispe" + bytes(4) + struct.pack(">II", 160, 120), _ispe(size))
        yield Hostile(f"AVIF of 160 x 120 that claims {size[0]} x {size[1]}", claimed, (expected, SUCCEEDED))
    large = encode(Image.new("RGB", (8000, 8000)), "AVIF", **_QUICK["AVIF"])
    claimed = large.replace(b"ispe" + bytes(4) + struct.pack(">II", 8000, 8000), _ispe((64, 64)))
    yield Hostile("AVIF of 8000 x 8000 that claims 64 x 64", claimed, (TOO_MANY_PIXELS,))
    large_tile = heic([(64, 64), (60_000, 60_000)], box(b"dimg", struct.pack(">HHH", 1, 1, 2)))
    yield Hostile("HEIC of 64 x 64 with a tile of 60000 x 60000", large_tile, (TOO_MANY_PIXELS,))
    own_tile = heic([(64, 64)], box(b"dimg", struct.pack(">HHH", 1, 1, 1)))
    yield Hostile("HEIC whose image is its own tile", own_tile, (UNDECODABLE,))


def _ispe(size: tuple[int, int]) -> bytes:
    return b"ispe" + bytes(4) + struct.pack(">II", *size)


def _with_jpeg_size(width: int, height: int) -> bytes:
    data = bytearray(small_image("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _png_of_color_type(color: int) -> bytes:
    data = bytearray(draw())
    data[25] = color
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def _bombs() -> Iterator[Hostile]:
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "a" * 60_000_000, zip=True)
    jpeg = draw((64, 64), form="JPEG", progressive=True)
    scans = jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * 5000 + jpeg[-2:]
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(200)]
    yield Hostile("PNG of 30000 x 30000 pixels in 120 kB", draw((30_000, 30_000), 0, mode="1"), (TOO_MANY_PIXELS,))
    yield Hostile("PNG of 7000 x 7000 pixels in one color", draw((7000, 7000), 0, mode="L"), (SUCCEEDED,))
    yield Hostile(
        "PNG with 60 MB of compressed text", encode(Image.new("RGB", (9, 9)), pnginfo=text), (*_BROKEN, SUCCEEDED)
    )
    yield Hostile(
        "PNG whose color profile is a bomb",
        _png_with(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000))),
        (*_BROKEN, SUCCEEDED),
    )
    yield Hostile("JPEG with 5000 scans", scans, (UNDECODABLE,))
    for form in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        film = encode(frames[0], form, save_all=True, append_images=frames[1:])
        yield Hostile(f"{form} with 200 frames", film, (SUCCEEDED,))
    tiff = encode(Image.new("L", (7000, 7000)), "TIFF", compression="tiff_adobe_deflate")
    yield Hostile("TIFF of 7000 x 7000 pixels in 50 kB", tiff, (SUCCEEDED,))
    yield Hostile("zip bomb", _zipped({"a.png": bytes(30_000_000)}), (NOT_AN_IMAGE,))
    yield Hostile("JPEG of 500,000 empty segments", b"\xff\xd8" + b"\xff\xe0\0\2" * 500_000, (NOT_AN_IMAGE,))
    strips = b"II*\0\x08\0\0\0\3\0" + b"".join(
        struct.pack("<HHII", *entry) for entry in ((256, 3, 1, 64), (257, 3, 1, 64), (273, 4, 2_000_000, 50))
    )
    yield Hostile("TIFF of 2,000,000 strips", strips + bytes(8_000_000), (UNSUPPORTED,))
    yield Hostile("GIF of 2,000,000 blocks", b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 2_000_000, (NOT_AN_IMAGE,))
    yield Hostile("HEIC of 20,000 items", heic([(64, 64)] * 20_000), (NOT_AN_IMAGE,))
    for form in ("HEIF", "AVIF"):
        large = encode(Image.new("RGB", (4000, 3000)), form, **_QUICK.get(form, {}))
        yield Hostile(f"{form} of 4000 x 3000 in one color", large, (SUCCEEDED,))


def _png_with(kind: bytes, content: bytes) -> bytes:
    data = draw()
    chunk = struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    return data[:33] + chunk + data[33:]


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _polyglots() -> Iterator[Hostile]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/passwd"))
    script = b"<script>alert(1)</script>"
    yield Hostile("JPEG followed by a zip", small_image("JPEG") + _zipped({"a.txt": b"x"}), (SUCCEEDED,))
    yield Hostile(
        "GIF that is a script",
        b"GIF89a=1;/*" + small_image("GIF")[11:] + b"*/;alert(1)",
        (*_BROKEN, SUCCEEDED, TOO_MANY_PIXELS),
    )
    yield Hostile("PNG followed by PHP", draw() + b"<?php system($_GET[0]); ?>", (SUCCEEDED,))
    yield Hostile("SVG with a script", b'<svg xmlns="http://www.w3.org/2000/svg">' + script + b"</svg>", (UNSUPPORTED,))
    yield Hostile("HTML", b"<!doctype html>" + script, (NOT_AN_IMAGE,))
    yield Hostile("PDF", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF", (NOT_AN_IMAGE,))
    yield Hostile("JPEG XL", b"\xff\x0a" + bytes(90), (UNSUPPORTED,))
    yield Hostile("JPEG 2000", draw(form="JPEG2000"), (UNSUPPORTED,))
    yield Hostile("PSD", b"8BPS\0\1" + bytes(90), (UNSUPPORTED,))
    yield Hostile("raw file of a camera", b"FUJIFILMCCD-RAW 0201" + bytes(90), (UNSUPPORTED,))
    yield Hostile("JSON with the image in it", b'{"instances": [{"b64": "/9j/4AAQSkZJRg=="}]}', (NOT_AN_IMAGE,))
    yield Hostile("image as base64", base64.b64encode(small_image("JPEG")), (NOT_AN_IMAGE,))
    yield Hostile("image in a gzip", gzip.compress(small_image("PNG")), (NOT_AN_IMAGE,))
    yield Hostile("5 MB of unclosed comments", b"<!-- -->" * 600_000, (NOT_AN_IMAGE,))
    yield Hostile("ELF program", b"\x7fELF\x02\x01\x01" + bytes(500), (NOT_AN_IMAGE,))
    yield Hostile("tar with ../", tar.getvalue(), (NOT_AN_IMAGE,))
    yield Hostile(
        "EPS, which Pillow would run through Ghostscript",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        (UNSUPPORTED, NOT_AN_IMAGE),
    )
    yield Hostile("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80), (NOT_AN_IMAGE,))
    yield Hostile("MP4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(80), (NOT_AN_IMAGE,))
    yield Hostile("a single zero byte", b"\0", (NOT_AN_IMAGE,))
    yield Hostile("a megabyte of 0xff", b"\xff" * 1_000_000, (NOT_AN_IMAGE,))
    yield Hostile("JPEG with its bytes reversed", small_image("JPEG")[::-1], (NOT_AN_IMAGE,))


_ODD_MODES: tuple[tuple[str, str, Any], ...] = (
    ("I;16", "PNG", 40_000),
    ("I;16", "TIFF", 40_000),
    ("CMYK", "JPEG", (1, 2, 3, 4)),
    ("CMYK", "TIFF", (1, 2, 3, 4)),
    ("LAB", "TIFF", (50, 9, 9)),
    ("YCbCr", "TIFF", (9, 9, 9)),
    ("1", "PNG", 1),
    ("1", "TIFF", 1),
    ("1", "BMP", 1),
    ("LA", "PNG", (9, 9)),
    ("RGBA", "WEBP", (9, 9, 9, 0)),
    ("RGBA", "TIFF", (9, 9, 9, 0)),
    ("RGBA", "HEIF", (9, 9, 9, 0)),
    ("RGBA", "AVIF", (9, 9, 9, 0)),
    ("L", "HEIF", 9),
    ("L", "AVIF", 9),
    ("P", "PNG", 9),
    ("P", "GIF", 9),
    ("P", "TIFF", 9),
    ("I", "TIFF", 70_000),
)


def _odd_modes() -> Iterator[Hostile]:
    for mode, form, color in _ODD_MODES:
        yield Hostile(f"{form} in mode {mode} with color {color}", draw((24, 24), color, form, mode), (SUCCEEDED,))
    for size in ((1, 1), (1, 20_000), (20_000, 1), (65_500, 2)):
        yield Hostile(f"JPEG of {size[0]} x {size[1]} pixels", draw(size, form="JPEG"), (SUCCEEDED,))


def _odd_samples() -> Iterator[Hostile]:
    grey = np.arange(576, dtype=np.uint16).reshape(24, 24)
    colors = np.stack([grey, grey, grey], -1)
    for value in (np.nan, np.inf):
        yield Hostile(f"TIFF of {value}", tiff(np.full((24, 24), value, np.float32)), (UNDECODABLE,))
    yield Hostile("TIFF with 12 bits in 16", tiff(grey), (SUCCEEDED,))
    yield Hostile("RGB TIFF with 12 bits in 16", tiff(colors, 2), (SUCCEEDED,))
    yield Hostile("TIFF whose range is not a number", tiff(grey, tags={341: (12, [np.nan])}), (SUCCEEDED,))
    yield Hostile("TIFF whose range is text", tiff(grey, tags={341: (2, b"white\0")}), (SUCCEEDED, UNDECODABLE))
    yield Hostile("TIFF in separate 16-bit planes", tiff(colors, 2, planar=True), (UNDECODABLE,))
    yield Hostile("TIFF with 14 bits", tiff(grey, bits=14), (UNDECODABLE,))
    yield Hostile("TIFF with 64-bit samples", tiff(grey.astype(np.float64)), (UNDECODABLE,))
    yield Hostile("TIFF compressed with JPEG 2000", tiff(grey, tags={259: (3, [34712])}), (UNDECODABLE,))
    jpeg = draw(form="JPEG", mode="CMYK", color=(1, 2, 3, 4))
    at = jpeg.index(b"\xff\xee")
    yield Hostile("CMYK JPEG without Adobe's marker", jpeg[:at] + jpeg[at + 16 :], (SUCCEEDED,))
    profile = rgb_profile(DISPLAY_P3)
    for size in (100, 300, 3000):
        yield Hostile(f"color profile cut at {size} bytes", draw(form="JPEG", icc_profile=profile[:size]), (SUCCEEDED,))
    ones = profile[:128] + b"\xff" * 900 + profile[1028:]
    yield Hostile("color profile whose tags point nowhere", draw(form="JPEG", icc_profile=ones), (SUCCEEDED,))
    other = draw(form="JPEG", icc_profile=cmyk_profile())
    yield Hostile("RGB JPEG with a CMYK profile", other, (SUCCEEDED,))


def _metadata() -> Iterator[Hostile]:
    jpeg = small_image("JPEG")
    for orientation in (0, 9, 65_535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Hostile(f"EXIF orientation {orientation}", draw(form="JPEG", exif=exif), (SUCCEEDED,))
    comment = b"\xff\xfe\xff\xff" + b"c" * 65_533
    loop = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
    app1 = b"\xff\xe1" + struct.pack(">H", len(loop) + 2) + loop
    yield Hostile("JPEG with 13 MB of comments", jpeg[:2] + comment * 200 + jpeg[2:], (SUCCEEDED,))
    yield Hostile("EXIF that points to itself", jpeg[:2] + app1 + jpeg[2:], (SUCCEEDED,))
    yield Hostile(
        "EXIF of constant bytes", jpeg[:2] + b"\xff\xe1\x00\x20Exif\0\0" + b"\xa5" * 24 + jpeg[2:], (SUCCEEDED,)
    )
    yield Hostile("color profile of constant bytes", draw(form="JPEG", icc_profile=b"\xa5" * 5000), (SUCCEEDED,))
    chunk = _png_with(b"tEXt", b"k\0v")[33:]
    many = draw()[:33] + chunk[:15] * 5000 + draw()[33:]
    yield Hostile("PNG with 5000 text chunks", many, (SUCCEEDED,))


def _names() -> Iterator[Hostile]:
    for name in (
        "", ".", "../../etc/passwd", "C:\\Windows\\x.png", "käse 猫 🐈.png", "\u202egnp.exe", "x" * 8000, "a\tb.png",
        "'; DROP TABLE jobs; --", "=1+1", "<b>.png", "%00.png", "x.exe", "x.jpg",
    ):  # fmt: skip
        yield Hostile(f"file name {name[:30]!r}", draw((16, 16)), (SUCCEEDED,), file=name)
    yield Hostile("text without a file name", b"cat.jpg", (NO_FILE,), file="")
