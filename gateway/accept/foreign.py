"""Identifies uploads that are not images in a supported format by their first bytes, for the error message."""

import binascii
import re
from dataclasses import dataclass

from contract.errors import NotAnImageError, UnsupportedFormatError, UploadError
from gateway.accept.header import NAMES, STARTS, format_of

#: The formats to convert to, at the end of an error message.
*_FIRST, _LAST = NAMES.values()
_SUPPORTED = f"Send {', '.join(_FIRST)} or {_LAST}."
_CONVERT = "Convert it to JPEG or PNG and send that."
_UNPACK = "Send the images in it one by one, or the archive to a submission: POST /v1/submissions/<submission_id>/jobs."
_STILL = "Send a frame of it as JPEG or PNG."
_RAW = "Send the JPEG that the camera stored with it, or develop it to JPEG or TIFF and send that."
_BINARY = "Read and send the file as bytes, not as text."
_BYTES = "Send the bytes of the image file as the body of the request, without encoding them."

#: How many bytes of a text are examined.
_TEXT_BYTES = 1024
_TAR_MARK_AT, _DICOM_MARK_AT = 257, 128
_TGA_END = b"TRUEVISION-XFILE.\0"


def not_supported(data: bytes) -> UploadError:
    """The error for bytes that `read_header` does not recognize."""
    if any(start.startswith(data) for start in (*STARTS, b"\xff\xd8", b"RIFF")):
        return NotAnImageError(f"The image is cut off after {len(data)} bytes. Send the whole file.")
    kind = _kind_of(data)
    if kind is None:
        first = data[:8].hex(" ")
        return NotAnImageError(f"The upload is not an image: it starts with the bytes {first}. {_SUPPORTED}")
    error = UnsupportedFormatError if kind.is_image else NotAnImageError
    return error(f"This is {kind.name}. {kind.advice}")


