"""A zip of images: its list of members is at its end, so it goes to disk first; one image is in memory at once."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from contract.errors import NoFileError, PawqueueError, UploadError, UploadTooLargeError
from gateway.incoming import LEADS_OUT, Incoming, Read, incoming, leads_out, refused, too_large
from gateway.unpacking import UnpackBudget

#: Most members of a zip: the list of them is held in memory.
ZIP_MAX_MEMBERS = 20_000
#: Of that list as it stands in the file; each member takes 46 bytes and its name at least.
_DIRECTORY_MAX_BYTES = 4_000_000
_DIRECTORY_SIZE = 5
_PIECE_BYTES = 65_536
#: The library bounds what comes out of these at once; out of others it does not.
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_LINK, _KIND = 0xA000, 0xF000


def read_zip(read: Read, max_bytes: int, budget: UnpackBudget) -> Iterator[Incoming]:
    """Yield the members of a zip, each of at most `max_bytes`; folders are passed over.

    Raises:
        UploadError: it is cut off, is none, has no members, or unpacks to more than `budget` allows.
    """
    with TemporaryFile() as file:
        _spool(read, file, budget)
        with _opened(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if not infos:
                raise NoFileError("The archive has no images. Put files into it, and send it again.")
            for info in infos:
                budget.count_member()
                yield _member(archive, info, max_bytes, budget)


def _spool(read: Read, file: IO[bytes], budget: UnpackBudget) -> None:
    while piece := read(_PIECE_BYTES):
        budget.take_in(len(piece))
        file.write(piece)


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        _check_directory(file)
        archive = zipfile.ZipFile(file)
    except PawqueueError:
        raise
    # Its reader raises nearly anything on hostile bytes.
    except Exception as error:
        raise UploadError("The archive is cut off, or is no zip. Send it again.") from error
    with archive:
        yield archive


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a list of members that would fill the memory, before the library reads it all."""
    # The library's own search for it, so that both look at the same one; there is no public name.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end and end[_DIRECTORY_SIZE] > _DIRECTORY_MAX_BYTES:
        raise UploadTooLargeError(
            f"The zip has too long a list of members. Send at most {ZIP_MAX_MEMBERS:,} in one, or all in a tar."
        )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int, budget: UnpackBudget) -> Incoming:
    if reason := _reason_against(info):
        return refused(info.filename, reason)
    if info.file_size > max_bytes:
        return too_large(info.filename, max_bytes)
    budget.put_out(info.file_size)
    try:
        with archive.open(info) as member:
            return incoming(info.filename, member.read(max_bytes))
    except Exception:  # noqa: BLE001 - nearly anything on hostile bytes; this member is at fault, not the others
        return refused(info.filename, "This member of the archive is broken. Pack it again.")


def _reason_against(info: zipfile.ZipInfo) -> str:
    """Why a member is not looked into; empty for a good one."""
    if info.flag_bits & _ENCRYPTED:
        return "This member of the archive is encrypted. Pack it without a password."
    if info.external_attr >> 16 & _KIND == _LINK:
        return "This member of the archive is a link, not a file with an image."
    if leads_out(info.filename):
        return LEADS_OUT
    if info.compress_type not in _READABLE:
        return "This member is packed in a way that is not read. Store it, or use deflate."
    return ""
