"""Formats are recognized by their first bytes."""

import pytest

from contract.images.formats import extension_of, is_shown_by_browsers, media_type_of
from tests.support.images import draw


@pytest.mark.parametrize(
    ("form", "extension", "media_type", "is_shown"),
    [
        ("JPEG", "jpg", "image/jpeg", True),
        ("PNG", "png", "image/png", True),
        ("WEBP", "webp", "image/webp", True),
        ("GIF", "gif", "image/gif", True),
        ("BMP", "bmp", "image/bmp", True),
        ("AVIF", "avif", "image/avif", True),
        ("TIFF", "tif", "image/tiff", False),
        ("HEIF", "heic", "image/heic", False),
    ],
)
def test_each_format_has_an_extension_and_a_media_type(
    form: str, extension: str, media_type: str, *, is_shown: bool
) -> None:
    data = draw((64, 64), form=form)
    assert (extension_of(data), media_type_of(data), is_shown_by_browsers(data)) == (extension, media_type, is_shown)


@pytest.mark.parametrize("data", [b"", b"<svg>", b"<html>", b"RIFF1234WAVE"])
def test_anything_else_is_never_shown(data: bytes) -> None:
    assert (extension_of(data), media_type_of(data)) == ("bin", "application/octet-stream")
    assert not is_shown_by_browsers(data)
