"""Reads the images of a tar or zip one at a time, and limits how far an archive may expand.

A tar is read as it arrives. A zip has its directory at the end, so it is written to the spool first.
"""

import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, Any

from contract.errors import NoFileError, PawqueueError, UploadError, UploadTooLargeError
from contract.junk import is_junk
from contract.web.turns import yield_turn
from gateway.accept.inflate import FREE_BYTES, Expansion, Inflater
from gateway.accept.received import NAME_KEPT, Read, ReceivedImage, received, rejected, skipped, too_large
from gateway.accept.spool import SpoolFile

TAR_MAX_MEMBERS = 100_000
#: Lower than for a tar, because the directory of a zip is held in memory.
ZIP_MAX_MEMBERS = 20_000

_PIECE_BYTES = 65_536
_NAMES_MAX_BYTES = 10_000_000
_EMPTY = "The archive contains no images. Add files to it and resend it."
_RESEND = "Resend it; images that were already accepted are not duplicated."
_OUTSIDE = "The name of this member points outside the archive. Use a relative name."


class UnpackBudget(Expansion):
    """Limits how many members and bytes are unpacked from an archive.

    Args:
        max_bytes: Maximum number of unpacked bytes.
        max_members: Maximum number of members.
        free_bytes: Unpacked bytes that are allowed regardless of the compression ratio.
        max_name_bytes: Maximum size of all names together, in UTF-8; the response contains those of accepted images.
        keep: Called with the number of bytes that were unpacked and are now in memory.
    """

    def __init__(
        self,
        max_bytes: int,
        max_members: int,
        free_bytes: int = FREE_BYTES,
        max_name_bytes: int = _NAMES_MAX_BYTES,
        keep: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(free_bytes, keep)
        self._max_name_bytes = max_name_bytes
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._members = self._name_bytes = 0

    def count_unpacked(self, size: int) -> None:
        """Count bytes that were unpacked.

        Raises:
            UploadTooLargeError: the archive is over the limits.
        """
        super().count_unpacked(size)
        if self.unpacked_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"The archive unpacks to more than {self._max_bytes:,} bytes. Send the rest in another archive."
            )

    def count_member(self, name: str) -> None:
        """Count a member and the size of its name.

        Raises:
            UploadTooLargeError: the archive is over a limit.
        """
        yield_turn()
        self._members += 1
        if self._members > self._max_members:
            raise UploadTooLargeError(
                f"The archive has more than {self._max_members:,} members. Send the rest in another archive."
            )
        self._name_bytes += len(name.encode("utf-8", "surrogatepass"))
        if self._name_bytes > self._max_name_bytes:
            raise UploadTooLargeError(
                f"The names in the archive take more than {self._max_name_bytes:,} bytes. Send the rest in another one."
            )


#: Archives: the reader for them, position and bytes of their signature, and what the archive is and how to send it.
_KINDS = (
    ("zip", 0, b"PK\x03\x04", "a zip. Send it with `Content-Type: application/zip`."),
    ("tar", 0, b"\x1f\x8b", "compressed with gzip. Send a tar in gzip with `Content-Type: application/x-tar`."),
    ("tar", 257, b"ustar", "a tar. Send it with `Content-Type: application/x-tar`."),
    ("", 0, b"BZh", "compressed with bzip2. Send a plain tar, or one in gzip."),
    ("", 0, b"\xfd7zXZ\0", "compressed with xz. Send a plain tar, or one in gzip."),
    ("", 0, b"\x28\xb5\x2f\xfd", "compressed with zstd. Send a plain tar, or one in gzip."),
    ("", 0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive. Send a tar or a zip."),
    ("", 0, b"Rar!\x1a\x07", "a RAR archive. Send a tar or a zip."),
)


def _another_kind(start: bytes, expected: str) -> UploadError | None:
    """The error for an archive that the reader for `expected` cannot read, because it is of another kind."""
    for reader, at, mark, description in _KINDS:
        if reader != expected and start.startswith(mark, at):
            return UploadError(f"The archive is {description}")
    return None


def points_outside(name: str) -> bool:
    """Whether the name of a member is absolute or contains `..`."""
    path = name.replace("\\", "/")
    parts = path.split("/")
    return path.startswith("/") or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":")


# Tar

_GZIP_START = b"\x1f\x8b"
#: Limit on the headers of one member; extended headers may declare any length.
_HEADERS_MAX_BYTES = 131_072
#: In an extended header, a record starts with its length. Python 3.11 searches a header for records with regular
#: expressions, which take time that is quadratic in the digits, and memory that is quadratic in records without `=`.
_RECORD = re.compile(rb"(\d{1,6}) [^=\n]{1,255}=")
_DIGITS = re.compile(rb"\d{10,}")
_DIGITS_MAX_STEPS = 1_000_000
_RECORDS_MAX = 1_000


