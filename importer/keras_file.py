"""Opens Keras files without trusting them.

Only the parts that are needed are copied: the configuration as checked by `keras_config.py`, and arrays of numbers.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from importer.request import ImportFailedError

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_CONFIG_MAX_BYTES = 100_000_000
_WEIGHTS_MAX_BYTES = 8_000_000_000
#: Types of arrays: booleans, integers, floats, and bytes in which Keras stores bfloat16.
_NUMBERS = frozenset("biufV")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class KerasFile:
    """A Keras file: its configuration, still unchecked, and where its weights are."""

    #: As users know it.
    shown: str
    #: The original file, or for `.keras` its extracted weights.
    weights: Path
    config: dict[str, Any]
    keras_version: str
    #: The loss with which it was trained, as in its configuration; None if unknown.
    loss: Any
    is_zip: bool

    @property
    def is_keras2(self) -> bool:
        """Whether Keras 2 wrote it."""
        return self.keras_version.split(".")[0] in {"1", "2"}

    def copy_with(self, config: dict[str, Any], folder: Path) -> Path:
        """Write a Keras file with this configuration and the weights, and nothing else of the original."""
        if self.is_zip:
            copy = folder / "model.keras"
            with zipfile.ZipFile(copy, "w") as archive:
                archive.writestr(_CONFIG, json.dumps(config))
                archive.writestr(_METADATA, json.dumps({"keras_version": self.keras_version, "date_saved": ""}))
                archive.write(self.weights, _WEIGHTS)
            return copy
        copy = folder / "model.h5"
        with h5py.File(self.weights) as source, h5py.File(copy, "w") as target:
            for name in ("keras_version", "backend"):
                if name in source.attrs:
                    target.attrs[name] = source.attrs[name]
            target.attrs["model_config"] = json.dumps(config).encode()
            source.copy(_weights_group(source, self.shown), target, "model_weights")
        return copy


def open_keras_file(path: Path, shown: str, folder: Path) -> KerasFile:
    """Open a `.keras` or `.h5` file; `folder` is for temporary files.

    Raises:
        ImportFailedError: it is something else, is damaged, or holds more than configuration and numbers.
    """
    if not path.is_file():
        raise ImportFailedError(f"{shown} does not exist, or is not a file.")
    if zipfile.is_zipfile(path):
        return _open_zip(path, shown, folder)
    if not h5py.is_hdf5(path):
        raise ImportFailedError(f"{shown} is neither a .keras file nor an HDF5 file; it may be damaged or incomplete.")
    return _open_hdf5(path, shown)


def extract(archive: zipfile.ZipFile, name: str, target: Path, max_bytes: int = _WEIGHTS_MAX_BYTES) -> None:
    """Copy a member of an archive to the file `target`, at most `max_bytes`."""
    left = max_bytes
    with archive.open(name) as source, target.open("wb") as copy:
        while chunk := source.read(_COPY_BYTES):
            left -= len(chunk)
            if left < 0:
                raise ImportFailedError(f"{archive.filename}: {name} is too large.")
            copy.write(chunk)


def check_names(archive: zipfile.ZipFile, shown: str) -> list[str]:
    """The names in an archive.

    Raises:
        ImportFailedError: one of them points outside of it.
    """
    names = archive.namelist()
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise ImportFailedError(f"{shown} contains {name!r}, which points outside of it: do not use this file.")
    return names


def _open_zip(path: Path, shown: str, folder: Path) -> KerasFile:
    weights = folder / "weights.h5"
    try:
        with zipfile.ZipFile(path) as archive:
            names = check_names(archive, shown)
            if _CONFIG not in names:
                raise ImportFailedError(f"{shown} is a zip without {_CONFIG}, so it is not a .keras file.")
            if _WEIGHTS not in names:
                raise ImportFailedError(
                    f"{shown} holds no {_WEIGHTS}: save the whole network with `model.save('model.keras')`."
                )
            config = _json_member(archive, _CONFIG, shown)
            metadata = _json_member(archive, _METADATA, shown) if _METADATA in names else {}
            extract(archive, _WEIGHTS, weights)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ImportFailedError(f"{shown} is damaged or incomplete ({_one_line(error)}).") from error
    with _hdf5(weights, shown) as file:
        _check_group(file, shown)
    compiled = config.get("compile_config")
    loss = compiled.get("loss") if isinstance(compiled, dict) else None
    return KerasFile(shown, weights, config, str(metadata.get("keras_version") or "3"), loss, is_zip=True)


def _open_hdf5(path: Path, shown: str) -> KerasFile:
    with _hdf5(path, shown) as file:
        text = _attribute(file, "model_config")
        if text is None:
            raise ImportFailedError(
                f"{shown} holds weights without the network: save the whole network with `model.save('model.keras')`."
            )
        config, training = _parsed(text, shown), _attribute(file, "training_config")
        loss = _parsed(training, shown).get("loss") if training else None
        weights = _weights_group(file, shown)
        _check_group(weights, shown)
        version = _attribute(weights, "keras_version") or _attribute(file, "keras_version") or "2"
    return KerasFile(shown, path, config, version, loss, is_zip=False)


def _hdf5(path: Path, shown: str) -> "h5py.File":
    try:
        return h5py.File(path)
    except OSError as error:
        raise ImportFailedError(f"{shown} is damaged or incomplete ({_one_line(error)}).") from error


def _weights_group(file: "h5py.File", shown: str) -> "h5py.Group":
    name = "model_weights"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Group):
        raise ImportFailedError(f"{shown} holds no weights: save the whole network with `model.save('model.keras')`.")
    return file[name]


def _check_group(root: "h5py.Group", shown: str) -> None:
    """Require that a group holds only arrays of numbers, and that all of them are in this file."""
    groups, seen, total = [root], set(), 0
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ImportFailedError(f"{shown}: {name!r} is a link to data elsewhere: do not use this file.")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
                continue
            if not isinstance(item, h5py.Dataset) or item.dtype.kind not in _NUMBERS:
                raise ImportFailedError(f"{shown}: {name!r} is not an array of numbers: do not use this file.")
            if item.is_virtual or item.external:
                raise ImportFailedError(f"{shown}: {name!r} refers to another file: do not use this file.")
            total += item.nbytes
            if total > _WEIGHTS_MAX_BYTES:
                raise ImportFailedError(
                    f"{shown}: its weights need more than {_WEIGHTS_MAX_BYTES // 10**9} GB, which is not supported."
                )


def _attribute(item: "h5py.Group", name: str) -> str | None:
    value = item.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _json_member(archive: zipfile.ZipFile, name: str, shown: str) -> dict[str, Any]:
    with archive.open(name) as file:
        text = file.read(_CONFIG_MAX_BYTES + 1)
    if len(text) > _CONFIG_MAX_BYTES:
        raise ImportFailedError(f"{shown}: {name} is too large.")
    return _parsed(text, shown)


def _parsed(text: str | bytes, shown: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportFailedError(f"{shown} is damaged: its configuration is not JSON.") from error
    if not isinstance(found, dict):
        raise ImportFailedError(f"{shown} is damaged: its configuration is not an object.")
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
