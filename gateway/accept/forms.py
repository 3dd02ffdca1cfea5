"""Reads the images of a multipart form one at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from contract.errors import NoFileError, UploadError, UploadTooLargeError
from gateway.accept.check import too_large_text
from gateway.accept.received import NAME_KEPT, Read, ReceivedImage, received, to_custom_id

FORM_MAX_IMAGES = 100
#: Maximum number of parts in a form, whether images or not.
_PARTS_MAX = 200
_PIECE_BYTES = 65_536
#: Maximum number of bytes that the decoder buffers while it reads the header of a part or the next piece of an image.
_BUFFER_MAX_BYTES = 4 * _PIECE_BYTES
_IMAGE_PART = "file"
_EXAMPLE = "as in `curl -F file=@cat.jpg`"
#: How much of a part without a file name is examined to recognize text.
_TEXT_BYTES = 100
_OTHERS_SHOWN, _NAME_SHOWN = 5, 30
#: Transfer encodings of a part that leave its bytes as they are.
_UNCHANGED = {"", "binary", "8bit", "7bit"}
#: Bytes that are not UTF-8, as represented by `surrogateescape`.
_UNDECODABLE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Part:
    """A part named `file`: an image, or the error that rejects it."""

    #: The file name, with undecodable bytes escaped; empty if the part has none.
    name: str
    #: Lower case, without parameters; empty if the part has none.
    content_type: str
    data: bytes = b""
    error: UploadError | None = None


def read_form(read: Read, boundary: str, max_bytes: int) -> Iterator[ReceivedImage]:
    """Yield the images of a form; images larger than `max_bytes` are rejected.

    Raises:
        UploadError: the form cannot be parsed, or has no images or too many.
    """
    for count, part in enumerate(read_parts(read, boundary, max_bytes)):
        if count == FORM_MAX_IMAGES:
            raise UploadTooLargeError(
                f"A form may contain {FORM_MAX_IMAGES} images. Send the rest in another form, or all in a tar."
            )
        if part.error:
            yield ReceivedImage(to_custom_id(part.name), error=part.error)
        else:
            yield received(part.name, part.data)


def read_parts(read: Read, boundary: str, max_bytes: int) -> Iterator[Part]:
    """Yield the parts named `file` of a form; one larger than `max_bytes` has an error.

    Raises:
        UploadError: the form cannot be parsed, or no such part is a file.
    """
    if not boundary:
        raise UploadError("The form has no boundary. Let your HTTP library write the Content-Type header.")
    is_found = False
    others: list[str] = []
    no_file = ""
    part: _OpenPart | None = None
    for event in _events(read, boundary):
        if isinstance(event, File | Field):
            part = _OpenPart(event, max_bytes) if event.name == _IMAGE_PART else None
            if part is None:
                others.append((event.name or "")[:_NAME_SHOWN])
        elif isinstance(event, Data) and part is not None:
            part.add(event.data)
            if not event.more_data:
                complete = part.close()
                part = None
                if isinstance(complete.error, NoFileError):
                    no_file = no_file or complete.error.detail
                else:
                    is_found = True
                yield complete
    if not is_found:
        missing = f"The form has no part named `file`{_found(others)}. Use this name for each image, {_EXAMPLE}."
        raise NoFileError(no_file or missing)


def _found(others: list[str]) -> str:
    shown = ", ".join(f"`{to_custom_id(name)}`" for name in others[:_OTHERS_SHOWN] if name)
    return f"; it has {shown}" if shown else ""


class _OpenPart:
    """A part named `file` while it is being read."""

    def __init__(self, event: File | Field, max_bytes: int) -> None:
        name = event.filename if isinstance(event, File) else None
        self._file_name = None if name is None else name[:NAME_KEPT]
        self._content_type = event.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._transfer_encoding = event.headers.get("content-transfer-encoding", "").strip().lower()
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_bytes:
            self._pieces = []  # the rest is read to reach the next part, but not kept
        else:
            self._pieces.append(piece)

    def close(self) -> Part:
        """The part, once all of it was read."""
        data = b"".join(self._pieces)
        error = self._error(data)
        return Part(self._file_name or "", self._content_type, b"" if error else data, error)

    def _error(self, data: bytes) -> UploadError | None:
        if self._size > self._max_bytes:
            return UploadTooLargeError(too_large_text(self._max_bytes))
        if self._transfer_encoding not in _UNCHANGED:
            return UploadError(
                f"The part has `Content-Transfer-Encoding: {self._transfer_encoding[:_NAME_SHOWN]}`. "
                "Send the bytes of the file as they are."
            )
        if self._file_name == "" and not data:
            return NoFileError("No file was chosen: the part `file` is empty and has no file name. Choose a file.")
        if self._file_name is None and _is_text(data):
            return NoFileError(f"The part `file` is text, not a file. Send the file itself, {_EXAMPLE} (with the @).")
        return None


def _is_text(data: bytes) -> bool:
    """Whether data is text, such as the name of a file. Images never are."""
    return bool(data) and data[:_TEXT_BYTES].decode("utf-8", "ignore").isprintable()


def _events(read: Read, boundary: str) -> Iterator[Event]:
    decoder = _Decoder(boundary.encode("latin-1", "replace"), _BUFFER_MAX_BYTES, max_parts=_PARTS_MAX)
    while True:
        event = _next_event(decoder, read(_PIECE_BYTES) or None)
        while not isinstance(event, NeedData):
            if isinstance(event, Epilogue):
                return
            yield event
            event = _next_event(decoder)


def _next_event(decoder: MultipartDecoder, piece: bytes | None = b"") -> Event:
    """The next event after one more piece of the form; `piece` is None at the end of the form."""
    try:
        decoder.receive_data(piece)
        return decoder.next_event()
    except RequestEntityTooLarge:
        raise UploadTooLargeError(
            f"The form has more than {_PARTS_MAX} parts, or a part whose header is too long. Send several forms."
        ) from None
    # The decoder raises several kinds of errors on malformed input.
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        if decoder.state is State.PREAMBLE:
            raise UploadError(
                "The body contains no form with the boundary that the Content-Type header gives. "
                "Let your HTTP library write that header."
            ) from error
        raise UploadError(
            "The form is truncated or malformed. Resend it; images that were already accepted are not duplicated."
        ) from error


class _Decoder(MultipartDecoder):
    """Werkzeug's decoder, which otherwise fails on the whole form if the header of one part is not valid."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        # Old browsers and shells send file names in Latin-1 or Shift-JIS; the escapes keep different names different.
        text = _UNDECODABLE.sub(_escaped, data.decode("utf-8", "surrogateescape"))
        headers = super()._parse_headers(text.encode())
        headers.setdefault("content-disposition", "form-data")
        return headers


def _escaped(match: re.Match[str]) -> str:
    # In a quoted string, a backslash is itself escaped.
    return f"\\\\x{ord(match[0]) - 0xDC00:02x}"
