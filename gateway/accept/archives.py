"""Reads the images of a tar or zip one at a time, and limits how far an archive may expand.

A tar is read as it arrives. A zip has its directory at the end, so it is written to a temporary file first.
"""

import errno
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from contract.errors import NoFileError, PawqueueError, UnavailableError, UploadError, UploadTooLargeError
from gateway.accept.received import Read, ReceivedImage, received, rejected, too_large

TAR_MAX_MEMBERS = 100_000
#: Lower than for a tar, because the directory of a zip is held in memory.
ZIP_MAX_MEMBERS = 20_000

#: Images are already compressed: an archive that expands further than this does not contain images.
_RATIO_MAX = 100
#: An archive may expand to this many bytes regardless of its ratio: single-color images compress very well.
_FREE_BYTES = 100_000_000
_PIECE_BYTES = 65_536
_EMPTY = "The archive contains no images. Add files to it and resend it."
_OUTSIDE = "The name of this member points outside the archive. Use a relative name."


class UnpackBudget:
    """Limits how many members and bytes are unpacked from an archive.

    Args:
        max_bytes: Maximum number of unpacked bytes.
        max_members: Maximum number of members.
        free_bytes: Unpacked bytes that are allowed regardless of the compression ratio.
    """

    def __init__(self, max_bytes: int, max_members: int, free_bytes: int = _FREE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._free_bytes = free_bytes
        self._members = 0
        self._packed_bytes = 0
        self._unpacked_bytes = 0

    def count_packed(self, size: int) -> None:
        """Count bytes that were read from the archive."""
        self._packed_bytes += size

    def count_unpacked(self, size: int) -> None:
        """Count bytes that were unpacked.

        Raises:
            UploadTooLargeError: the archive is over the limits.
        """
        self._unpacked_bytes += size
        if self._unpacked_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"The archive unpacks to more than {self._max_bytes:,} bytes. Send the rest in another archive."
            )
        if self._unpacked_bytes > self._free_bytes + _RATIO_MAX * self._packed_bytes:
            raise UploadTooLargeError("The archive unpacks to far more than images would. Send it uncompressed.")

    def count_member(self) -> None:
        """Count a member.

        Raises:
            UploadTooLargeError: the archive is over the limit.
        """
        self._members += 1
        if self._members > self._max_members:
            raise UploadTooLargeError(
                f"The archive has more than {self._max_members:,} members. Send the rest in another archive."
            )


def points_outside(name: str) -> bool:
    """Whether the name of a member is absolute or contains `..`."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":")


# Tar

_GZIP_START = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
#: Limit on the headers of one member; extended headers may declare any length.
_HEADERS_MAX_BYTES = 1_000_000


def read_tar(read: Read, max_bytes: int, budget: UnpackBudget) -> Iterator[ReceivedImage]:
    """Yield the files of a tar, plain or gzipped; files larger than `max_bytes` are rejected.

    Raises:
        UploadError: it is truncated, not a tar, empty, or over `budget`.
    """
    source = _TarStream(read, budget)
    tar = _open_tar(source)
    count = 0
    while (info := _next_member(tar, source)) is not None:
        budget.count_member()
        if not info.isdir():
            count += 1
            yield _tar_image(info, source, max_bytes)
    if count == 0:
        raise NoFileError(_EMPTY)


def _tar_image(info: tarfile.TarInfo, source: "_TarStream", max_bytes: int) -> ReceivedImage:
    if not info.isreg() or info.issparse():
        return rejected(info.name, "This member of the archive is a link or a device. Add a regular file instead.")
    if points_outside(info.name):
        return rejected(info.name, _OUTSIDE)
    if info.size > max_bytes:
        return too_large(info.name, max_bytes)
    source.seek(info.offset_data)
    data = source.take(info.size)
    if len(data) < info.size:
        raise _broken_tar()
    return received(info.name, data)


def _open_tar(source: "_TarStream") -> tarfile.TarFile:
    try:
        # tarfile's own streaming mode reads headers of any length; `_TarStream` limits them.
        return tarfile.TarFile(fileobj=source)  # type: ignore[arg-type]  # it uses only read, seek and tell
    except PawqueueError:
        raise
    # tarfile raises nearly any exception on hostile input.
    except Exception as error:
        raise _broken_tar() from error


def _next_member(tar: tarfile.TarFile, source: "_TarStream") -> tarfile.TarInfo | None:
    # tarfile keeps every member, so memory would grow with the archive.
    tar.members.clear()  # type: ignore[attr-defined]  # missing from the library's stubs
    tar.pax_headers.clear()  # type: ignore[attr-defined]
    source.begin_header()
    try:
        info = tar.next()
    except PawqueueError:
        raise
    except Exception as error:
        raise _broken_tar() from error
    if info is None and not source.is_at_end_mark():
        raise _broken_tar()  # tarfile treats a truncated or unreadable header as the end
    return info


def _broken_tar() -> UploadError:
    return UploadError(
        "The archive is truncated or not a tar. Resend it; images that were already accepted are not duplicated."
    )


class _TarStream:
    """The uncompressed bytes of a request body, as a file that can be read only forward."""

    def __init__(self, read: Read, budget: UnpackBudget) -> None:
        self._read = read
        self._budget = budget
        self._position = 0
        self._header_bytes = 0
        self._header = b""
        first = self._pull()
        is_gzipped = first.startswith(_GZIP_START)
        self._unzip = zlib.decompressobj(_GZIP_WINDOW) if is_gzipped else None
        self._packed = first if is_gzipped else b""
        self._ahead = bytearray(b"" if is_gzipped else first)
        budget.count_unpacked(len(self._ahead))

    def begin_header(self) -> None:
        """Start counting the header bytes of the next member."""
        self._header_bytes = 0

    def tell(self) -> int:
        """Position in the uncompressed bytes."""
        return self._position

    def seek(self, position: int) -> None:
        """Move forward to `position`, or to the end if that comes first."""
        if position < self._position:
            raise _broken_tar()
        while self._position < position and self.take(min(_PIECE_BYTES, position - self._position)):
            pass

    def read(self, size: int) -> bytes:
        """Read header bytes, up to the limit."""
        self._header_bytes += size
        if self._header_bytes > _HEADERS_MAX_BYTES:
            raise _broken_tar()
        self._header = self.take(size)
        return self._header

    def is_at_end_mark(self) -> bool:
        """Whether the last header that was read is the empty block after the last member."""
        return len(self._header) == tarfile.BLOCKSIZE and not any(self._header)

    def take(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end."""
        while len(self._ahead) < size and (piece := self._unpacked()):
            self._ahead += piece
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        self._position += len(taken)
        return taken

    def _pull(self) -> bytes:
        piece = self._read(_PIECE_BYTES)
        self._budget.count_packed(len(piece))
        return piece

    def _unpacked(self) -> bytes:
        piece = self._pull() if self._unzip is None else self._inflated(self._unzip)
        self._budget.count_unpacked(len(piece))
        return piece

    def _inflated(self, unzip: "zlib._Decompress") -> bytes:
        """The next piece, of bounded size, of the decompressed bytes; empty at the end."""
        while not unzip.eof:
            packed = self._packed or self._pull()
            if not packed:
                raise _broken_tar()
            try:
                piece = unzip.decompress(packed, _PIECE_BYTES)
            except zlib.error as error:
                raise _broken_tar() from error
            self._packed = unzip.unconsumed_tail
            if piece:
                return piece
        return b""


