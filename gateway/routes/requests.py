"""What routes read out of a request."""

import re

from flask import request

from contract.broker import INTERACTIVE, QUEUES
from contract.errors import NoFileError, UploadError
from gateway.submit import Upload

_IDEMPOTENCY_KEY_MAX = 255
_DEADLINE_MAX_S = 604_800
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*(?:$|[,;])")


def read_picture() -> tuple[bytes, str]:
    """The picture's bytes and file name, out of the part `file` of a form or the body itself.

    Raises:
        NoFileError: a form without that part.
        UploadError: the body ended before its announced length.
    """
    if request.mimetype != "multipart/form-data":
        return _whole_body(), request.args.get("file", "")
    part = request.files.get("file")
    if part is None:
        raise NoFileError("The form has no picture. Send it as the part named `file`, as in `curl -F file=@cat.jpg`.")
    return part.read(), part.filename or ""


def _whole_body() -> bytes:
    """The body, if all of it came: one that was cut off must not take the place, or the id, of the whole one."""
    data = request.get_data(cache=False)
    if request.content_length is not None and len(data) < request.content_length:
        raise UploadError(f"Of {request.content_length} announced bytes only {len(data)} came. Send the picture again.")
    return data


def read_queue() -> str:
    """The queue that `?queue=` names, interactive when it names none.

    Raises:
        UploadError: there is no such queue.
    """
    queue = request.args.get("queue", INTERACTIVE)
    if queue not in QUEUES:
        raise UploadError(f"There is no queue {queue[:40]!r}. Use one of: {', '.join(QUEUES)}.")
    return queue


def read_upload(max_wait_s: float, job_id: str = "") -> Upload:
    """Everything that a request says about the picture it brings.

    Raises:
        UploadError: a part of it is missing or cannot be read.
    """
    data, file = read_picture()
    return Upload(
        data=data,
        queue=read_queue(),
        file=file,
        job_id=job_id,
        idempotency_key=read_idempotency_key(),
        deadline_s=read_deadline_s(),
        wait_s=read_wait_s(max_wait_s),
    )


def read_idempotency_key() -> str:
    """The `Idempotency-Key` header, empty without it.

    Raises:
        UploadError: it is longer than allowed.
    """
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > _IDEMPOTENCY_KEY_MAX:
        raise UploadError(f"The Idempotency-Key is longer than {_IDEMPOTENCY_KEY_MAX} characters. Send a shorter one.")
    return key


def read_deadline_s() -> float | None:
    """Seconds that `?deadline_s=` gives the job, None without it.

    Raises:
        UploadError: it is no number of seconds.
    """
    text = request.args.get("deadline_s")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= _DEADLINE_MAX_S:
        raise UploadError(f"deadline_s must be a number of seconds above 0, at most {_DEADLINE_MAX_S}.")
    return float(text)


def read_wait_s(max_s: float) -> float:
    """Seconds that `Prefer: wait=` asks for, at most `max_s`; 0 without it or where it cannot be read (RFC 7240)."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), max_s) if found else 0.0
