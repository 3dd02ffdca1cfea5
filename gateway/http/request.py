"""The request class: handles compressed bodies, truncated bodies, and URLs in any encoding."""

import string
from collections.abc import Mapping
from typing import IO, Any, cast
from urllib.parse import quote

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import cached_property
from werkzeug.wsgi import LimitedStream

from contract.errors import UnsupportedEncodingError, UploadError
from contract.web.bodies import unpacks
from gateway.accept.inflate import Expansion, Inflater

#: Value of `Accept-Encoding` in the response to a body in another encoding.
ACCEPTED_ENCODINGS = "gzip, deflate"
_CODING_FIELDS = ("HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING")
_CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
#: Codings that leave the body as it is, or that the web server has decoded.
_TRANSPARENT = {"", "identity", "chunked"}
_NAME_SHOWN = 40
_ADVICE = "Compress it again, or send it without Content-Encoding."


class GatewayRequest(Request):
    """A request whose body is decompressed for all of its readers: routes, form readers, Flask's JSON."""

    def __init__(self, environ: dict[str, Any], **options: bool) -> None:
        super().__init__(environ, **options)
        if not self.query_string.isascii():
            # Werkzeug fails on bytes that are not UTF-8, but leaves percent-encoded ones unchanged.
            self.query_string = quote(self.query_string, safe=string.printable).encode()

    @cached_property
    def stream(self) -> IO[bytes]:
        """The decompressed body.

        Reading raises:
            UploadError: the body ended early, or its compressed data is corrupt.
            UnsupportedEncodingError: its encoding is not supported.
            RequestEntityTooLarge: it is larger than `max_content_length`, compressed or decompressed.
        """
        max_bytes = cast("int", self.max_content_length)
        length = self.content_length
        if length is not None and length > max_bytes:
            raise RequestEntityTooLarge
        body: Any = _WholeBody(self.environ["wsgi.input"], max_bytes, length)
        if coding := _coding(self.environ):
            expansion = Expansion(keep=unpacks(self.environ, max_bytes))
            unpacked: Any = Inflater(body.read, coding, expansion, _ADVICE)
            body = LimitedStream(unpacked, max_bytes, is_max=True)
        return cast("IO[bytes]", body)


class _WholeBody(LimitedStream):
    """A body of at most `max_bytes`; raises an error if it is shorter than its Content-Length."""

    def __init__(self, stream: IO[bytes], max_bytes: int, length: int | None) -> None:
        super().__init__(stream, max_bytes, is_max=True)
        self._length = length or 0

    def on_disconnect(self, error: Exception | None = None) -> None:
        super().on_disconnect(error)
        # A truncated image must not take the job id that the client chose for the complete one.
        if self.tell() < self._length:
            raise UploadError(f"The request body ended after {self.tell():,} of {self._length:,} bytes. Resend it.")


def _coding(environ: Mapping[str, Any]) -> str:
    """How the body is compressed: `gzip`, `deflate`, or empty if it is not."""
    codings = [
        name
        for field in _CODING_FIELDS
        if field in environ
        for name in map(str.strip, environ[field].split(","))
        if name.lower() not in _TRANSPARENT
    ]
    if not codings:
        return ""
    if len(codings) > 1:
        raise UnsupportedEncodingError(
            f"The body is encoded more than once ({', '.join(codings)[:_NAME_SHOWN]}). Send it in gzip or deflate only."
        )
    coding = _CODINGS.get(codings[0].lower())
    if coding is None:
        raise UnsupportedEncodingError(
            f"Content-Encoding {codings[0][:_NAME_SHOWN]!r} is not supported. "
            "Send the body in gzip or deflate, or uncompressed and without this header."
        )
    return coding
