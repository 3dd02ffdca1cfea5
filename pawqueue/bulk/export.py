"""A folder of labeled images, one folder for each label."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from contract.images.formats import extension_of
from pawqueue.client.errors import RefusedError

#: Characters of a label that the name of a folder cannot have on some system, and `%`, which marks replaced ones.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*%]|^\.|[. ]$')
_UNFINISHED = ".part"
#: File systems allow names of at most 255 bytes.
_NAME_MAX = 200
_GONE = 404


class Exported(StrEnum):
    """What happened to an image."""

    WRITTEN = "written"
    #: It was there already.
    PRESENT = "present"
    #: It was there with another label.
    MOVED = "moved"
    #: Its label was taken back.
    REMOVED = "removed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to an image, and why it is not in the folder."""

    what: Exported
    problem: str = ""


class LabeledImage(Protocol):
    """An image to export."""

    @property
    def job_id(self) -> str:
        """Its name without extension."""

    @property
    def label(self) -> str:
        """What it shows; empty if its label was taken back."""

    @property
    def size_bytes(self) -> int:
        """Its size, by which a different file is noticed."""


@dataclass
class ExportFolder:
    """Adds different images to a folder, in several threads. A file is complete or absent, and is never overwritten."""

    folder: Path
    #: The files that are there, by their name without extension.
    _files: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        self._files = {path.stem: path for path in self._find()}

    def add(self, image: LabeledImage, fetch: Callable[[str], bytes]) -> Result:
        """Write an image, which `fetch` reads, unless it is there."""
        target = self.folder / folder_of(image.label)
        found = self._files.get(image.job_id)
        if found is None:
            return self._write(image, target, fetch)
        if found.stat().st_size != image.size_bytes:
            return Result(Exported.FAILED, f"{found}: another image has this name. Export into another folder.")
        if found.parent == target:
            return Result(Exported.PRESENT)
        target.mkdir(exist_ok=True)
        found.rename(target / found.name)
        return Result(Exported.MOVED)

    def remove(self, image: LabeledImage) -> Result | None:
        """Delete an image without a label that an earlier export wrote; None if it is not there."""
        found = self._files.get(image.job_id)
        if found is None or found.stat().st_size != image.size_bytes:
            return None
        found.unlink()
        return Result(Exported.REMOVED)

    def _write(self, image: LabeledImage, target: Path, fetch: Callable[[str], bytes]) -> Result:
        try:
            data = fetch(image.job_id)
        except RefusedError as error:
            if error.status != _GONE:
                raise
            return Result(Exported.FAILED, f"{image.job_id}: the image has expired or was purged meanwhile.")
        target.mkdir(parents=True, exist_ok=True)
        name = f"{image.job_id}.{extension_of(data)}"
        part = self.folder / f".{name}{_UNFINISHED}"
        part.write_bytes(data)
        part.replace(target / name)
        return Result(Exported.WRITTEN)

    def _find(self) -> Iterator[Path]:
        """The images that are there; unfinished ones of an interrupted export are deleted."""
        for entry in os.scandir(self.folder) if self.folder.is_dir() else ():
            if entry.is_dir():
                yield from (path for path in Path(entry.path).iterdir() if path.is_file())
            elif re.fullmatch(r"\.[0-9a-f-]{36}\.\w+" + re.escape(_UNFINISHED), entry.name):
                Path(entry.path).unlink()


def folder_of(label: str) -> str:
    """The name of the folder of a label: other labels have other names, and none leads out of its parent folder."""
    name = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", label)
    if len(name.encode()) <= _NAME_MAX:
        return name
    return f"{name.encode()[:_NAME_MAX].decode(errors='ignore')}%{hashlib.sha256(label.encode()).hexdigest()[:16]}"
