"""What routes read out of a request."""

import re

from flask import request

from contract.broker import INTERACTIVE, QUEUES
from contract.errors import NoFileError, UploadError

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*(?:$|[,;])")


def read_picture() -> tuple[bytes, str]:
    """The picture's bytes and file name, out of the part `file` of a form or the body itself.

    Raises:
        NoFileError: a form without that part.
    """
    if request.mimetype != "multipart/form-data":
        return request.get_data(cache=False), request.args.get("file", "")
    part = request.files.get("file")
    if part is None:
        raise NoFileError("The form has no picture. Send it as the part named `file`, as in `curl -F file=@cat.jpg`.")
    return part.read(), part.filename or ""


def read_queue() -> str:
    """The queue that `?queue=` names, interactive when it names none.

    Raises:
        UploadError: there is no such queue.
    """
    queue = request.args.get("queue", INTERACTIVE)
    if queue not in QUEUES:
        raise UploadError(f"There is no queue {queue[:40]!r}. Use one of: {', '.join(QUEUES)}.")
    return queue


def read_wait_s(max_s: float) -> float:
    """Seconds that `Prefer: wait=` asks for, at most `max_s`; 0 without it or where it cannot be read (RFC 7240)."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), max_s) if found else 0.0
