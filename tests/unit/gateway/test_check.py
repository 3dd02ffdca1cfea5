"""Reading the size of an ordinary JPEG from its header; Pillow reads every other image. What neither can read."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contract.errors import NotAnImageError, UnsupportedFormatError
from gateway.accept.check import UploadLimits, check_upload, jpeg_size
from tests.support.tiff import tiff


def jpeg(size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"comment": b"x" * 9000}, {"exif": b"Exif\0\0" + b"\0" * 999}]
)
def test_the_size_of_ordinary_jpegs_is_read(mode: str, options: dict[str, object]) -> None:
    assert jpeg_size(jpeg((321, 123), mode, **options)) == (321, 123)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG", b"\xff\xd8" + b"\xff" * 99, b"\xff\xd8\xff\xe0\0\0" * 9]
)
def test_other_data_is_left_to_pillow(data: bytes) -> None:
    assert jpeg_size(data) is None


def test_a_frame_with_unusual_depth_size_or_components_is_left_to_pillow() -> None:
    whole = jpeg()
    at = whole.index(b"\xff\xc0")
    for offset, value in ((4, 12), (6, 0), (9, 2)):  # depth, height, components
        changed = bytearray(whole)
        changed[at + offset] = value
        if offset == 6:
            changed[at + 5] = 0
        assert jpeg_size(bytes(changed)) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_no_exception(tail: bytes) -> None:
    size = jpeg_size(b"\xff\xd8" + tail)
    assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.zeros((8, 8))), "1 sample of 64 bits per pixel (floating-point; grey)"),
        (tiff(np.zeros((8, 8), np.float16)), "1 sample of 16 bits per pixel (floating-point; grey)"),
        (tiff(np.zeros((8, 8), np.uint16), bits=10), "1 sample of 10 bits per pixel (unsigned; grey)"),
        (tiff(np.zeros((8, 8), np.uint16), bits=14), "1 sample of 14 bits per pixel (unsigned; grey)"),
        (tiff(np.zeros((8, 8, 3), np.float32), 2), "3 samples of 32 bits per pixel (floating-point; RGB)"),
        (tiff(np.zeros((8, 8, 3), np.int16), 8), "3 samples of 16 bits per pixel (signed; CIE L*a*b*)"),
        (tiff(np.zeros((8, 8), np.uint16), 0, order=">"), "1 sample of 16 bits per pixel (unsigned; grey, white"),
        (tiff(np.zeros((8, 8), np.uint8), tags={259: (3, [34712])}), "compressed with method 34712"),
        (jpeg()[: (frame := jpeg().index(b"\xff\xc0") + 4)] + b"\x0c" + jpeg()[frame + 1 :], "12 bits per sample"),
        (jpeg()[: frame + 5] + b"\x02" + jpeg()[frame + 6 :], "2 channels"),
    ],
)  # fmt: skip
def test_samples_that_no_worker_can_decode_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=re.escape(reason)):
        check_upload(data, UploadLimits(10_000, 10_000))


@pytest.mark.parametrize(
    "data",
    [tiff(np.zeros((8, 8), np.uint8))[:100], b"II*\0" + bytes(20), b"MM\0*\0\0\0\x08\xff\xff"],
)
def test_a_damaged_tiff_is_not_an_image(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        check_upload(data, UploadLimits(10_000, 10_000))
