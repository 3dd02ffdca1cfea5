"""An image from a form or archive. Its name becomes its `custom_id` and is never used as a file path."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import UploadError, UploadTooLargeError
from gateway.accept.check import too_large_text

#: Reads up to the given number of bytes from a request body; returns fewer only at the end of the body.
Read = Callable[[int], bytes]

#: Maximum length of a `custom_id`, in characters.
CUSTOM_ID_MAX = 1024
#: How much of a name is kept on entry, in characters: enough to see that it is too long. An archive or form may contain
#: names of hundreds of kilobytes.
NAME_KEPT = CUSTOM_ID_MAX + 1
#: How much of a name that is too long is shown.
_NAME_SHOWN = 180
#: Hexadecimal digits of the hash in the `custom_id` of an image without a name.
_HASH_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ReceivedImage:
    """One image, or the error that rejects it."""

    custom_id: str
    data: bytes = b""
    #: Where a worker fetches it; empty if it was sent.
    address: str = ""
    error: UploadError | None = None
    #: Whether it is a system file, such as `.DS_Store`, which is skipped: neither accepted nor rejected.
    is_junk: bool = False


def received(name: str, data: bytes) -> ReceivedImage:
    """An image, rejected if its name is too long. An image without a name is named after its content."""
    # A hash of the content: resending the image gives the same job, and other images without a name get other jobs.
    custom_id = to_custom_id(name) or f"unnamed-{hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]}"
    if len(_readable(name)) > CUSTOM_ID_MAX:
        return ReceivedImage(
            custom_id, error=UploadError(f"The name is longer than {CUSTOM_ID_MAX} characters. Shorten it.")
        )
    return ReceivedImage(custom_id, data)


def skipped(name: str) -> ReceivedImage:
    """A system file, which is skipped."""
    return ReceivedImage(to_custom_id(name), is_junk=True)


def rejected(name: str, detail: str) -> ReceivedImage:
    """An image that is rejected for the reason in `detail`."""
    return ReceivedImage(to_custom_id(name), error=UploadError(detail))


def too_large(name: str, max_bytes: int) -> ReceivedImage:
    """An image over the size limit."""
    return ReceivedImage(to_custom_id(name), error=UploadTooLargeError(too_large_text(max_bytes)))


def to_custom_id(name: str) -> str:
    """The `custom_id` for a name, with control characters and undecodable bytes escaped.

    A name that is too long is shortened to 195 characters; a hash keeps it different from others.
    """
    custom_id = _readable(name[:NAME_KEPT])
    if len(custom_id) <= CUSTOM_ID_MAX:
        return custom_id
    return f"{custom_id[:_NAME_SHOWN]}...{hashlib.sha256(custom_id.encode()).hexdigest()[:_HASH_DIGITS]}"


def _readable(name: str) -> str:
    return name if name.isprintable() else "".join(map(_escaped, name))


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, as represented by `surrogateescape`
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character