def is_foreign(data: bytes) -> bool:
    """Whether `not_supported` can tell what these bytes are instead of an image in a supported format."""
    return format_of(data) is None and _kind_of(data) is not None


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the upload is, and what to do about it."""

    name: str
    advice: str
    #: Any of these bytes at the position `at`.
    marks: tuple[bytes, ...] = ()
    at: int = 0
    is_image: bool = False

    def fits(self, data: bytes) -> bool:
        return data.startswith(self.marks, self.at)


def _image(name: str, *marks: bytes, at: int = 0, advice: str = _CONVERT) -> _Kind:
    return _Kind(name, advice, marks, at, is_image=True)


def _other(name: str, advice: str, *marks: bytes, at: int = 0) -> _Kind:
    return _Kind(name, advice, marks, at)


#: The first kind that matches describes the upload.
_KINDS = (
    # Images in other formats
    _image("a JPEG XL image", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    _image("a JPEG 2000 image", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    _image("a JPEG XR image", b"II\xbc"),
    _image("a Photoshop document (PSD)", b"8BPS"),
    _image("a GIMP document (XCF)", b"gimp xcf"),
    _image("a Windows icon or cursor", b"\0\0\1\0", b"\0\0\2\0"),
    _image("a macOS icon (ICNS)", b"icns"),
    _image("a big-endian BigTIFF", b"MM\0\x2b"),
    _image("a PostScript document (EPS)", b"%!PS", b"\xc5\xd0\xd3\xc6"),
    _image("a Netpbm image (PBM, PGM, PPM or PAM)", *(b"P%d%c" % (n, end) for n in range(1, 8) for end in b"\n\r\t #")),
    _image("a DirectDraw surface (DDS)", b"DDS "),
    _image("an OpenEXR image", b"\x76\x2f\x31\x01"),
    _image("a Radiance HDR image", b"#?RADIANCE", b"#?RGBE"),
    _image("a QOI image", b"qoif"),
    _image("a BPG image", b"BPG\xfb"),
    _image("a DjVu document", b"AT&TFORM"),
    _image("a Windows metafile (WMF)", b"\xd7\xcd\xc6\x9a"),
    _image("a DICOM file", b"DICM", at=_DICOM_MARK_AT),
    _image("a FITS file", b"SIMPLE  ="),
    _image("a camera's raw file (Canon CR3)", b"ftypcrx ", at=4, advice=_RAW),
    _image("a camera's raw file (Fujifilm RAF)", b"FUJIFILMCCD-RAW", advice=_RAW),
    _image("a camera's raw file (Panasonic RW2)", b"IIU\0", advice=_RAW),
    _image("a camera's raw file (Olympus ORF)", b"IIRO", b"IIRS", b"MMOR", advice=_RAW),
    _image("a camera's raw file (Sigma X3F)", b"FOVb", advice=_RAW),
    _image("a camera's raw file (Minolta MRW)", b"\0MRM", advice=_RAW),
    _image(
        "a HEIF image that is not coded as HEVC or AV1",
        b"ftypj2k",
        b"ftypj2i",
        b"ftypjpeg",
        b"ftypjpgs",
        b"ftypavci",
        b"ftypavcs",
        b"ftypvvic",
        b"ftypvvis",
        at=4,
    ),
    # Video and sound
    _other("a QuickTime video", _STILL, b"ftypqt  ", b"moov", b"wide", at=4),
    _other("an MP3 or M4A sound file", _SUPPORTED, b"ftypM4A", at=4),
    _other("an MP4 video", _STILL, b"ftyp", at=4),
    _other("a WebM or Matroska video", _STILL, b"\x1a\x45\xdf\xa3"),
    _other("an AVI video", _STILL, b"AVI ", at=8),
    _other("a WAV sound file", _SUPPORTED, b"WAVE", at=8),
    _other("an MPEG video", _STILL, b"\0\0\1\xba", b"\0\0\1\xb3"),
    _other("a Flash video", _STILL, b"FLV\1"),
    _other("an Ogg file", _STILL, b"OggS"),
    _other("an MP3 sound file", _SUPPORTED, b"ID3"),
    # Documents
    _other("a PDF document", "Send its pages as JPEG or PNG.", b"%PDF"),
    _other("an Office document of an old format", _SUPPORTED, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _other("an RTF document", _SUPPORTED, b"{\\rtf"),
    # Archives
    _other("an Office document", _SUPPORTED, b"[Content_Types].xml", at=30),
    _other("a ZIP archive", _UNPACK, b"PK\3\4", b"PK\5\6", b"PK\7\x08"),
    _other("a tar archive", _UNPACK, b"ustar", at=_TAR_MARK_AT),
    _other(
        "gzip-compressed data",
        f"Send the image uncompressed, or add the header `Content-Encoding: gzip`. {_UNPACK}",
        b"\x1f\x8b",
    ),
    _other("a RAR archive", f"Unpack it. {_SUPPORTED}", b"Rar!\x1a\7"),
    _other("a 7-Zip archive", f"Unpack it. {_SUPPORTED}", b"7z\xbc\xaf\x27\x1c"),
    _other("xz-compressed data", f"Unpack it. {_SUPPORTED}", b"\xfd7zXZ\0"),
    _other("bzip2-compressed data", f"Unpack it. {_SUPPORTED}", b"BZh"),
    _other("Zstandard-compressed data", f"Unpack it. {_SUPPORTED}", b"\x28\xb5\x2f\xfd"),
    # Other files
    _other("a file of macOS that accompanies an image (AppleDouble)", "Send the file without `._`.", b"\0\5\x16\7"),
    _other("a NumPy array", "Save it as PNG and send that.", b"\x93NUMPY"),
    _other("an HDF5 file", _SUPPORTED, b"\x89HDF\r\n\x1a\n"),
    _other("an SQLite database", _SUPPORTED, b"SQLite format 3\0"),
    _other("a program", _SUPPORTED, b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"),
    # Images that were damaged in transit
    _other(
        "an image that a program converted as if it were text (UTF-8)",
        _BINARY,
        b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
        b"\xef\xbf\xbdPNG",
        b"\xc3\xbf\xc3\x98\xc3\xbf",
        b"\xc2\x89PNG",
    ),
    _other("a PNG whose line ends were converted as if it were text", _BINARY, b"\x89PNG\n", b"\x89PNG\r\r\n"),
    _other("a file of zeros, as an interrupted copy leaves behind", "Send the original file.", bytes(16)),
)

_TGA = _image("a TGA image")


# Text

_SVG = _image("an SVG drawing")
_HTML = _other("an HTML page, perhaps an error page or a sign-in page", f"Check what was downloaded. {_SUPPORTED}")
_XML = _other("an XML document", _SUPPORTED)
_TEXT = _other("plain text", _SUPPORTED)
_BASE64 = _other("an image as base64 text", _BYTES)
_UTF_16 = _other("text in UTF-16", _SUPPORTED)
_FORM = _other("a form, but the Content-Type header says otherwise", "Let your HTTP library write this header.")
_FORM_START = re.compile(rb"--[^\r\n]{1,200}\r?\ncontent-", re.IGNORECASE)
#: How kinds of text begin, in lower case and without surrounding white space.
_TEXTS = (
    (re.compile(rb"""[{\[]\s*["'{\[\d}\]]"""), _other("JSON", _BYTES)),
    (re.compile(rb"data:[\w/+.-]*[;,]"), _other("a `data:` URL", _BYTES)),
    (re.compile(rb"""b["']\\"""), _other("a Python literal of bytes", _BYTES)),
    (
        re.compile(rb"(https?|ftp|file|s3|gs)://"),
        _other("a URL", "Download the image and send its bytes. This service does not fetch images."),
    ),
    (
        re.compile(rb"[^\r\n]{1,300}\.(jpe?g|png|webp|hei[cf]|avif|bmp|gif|tiff?)$"),
        _other("the name of a file", "Send its contents. With curl, write `@` before the name: `-F file=@cat.jpg`."),
    ),
)
_BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
#: Control characters that text does not contain.
_NOT_IN_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def _kind_of(data: bytes) -> _Kind | None:
    if data.endswith(_TGA_END):
        return _TGA
    return next((kind for kind in _KINDS if kind.fits(data)), None) or _kind_of_text(data)


def _kind_of_text(data: bytes) -> _Kind | None:
    """The kind of a text; None for bytes that are not text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _UTF_16
    if _FORM_START.match(data):
        return _FORM
    start = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf").strip()
    if not start or _NOT_IN_TEXT.search(start) or not _is_utf8(start):
        return None
    lower = start.lower()
    if lower.startswith(b"<"):
        return _kind_of_markup(lower)
    if kind := next((kind for pattern, kind in _TEXTS if pattern.match(lower)), None):
        return kind
    return _BASE64 if _is_image_as_base64(start) else _TEXT


def _kind_of_markup(lower: bytes) -> _Kind:
    if b"<!doctype html" in lower or b"<html" in lower:
        return _HTML
    if b"<svg" in lower:
        return _SVG
    return _HTML if any(tag in lower for tag in (b"<head", b"<body", b"<script", b"<title")) else _XML


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > max(0, _TEXT_BYTES - 4)  # the last character may be cut
    return True


def _is_image_as_base64(start: bytes) -> bool:
    found = _BASE64_TEXT.match(start)
    if not found:
        return False
    text = found[0].translate(_FROM_URL_SAFE)
    return format_of(binascii.a2b_base64(text[: len(text) // 4 * 4])) is not None
