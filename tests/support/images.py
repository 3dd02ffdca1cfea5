"""Generated images."""

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from pillow_heif import register_heif_opener

register_heif_opener()


def draw(
    size: tuple[int, int] = (40, 30), color: Any = (200, 30, 30), form: str = "PNG", mode: str = "RGB", **options: Any
) -> bytes:
    """An image file in one color, as bytes; `options` are passed to Pillow's `save`."""
    return encode(Image.new(mode, size, color), form, **options)


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A Pillow image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_header_of(width: int, height: int) -> bytes:
    """A small PNG with this size in its header."""
    data = bytearray(draw((8, 8)))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def stored_images(folder: Path) -> list[bytes]:
    """The data that the files of an image store contain, in blocks of 4096 bytes: one for each small image."""
    return [block for path in sorted(folder.rglob("*")) if path.is_file() for block in _blocks_with_data(path)]


def _blocks_with_data(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            try:
                file.seek(os.lseek(file.fileno(), file.tell(), os.SEEK_DATA))
            except OSError:  # only a hole is left
                return
            if data := file.read(4096).rstrip(b"\0"):
                yield data