def read_tar(read: Read, max_bytes: int, budget: UnpackBudget, *, keep_junk: bool = False) -> Iterator[ReceivedImage]:
    """Yield the files of a tar, plain or gzipped; files larger than `max_bytes` are rejected.

    System files are marked as junk, unless `keep_junk`.

    Raises:
        UploadError: it is truncated, not a tar, empty, or over `budget`.
    """
    source = _TarStream(read, budget)
    tar = _open_tar(source)
    count = 0
    while (info := _next_member(tar, source)) is not None:
        info.name = info.name[:NAME_KEPT]
        budget.count_member(info.name)
        if info.isdir():
            continue
        if is_junk(info.name) and not keep_junk:
            yield skipped(info.name)
            continue
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
        return tarfile.TarFile(fileobj=source, tarinfo=_Member, encoding="utf-8")  # type: ignore[arg-type]  # uses only read, seek, tell
    except PawqueueError:
        raise
    # tarfile raises nearly any exception on hostile input.
    except Exception as error:
        raise _another_kind(source.start, "tar") or _broken_tar() from error


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
    return UploadError(f"The archive is truncated or not a tar. {_RESEND}")


class _Member(tarfile.TarInfo):
    """A member whose extended header is checked before tarfile parses it."""

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        source: _TarStream = tar.fileobj  # type: ignore[assignment]
        source.is_at_extended = True
        return super()._proc_pax(tar)  # type: ignore[misc,no-any-return]  # missing from the library's stubs


class _TarStream:
    """The uncompressed bytes of a request body, as a file that can be read only forward."""

    def __init__(self, read: Read, budget: UnpackBudget) -> None:
        self._budget = budget
        self._position = 0
        self._header_bytes = 0
        self._header = b""
        #: Whether an extended header is read next.
        self.is_at_extended = False
        #: The first bytes of the body.
        self.start = read(_PIECE_BYTES)
        self._is_gzipped = self.start.startswith(_GZIP_START)
        whole = _beginning_with(self.start, read)
        self._read = Inflater(whole, "gzip", budget, _RESEND).read if self._is_gzipped else whole
        self._ahead = bytearray()

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
        if self.is_at_extended and not _is_plain(self._header):
            raise _broken_tar()
        self.is_at_extended = False
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

    def _unpacked(self) -> bytes:
        piece = self._read(_PIECE_BYTES)
        if not self._is_gzipped:
            self._budget.count_packed(len(piece))
            self._budget.count_unpacked(len(piece))
        return piece


def _is_plain(extended: bytes) -> bool:
    """Whether tarfile reads an extended header in a time that is linear in its length."""
    position, records, end = 0, 0, len(extended.rstrip(b"\0"))
    while position < end:
        record = _RECORD.match(extended, position)
        records += 1
        if record is None or records > _RECORDS_MAX or position + int(record[1]) < record.end():
            return False
        position += int(record[1])
    return sum(len(digits) ** 2 for digits in _DIGITS.findall(extended)) <= _DIGITS_MAX_STEPS


def _beginning_with(start: bytes, read: Read) -> Read:
    """A function that returns `start` first, and then what `read` returns."""
    pieces = [start]
    return lambda size: pieces.pop() if pieces else read(size)


# Zip

#: Limit on the directory of a zip; each member takes at least 46 bytes plus its name.
_DIRECTORY_MAX_BYTES = 4_000_000
#: Indices into the list that zipfile's `_EndRecData` returns: the directory's size (its start is next), and its end.
_DIRECTORY_SIZE, _DIRECTORY_END = 5, 9
#: Flags, length of name, extra data and comment, and position of the header of a directory entry.
_ENTRY = struct.Struct("<8xH18xHHH8xI")
#: Programs write a hundred bytes. zipfile takes a time that is quadratic in the length.
_EXTRA_MAX_BYTES = 4_096
_FLAGS_IN_ENTRY, _FLAGS_IN_HEADER = 8, 6
_IS_UTF_8 = 0x800
#: zipfile limits the output of these methods, but not of others.
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def read_zip(
    read: Read,
    max_bytes: int,
    budget: UnpackBudget,
    spool: AbstractContextManager[SpoolFile],
    *,
    keep_junk: bool = False,
) -> Iterator[ReceivedImage]:
    """Yield the files of a zip, which is written to `spool` first; files larger than `max_bytes` are rejected.

    System files are marked as junk, unless `keep_junk`.

    Raises:
        UploadError: it is truncated, not a zip, empty, or over `budget`.
        UnavailableError: the disk or the spool is full.
    """
    with spool as spooled:
        while piece := read(_PIECE_BYTES):
            budget.count_packed(len(piece))
            spooled.append(piece)
        with _opened_zip(spooled.file) as archive:
            count = 0
            for info in archive.infolist():
                name = _zip_name(info)[:NAME_KEPT]
                if name.endswith("/"):
                    continue
                budget.count_member(name)
                if is_junk(name) and not keep_junk:
                    yield skipped(name)
                    continue
                count += 1
                yield _zip_image(archive, info, name, max_bytes, budget)
            if count == 0:
                raise NoFileError(_EMPTY)


