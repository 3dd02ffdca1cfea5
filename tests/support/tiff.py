"""TIFF files with any sample type and tags, which Pillow cannot write."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER_SIZE = 8
_STRUCT_OF = {2: "s", 3: "H", 4: "I", 5: "II", 11: "f", 12: "d", 1: "B", 7: "B", 8: "h", 9: "i"}
_NONE, _DEFLATE = 1, 8


def tiff(
    samples: NDArray[Any],
    photometric: int | None = 1,
    bits: int | None = None,
    *,
    tags: Mapping[int, tuple[int, Sequence[Any]]] | None = None,
    order: str = "<",
    planar: bool = False,
    compressed: bool = False,
) -> bytes:
    """A TIFF file of `samples`, of shape (height, width) or (height, width, channels).

    Args:
        samples: stored as they are. The sample format is that of the dtype.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 LAB; None for no tag.
        bits: bits per sample, if fewer than those of the dtype; the samples are packed.
        tags: more tags, as number -> (TIFF type, values); they replace those written by default.
        order: byte order, `<` or `>`.
        planar: store one plane per channel.
        compressed: compress with deflate.
    """
    height, width = samples.shape[:2]
    channels = samples.reshape(height, width, -1)
    count = channels.shape[2]
    planes = [channels[..., at] for at in range(count)] if planar else [channels.reshape(height, -1)]
    strips = [_rows(plane, bits, order) for plane in planes]
    if compressed:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = [_HEADER_SIZE + sum(map(len, strips[:at])) for at in range(len(strips))]
    entries: dict[int, tuple[int, Sequence[Any]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits or samples.dtype.itemsize * 8] * count),
        259: (3, [_DEFLATE if compressed else _NONE]),
        273: (4, offsets),
        277: (3, [count]),
        278: (4, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [2 if planar else 1]),
        339: (3, [{"u": 1, "i": 2, "f": 3}[samples.dtype.kind]] * count),
    }
    if photometric is not None:
        entries[262] = (3, [photometric])
    return _file(entries | dict(tags or {}), b"".join(strips), order)


def _rows(plane: NDArray[Any], bits: int | None, order: str) -> bytes:
    if bits is None or bits == plane.dtype.itemsize * 8:
        return plane.astype(plane.dtype.newbyteorder(order)).tobytes()
    shifts = np.arange(bits - 1, -1, -1)
    digits = (plane.astype(np.uint32)[..., None] >> shifts) & 1
    return np.packbits(digits.reshape(len(plane), -1).astype(np.uint8), axis=1).tobytes()


def _file(entries: Mapping[int, tuple[int, Sequence[Any]]], pixels: bytes, order: str) -> bytes:
    at = _HEADER_SIZE + len(pixels)
    at += at % 2
    far_at = at + 2 + 12 * len(entries) + 4
    directory, far = b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        parts = _STRUCT_OF[kind]
        data = bytes(values) if parts == "s" else b"".join(struct.pack(order + parts[0], value) for value in values)
        count = len(values) // len(parts)
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", far_at + len(far))
            far += data + b"\0" * (len(data) % 2)
        directory += struct.pack(order + "HHI", tag, kind, count) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    body = (head + pixels).ljust(at, b"\0")
    return body + struct.pack(order + "H", len(entries)) + directory + bytes(4) + far
