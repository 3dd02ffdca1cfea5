"""The error for an upload that is not a supported image names what was sent and what to do."""

import base64
import gzip
import io
import json
import tarfile
import zipfile

import pytest
from PIL import Image

from contract.errors import NotAnImageError, UnsupportedFormatError, UploadError
from gateway.accept.check import UploadLimits, check_upload
from tests.support.images import draw, encode

LIMITS = UploadLimits(1_000_000, 1_000_000)
PHOTO = encode(Image.radial_gradient("L").convert("RGB"), "JPEG")
PNG = draw()


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return buffer.getvalue()


#: What is sent, what the error calls it, and a word of the advice.
IMAGES = [
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", "Convert"),
    (b'<?xml version="1.0"?>\n<!-- Inkscape -->\n<svg width="9">', "an SVG drawing", "Convert"),
    (b"\xff\x0a\xfa\x7f", "a JPEG XL image", "Convert"),
    (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "a JPEG XL image", "Convert"),
    (draw(form="JPEG2000"), "a JPEG 2000 image", "Convert"),
    (b"8BPS\0\1\0\0\0\0\0\0\0\3", "a Photoshop document", "Convert"),
    (draw(form="ICO"), "a Windows icon", "Convert"),
    (draw(form="PPM"), "a Netpbm image", "Convert"),
    (draw(form="TGA"), "a TGA image", "Convert"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document", "Convert"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw file (Canon CR3)", "develop"),
    (b"FUJIFILMCCD-RAW 0201", "raw file (Fujifilm RAF)", "develop"),
    (b"IIU\0\x18\0\0\0", "raw file (Panasonic RW2)", "develop"),
    (b"\0\0\0\x18ftypavci\0\0\0\0", "not coded as HEVC or AV1", "Convert"),
    (b"MM\0\x2b\0\x08\0\0", "a big-endian BigTIFF", "Convert"),
]
OTHERS = [
    (b"%PDF-1.7\n1 0 obj", "a PDF document", "pages as JPEG or PNG"),
    (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "an MP4 video", "frame"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0", "a QuickTime video", "frame"),
    (b"\x1a\x45\xdf\xa3\1\0\0\0", "a WebM or Matroska video", "frame"),
    (b"RIFF\0\0\1\0AVI LIST", "an AVI video", "frame"),
    (zipped("a.jpg"), "a ZIP archive", "/v1/submissions"),
    (zipped("[Content_Types].xml"), "an Office document", "Send JPEG"),
    (tarred(), "a tar archive", "/v1/submissions"),
    (gzip.compress(PHOTO), "gzip-compressed data", "uncompressed"),
    (json.dumps({"instances": [{"b64": base64.b64encode(PHOTO).decode()}]}).encode(), "JSON", "bytes of the image"),
    (b'\n[\n  "a.jpg"\n]', "JSON", "bytes of the image"),
    (b"\xef\xbb\xbf<!DOCTYPE html>\n<html><body>404 <svg>", "an HTML page", "downloaded"),
    (b"<script>location = '/login'</script>", "an HTML page", "downloaded"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document", "Send JPEG"),
    (b"hello", "plain text", "Send JPEG"),
    ("käse\n".encode() * 600, "plain text", "Send JPEG"),
    ("hello".encode("utf-16"), "text in UTF-16", "Send JPEG"),
    (base64.b64encode(PHOTO), "an image as base64 text", "without encoding"),
    (base64.encodebytes(PNG), "an image as base64 text", "without encoding"),
    (b"data:image/png;base64," + base64.b64encode(PNG), "a `data:` URL", "without encoding"),
    (repr(PNG).encode(), "a Python literal of bytes", "without encoding"),
    (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + PNG, "a form", "this header"),
    (b"https://example.com/cat.jpg\n", "a URL", "Download"),
    (b"photos/cat.JPG", "the name of a file", "@"),
    (PHOTO.decode("utf-8", "replace").encode(), "as if it were text", "as bytes"),
    (PHOTO.decode("latin-1").encode(), "as if it were text", "as bytes"),
    (PNG.replace(b"\r\n", b"\n"), "line ends were converted", "as bytes"),
    (bytes(5000), "a file of zeros", "original"),
    (b"\0\5\x16\7\0\2\0\0Mac OS X", "a file of macOS that accompanies an image", "._"),
    (b"\x7fELF\2\1\1", "a program", "Send JPEG"),
]


@pytest.mark.parametrize(("data", "name", "advice"), IMAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_error_for_an_image_in_an_unsupported_format_names_it(data: bytes, name: str, advice: str) -> None:
    with pytest.raises(UnsupportedFormatError) as raised:
        check_upload(data, LIMITS)
    first, _, rest = str(raised.value).partition(". ")
    assert first.startswith("This is a")
    assert name in first
    assert advice in rest


@pytest.mark.parametrize(("data", "name", "advice"), OTHERS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_error_for_an_upload_that_is_not_an_image_names_it(data: bytes, name: str, advice: str) -> None:
    with pytest.raises(NotAnImageError) as raised:
        check_upload(data, LIMITS)
    first, _, rest = str(raised.value).partition(". ")
    assert first.startswith("This is ")
    assert name in first
    assert advice in rest


@pytest.mark.parametrize("data", [b"\x89PNG", b"GIF8", b"\xff", b"II", b"RIF", b"B"])
def test_the_first_bytes_of_an_image_are_reported_as_cut_off(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match=rf"cut off after {len(data)} bytes\. Send the whole file\."):
        check_upload(data, LIMITS)


def test_the_error_for_unknown_bytes_shows_them() -> None:
    with pytest.raises(NotAnImageError, match="starts with the bytes c8 01 03 c8 01 03 c8 01"):
        check_upload(bytes([200, 1, 3]) * 50, LIMITS)


def test_a_long_text_is_not_searched_to_its_end() -> None:
    for data in (b"<!-- -->" * 100_000, b"[" * 900_000, b"a." * 450_000, b"QUFB" * 200_000, b"--" + b"a" * 900_000):
        with pytest.raises(UploadError, match="This is "):
            check_upload(data, LIMITS)
