"""Finds out why Pillow does not read a TIFF, although it supports the format."""

import io
from typing import Any

from PIL import TiffImagePlugin

_TIFF_STARTS = (b"II*\0", b"MM\0*")
_TIFF_HEADER_SIZE = 8
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_PHOTOMETRICS = {
    0: "grey, white is zero", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*",
    9: "ICC L*a*b*", 32803: "camera raw", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip


def unreadable_samples(data: bytes) -> str:
    """The samples or compression that Pillow does not read, and what to do; empty for any other file."""
    try:
        return _tiff(data) if data.startswith(_TIFF_STARTS) else ""
    # Pillow's header readers raise nearly any exception on hostile input.
    except Exception:  # noqa: BLE001
        return ""


def _tiff(data: bytes) -> str:
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    except SyntaxError as error:
        reason = str(error)
    else:
        return ""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:_TIFF_HEADER_SIZE])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    compression = _first(tags.get(_COMPRESSION, 1))
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"The TIFF is compressed with method {compression}, which is not supported. Save it with LZW or Deflate."
    if reason != "unknown pixel mode":
        return ""
    bits, kind, photometric = (_first(tags.get(tag, 1)) for tag in (_BITS, _FORMAT, _PHOTOMETRIC))
    samples = _first(tags.get(_SAMPLES, 1))
    return (
        f"The TIFF stores {samples} {'sample' if samples == 1 else 'samples'} of {bits} bits per pixel"
        f" ({_FORMATS.get(kind, 'of another type')}; {_PHOTOMETRICS.get(photometric, f'photometric {photometric}')}),"
        " which is not supported. Save it with 8 bits per sample, or 16 bits in grey or RGB."
    )


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)
