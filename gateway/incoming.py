"""Images as they come out of a request's body, one after another; their names are labels and never become paths."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import PawqueueError, UploadError, UploadTooLargeError

#: Reads up to so many bytes of the body; fewer only at its end.
Read = Callable[[int], bytes]

#: Longest `custom_id`, in characters.
CUSTOM_ID_MAX = 1024
_NAME_SHOWN = 60
LEADS_OUT = "The name of this member leads out of the archive. Pack it under a relative name."


@dataclass(frozen=True, slots=True)
class Incoming:
    """One image, or why it cannot be one."""

    custom_id: str
    data: bytes = b""
    refused: PawqueueError | None = None


def label_of(name: str) -> str:
    """A name as a `custom_id`: control characters, and bytes that are no Unicode, are written as escapes."""
    return name if name.isprintable() else "".join(map(_readable, name))


def _readable(character: str) -> str:
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no Unicode
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character


def incoming(name: str, data: bytes) -> Incoming:
    """An image under its label; refused where that is none."""
    custom_id = label_of(name)
    if not custom_id:
        return Incoming("", b"", UploadError("The image has no name. Name it: results are told by `custom_id`."))
    if len(custom_id) > CUSTOM_ID_MAX:
        shortened = f"{custom_id[:_NAME_SHOWN]}..."
        return Incoming(custom_id, b"", UploadError(f"The name {shortened} is longer than {CUSTOM_ID_MAX} characters."))
    return Incoming(custom_id, data)


def refused(name: str, detail: str) -> Incoming:
    """A member that is no image for a reason of its own."""
    return Incoming(label_of(name), b"", UploadError(detail))


def too_large(name: str, max_bytes: int) -> Incoming:
    """An image over the limit."""
    detail = f"The image is larger than the limit of {max_bytes:,} bytes. Send a smaller one."
    return Incoming(label_of(name), b"", UploadTooLargeError(detail))


def leads_out(name: str) -> bool:
    """Whether the name of an archive's member is absolute or climbs out of the archive."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":")
