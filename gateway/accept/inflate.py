"""Decompresses gzip and deflate as they are read, and limits how far an upload may expand."""

import zlib
from collections.abc import Callable

from contract.errors import UploadError, UploadTooLargeError
from contract.web.turns import yield_turn
from gateway.accept.received import Read

#: Images are already compressed: an upload that expands further than this does not contain images.
_RATIO_MAX = 100
#: An upload may expand to this many bytes regardless of its ratio: single-color images compress very well.
FREE_BYTES = 100_000_000
_PIECE_BYTES = 65_536
#: A gzip may have this many members, and one more per this many bytes: real programs write larger members, and starting
#: one takes as long as unpacking several kilobytes.
_FREE_MEMBERS, _BYTES_PER_MEMBER = 100, 1_000
_GZIP, _ZLIB, _RAW_DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Expansion:
    """Limits how far compressed data may expand.

    Args:
        free_bytes: Unpacked bytes that are allowed regardless of the compression ratio.
        keep: Called with the number of bytes that were unpacked and are now in memory.
    """

    def __init__(self, free_bytes: int = FREE_BYTES, keep: Callable[[int], None] = lambda _: None) -> None:
        self._free_bytes = free_bytes
        self._keep = keep
        self._packed_bytes = 0
        self._unpacked_bytes = 0

    @property
    def unpacked_bytes(self) -> int:
        """Number of bytes unpacked so far."""
        return self._unpacked_bytes

    def count_packed(self, size: int) -> None:
        """Count bytes that were received."""
        self._packed_bytes += size

    def count_unpacked(self, size: int) -> None:
        """Count bytes that were unpacked.

        Raises:
            UploadTooLargeError: over the limit.
            UnavailableError: there is no memory for more.
        """
        yield_turn()
        self._keep(size)
        self._unpacked_bytes += size
        if self._unpacked_bytes > self._free_bytes + _RATIO_MAX * self._packed_bytes:
            raise UploadTooLargeError("The upload expands to far more data than images would. Send it uncompressed.")


class Inflater:
    """Reads the unpacked bytes of a gzip or deflate stream; holds at most one piece of it in memory.

    Args:
        read: Reads the packed bytes.
        coding: `gzip`, or `deflate` with or without zlib's header.
        expansion: Counts both sides.
        advice: What to do about data that is corrupt or truncated.
    """

    def __init__(self, read: Read, coding: str, expansion: Expansion, advice: str) -> None:
        self._read_packed = read
        self._coding = coding
        self._expansion = expansion
        self._advice = advice
        self._packed = self._pull()
        self._is_empty = not self._packed
        self._members = 1
        self._inflate = zlib.decompressobj(_window(coding, self._packed))

    def read(self, size: int) -> bytes:
        """Read up to `size` unpacked bytes; returns fewer only at the end.

        Raises:
            UploadError: the stream is not in this coding, corrupt or truncated.
            UploadTooLargeError: it expands too far.
        """
        pieces: list[bytes] = []
        while size > 0 and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if self._is_empty:
            return b""
        while not self._inflate.eof or self._begins_another():
            packed = self._packed or self._pull()
            try:
                piece = self._inflate.decompress(packed, min(size, _PIECE_BYTES))
            except zlib.error as error:
                raise UploadError(
                    f"The data is not valid {self._coding}: it is corrupt, or not compressed. {self._advice}"
                ) from error
            self._packed = self._inflate.unconsumed_tail
            self._expansion.count_unpacked(len(piece))
            if piece:
                return piece
            # Without input, zlib may still have had output to return.
            if not packed and not self._inflate.eof:
                raise UploadError(f"The {self._coding} data is truncated. {self._advice}")
        return b""

    def _begins_another(self) -> bool:
        """Whether another gzip member follows the one that ended; padding with zeros may follow the last."""
        rest = self._inflate.unused_data
        while not rest.strip(b"\0"):
            rest = self._pull()
            if not rest:
                return False
        if self._coding != "gzip":
            raise UploadError(f"Other data follows the end of the {self._coding} data. {self._advice}")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._expansion.unpacked_bytes // _BYTES_PER_MEMBER:
            raise UploadError(f"The gzip data consists of too many small members. {self._advice}")
        self._packed, self._inflate = rest, zlib.decompressobj(_GZIP)
        return True

    def _pull(self) -> bytes:
        piece = self._read_packed(_PIECE_BYTES)
        self._expansion.count_packed(len(piece))
        return piece


def _window(coding: str, start: bytes) -> int:
    """The argument that makes zlib read this coding."""
    if coding == "gzip":
        return _GZIP
    # RFC 9110 asks for zlib's header, but several clients send deflate without it.
    has_header = len(start) >= 2 and start[0] & 0x0F == zlib.DEFLATED and int.from_bytes(start[:2]) % 31 == 0
    return _ZLIB if has_header else _RAW_DEFLATE
