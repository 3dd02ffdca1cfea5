"""The models of a worker: found in the store, registered, loaded on demand, and unloaded when memory is short."""

import json
import os
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bundle.locate import INCLUDED
from bundle.manifest import BundleError, read_manifest
from bundle.store import ModelStore, StoredVersion
from contract.job import ModelRef, now_ms
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import CanaryTerms, ModelRegistry, VersionInfo
from contract.ledger.types import Heartbeat
from tests.support.brightness import BrightnessModel
from tests.support.bundles import add_version as add
from tests.support.images import draw
from tests.support.services import ROOT, wait_until
from tests.unit.worker.conftest import Bench
from worker.runtime.crashes import CrashRecorder
from worker.runtime.models import ModelOptions, Models, UnusableModelError


@pytest.fixture
def registry(redis_client: "redis.Redis") -> ModelRegistry:
    return ModelRegistry(redis_client)


class Loader:
    """Stands in for loading a bundle with Keras."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        #: What loading a model raises.
        self.damaged: dict[str, Exception] = {}
        #: The models that were in memory when each version was loaded.
        self.in_memory: list[list[str]] = []
        self._models: weakref.WeakValueDictionary[str, BrightnessModel] = weakref.WeakValueDictionary()

    def __call__(self, folder: Path, _turn: object) -> Any:
        name = folder.parent.name
        self.loaded.append(f"{name}@{folder.name}")
        self.in_memory.append(list(self._models))
        if name in self.damaged:
            raise self.damaged[name]
        model = self._models[name] = BrightnessModel()
        return model


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def make_models(tmp_path: Path, registry: ModelRegistry, loader: Loader) -> Iterator[Callable[..., Models]]:
    started: list[Models] = []

    def make(clock: Callable[[], float] = time.monotonic, **options: Any) -> Models:
        manifest = read_manifest(INCLUDED)
        base = StoredVersion(manifest.name, manifest.version, INCLUDED)
        chosen = ModelOptions(**{"base": base, "default": base.name} | options)
        crashes, store = CrashRecorder(tmp_path / ".crashes"), ModelStore(tmp_path)
        models = Models(loader, chosen, store=store, registry=registry, by="w", crashes=crashes, clock=clock)
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
    loader.damaged["birds"] = BundleError("The file is damaged.")
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


def test_a_bundle_that_cannot_be_read_takes_down_no_other_model(
    make_models: Callable[..., Models], tmp_path: Path
) -> None:
    manifest = add(tmp_path, "birds", "1") / "manifest.json"
    manifest.unlink()
    manifest.symlink_to("/proc/self/mem")  # a file that root cannot read either
    add(tmp_path, "cars", "1")
    models = make_models()
    assert "interactive.cars" in models.queue_names()
    assert "interactive.birds" not in models.queue_names()
    assert "cannot be read" in models.problem(ModelRef("birds", "1"))


def test_any_error_of_a_framework_is_the_problem_of_one_version(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    loader.damaged["birds"] = ValueError("No operation of this name.")
    models = make_models()
    with pytest.raises(BundleError, match="No operation of this name"):
        models.load(ModelRef("birds", "1"))
    assert models.problem(ModelRef("birds", "1")) == "No operation of this name."


def test_a_pinned_version_that_does_not_exist_is_refused(make_models: Callable[..., Models], tmp_path: Path) -> None:
    add(tmp_path, "birds", "1")
    models = make_models()
    with pytest.raises(UnusableModelError, match="birds@2"):
        models.choose("birds@2", "birds@2")
    assert models.choose("birds@2", "birds") == ModelRef("birds", "1")  # another worker has it


def test_a_job_is_never_given_to_a_version_whose_manifest_is_damaged(
    make_models: Callable[..., Models], tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    (add(tmp_path, "birds", "2") / "manifest.json").write_text("{")
    models = make_models()
    assert models.choose("birds@2", "birds") == ModelRef("birds", "1")
    with pytest.raises(UnusableModelError, match="not a valid manifest"):
        models.choose("birds@2", "birds@2")


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


def test_no_part_of_a_worker_keeps_an_unloaded_model_in_memory(
    make_models: Callable[..., Models], make_bench: Callable[..., Bench], loader: Loader, tmp_path: Path
) -> None:
    for name in ("a-model", "b-model"):
        add(tmp_path, name, "1")
    size = sum(path.stat().st_size for path in INCLUDED.iterdir())
    models = make_models(memory_bytes=size + 1000)
    bench = make_bench(models=models)
    models.changed = bench.worker.pipeline.models_changed
    for name in ("a-model", "b-model"):
        bench.process(bench.submit(draw(), model=name))
    assert loader.loaded == ["a-model@1", "b-model@1"]
    assert loader.in_memory == [[], []]


STARTED_WORKER = """
import gc, os, weakref
from contract.job import ModelRef, now_ms
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from tests.support.brightness import BrightnessModel
from worker.__main__ import main
loaded = []
def load(*_, **__):
    model = BrightnessModel()
    loaded.append(weakref.ref(model))
    return model
