"""A model store at an fsspec URL: what one process adds, others find and copy."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from bundle.manifest import BundleError
from bundle.store import ModelStore, RemoteModelStore, StoredVersion, open_model_store
from tests.support.bundles import add_version


@pytest.fixture
def files() -> Iterator[fsspec.AbstractFileSystem]:
    found = fsspec.filesystem("memory")
    yield found
    found.rm("/models", recursive=True)


@pytest.fixture
def store(files: fsspec.AbstractFileSystem, tmp_path: Path) -> ModelStore:
    times = count(step=60.0)
    opened = RemoteModelStore("memory:///models", tmp_path / "cache", clock=lambda: next(times))
    source = add_version(tmp_path / "made", "birds", "1")
    with opened.adding("birds", "1") as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return opened


def test_a_version_is_copied_and_can_be_read(store: ModelStore) -> None:
    (found,) = store.versions()
    assert (found.name, found.version) == ("birds", "1")
    store.fetch(found)
    assert found.read_manifest().labels == ["cat", "dog"]
    assert store.address("birds", "1") == "memory:///models/birds/1"


def test_a_version_stays_as_it_is(store: ModelStore, files: fsspec.AbstractFileSystem) -> None:
    before = files.cat_file("/models/birds/1/manifest.json")
    with store.adding("birds", "1") as folder:
        (folder / "manifest.json").write_text("{}")
    assert files.cat_file("/models/birds/1/manifest.json") == before
    with pytest.raises(KeyboardInterrupt), store.adding("birds", "2"):
        raise KeyboardInterrupt
    assert len(store.versions()) == 1


def test_a_version_without_a_manifest_is_not_complete(store: ModelStore, files: fsspec.AbstractFileSystem) -> None:
    files.pipe_file("/models/birds/2/model.keras", b"")
    files.pipe_file("/models/.hidden/1/manifest.json", b"{}")
    assert [found.version for found in store.versions()] == ["1"]


def test_a_copy_is_made_again_if_the_store_has_another_bundle(
    store: ModelStore, files: fsspec.AbstractFileSystem
) -> None:
    (found,) = store.versions()
    store.fetch(found)
    model = found.folder / "model.keras"
    model.write_bytes(b"")
    store.fetch(found)
    assert not model.stat().st_size
    manifest = files.cat_file("/models/birds/1/manifest.json")
    files.pipe_file("/models/birds/1/manifest.json", manifest + b"\n")
    store.fetch(found)
    assert model.stat().st_size


def test_copies_are_served_while_the_store_cannot_be_read(
    store: ModelStore,
    files: fsspec.AbstractFileSystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (found,) = store.versions()
    store.fetch(found)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError("no access")

    monkeypatch.setattr(type(files), "find", fail)
    monkeypatch.setattr(type(files), "cat_file", fail)
    assert store.versions() == store.versions() == [found]
    assert [record.message for record in caplog.records] == [
        "The model store cannot be read; only the versions that were copied are served (PermissionError)"
    ]
    store.fetch(found)
    with pytest.raises(BundleError, match="no access"):
        store.fetch(StoredVersion("birds", "3", found.folder.with_name("3")))


def test_a_missing_driver_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gcsfs"):
        open_model_store("gs://bucket/models", tmp_path)
