"""Adds the bundle that a training made to the model store."""

import shutil
from pathlib import Path
from typing import Any

from bundle.manifest import MANIFEST_FILE, BundleError, Manifest, read_manifest
from bundle.store import ModelStore, open_model_store
from importer.request import ImportFailedError, Request


def is_bundle(source: str) -> bool:
    """Whether the source of an import is the folder of a bundle."""
    return (Path(source) / MANIFEST_FILE).is_file()


def add_bundle(source: Path, name: str | None, store_address: str, cache: Path) -> dict[str, Any]:
    """Copy a bundle to the store, under another name if one is given; returns what was added, as plain values.

    Raises:
        ImportFailedError: the bundle is damaged, the store cannot be used, or it has another bundle of this version.
    """
    try:
        manifest = read_manifest(source)
        if name:
            manifest = manifest.model_copy(update={"name": name})
        store = open_model_store(store_address, cache)
        _check_stored(store, manifest)
        with store.adding(manifest.name, manifest.version) as folder:
            for file in manifest.sha256:
                shutil.copyfile(source / file, folder / file)
            (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    except (BundleError, OSError) as error:
        raise ImportFailedError(str(error)) from error
    return {
        "name": manifest.name,
        "version": manifest.version,
        "folder": store.address(manifest.name, manifest.version),
        "format": manifest.format,
        "labels": manifest.labels,
        "input": manifest.input.model_dump(),
        "output": manifest.output,
        "unsafe_operations": manifest.unsafe_operations,
    }


def excess_options(request: Request) -> list[str]:
    """The options of a request that only apply to networks without a bundle."""
    values = request.to_dict()
    kept = {"source", "name", "store"}
    given = [key for key, value in values.items() if key not in kept and value not in (None, [], False)]
    return [f"--{key.replace('_', '-')}" for key in given]


def _check_stored(store: ModelStore, manifest: Manifest) -> None:
    """A version never changes: a bundle with the same weights but, say, other prototypes needs another version."""
    for stored in store.versions():
        if (stored.name, stored.version) == (manifest.name, manifest.version):
            store.fetch(stored)
            if stored.read_manifest() != manifest:
                raise ImportFailedError(
                    f"The store already has another bundle of {manifest.name}@{manifest.version}. "
                    "Import it under another --name, or remove the stored version first."
                )
