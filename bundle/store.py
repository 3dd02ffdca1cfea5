"""The model store: a folder with the folder `NAME/VERSION` for each version of a model, which holds a bundle.

A version never changes once its folder exists. Names that start with a dot are not versions: an import writes there and
renames the folder when it is complete.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundle.manifest import MANIFEST_FILE, NAME, BundleError, Manifest, read_manifest


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in the store."""

    name: str
    version: str
    folder: Path

    def read_manifest(self) -> Manifest:
        """Read and verify its manifest.

        Raises:
            BundleError: the bundle is damaged, or it is a bundle of another name or version.
        """
        manifest = read_manifest(self.folder)
        if (manifest.name, manifest.version) != (self.name, self.version):
            raise BundleError(
                f"{self.folder} holds {manifest.name}@{manifest.version}. Move it to "
                f"{self.folder.parents[1] / manifest.name / manifest.version}."
            )
        return manifest


class ModelStore:
    """Finds the versions in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self) -> list[StoredVersion]:
        """All versions, sorted by name and version; none if the folder does not exist."""
        return sorted(self._find(), key=lambda found: (found.name, found.version))

    def _find(self) -> Iterator[StoredVersion]:
        for model in _folders(self._folder):
            # The folder `champion` is itself a bundle: `pawqueue models promote` wrote it.
            if re.fullmatch(NAME, model.name) and not (model / MANIFEST_FILE).exists():
                for version in _folders(model):
                    if (version / MANIFEST_FILE).is_file():
                        yield StoredVersion(model.name, version.name, version)


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return []
