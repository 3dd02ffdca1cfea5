"""Finds out what a user wants to import: a file of Keras, a SavedModel, a Teachable Machine export, or a repository."""

import hashlib
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle.manifest import sha256_of
from importer.keras_file import KerasFile, check_names, extract, open_keras_file
from importer.labels import read_label_file, read_labels
from importer.request import ImportFailedError, Request
from importer.scale import SCALES, Scale, parse_scale

HUB = "hf://"
_MACHINE_MODEL, _MACHINE_LABELS, _MACHINE_GRAPH = "keras_model.h5", "labels.txt", "model.savedmodel"
_GRAPH = "saved_model.pb"
_UNZIPPED = ("config.json", "model.weights.h5")
_KERAS = (".keras", ".h5", ".hdf5")
_HUB_FILES = ["*.keras", "*.h5", "*.pb", "variables/*", "labels.txt", "class_indices.json", *_UNZIPPED, "metadata.json"]


@dataclass(frozen=True)
class Source:
    """What is imported."""

    kind: Literal["keras", "saved model"]
    path: Path
    #: As the user knows it.
    shown: str
    labels: list[str] | None = None
    #: Whether Teachable Machine made it.
    is_teachable_machine: bool = False

    def sha256(self) -> str:
        """SHA-256 (hex) of the file, or of all files of the folder with their names."""
        if self.path.is_file():
            return sha256_of(self.path)
        digest = hashlib.sha256()
        for path in sorted(self.path.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.path)}\n{sha256_of(path)}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Found:
    """What is known about a network before TensorFlow is loaded."""

    source: Source
    #: None for a SavedModel.
    file: KerasFile | None
    #: None if they are missing.
    labels: list[str] | None
    #: None if neither the user nor the source names one.
    scale: Scale | None
    #: For temporary files.
    folder: Path

    @property
    def kind(self) -> str:
        """What it is, for users."""
        if self.file is None:
            return "saved model"
        machine = " (Teachable Machine)" if self.source.is_teachable_machine else ""
        return f"keras {self.file.keras_version}{machine}"


def find(request: Request, folder: Path) -> Found:
    """Find the network, its labels and its scale; `folder` is for temporary files.

    Raises:
        ImportFailedError: it does not exist, is of a kind that cannot be imported, or an option is wrong.
    """
    source = _find_source(request.source, folder)
    labels = read_labels(request.labels, request.labels_from) or source.labels
    scale = SCALES["-1..1"] if source.is_teachable_machine else None
    if request.scale is not None:
        scale = parse_scale(request.scale)
    if request.check and not Path(request.check).is_dir():
        raise ImportFailedError(f"--check: {request.check} is not a folder.")
    file = open_keras_file(source.path, source.shown, folder) if source.kind == "keras" else None
    return Found(source, file, labels, scale, folder)


def _find_source(given: str, folder: Path) -> Source:
    if given.startswith(HUB):
        return _in_folder(_download(given), given, folder)
    path = Path(given)
    if path.is_dir():
        return _in_folder(path, given, folder)
    if path.is_file() and zipfile.is_zipfile(path) and path.suffix != ".keras":
        return _in_zip(path, given, folder)
    if not path.exists():
        raise ImportFailedError(f"{given} does not exist.")
    return Source("keras", path, given)


def _in_folder(path: Path, shown: str, folder: Path) -> Source:
    if (path / _GRAPH).is_file():
        return Source("saved model", path, shown, _labels_in(path))
    if (path / _MACHINE_MODEL).is_file() or (path / _MACHINE_GRAPH / _GRAPH).is_file():
        labels = path / _MACHINE_LABELS
        found = read_label_file(labels) if labels.is_file() else None
        if (path / _MACHINE_MODEL).is_file():
            return Source("keras", path / _MACHINE_MODEL, shown, found, is_teachable_machine=True)
        return Source("saved model", path / _MACHINE_GRAPH, shown, found, is_teachable_machine=True)
    if all((path / name).is_file() for name in _UNZIPPED):
        return Source("keras", _zipped(path, folder), shown, _labels_in(path))
    files = sorted(file for file in path.iterdir() if file.suffix in _KERAS)
    if len(files) == 1:
        return Source("keras", files[0], shown, _labels_in(path))
    found_text = (
        f"there are {', '.join(file.name for file in files[:5])}: name one of them" if files else "there is none"
    )
    raise ImportFailedError(
        f"{shown} holds no single network: expected a SavedModel, a Teachable Machine export or one Keras file, but "
        f"{found_text}."
    )


def _in_zip(path: Path, shown: str, folder: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = check_names(archive, shown)
            by_name = {name.rpartition("/")[2]: name for name in names}
            if "config.json" in names:
                return Source("keras", path, shown)
            if _MACHINE_MODEL not in by_name:
                raise ImportFailedError(
                    f"{shown} is a zip without {_MACHINE_MODEL}: expected a Teachable Machine export, or a .keras file."
                )
            model, labels = folder / _MACHINE_MODEL, folder / _MACHINE_LABELS
            extract(archive, by_name[_MACHINE_MODEL], model)
            if _MACHINE_LABELS in by_name:
                extract(archive, by_name[_MACHINE_LABELS], labels, 1_000_000)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ImportFailedError(f"{shown} is damaged or incomplete ({error}).") from error
    found = read_label_file(labels) if labels.is_file() else None
    return Source("keras", model, shown, found, is_teachable_machine=True)


def _labels_in(path: Path) -> list[str] | None:
    for name in (_MACHINE_LABELS, "class_indices.json"):
        if (path / name).is_file():
            return read_label_file(path / name)
    return None


def _zipped(path: Path, folder: Path) -> Path:
    """The Keras file of a folder that holds its parts, as in repositories of the Hugging Face Hub."""
    target = folder / "unzipped.keras"
    with zipfile.ZipFile(target, "w") as archive:
        for name in (*_UNZIPPED, "metadata.json"):
            if (path / name).is_file():
                # Without the date of the file, so that the same parts have the same checksum.
                with (path / name).open("rb") as part, archive.open(name, "w", force_zip64=True) as member:
                    shutil.copyfileobj(part, member)
    return target


def _download(given: str) -> Path:
    name = given.removeprefix(HUB).strip("/")
    if name.count("/") != 1:
        raise ImportFailedError(f"{given}: expected hf://OWNER/NAME.")
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportFailedError(
            f"{given} needs the package huggingface-hub: run `sh deploy/local/setup.sh uv pip install --python "
            ".venv/bin/python huggingface-hub`, or download the file and import it."
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    # It raises errors of many types, also those of its HTTP library.
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ImportFailedError(
            f"{given} cannot be downloaded ({reason}): check the name and the network, or download the file elsewhere "
            "and import it."
        ) from error
