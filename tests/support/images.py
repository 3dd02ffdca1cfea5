"""Generated images."""

import io
import zlib
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