@contextmanager
def _opened_zip(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        _check_directory(file)
        archive = _zip_with_any_names(file)
    except PawqueueError:
        raise
    # zipfile raises nearly any exception on hostile input.
    except Exception as error:
        file.seek(0)
        raise _another_kind(file.read(tarfile.BLOCKSIZE), "zip") or UploadError(
            "The archive is truncated or not a zip. Resend it."
        ) from error
    with archive:
        yield archive


def _check_directory(file: IO[bytes]) -> None:
    """Reject a directory that takes too much memory or time, before zipfile reads it."""
    # Use zipfile's own search, although it is private: both must find the same directory.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:
        return
    if end[_DIRECTORY_SIZE] > _DIRECTORY_MAX_BYTES:
        raise _too_many_members()
    for count, (*_, extra_length) in enumerate(_entries(file, end), start=1):
        if count > ZIP_MAX_MEMBERS:
            raise _too_many_members()
        if extra_length > _EXTRA_MAX_BYTES:
            raise UploadError(
                f"A member of the zip has more than {_EXTRA_MAX_BYTES:,} bytes of extra data. Pack it again."
            )


def _too_many_members() -> UploadTooLargeError:
    return UploadTooLargeError(
        f"The zip has too many members. Send at most {ZIP_MAX_MEMBERS:,} per zip, or all in a tar."
    )


def _zip_with_any_names(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return _Archive(file)
    except UnicodeDecodeError:
        # zipfile would reject the whole archive for one name that is not UTF-8 although its flag is set.
        _clear_name_flags(file)
        return _Archive(file)


class _Archive(zipfile.ZipFile):
    """A zip whose directory is read in turns: zipfile reads it in one loop, which appends each member to this list."""

    class _Members(list[zipfile.ZipInfo]):
        def append(self, info: zipfile.ZipInfo) -> None:
            yield_turn()
            super().append(info)

    @property
    def filelist(self) -> list[zipfile.ZipInfo]:
        return self._members

    @filelist.setter
    def filelist(self, members: list[zipfile.ZipInfo]) -> None:
        self._members = self._Members(members)


def _clear_name_flags(file: IO[bytes]) -> None:
    """Make zipfile read every name as CP437, in which any bytes are valid; `_zip_name` restores those in UTF-8."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    for flags, flags_at, flags_in_header_at, _ in list(_entries(file, end)):
        for position in (flags_at, flags_in_header_at):
            if position < end[_DIRECTORY_END]:
                file.seek(position)
                file.write((flags & ~_IS_UTF_8).to_bytes(2, "little"))
        yield_turn()


def _entries(file: IO[bytes], end: Any) -> Iterator[tuple[int, int, int, int]]:
    """Flags, their positions in the entry and in the header of the member, and length of the extra data."""
    size, start = end[_DIRECTORY_SIZE], end[_DIRECTORY_SIZE + 1]
    shift = end[_DIRECTORY_END] - size - start  # data before the zip
    file.seek(max(0, start + shift))
    directory = file.read(size)
    at = 0
    while at + _ENTRY.size <= len(directory):
        flags, name_length, extra_length, comment_length, header_at = _ENTRY.unpack_from(directory, at)
        yield flags, start + shift + at + _FLAGS_IN_ENTRY, header_at + shift + _FLAGS_IN_HEADER, extra_length
        at += _ENTRY.size + name_length + extra_length + comment_length
        yield_turn()


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member. macOS and others write UTF-8 without the flag for it, which zipfile reads as CP437."""
    if not info.flag_bits & _IS_UTF_8 and not info.filename.isascii():
        with suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename


def _zip_image(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, max_bytes: int, budget: UnpackBudget
) -> ReceivedImage:
    if reason := _rejection_reason(info):
        return rejected(name, reason)
    if info.file_size > max_bytes:
        return too_large(name, max_bytes)
    budget.count_unpacked(info.file_size)
    try:
        with archive.open(info) as member:
            return received(name, b"".join(_pieces(member)))
    except Exception:  # noqa: BLE001 - nearly any exception on hostile input, and other members may be fine
        return rejected(name, "This member of the archive is corrupt. Pack it again.")


def _pieces(member: IO[bytes]) -> Iterator[bytes]:
    while piece := member.read(_PIECE_BYTES):
        yield piece
        yield_turn()


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