# Zip

#: Limit on the directory of a zip; each member takes at least 46 bytes plus its name.
_DIRECTORY_MAX_BYTES = 4_000_000
_DIRECTORY_SIZE = 5
#: Compression methods. zipfile limits the size of the output for these, but not for others.
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def read_zip(read: Read, max_bytes: int, budget: UnpackBudget) -> Iterator[ReceivedImage]:
    """Yield the files of a zip; files larger than `max_bytes` are rejected.

    Raises:
        UploadError: it is truncated, not a zip, empty, or over `budget`.
        UnavailableError: the disk of the temporary folder is full.
    """
    with _temporary_file() as file:
        while piece := read(_PIECE_BYTES):
            budget.count_packed(len(piece))
            file.write(piece)
        with _opened_zip(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if not infos:
                raise NoFileError(_EMPTY)
            for info in infos:
                budget.count_member()
                yield _zip_image(archive, info, max_bytes, budget)


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    try:
        with TemporaryFile() as file:
            yield file
    except OSError as error:
        # ENOENT: TemporaryFile found no folder in which it could write.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
            raise
        raise UnavailableError(
            "The disk of the gateway's temporary folder is full. Send a tar, which needs no temporary file, "
            "or try again later."
        ) from error


@contextmanager
def _opened_zip(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        _check_directory(file)
        archive = zipfile.ZipFile(file)
    except PawqueueError:
        raise
    # zipfile raises nearly any exception on hostile input.
    except Exception as error:
        raise UploadError("The archive is truncated or not a zip. Resend it.") from error
    with archive:
        yield archive


def _check_directory(file: IO[bytes]) -> None:
    """Reject a directory that is too large for memory, before zipfile reads it."""
    # Use zipfile's own search, although it is private: both must find the same directory.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end and end[_DIRECTORY_SIZE] > _DIRECTORY_MAX_BYTES:
        raise UploadTooLargeError(
            f"The zip has too many members. Send at most {ZIP_MAX_MEMBERS:,} per zip, or all in a tar."
        )


def _zip_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int, budget: UnpackBudget) -> ReceivedImage:
    if reason := _rejection_reason(info):
        return rejected(info.filename, reason)
    if info.file_size > max_bytes:
        return too_large(info.filename, max_bytes)
    budget.count_unpacked(info.file_size)
    try:
        with archive.open(info) as member:
            return received(info.filename, member.read(max_bytes))
    except Exception:  # noqa: BLE001 - nearly any exception on hostile input, and other members may be fine
        return rejected(info.filename, "This member of the archive is corrupt. Pack it again.")


def _rejection_reason(info: zipfile.ZipInfo) -> str:
    """Why a member is rejected without reading it; empty if it is acceptable."""
    if info.flag_bits & _ENCRYPTED:
        return "This member of the archive is encrypted. Pack it without a password."
    if stat.S_ISLNK(info.external_attr >> 16):
        return "This member of the archive is a link. Add a regular file instead."
    if points_outside(info.filename):
        return _OUTSIDE
    if info.compress_type not in _READABLE:
        return "The compression method of this member is not supported. Use store or deflate."
    return ""
