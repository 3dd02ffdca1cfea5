"""Tar and zip archives, valid and malicious."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

#: A member of a tar: a file as bytes, or any other kind of member as a `TarInfo`.
Member = bytes | tarfile.TarInfo


def tar_of(members: Mapping[str, Member], mode: str = "w") -> bytes:
    """A tar with these members; `mode` is that of `tarfile.open`, for example `w:gz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, member in members.items():
            add(archive, name, member)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, member: Member) -> None:
    """Add a member to a tar."""
    if isinstance(member, tarfile.TarInfo):
        archive.addfile(member)
        return
    info = tarfile.TarInfo(name)
    info.size = len(member)
    archive.addfile(info, io.BytesIO(member))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is not a regular file; `kind` is a type constant of `tarfile`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_named(names: Mapping[bytes, bytes], flags: int = 0) -> bytes:
    """A zip of uncompressed files whose names may be any bytes; `flags` 0x800 declares them as UTF-8."""
    files, directory = b"", b""
    for name, data in names.items():
        checks = struct.pack("<HHIIIHH", 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<HHHH", 20, 20, flags, 0) + checks
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(files)) + name
        files += b"PK\x03\x04" + struct.pack("<HHH", 20, flags, 0) + checks + name + data
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(directory), len(files), 0)
    return files + directory + b"PK\x05\x06" + end


def encrypted(archive: bytes) -> bytes:
    """The zip with all members marked as encrypted."""
    data = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    return bytes(data)
