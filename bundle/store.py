"""The model store: the bundle of each version of a model, at `NAME/VERSION` in a folder or at an fsspec URL.

A version never changes once it is complete.
"""

import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bundle.manifest import MANIFEST_FILE, NAME, BundleError, Manifest, read_manifest
from bundle.staging import staged_folder

_log = logging.getLogger(__name__)

#: Pause between two listings of a store at a URL.
_LIST_S = 10.0


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in the store."""

    name: str
    version: str
    #: Where its bundle is, or will be once the store has fetched it.
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
    """A store in a folder. Names that start with a dot are not versions: they become one when they are complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self) -> list[StoredVersion]:
        """All versions, sorted by name and version; none if the folder does not exist."""
        return sorted(self._find(), key=lambda found: (found.name, found.version))

    def fetch(self, stored: StoredVersion) -> None:
        """Copy a bundle to where `stored` expects it; does nothing if it is there.

        Raises:
            BundleError: the store cannot be read.
        """

    def adding(self, name: str, version: str) -> AbstractContextManager[Path]:
        """A temporary folder for a bundle. On success it becomes a version, unless that exists already.

        Raises:
            OSError: the store cannot be written.
        """
        return staged_folder(self._folder / name / version, keep=True)

    def address(self, name: str, version: str) -> str:
        """Where a version is, for people."""
        return str(self._folder / name / version)

    def _find(self) -> Iterator[StoredVersion]:
        for model in _folders(self._folder):
            # The folder `champion` is itself a bundle: `pawqueue models promote` wrote it.
            if re.fullmatch(NAME, model.name) and not (model / MANIFEST_FILE).exists():
                for version in _folders(model):
                    if (version / MANIFEST_FILE).is_file():
                        yield StoredVersion(model.name, version.name, version)


class RemoteModelStore(ModelStore):
    """A store at an fsspec URL, and copies of its bundles in a folder. Install its driver separately, such as s3fs.

    The manifest is written last, so a version that has one is complete.
    """

    def __init__(self, url: str, cache: Path, clock: Callable[[], float] = time.monotonic) -> None:
        import fsspec  # noqa: PLC0415 - slow to import, and only this store needs it

        super().__init__(cache)
        self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._clock = clock
        self._listed: list[StoredVersion] = []
        self._list_at_s = 0.0
        self._is_down = False

    def versions(self) -> list[StoredVersion]:
        """All versions, as of the last seconds; those that have been copied, if the store cannot be read."""
        if self._clock() >= self._list_at_s:
            self._list_at_s = self._clock() + _LIST_S
            try:
                self._listed = list(self._list())
                self._is_down = False
            # Drivers raise errors of many types.
            except Exception as error:  # noqa: BLE001
                self._listed = super().versions()
                if not self._is_down:  # once per outage; without the text, which may contain credentials
                    _log.warning(
                        "The model store cannot be read; only the versions that were copied are served (%s)",
                        type(error).__name__,
                    )
                self._is_down = True
        return self._listed

    def fetch(self, stored: StoredVersion) -> None:
        """Copy a bundle, unless there is a copy with the same manifest, which contains the checksums of its files."""
        source = self._address(stored.name, stored.version)
        copy = stored.folder / MANIFEST_FILE
        with self._errors_as(BundleError):
            try:
                manifest = self._files.cat_file(f"{source}/{MANIFEST_FILE}")
            except Exception:
                if copy.exists():
                    return  # better than no model while the store cannot be read
                raise
            if not copy.exists() or copy.read_bytes() != manifest:
                with staged_folder(stored.folder) as new:
                    for path in self._files.ls(source, detail=False):
                        self._files.get_file(path, str(new / path.rpartition("/")[2]))

    @contextmanager
    def adding(self, name: str, version: str) -> Iterator[Path]:
        target = self._address(name, version)
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            with self._errors_as(OSError):
                if self._files.exists(f"{target}/{MANIFEST_FILE}"):
                    return
                self._files.makedirs(target, exist_ok=True)
                for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == MANIFEST_FILE):
                    self._files.put_file(str(path), f"{target}/{path.name}")

    def address(self, name: str, version: str) -> str:
        address: str = self._files.unstrip_protocol(self._address(name, version))
        return address

    def _list(self) -> Iterator[StoredVersion]:
        for path in sorted(self._files.find(self._root)):
            name, _, rest = path.removeprefix(f"{self._root}/").partition("/")
            version, _, file = rest.partition("/")
            if file == MANIFEST_FILE and re.fullmatch(NAME, name) and not version.startswith("."):
                yield StoredVersion(name, version, self._folder / name / version)

    def _address(self, name: str, version: str) -> str:
        return f"{self._root}/{name}/{version}"

    @contextmanager
    def _errors_as(self, kind: Callable[[str], Exception]) -> Iterator[None]:
        """Convert the errors of drivers, which are of many types."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise kind(f"The model store cannot be accessed ({reason}).") from error


def open_model_store(address: str, cache: Path) -> ModelStore:
    """Open the store in a folder or at an fsspec URL; copies of what is at a URL are kept in `cache`.

    Raises:
        BundleError: the driver for the URL is not installed.
    """
    if "://" not in address or address.startswith("file://"):
        return ModelStore(Path(address.removeprefix("file://")))
    try:
        return RemoteModelStore(address, cache)
    except (ImportError, ValueError) as error:
        raise BundleError(f"The model store cannot be opened: {error}.") from error


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return []
