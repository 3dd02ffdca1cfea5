"""Reading the size of an ordinary JPEG from its header; Pillow reads every other image."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.accept.check import jpeg_size


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
