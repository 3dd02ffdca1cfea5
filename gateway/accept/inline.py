"""Reads images that are part of a JSON body or a binary tensor, piece by piece: only the images are kept in memory."""

import binascii
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from contract.errors import UploadError, UploadTooLargeError
from gateway.accept.check import too_large_text
from gateway.accept.received import Read

#: What to send instead of a tensor of pixels.
PIXELS_TEXT = (
    "This service decodes and resizes images itself, so it takes no pixels. Send the image file (JPEG, PNG, ...) "
)
#: Strings with at most this many bytes are kept as they are; longer ones are decoded as base64 while they arrive.
_TEXT_MAX_BYTES = 1_024
#: Maximum size of a JSON body besides its long strings.
_REST_MAX_BYTES = 65_536
_PIECE_BYTES = 65_536
#: The characters of a string up to its end, or up to an incomplete escape.
_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
#: The longest escape is `\uXXXX`.
_ESCAPE_BYTES = 6
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class ImageBudget:
    """The bytes that the images of one request may have.

    Args:
        image_max_bytes: Maximum size of one image.
        max_bytes: Maximum size of all together.
    """

    def __init__(self, image_max_bytes: int, max_bytes: int) -> None:
        self.image_max_bytes = image_max_bytes
        self._max_bytes = max_bytes
        self._kept_bytes = 0

    def keep(self, size: int) -> None:
        """Count bytes of images.

        Raises:
            UploadTooLargeError: the images have too many.
        """
        self._kept_bytes += size
        if self._kept_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"The images of a request may have {self._max_bytes:,} bytes together. Send them in several requests."
            )


class JsonWithImages:
    """A JSON body: its value, in which each long string is replaced by a reference to the image that it encodes."""

    def __init__(self, value: Any, images: dict[str, bytes]) -> None:
        self.value = value
        self._images = images

    def take(self, text: str) -> bytes:
        """The image that a string of the value encodes in base64. Each can be taken once.

        Raises:
            UploadError: the string is not base64.
        """
        image = self._images.pop(text, None)
        if image is not None:
            return image
        decoder = _Base64()
        return decoder.decode(text.encode()) + decoder.end()


def read_json(read: Read, budget: ImageBudget) -> JsonWithImages:
    """Read a JSON body; long strings are decoded as base64 while they arrive.

    Raises:
        UploadError: the body is not JSON, has a long string that is not base64, or is too large.
    """
    # No client can guess it, and thereby refer to an image.
    mark = secrets.token_hex(8)
    images: dict[str, bytes] = {}
    rest = bytearray()
    string: _String | None = None
    unread = b""
    while received := read(_PIECE_BYTES):
        piece, unread, at = unread + received, b"", 0
        while at < len(piece):
            if string is None:
                end = piece.find(b'"', at) + 1
                rest += piece[at : end or len(piece)]
                if len(rest) > _REST_MAX_BYTES:
                    raise UploadTooLargeError(
                        f"The JSON has more than {_REST_MAX_BYTES:,} bytes besides the images. {PIXELS_TEXT}in base64."
                    )
                string = _String(budget) if end else None
                at = end or len(piece)
                continue
            end = _end_of_string(piece, at)
            string.add(piece[at:end])
            if end == len(piece) or piece[end : end + 1] != b'"':
                unread = piece[end:]
                break
            text, image = string.close()
            if image is not None:
                text = f"{mark}:{len(images)}".encode()
                images[text.decode()] = image
            rest += text + b'"'
            string, at = None, end + 1
    try:
        return JsonWithImages(json.loads(rest), images)
    except ValueError:
        raise UploadError("The body is not valid JSON. Send a JSON object.") from None
    except RecursionError:
        raise UploadError("The body is nested too deeply. Send a flat JSON object.") from None


