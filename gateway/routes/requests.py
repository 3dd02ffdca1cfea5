"""What routes read out of a request beside what its model has checked."""

import re

from flask import request

from contract.errors import NoFileError, UploadError
from gateway.guard import caller
from gateway.schemas import SubmitHeaders, SubmitQuery, WaitHeader
from gateway.submit import Upload

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*(?:$|[,;])", re.ASCII)


def read_image(name: str = "") -> tuple[bytes, str]:
    """The image's bytes and file name, out of the part `file` of a form or the body itself.

    Raises:
        NoFileError: a form without that part.
        UploadError: the body ended before its announced length.
    """
    if request.mimetype != "multipart/form-data":
        return _whole_body(), name
    part = request.files.get("file")
    if part is None:
        raise NoFileError("The form has no image. Send it as the part named `file`, as in `curl -F file=@cat.jpg`.")
    return part.read(), part.filename or ""


def _whole_body() -> bytes:
    """The body, if all of it came: one that was cut off must not take the place, or the id, of the whole one."""
    data = request.get_data(cache=False)
    if request.content_length is not None and len(data) < request.content_length:
        raise UploadError(f"Of {request.content_length} announced bytes only {len(data)} came. Send the image again.")
    return data


def read_upload(query: SubmitQuery, header: SubmitHeaders, wait_s: float, job_id: str = "") -> Upload:
    """Everything that a request says about the image it brings.

    Raises:
        UploadError: a part of it is missing or cannot be read.
    """
    data, file = read_image(query.file)
    return Upload(
        data=data,
        queue=query.queue,
        file=file,
        job_id=job_id,
        idempotency_key=header.idempotency_key.strip(),
        deadline_s=query.deadline_s,
        wait_s=wait_s,
        owner=caller().owner,
    )


def granted_wait_s(header: WaitHeader, max_s: float) -> float:
    """Seconds that `Prefer: wait=` asks for, at most `max_s`; 0 without it or where it cannot be read (RFC 7240)."""
    found = _WAIT.search(header.prefer) if header.prefer else None
    return min(float(found[1]), max_s) if found else 0.0
