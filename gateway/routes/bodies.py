"""Reads requests: the uploaded images in any supported form, and the requested wait."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from contract.errors import NoFileError, UnsupportedFormatError, UploadError, UploadTooLargeError
from contract.job import new_job_id
from contract.settings import Settings
from gateway.accept.acceptor import Upload
from gateway.accept.archives import TAR_MAX_MEMBERS, ZIP_MAX_MEMBERS, UnpackBudget, read_tar, read_zip
from gateway.accept.forms import read_form
from gateway.accept.received import ReceivedImage
from gateway.http.auth import caller
from gateway.http.job_schemas import SubmitHeaders, SubmitQuery, WaitHeader
from gateway.http.problems import broken_body

_TARS = {"application/x-tar", "application/tar", "application/gzip", "application/x-gzip", "application/x-gtar"}
_ZIPS = {"application/zip", "application/x-zip-compressed"}
_PIECE_BYTES = 65_536
_FILE_NAME_MAX = 255
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*(?:$|[,;])", re.ASCII)


def read_upload(query: SubmitQuery, header: SubmitHeaders, job_id: str = "") -> Upload:
    """The image in the request, with the client's options.

    Raises:
        UploadError: the request has no image, or its body ended early.
    """
    data, file = _read_image(query.file)
    key = header.idempotency_key.strip()
    return Upload(
        data,
        query.queue,
        file=clean_name(file),
        job_id=job_id or new_job_id(),
        idempotency_key=key,
        fingerprint=hashlib.sha256(data).hexdigest() if job_id or key else "",
        deadline_s=query.deadline_s,
        owner=caller().owner,
    )


def read_images(settings: Settings) -> Iterator[ReceivedImage]:
    """The images of a form or archive, one after another.

    Raises:
        UploadError: during iteration: the body cannot be parsed or is too large.
    """
    request.max_content_length = settings.bulk_max_bytes
    mimetype = request.mimetype
    if mimetype == "multipart/form-data":
        return read_form(_read, request.mimetype_params.get("boundary", ""), settings.upload_max_bytes)
    if mimetype in _TARS:
        return read_tar(_read, settings.upload_max_bytes, UnpackBudget(settings.bulk_max_bytes, TAR_MAX_MEMBERS))
    if mimetype in _ZIPS:
        return read_zip(_read, settings.upload_max_bytes, UnpackBudget(settings.bulk_max_bytes, ZIP_MAX_MEMBERS))
    raise UnsupportedFormatError(
        "Send images as multipart/form-data, application/x-tar or application/zip, and set Content-Type accordingly."
    )


def drain() -> None:
    """Read the rest of the body, because a client that is still sending may not receive the response."""
    with suppress(UploadError):
        while _read(_PIECE_BYTES):
            pass


def granted_wait_s(header: WaitHeader, max_s: float) -> float:
    """The seconds in `Prefer: wait=` (RFC 7240), at most `max_s`; 0 if it is missing or invalid."""
    match = _WAIT.search(header.prefer)
    return min(float(match[1]), max_s) if match else 0.0


def clean_name(name: str) -> str:
    """`name` without control characters and at most 255 characters long, for records and logs."""
    return "".join(character for character in name if character.isprintable())[:_FILE_NAME_MAX]


def _read_image(name: str) -> tuple[bytes, str]:
    """The bytes and file name of the image: the part `file` of a form, or the body itself."""
    if request.mimetype != "multipart/form-data":
        return _read_body(), name
    part = request.files.get("file")
    if part is None:
        raise NoFileError("The form has no image. Send it as the part named `file`, as in `curl -F file=@cat.jpg`.")
    return part.read(), part.filename or ""


def _read_body() -> bytes:
    data = request.get_data(cache=False)
    # A truncated image must not use up the job id that the client chose for the complete one.
    if request.content_length is not None and len(data) < request.content_length:
        raise UploadError(
            f"The request body ended after {len(data)} of {request.content_length} bytes. Resend the image."
        )
    return data


def _read(size: int) -> bytes:
    try:
        return request.stream.read(size)
    except RequestEntityTooLarge:
        raise UploadTooLargeError(
            f"The body is larger than the limit of {request.max_content_length:,} bytes. Send it in several requests."
        ) from None
    except ClientDisconnected:
        raise broken_body() from None
