"""The body of a request as images, one after another, whichever way they are packed."""

from collections.abc import Iterator
from contextlib import suppress

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from contract.errors import UnsupportedFormatError, UploadError, UploadTooLargeError
from contract.settings import Settings
from gateway import BROKEN_BODY
from gateway.forms import read_form
from gateway.incoming import Incoming
from gateway.tars import TAR_MAX_MEMBERS, read_tar
from gateway.unpacking import UnpackBudget
from gateway.zips import ZIP_MAX_MEMBERS, read_zip

_TARS = {"application/x-tar", "application/tar", "application/gzip", "application/x-gzip", "application/x-gtar"}
_ZIPS = {"application/zip", "application/x-zip-compressed"}
_PIECE_BYTES = 65_536


def read_images(settings: Settings) -> Iterator[Incoming]:
    """The images of the body.

    Raises:
        UploadError: while it is read: it cannot be read, or is larger than it may be.
    """
    request.max_content_length = settings.bulk_max_bytes
    kind = request.mimetype
    if kind == "multipart/form-data":
        return read_form(_read, request.mimetype_params.get("boundary", ""), settings.upload_max_bytes)
    if kind in _TARS:
        budget = UnpackBudget(settings.bulk_max_bytes, TAR_MAX_MEMBERS)
        return read_tar(_read, settings.upload_max_bytes, budget)
    if kind in _ZIPS:
        budget = UnpackBudget(settings.bulk_max_bytes, ZIP_MAX_MEMBERS)
        return read_zip(_read, settings.upload_max_bytes, budget)
    raise UnsupportedFormatError(
        "Send many images as multipart/form-data, application/x-tar or application/zip; say which in Content-Type."
    )


def drain() -> None:
    """Read what is left of the body: a sender who is still sending would not hear an earlier answer."""
    with suppress(UploadError):
        while _read(_PIECE_BYTES):
            pass


def _read(size: int) -> bytes:
    try:
        return request.stream.read(size)
    except RequestEntityTooLarge:
        raise UploadTooLargeError(
            f"The body is larger than the limit of {request.max_content_length:,} bytes. Send it in parts."
        ) from None
    except ClientDisconnected:
        request.environ[BROKEN_BODY] = True
        raise UploadError("The body ended or stalled before all of it had come. Send it again.") from None
