"""The models of a worker: found in the store, registered, loaded on demand, and unloaded when memory is short."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bundle.locate import INCLUDED
from bundle.manifest import BundleError, read_manifest
from bundle.store import ModelStore, StoredVersion
from contract.job import ModelRef
from contract.ledger.models import ModelRegistry
from tests.support.brightness import BrightnessModel
from tests.support.ledger import patient_client
from tests.support.services import wait_until
from worker.runtime.models import ModelOptions, Models, UnusableModelError


@pytest.fixture
def registry(clean_redis: str) -> Iterator[ModelRegistry]:
    with patient_client(clean_redis) as client:
        yield ModelRegistry(client)


def add(folder: Path, name: str, version: str) -> Path:
    """Add a version to a store: a copy of the included bundle under another name."""
    target = folder / name / version
    shutil.copytree(INCLUDED, target)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps({**manifest, "name": name, "version": version}))
    return target


class Loader:
    """Stands in for loading a bundle with Keras."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.damaged: set[str] = set()

    def __call__(self, folder: Path, _measure: bool) -> Any:
        self.loaded.append(f"{folder.parent.name}@{folder.name}")
        if folder.parent.name in self.damaged:
            raise BundleError("The file is damaged.")
        return BrightnessModel()


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def make_models(tmp_path: Path, registry: ModelRegistry, loader: Loader) -> Iterator[Callable[..., Models]]:
    started: list[Models] = []

    def make(**options: Any) -> Models:
        manifest = read_manifest(INCLUDED)
        base = StoredVersion(manifest.name, manifest.version, INCLUDED)
        chosen = {"base": base, "default": base.name} | options
        models = Models(loader, ModelOptions(**chosen), store=ModelStore(tmp_path), registry=registry, by="w")
        models.refresh()
        models.start()
        started.append(models)
        return models

    yield make
    for models in started:
        models.stop()


def test_versions_in_the_store_are_registered_and_served(
    make_models: Callable[..., Models], registry: ModelRegistry, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    (tmp_path / "birds" / ".2").mkdir()  # an import that is not complete
    shutil.copytree(INCLUDED, tmp_path / "champion")  # written by `pawqueue models promote`
    models = make_models()
    assert registry.versions().keys() == {"birds", "cats-dogs"}
    assert registry.default() == "cats-dogs"
    assert models.queue_names() == [
        *("interactive", "interactive.birds", "interactive.cats-dogs"),
        *("bulk", "bulk.birds", "bulk.cats-dogs"),
    ]


def test_a_worker_of_one_model_takes_only_its_jobs(make_models: Callable[..., Models], tmp_path: Path) -> None:
    add(tmp_path, "birds", "1")
    models = make_models(served=frozenset({"birds"}))
    assert models.queue_names() == ["interactive.birds", "bulk.birds"]
    assert models.live_versions() == [ModelRef("birds", "1")]


def test_a_model_that_appears_later_is_served(make_models: Callable[..., Models], tmp_path: Path) -> None:
    models = make_models()
    add(tmp_path, "birds", "1")
    models.refresh()
    assert "interactive.birds" in models.queue_names()


def test_a_version_is_loaded_when_a_job_needs_it(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    models = make_models()
    ref = models.choose("birds@1", "birds")
    assert not loader.loaded
    assert models.target(ref).height
    wait_until(lambda: models.is_ready(ref), "the model to be loaded", 10)
    assert models.get(ref)
    assert loader.loaded == ["birds@1"]


def test_a_model_that_cannot_be_loaded_is_reported_and_takes_no_jobs(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    loader.damaged.add("birds")
    models = make_models()
    ref = ModelRef("birds", "1")
    assert not models.is_ready(ref)
    wait_until(lambda: models.has_failed(ref), "loading to fail", 10)
    assert "interactive.birds" not in models.queue_names()
    assert "interactive" in models.queue_names()
    (held,) = (held for held in models.held() if held.name == "birds")
    assert (held.state, held.problem) == ("failed", "The file is damaged.")


def test_a_damaged_bundle_takes_down_no_other_model(make_models: Callable[..., Models], tmp_path: Path) -> None:
    (add(tmp_path, "birds", "1") / "model.keras").write_bytes(b"")
    add(tmp_path, "cars", "1")
    models = make_models()
    assert "interactive.cars" in models.queue_names()
    assert "interactive.birds" not in models.queue_names()
    assert "checksum" in next(held.problem for held in models.held() if held.name == "birds")


def test_a_pinned_version_that_does_not_exist_is_refused(make_models: Callable[..., Models], tmp_path: Path) -> None:
    add(tmp_path, "birds", "1")
    models = make_models()
    with pytest.raises(UnusableModelError, match="birds@2"):
        models.choose("birds@2", "birds@2")
    assert models.choose("birds@2", "birds") == ModelRef("birds", "1")  # another worker has it


def test_the_least_recently_used_model_is_unloaded(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    for name in ("a-model", "b-model", "c-model"):
        add(tmp_path, name, "1")
    size = sum(path.stat().st_size for path in INCLUDED.iterdir())
    models = make_models(memory_bytes=size + 1000)
    for name in ("a-model", "b-model", "a-model"):
        ref = ModelRef(name, "1")
        wait_until(lambda ref=ref: models.is_ready(ref), "the model to be loaded", 30)  # type: ignore[misc]
        models.get(ref)
    assert loader.loaded[0] == "a-model@1"
    assert "b-model@1" in loader.loaded


def test_the_registry_is_filled_again_after_redis_lost_its_data(
    make_models: Callable[..., Models], registry: ModelRegistry, clean_redis: str, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    models = make_models()
    with redis.Redis.from_url(clean_redis) as client:
        client.flushdb()
    models.refresh()
    models.refresh()
    assert registry.versions().keys() == {"birds", "cats-dogs"}
