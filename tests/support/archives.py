"""Archives made by code, good and hostile."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

#: Members of a tar: bytes, or what is not a file.
Member = bytes | tarfile.TarInfo


def tar_of(members: Mapping[str, Member], mode: str = "w") -> bytes:
    """A tar; `mode` is that of `tarfile`, as `w:gz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, member in members.items():
            add(archive, name, member)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, member: Member) -> None:
    """One more member."""
    if isinstance(member, tarfile.TarInfo):
        archive.addfile(member)
        return
    info = tarfile.TarInfo(name)
    info.size = len(member)
    archive.addfile(info, io.BytesIO(member))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no file; `kind` is one of `tarfile`'s types."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def encrypted(archive: bytes) -> bytes:
    """A zip whose members say that they are encrypted."""
    data = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    return bytes(data)
