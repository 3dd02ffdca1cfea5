"""A tar of images, plain or gzipped, read as it comes: one image is in memory at a time, nothing goes to disk."""

import tarfile
import zlib
from collections.abc import Iterator

from contract.errors import NoFileError, PawqueueError, UploadError
from gateway.incoming import LEADS_OUT, Incoming, Read, incoming, leads_out, refused, too_large
from gateway.unpacking import UnpackBudget

#: Most members of a tar.
TAR_MAX_MEMBERS = 100_000
_GZIP_START = b"\x1f\x8b"
_PIECE_BYTES = 65_536
#: Of the headers of one member; extended ones are as long as they say.
_HEADERS_MAX_BYTES = 1_000_000
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def read_tar(read: Read, max_bytes: int, budget: UnpackBudget) -> Iterator[Incoming]:
    """Yield the members of a tar, each of at most `max_bytes`; folders are passed over.

    Raises:
        UploadError: it is cut off, is none, has no members, or unpacks to more than `budget` allows.
    """
    source = _Forward(read, budget)
    tar = _open(source)
    count = 0
    while (info := _next(tar, source)) is not None:
        budget.count_member()
        if not info.isdir():
            count += 1
            yield _member(info, source, max_bytes)
    if count == 0:
        raise NoFileError("The archive has no images. Put files into it, and send it again.")


def _member(info: tarfile.TarInfo, source: "_Forward", max_bytes: int) -> Incoming:
    if not info.isreg() or info.issparse():
        return refused(info.name, "This member of the archive is a link or a device, not a file with an image.")
    if leads_out(info.name):
        return refused(info.name, LEADS_OUT)
    if info.size > max_bytes:
        return too_large(info.name, max_bytes)
    source.seek(info.offset_data)
    data = source.take(info.size)
    if len(data) < info.size:
        raise _broken()
    return incoming(info.name, data)


def _open(source: "_Forward") -> tarfile.TarFile:
    try:
        # Not its own streaming mode: that reads headers of any length, where `source` has a limit.
        return tarfile.TarFile(fileobj=source)  # type: ignore[arg-type]  # it asks for read, seek and tell alone
    except PawqueueError:
        raise
    # Its reader raises nearly anything on hostile bytes.
    except Exception as error:
        raise _broken() from error


def _next(tar: tarfile.TarFile, source: "_Forward") -> tarfile.TarInfo | None:
    # What the library remembers of members would grow with the archive.
    tar.members.clear()  # type: ignore[attr-defined]  # both are not in the library's stubs as what they are
    tar.pax_headers.clear()  # type: ignore[attr-defined]
    source.begin_header()
    try:
        info = tar.next()
    except PawqueueError:
        raise
    except Exception as error:
        raise _broken() from error
    if info is None and not source.is_at_end_mark():
        raise _broken()  # the library takes half a header, or one that it cannot read, for the end
    return info


def _broken() -> UploadError:
    return UploadError("The archive is cut off, or is no tar. Send the rest again; what was taken is known.")


class _Forward:
    """The unpacked bytes of a body as a file that only goes forward."""

    def __init__(self, read: Read, budget: UnpackBudget) -> None:
        self._read = read
        self._budget = budget
        self._at = 0
        self._header_bytes = 0
        self._header = b""
        first = self._pull()
        is_packed = first.startswith(_GZIP_START)
        self._unzip = zlib.decompressobj(_GZIP_WINDOW) if is_packed else None
        self._packed = first if is_packed else b""
        self._ahead = bytearray(b"" if is_packed else first)
        budget.put_out(len(self._ahead))

    def begin_header(self) -> None:
        """The next reads are those of one member's headers."""
        self._header_bytes = 0

    def tell(self) -> int:
        """Place in the unpacked bytes."""
        return self._at

    def seek(self, place: int) -> None:
        """Go forward; to the end where that comes first."""
        if place < self._at:
            raise _broken()
        while self._at < place and self.take(min(_PIECE_BYTES, place - self._at)):
            pass

    def read(self, size: int) -> bytes:
        """Bytes of headers."""
        self._header_bytes += size
        if self._header_bytes > _HEADERS_MAX_BYTES:
            raise _broken()
        self._header = self.take(size)
        return self._header

    def is_at_end_mark(self) -> bool:
        """Whether what was read last is the empty block behind the last member."""
        return len(self._header) == tarfile.BLOCKSIZE and not any(self._header)

    def take(self, size: int) -> bytes:
        """So many bytes; fewer at the end only."""
        while len(self._ahead) < size and (piece := self._unpacked()):
            self._ahead += piece
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        self._at += len(taken)
        return taken

    def _pull(self) -> bytes:
        piece = self._read(_PIECE_BYTES)
        self._budget.take_in(len(piece))
        return piece

    def _unpacked(self) -> bytes:
        piece = self._pull() if self._unzip is None else self._inflated()
        self._budget.put_out(len(piece))
        return piece

    def _inflated(self) -> bytes:
        """A bounded piece out of the compressed bytes; empty at their end."""
        assert self._unzip is not None  # noqa: S101 - only called for compressed bodies
        while not self._unzip.eof:
            packed = self._packed or self._pull()
            if not packed:
                raise _broken()
            try:
                piece = self._unzip.decompress(packed, _PIECE_BYTES)
            except zlib.error as error:
                raise _broken() from error
            self._packed = self._unzip.unconsumed_tail
            if piece:
                return piece
        return b""