class Worker:
    def __init__(self, _settings, model, *, models, **_):
        self.models = models
    def run(self):
        (first,) = self.models.live_versions()[:1]
        self.models.get(first)
        self.models.load(ModelRef("birds", "1"))
        gc.collect()
        return 0 if len(loaded) == 2 and loaded[0]() is None else 1
raise SystemExit(main(load, Worker))
"""


@pytest.mark.slow
def test_a_started_worker_can_unload_its_first_model(clean_redis: str, tmp_path: Path) -> None:
    add(tmp_path / "models", "birds", "1")
    settings = {"REDIS_URL": clean_redis, "STATE_DIR": str(tmp_path), "MODEL_MEMORY_BYTES": "1"}
    settings |= {"WORKER_METRICS_PORT": "0"}
    environ = os.environ | {f"PAWQUEUE_{name}": value for name, value in settings.items()}
    done = subprocess.run([sys.executable, "-c", STARTED_WORKER], cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0


def test_a_bundle_that_was_not_registered_is_never_served(
    make_models: Callable[..., Models], registry: ModelRegistry, tmp_path: Path
) -> None:
    clock = [0.0]
    registry.register("birds", "1", VersionInfo(["owl"], 8, 8, checksum="of another bundle"), "another worker")
    add(tmp_path, "birds", "1")
    models = make_models(clock=lambda: clock[0])
    assert "interactive.birds" not in models.queue_names()
    clock[0] = 61
    models.refresh()
    assert "interactive.birds" not in models.queue_names()
    assert "Another bundle is registered" in models.problem(ModelRef("birds", "1"))


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


def test_a_version_that_is_to_become_live_is_loaded_beside_the_live_one(
    make_models: Callable[..., Models], registry: ModelRegistry, loader: Loader, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    add(tmp_path, "birds", "2")
    models = make_models()
    models.load(ModelRef("birds", "1"))
    _, revision = registry.change("birds", "2", limit_s=60)
    models.refresh()
    wait_until(lambda: models.prepared() == {"birds": revision}, "the version to be loaded", 10)
    assert loader.loaded == ["birds@1", "birds@2"]
    assert {held.version for held in models.held() if held.name == "birds" and held.state == "ready"} == {"1", "2"}


def test_a_job_of_a_canary_that_is_not_loaded_goes_to_the_live_version(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        add(tmp_path, "birds", version)
    models = make_models()
    live, canary = ModelRef("birds", "1"), ModelRef("birds", "2")
    assert models.choose("birds@2", "birds", "birds@1") == live
    wait_until(lambda: models.choose("birds@2", "birds", "birds@1") == canary, "the canary to be loaded", 10)
    assert loader.loaded == ["birds@2"]


def test_a_canary_stays_loaded_until_it_ends(
    make_models: Callable[..., Models], registry: ModelRegistry, ledger: Ledger, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        add(tmp_path, "birds", version)
    models = make_models(keep_s=0.0)
    begin_canary(registry, ledger, models, auto_rollback=False)

    def state() -> str:
        models.refresh()
        return next(held.state for held in models.held() if (held.name, held.version) == ("birds", "2"))

    assert (state(), state()) == ("ready", "ready")
    registry.end_canary("birds")
    assert state() == "waiting"


def begin_canary(registry: ModelRegistry, ledger: Ledger, models: Models, *, auto_rollback: bool = True) -> None:
    """Begin a canary of half of the jobs, which the worker has loaded."""
    terms = CanaryTerms(50, auto_rollback)
    _, revision = registry.change("birds", "2", canary=terms, limit_s=60)
    models.refresh()
    wait_until(lambda: models.prepared() == {"birds": revision}, "the canary to be loaded", 10)
    values = ("w", "host", "birds", "1", [], "numpy", "float32", 0.5, "", now_ms(), now_ms())
    ledger.beat(Heartbeat(*values, serves=["birds"], models=models.held(), prepared=models.prepared()), 60_000)
    models.refresh()
    assert registry.routes()["birds"].canary


@pytest.mark.parametrize("auto_rollback", [True, False])
def test_a_canary_that_is_worse_is_taken_back(
    make_models: Callable[..., Models],
    registry: ModelRegistry,
    ledger: Ledger,
    redis_client: "redis.Redis",
    tmp_path: Path,
    *,
    auto_rollback: bool,
) -> None:
    for version in ("1", "2"):
        add(tmp_path, "birds", version)
    models = make_models()
    begin_canary(registry, ledger, models, auto_rollback=auto_rollback)
    counts = {"canary/jobs": 60, "canary/errors": 30, "live/jobs": 50}
    redis_client.hset(f"{keys.TRIAL}birds", mapping=counts)
    models.refresh()
    found = registry.model("birds")
    assert found
    assert found.last_change
    assert (found.canary is None) == auto_rollback
    if auto_rollback:
        problem = "Its error rate is 50.0 % (30 of 60 jobs), that of the live version 0.0 % (0 of 50)."
        assert found.last_change.problem == problem
        assert found.last_change.by == "w"


def test_a_canary_that_a_worker_cannot_use_is_taken_back(
    make_models: Callable[..., Models], registry: ModelRegistry, ledger: Ledger, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        add(tmp_path, "birds", version)
    models = make_models()
    begin_canary(registry, ledger, models)
    (tmp_path / ".crashes" / "counts.json").write_text(json.dumps({"birds@2": [2, time.time()]}))
    models.refresh()
    found = registry.model("birds")
    assert found
    assert found.last_change
    assert found.canary is None
    assert found.last_change.problem.startswith("A worker cannot use it. It crashed its worker 2 times in a row.")


def test_a_version_that_failed_is_tried_again_when_it_is_to_become_live(
    make_models: Callable[..., Models], registry: ModelRegistry, loader: Loader, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    add(tmp_path, "birds", "2")
    models = make_models()
    loader.damaged["birds"] = BundleError("The file is damaged.")
    with pytest.raises(BundleError):
        models.load(ModelRef("birds", "2"))
    loader.damaged.clear()
    _, revision = registry.change("birds", "2", limit_s=60)
    models.refresh()
    wait_until(lambda: models.prepared() == {"birds": revision}, "the version to be loaded", 10)
    assert models.get(ModelRef("birds", "2"))


def test_a_version_that_does_not_fit_beside_the_live_one_is_not_loaded(
    make_models: Callable[..., Models], registry: ModelRegistry, tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    add(tmp_path, "birds", "2")
    models = make_models(memory_bytes=1)
    live = ModelRef("birds", "1")
    models.load(live)
    _, revision = registry.change("birds", "2", limit_s=60)
    models.refresh()
    wait_until(lambda: models.prepared() == {"birds": revision}, "loading to fail", 10)
    assert "PAWQUEUE_MODEL_MEMORY_BYTES" in models.problem(ModelRef("birds", "2"))
    assert models.get(live)


@pytest.mark.parametrize(("keep_s", "state"), [(0.0, "waiting"), (600.0, "ready")])
def test_a_version_that_was_replaced_stays_loaded_for_a_while(
    make_models: Callable[..., Models], registry: ModelRegistry, tmp_path: Path, keep_s: float, state: str
) -> None:
    add(tmp_path, "birds", "1")
    add(tmp_path, "birds", "2")
    models = make_models(keep_s=keep_s)
    models.load(ModelRef("birds", "1"))
    found = registry.model("birds")
    assert found
    registry.register("birds", "2", found.versions["2"], "w", live=True)
    models.refresh()
    (held,) = (held for held in models.held() if (held.name, held.version) == ("birds", "1"))
    assert held.state == state


def write_crashes(folder: Path, **counts: int) -> None:
    (folder / ".crashes").mkdir()
    rows = {f"{name}@1": [count, time.time()] for name, count in counts.items()}
    (folder / ".crashes" / "counts.json").write_text(json.dumps(rows))


def test_a_model_that_crashed_its_workers_is_paused(make_models: Callable[..., Models], tmp_path: Path) -> None:
    for name in ("birds", "cars"):
        add(tmp_path, name, "1")
    write_crashes(tmp_path, birds=2, cars=1)
    models = make_models()
    assert "interactive.birds" not in models.queue_names()
    assert "interactive.cars" in models.queue_names()
    (held,) = (held for held in models.held() if held.name == "birds")
    assert held.state == "failed"
    assert "crashed its worker 2 times in a row" in held.problem


def test_a_worker_without_another_model_tries_one_that_crashed_its_workers(
    make_models: Callable[..., Models], tmp_path: Path
) -> None:
    add(tmp_path, "birds", "1")
    write_crashes(tmp_path, birds=9)
    assert make_models(served=frozenset({"birds"})).queue_names() == ["interactive.birds", "bulk.birds"]
