"""Reads the images of a multipart form one at a time."""

from collections.abc import Iterator

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from contract.errors import NoFileError, UploadError, UploadTooLargeError
from gateway.accept.received import Read, ReceivedImage, received, too_large

FORM_MAX_IMAGES = 100
#: Maximum number of parts in a form, whether images or not.
_PARTS_MAX = 200
_PIECE_BYTES = 65_536
#: Maximum number of bytes that the decoder buffers while it reads the header of a part or the next piece of an image.
_BUFFER_MAX_BYTES = 4 * _PIECE_BYTES
_IMAGE_PART = "file"


def read_form(read: Read, boundary: str, max_bytes: int) -> Iterator[ReceivedImage]:
    """Yield the parts named `file` of a form; parts larger than `max_bytes` are rejected.

    Raises:
        UploadError: the form cannot be parsed, or has no images or too many.
    """
    if not boundary:
        raise UploadError("The form has no boundary. Let your HTTP library write the Content-Type header.")
    count = 0
    part: _Part | None = None
    for event in _events(read, boundary):
        if isinstance(event, File | Field):
            part = _Part(event, max_bytes) if event.name == _IMAGE_PART else None
        elif isinstance(event, Data) and part is not None:
            part.add(event.data)
            if not event.more_data:
                count += 1
                if count > FORM_MAX_IMAGES:
                    raise UploadTooLargeError(
                        f"A form may contain at most {FORM_MAX_IMAGES} images. Send the rest separately, or use a tar."
                    )
                yield part.image()
                part = None
    if count == 0:
        raise NoFileError("The form has no image. Send each one as a part named `file`, as in `curl -F file=@cat.jpg`.")


class _Part:
    """An image while it is being read."""

    def __init__(self, event: File | Field, max_bytes: int) -> None:
        self._name = event.filename if isinstance(event, File) else ""
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_bytes:
            self._pieces = []  # the rest is read to reach the next part, but not kept
        else:
            self._pieces.append(piece)

    def image(self) -> ReceivedImage:
        if not self._name:
            raise UploadError("A part named `file` has no filename. Add one: results are identified by filename.")
        if self._size > self._max_bytes:
            return too_large(self._name, self._max_bytes)
        return received(self._name, b"".join(self._pieces))


def _events(read: Read, boundary: str) -> Iterator[Event]:
    decoder = MultipartDecoder(boundary.encode("latin-1", "replace"), _BUFFER_MAX_BYTES, max_parts=_PARTS_MAX)
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
        raise UploadError(
            "The form is truncated or malformed. Resend it; images that were already accepted are not duplicated."
        ) from error