def read_tensor(read: Read, size: int, budget: ImageBudget) -> Iterator[bytes]:
    """Yield the elements of a binary `BYTES` tensor of `size` bytes: each has its length in 4 bytes, little-endian.

    Raises:
        UploadError: during iteration: the lengths do not match, the body ended early, or is too large.
    """
    left = size
    while left:
        length = int.from_bytes(_exactly(read, 4), "little") if left >= 4 else left
        left -= 4 + length
        if left < 0:
            raise UploadError(
                "The elements of the tensor do not have `binary_data_size` bytes together. Each element of a BYTES "
                "tensor starts with its length in 4 bytes, little-endian."
            )
        if length > budget.image_max_bytes:
            raise UploadTooLargeError(too_large_text(budget.image_max_bytes))
        budget.keep(length)
        yield _exactly(read, length)


def first(read: Read, size: int) -> Read:
    """A function that reads the next `size` bytes only."""
    left = size

    def read_some(wanted: int) -> bytes:
        nonlocal left
        data = read(min(wanted, left)) if left else b""
        left -= len(data)
        return data

    return read_some


def _exactly(read: Read, size: int) -> bytes:
    read_some, pieces = first(read, size), []
    while piece := read_some(_PIECE_BYTES):
        pieces.append(piece)
    data = b"".join(pieces)
    if len(data) < size:
        raise UploadError("The body ends before the end of the tensor. Check `binary_data_size`, and resend it.")
    return data


def _end_of_string(piece: bytes, at: int) -> int:
    """The position of the quote that ends a string, or up to which it has no incomplete escape."""
    quote = piece.find(b'"', at)
    end = len(piece) if quote < 0 else quote
    if piece.find(b"\\", at, end) < 0:  # takes a hundredth of the time
        return end
    match = _IN_STRING.match(piece, at)
    return match.end() if match else at


class _String:
    """A string of a JSON body while it is read."""

    def __init__(self, budget: ImageBudget) -> None:
        self._budget = budget
        self._text = b""
        self._decoder: _Base64 | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Add characters as they are in the body, with escapes."""
        self._text += piece
        if len(self._text) <= _TEXT_MAX_BYTES and self._decoder is None:
            return
        self._decoder = self._decoder or _Base64()
        # The last escape may be incomplete.
        end = self._text.rfind(b"\\", -_ESCAPE_BYTES) if b"\\" in self._text[-_ESCAPE_BYTES:] else len(self._text)
        self._keep(self._decoder.decode(_unescaped(self._text[:end])))
        self._text = self._text[end:]

    def close(self) -> tuple[bytes, bytes | None]:
        """The text of a short string, or the image that a long one encodes."""
        if self._decoder is None:
            return self._text, None
        self._keep(self._decoder.decode(_unescaped(self._text)) + self._decoder.end())
        return b"", b"".join(self._pieces)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._budget.image_max_bytes:
            raise UploadTooLargeError(too_large_text(self._budget.image_max_bytes))
        self._budget.keep(len(data))
        self._pieces.append(data)


class _Base64:
    """Decodes base64 piece by piece: the standard or the URL-safe alphabet, with or without line breaks and padding."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_padded = False

    def decode(self, text: bytes) -> bytes:
        """The bytes that the text so far encodes and that were not returned yet."""
        text = self._rest + text.translate(_URL_SAFE, b" \t\r\n")
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        return self._decoded(text[:whole])

    def end(self) -> bytes:
        """The last bytes."""
        return self._decoded(self._rest + b"=" * (-len(self._rest) % 4)) if self._rest else b""

    def _decoded(self, text: bytes) -> bytes:
        if not text:
            return b""
        is_late, self._is_padded = self._is_padded, text.endswith(b"=")
        with suppress(binascii.Error):
            if not is_late:
                return binascii.a2b_base64(text, strict_mode=True)
        raise UploadError(
            "A string is not the base64 of an image. Send the base64 of the image file's bytes, without a prefix such "
            "as `data:image/png;base64,`."
        )


def _unescaped(text: bytes) -> bytes:
    """The characters of a part of a JSON string; clients may escape `/`, `+`, `=` and line breaks in base64."""
    if b"\\" not in text:
        return text
    try:
        return str(json.loads(b'"%b"' % text)).encode()
    except ValueError:
        raise UploadError("The body is not valid JSON. Send a JSON object.") from None
