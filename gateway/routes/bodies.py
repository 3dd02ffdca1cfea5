"""Reads requests: the uploaded images in any supported form, the requested wait, and the webhook."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from contract.destinations import ForbiddenUrlError
from contract.errors import (
    EmptyUploadError,
    FetchNotAllowedError,
    InvalidWebhookError,
    NotAnImageError,
    UnavailableError,
    UnsupportedFormatError,
    UploadError,
    UploadTooLargeError,
)
from contract.fetch import FetchError, FetchRules, name_of
from contract.job import new_job_id
from contract.settings import Settings
from contract.web.bodies import handed_on, release, unpacks
from gateway import GROUP_MAX_BYTES
from gateway.accept.acceptor import Upload
from gateway.accept.archives import TAR_MAX_MEMBERS, ZIP_MAX_MEMBERS, UnpackBudget, read_tar, read_zip
from gateway.accept.foreign import is_foreign
from gateway.accept.forms import Part, read_form, read_parts
from gateway.accept.received import CUSTOM_ID_MAX, ReceivedImage, to_custom_id
from gateway.accept.spool import Spool
from gateway.http.auth import caller
from gateway.http.job_schemas import AddressBody, SubmitHeaders, SubmitQuery, WaitHeader
from gateway.http.problems import broken_body
from gateway.http.submission_schemas import AddressesBody
from gateway.services import current_services

FORM = "multipart/form-data"
_URL_ENCODED = "application/x-www-form-urlencoded"
_TARS = {"application/x-tar", "application/tar", "application/gzip", "application/x-gzip", "application/x-gtar"}
_ZIPS = {"application/zip", "application/x-zip-compressed"}
_JSON = "application/json"
#: Limits of JSON bodies with one address, and with many.
_ADDRESS_MAX_BYTES, _ADDRESSES_MAX_BYTES = 16_384, 4_194_304
Model = TypeVar("Model", bound=BaseModel)
_PIECE_BYTES = 65_536
_FILE_NAME_MAX = 255
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*(?:$|[,;])", re.ASCII)


def read_upload(
    settings: Settings, query: SubmitQuery, header: SubmitHeaders, job_id: str = "", own_id: str = ""
) -> Upload:
    """The image in the request, with the client's options. `job_id` is the id that the client chose, if any.

    Raises:
        UploadError: the request has no image, or its body ended early.
    """
    address = _read_address(settings) if request.mimetype == _JSON else ""
    data, file = (
        (b"", query.file or name_of(address)) if address else _read_image(query.file, settings.upload_max_bytes)
    )
    key = header.idempotency_key.strip()
    return Upload(
        data,
        query.queue,
        file=clean_name(file),
        address=address,
        job_id=job_id or new_job_id(),
        own_id=own_id,
        idempotency_key=key,
        fingerprint=f"{hashlib.sha256(data or address.encode()).hexdigest()}{query.model}" if job_id or key else "",
        deadline_s=query.deadline_s,
        model=query.model,
        top_k=query.top_k,
        webhook=chosen_webhook(query.webhook),
        owner=caller().owner,
    )


def read_images(settings: Settings, spool: Spool) -> Iterator[ReceivedImage]:
    """The images of a form or archive, one after another.

    Raises:
        UnavailableError: the spool has no space for the zip.
        UploadError: during iteration: the body cannot be parsed or is too large.
    """
    request.max_content_length = settings.bulk_max_bytes
    mimetype = request.mimetype
    if mimetype == FORM:
        unpacks(request.environ, settings.upload_max_bytes + GROUP_MAX_BYTES, counts_packed=True)
        return read_form(read_piece, request.mimetype_params.get("boundary", ""), settings.upload_max_bytes)
    # Pawqueue's client skips system files itself, and sends one only if its user named it.
    keep_junk = request.user_agent.string.startswith("pawqueue")
    if mimetype in _TARS:
        budget = _unpack_budget(settings, TAR_MAX_MEMBERS)
        return read_tar(read_piece, settings.upload_max_bytes, budget, keep_junk=keep_junk)
    if mimetype in _ZIPS:
        owner = caller().owner
        request.max_content_length = max_bytes = min(settings.bulk_max_bytes, spool.limit_of(owner))
        spool.check(owner, min(request.content_length or 0, max_bytes))  # before the body is read
        budget = _unpack_budget(settings, ZIP_MAX_MEMBERS)
        return read_zip(read_piece, settings.upload_max_bytes, budget, spool.file(owner), keep_junk=keep_junk)
    if mimetype == _JSON:
        return _read_addresses(settings)
    problem = f"Content-Type is {clean_name(mimetype)}." if mimetype else "The request has no Content-Type."
    raise UnsupportedFormatError(
        f"{problem} This endpoint takes many images, as {FORM}, application/x-tar or application/zip, or "
        f"their addresses as {_JSON}; POST /v1/jobs takes one image as the body."
    )


def _unpack_budget(settings: Settings, max_members: int) -> UnpackBudget:
    keep = unpacks(request.environ, settings.upload_max_bytes + GROUP_MAX_BYTES)
    return UnpackBudget(settings.bulk_max_bytes, max_members, keep=keep)


def hand_on_body() -> None:
    """Register that what was read of the body is stored and no longer in memory."""
    handed_on(request.environ)


def release_body() -> None:
    """Register that the request keeps nothing of its body in memory any more."""
    release(request.environ)


def form_parts(max_bytes: int) -> Iterator[Part]:
    """The parts named `file` of the form; one larger than `max_bytes` has an error.

    Raises:
        UploadError: during iteration: the form cannot be parsed, or has no such part.
    """
    return read_parts(request.stream.read, request.mimetype_params.get("boundary", ""), max_bytes)


def drain() -> None:
    """Read the rest of the body, because a client that is still sending may not receive the response."""
    with suppress(UploadError, UnavailableError):
        while read_piece(_PIECE_BYTES):
            hand_on_body()


def granted_wait_s(header: WaitHeader, max_s: float) -> float:
    """The seconds in `Prefer: wait=` (RFC 7240), at most `max_s`; 0 if it is missing or invalid."""
    match = _WAIT.search(header.prefer)
    return min(float(match[1]), max_s) if match else 0.0


def chosen_webhook(url: str) -> str:
    """The webhook in the request, else that of the API key; empty for none.

    Raises:
        InvalidWebhookError: nothing can be delivered to this URL.
    """
    if url:
        try:
            current_services().destinations.check_url(url)
        except ForbiddenUrlError as error:
            raise InvalidWebhookError(f"webhook: {error}") from None
    return url or caller().webhook


def clean_name(name: str) -> str:
    """`name` without control characters and at most 255 characters long, for records and logs."""
    kept = name[: 4 * _FILE_NAME_MAX]  # names may have hundreds of kilobytes
    return "".join(character for character in kept if character.isprintable())[:_FILE_NAME_MAX]


def _read_address(settings: Settings) -> str:
    """The address in a JSON body.

    Raises:
        UploadError: the body has none, or images are not fetched from there.
    """
    address = _read_json(AddressBody, _ADDRESS_MAX_BYTES, "To send an image itself, set Content-Type to its type.").url
    if error := _address_error(settings.fetch_rules(), address):
        raise error
    return address


def _read_addresses(settings: Settings) -> Iterator[ReceivedImage]:
    """The images whose addresses are in a JSON body."""
    rules = settings.fetch_rules()
    for image in _read_json(AddressesBody, _ADDRESSES_MAX_BYTES, "See /docs.").images:
        custom_id = to_custom_id(image.custom_id or image.url.partition("?")[0])[:CUSTOM_ID_MAX]
        yield ReceivedImage(custom_id, address=image.url, error=_address_error(rules, image.url))


def _address_error(rules: FetchRules, address: str) -> UploadError | None:
    try:
        rules.check(address)
    except FetchError as error:
        return FetchNotAllowedError(str(error))
    return None


def _read_json(model: type[Model], max_bytes: int, advice: str) -> Model:
    request.max_content_length = max_bytes
    try:
        return model.model_validate_json(_read_body())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise UploadError(f"The JSON body is not valid: {where}: {first['msg']}. {advice}") from None


def _read_image(name: str, max_bytes: int) -> tuple[bytes, str]:
    """The bytes and file name of the image: the part `file` of a form, or the body itself."""
    if request.mimetype != FORM:
        return _read_body(), name
    part, *others = form_parts(max_bytes)
    if others:
        raise UploadError(
            f"The form has {len(others) + 1} parts named `file`, but this endpoint takes one image. "
            "Send each in a request of its own, or all to a submission."
        )
    if part.error:
        raise part.error
    return part.data, part.name or name


def _read_body() -> bytes:
    data = request.get_data(cache=False)
    if not data and request.content_length is None and "Transfer-Encoding" not in request.headers:
        raise EmptyUploadError("The request has no body, because it has no Content-Length. Send the image as the body.")
    # curl's default content type. Every image contains null bytes.
    if data and request.mimetype == _URL_ENCODED and b"\0" not in data and not is_foreign(data):
        raise NotAnImageError(
            "The body is not an image. `curl -d @cat.jpg` removes null bytes and line ends from the file: "
            "use `--data-binary @cat.jpg`."
        )
    return data


def read_piece(size: int) -> bytes:
    """Read up to `size` bytes of the body; fewer only at its end.

    Raises:
        UploadError: the body is larger than `request.max_content_length`, or ended early.
    """
    try:
        return request.stream.read(size)
    except RequestEntityTooLarge:
        raise UploadTooLargeError(
            f"The body is larger than the limit of {request.max_content_length:,} bytes. Send it in several requests."
        ) from None
    except ClientDisconnected as error:
        raise broken_body(error) from None
