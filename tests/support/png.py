"""PNG files with any chunks, which Pillow cannot write."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Color types of the PNG header.
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(samples: NDArray[Any], color: int, *chunks: tuple[bytes, bytes], bits: int | None = None) -> bytes:
    """A PNG of uint8 or uint16 `samples`, of shape (height, width) or (height, width, channels).

    `chunks` are (kind, content), placed before the pixels. With fewer `bits` than 8, the samples are packed.
    """
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits is not None and bits < 8:
        digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        lines = [line.tobytes() for line in np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1)]
    else:
        lines = [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in rows]
    header = struct.pack(">IIBBBBB", width, height, bits or 8 * samples.dtype.itemsize, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    return _SIGNATURE + b"".join(
        _chunk(*entry) for entry in ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
