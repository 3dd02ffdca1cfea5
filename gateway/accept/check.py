"""Checks the size, format and pixel count of an uploaded image, from its header alone.

The gateway never decodes pixels.
"""

from dataclasses import dataclass

from contract.errors import EmptyUploadError, TooManyPixelsError, UploadTooLargeError
from gateway.accept.foreign import not_supported
from gateway.accept.header import read_header


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The maximum size of an image."""

    max_bytes: int
    max_pixels: int


def check_upload(data: bytes, limits: UploadLimits) -> None:
    """Check that `data` looks like an image that a worker can decode.

    Raises:
        UploadError: a subclass that describes the problem.
    """
    if not data:
        raise EmptyUploadError("The image is empty. Send the contents of an image file.")
    if len(data) > limits.max_bytes:
        raise UploadTooLargeError(too_large_text(limits.max_bytes))
    header = read_header(data)
    if header is None:
        raise not_supported(data)
    _, width, height = header
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(
            f"The image has {width} x {height} pixels; the maximum is {limits.max_pixels:,}. Send a smaller image."
        )


def too_large_text(max_bytes: int) -> str:
    """The detail of the error for an upload over the limit."""
    return f"The upload is larger than the limit of {max_bytes:,} bytes. Send a smaller image."
