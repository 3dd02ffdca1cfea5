"""HEIC and AVIF files of a few boxes and no pixels."""

import struct
from collections.abc import Sequence


def box(kind: bytes, content: bytes) -> bytes:
    """An ISO base media box."""
    return struct.pack(">I4s", len(content) + 8, kind) + content


def heic(
    sizes: Sequence[tuple[int, int]],
    references: bytes = b"",
    owners: bytes = b"",
    brand: bytes = b"heic",
    more: bytes = b"",
) -> bytes:
    """A HEIC with items of these sizes, of which the first is the main image.

    `references` are the boxes within `iref`; `owners` replaces the content of `ipma`; `more` are more boxes of `meta`.
    """
    properties = b"".join(box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in sizes)
    owned = b"".join(struct.pack(">HBH", number, 1, number) for number in range(1, len(sizes) + 1))
    owners = bytes(4) + owners if owners else b"\0\0\0\1" + struct.pack(">I", len(sizes)) + owned
    meta = (
        box(b"pitm", bytes(4) + b"\0\1")
        + box(b"iprp", box(b"ipco", properties) + box(b"ipma", owners))
        + box(b"iref", bytes(4) + references)
        + more
    )
    return box(b"ftyp", brand + bytes(4) + b"mif1" + brand) + box(b"meta", bytes(4) + meta)
