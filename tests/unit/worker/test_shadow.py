"""A shadow predicts images after the live version has, while the worker has time, and nothing that it does matters."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from bundle.locate import INCLUDED
from bundle.manifest import BundleError, Outputs, read_manifest
from bundle.store import ModelStore, StoredVersion
from contract.job import Job, JobResult, JobStatus, ModelRef, Prediction, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import ModelRegistry
from contract.ledger.shadows import Agreement
from contract.ledger.types import Claim, HeldModel
from contract.queues import INTERACTIVE
from tests.support.brightness import StoredBrightnessModel
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench
from worker.pipeline.item import Item
from worker.pipeline.shadow import ShadowPredictor, is_in_sample
from worker.runtime.crashes import CrashRecorder
from worker.runtime.models import ModelOptions, Models
from worker.upkeep.metrics import WorkerMetrics

LIVE, SHADOW = ModelRef("birds", "1"), ModelRef("birds", "5")
#: All versions call the first one `wren`, and the second one `owl`; they differ about the gray one.
BRIGHT, DARK, GRAY = (250, 250, 250), (2, 2, 2), (77, 77, 77)


@dataclass
class Loader:
    """Loads versions without a framework."""

    #: The versions that predicted, in order.
    calls: list[str] = field(default_factory=list)
    #: What loading or predicting with a version raises.
    damaged: dict[str, Exception] = field(default_factory=dict)
    failing: dict[str, Exception] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    during_call: Callable[[], object] = lambda: None

    def __call__(self, folder: Path, _turn: object) -> Any:
        self.loaded.append(folder.name)
        if folder.name in self.damaged:
            raise self.damaged[folder.name]
        return _Model(folder, self)


class _Model(StoredBrightnessModel):
    def __init__(self, folder: Path, loader: Loader) -> None:
        super().__init__(folder)
        self._loader = loader

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        self._loader.calls.append(self.version)
        self._loader.sizes.append(pixels.shape)
        self._loader.during_call()
        if self.version in self._loader.failing:
            raise self._loader.failing[self.version]
        return super().predict(pixels)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def registry(redis_client: "redis.Redis") -> ModelRegistry:
    return ModelRegistry(redis_client)


@pytest.fixture
def make_models(tmp_path: Path, registry: ModelRegistry, loader: Loader) -> Iterator[Callable[..., Models]]:
    """Creates models of which `birds` has two versions and a shadow."""
    started: list[Models] = []
    for version in ("1", "5"):
        add_version(tmp_path / "models", "birds", version, ["wren", "owl"])

    def make(sample: float = 1.0, **options: Any) -> Models:
        manifest = read_manifest(INCLUDED)
        base = StoredVersion(manifest.name, manifest.version, INCLUDED)
        chosen = ModelOptions(**{"base": base, "default": base.name} | options)
        crashes, store = CrashRecorder(tmp_path / "crashes"), ModelStore(tmp_path / "models")
        models = Models(loader, chosen, store=store, registry=registry, by="w", crashes=crashes)
        models.refresh()
        registry.set_shadow("birds", "5", sample=sample)
        models.load(LIVE)
        models.refresh()
        models.start()
        started.append(models)
        return models

    yield make
    for models in started:
        models.stop()


@pytest.fixture
def models(make_models: Callable[..., Models]) -> Models:
    """Models whose shadow is loaded."""
    found = make_models()
    wait_until(lambda: found.shadow_of(LIVE) is not None, "the shadow to be loaded", 30)
    return found


def submit(bench: Bench, color: tuple[int, int, int] = BRIGHT, **fields: Any) -> str:
    return bench.submit(draw(color=color), **{"model": "birds"} | fields)


def agreement(bench: Bench) -> list[Agreement]:
    return bench.ledger.shadows.agreement("birds", 1)


def test_an_image_on_which_a_shadow_differs_is_kept_for_review(
    models: Models, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(models=models, review_below=0.1)
    ids = [submit(bench, color) for color in (BRIGHT, GRAY, DARK)]
    bench.process(*ids)
    wait_until(lambda: sum(pair.compared for pair in agreement(bench)) == len(ids), "the images to be compared", 30)
    wait_until(lambda: bench.ledger.reviews.counts("").kept > 0, "an image to be kept", 30)
    ((_, kept),) = bench.ledger.reviews.after(0, "", 10)
    assert (kept.job_id, kept.reason, kept.model, kept.version) == (ids[1], "shadow_disagrees", "birds", "1")
    assert bench.images.get([kept.image]) == [draw(color=GRAY)]


def test_a_shadow_is_compared_with_the_live_version(models: Models, make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(models=models)
    ids = [submit(bench, color) for color in (BRIGHT, DARK, GRAY, GRAY)]
    bench.process(*ids)
    wait_until(lambda: agreement(bench) == [Agreement("1", "5", 2, 2)], "the images to be compared", 30)
    differed = bench.ledger.shadows.disagreements("birds")
    assert {row.job_id for row in differed} == set(ids[2:])
    for row in differed:
        assert (row.label, row.shadow_label) == ("owl", "wren")
        assert min(row.confidence, row.shadow_confidence) > 0.8
    for job_id in ids:
        job = bench.job(job_id)
        assert job.result
        assert job.result.model == LIVE
        assert job.attempts == 1


def test_jobs_whose_sender_chose_the_version_are_not_compared(
    models: Models, make_bench: Callable[..., Bench], loader: Loader
) -> None:
    bench = make_bench(models=models)
    bench.process(submit(bench, model="birds@1"), submit(bench, model="birds@5"))
    last = submit(bench)
    bench.process(last)
    wait_until(lambda: bench.ledger.client.hexists(keys.job(last), "shadow"), "the last image to be compared", 30)
    assert agreement(bench) == [Agreement("1", "5", 1)]
    assert loader.calls.count("5") == 2


def test_a_share_of_the_jobs_is_compared(
    make_models: Callable[..., Models], make_bench: Callable[..., Bench], loader: Loader
) -> None:
    models = make_models(sample=0.3)
    wait_until(lambda: models.shadow_of(LIVE) is not None, "the shadow to be loaded", 30)
    bench = make_bench(models=models)
    ids = [submit(bench) for _ in range(30)]
    bench.process(*ids)
    sample = [job_id for job_id in ids if is_in_sample(job_id, 0.3)]
    wait_until(lambda: agreement(bench) == [Agreement("1", "5", len(sample))], "the sample to be compared", 30)
    assert stays(loader, len(sample))


def test_a_sample_has_the_right_size_and_is_part_of_a_larger_one() -> None:
    ids = [new_job_id() for _ in range(2000)]
    small, large = ({job_id for job_id in ids if is_in_sample(job_id, share)} for share in (0.1, 0.3))
    assert (len(small), len(large)) == (pytest.approx(200, abs=80), pytest.approx(600, abs=120))
    assert small < large
    assert all(is_in_sample(job_id, 1.0) for job_id in ids)


def test_a_shadow_with_another_input_decodes_the_image_again(
    models: Models, registry: ModelRegistry, make_bench: Callable[..., Bench], loader: Loader, tmp_path: Path
) -> None:
    manifest = tmp_path / "models" / "birds" / "5" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["input"] |= {"height": 48, "width": 32}
    folder = add_version(tmp_path / "models", "birds", "6", ["wren", "owl"])
    (folder / "manifest.json").write_text(json.dumps(values | {"version": "6"}))
    models.refresh()
    registry.set_shadow("birds", "6")
    models.refresh()
    wait_until(lambda: models.shadow_of(LIVE) is not None, "the shadow to be loaded", 30)
    bench = make_bench(models=models)
    bench.process(submit(bench))
    wait_until(lambda: agreement(bench) == [Agreement("1", "6", 1)], "the image to be compared", 30)
    assert loader.sizes[-1] == (1, 48, 32, 3)


def test_a_shadow_that_fails_is_paused_with_the_reason(
    models: Models, make_bench: Callable[..., Bench], loader: Loader
) -> None:
    loader.failing["5"] = RuntimeError("no such operation")
    bench = make_bench(models=models)
    job_id = submit(bench)
    bench.process(job_id)
    wait_until(lambda: bool(models.shadows()[0].problem), "the shadow to be paused", 30)
    (held,) = models.shadows()
    assert (held.name, held.version, held.state) == ("birds", "5", "failed")
    assert "RuntimeError: no such operation" in held.problem
    assert models.shadow_of(LIVE) is None
    value = bench.metrics.registry.get_sample_value
    wait_until(lambda: value("pawqueue_shadow_dropped_total", {"model": "birds"}) == 1, "the image to be dropped", 30)
    later = submit(bench)
    bench.process(later)
    assert [bench.job(job).status for job in (job_id, later)] == [JobStatus.SUCCEEDED] * 2
    assert loader.calls.count("5") == 1
    assert {held.state for held in models.held() if held.name == "birds"} == {"ready"}  # jobs can still pin it


def test_a_shadow_that_cannot_be_loaded_changes_nothing_else(
    make_models: Callable[..., Models], make_bench: Callable[..., Bench], loader: Loader
) -> None:
    loader.damaged["5"] = BundleError("The file is damaged.")
    models = make_models()
    wait_until(lambda: bool(models.shadows()[0].problem), "loading to fail", 30)
    assert models.shadows() == [HeldModel("birds", "5", "failed", "The file is damaged.")]
    bench = make_bench(models=models)
    job_id = submit(bench)
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.SUCCEEDED


def size_of_bundle() -> int:
    return sum(path.stat().st_size for path in INCLUDED.iterdir())


def test_a_shadow_that_does_not_fit_is_not_loaded(
    make_models: Callable[..., Models], make_bench: Callable[..., Bench], loader: Loader
) -> None:
    models = make_models(memory_bytes=size_of_bundle() + 1000)
    wait_until(lambda: bool(models.shadows()[0].problem), "the reason", 30)
    (held,) = models.shadows()
    assert held.state == "waiting"
    assert "PAWQUEUE_MODEL_MEMORY_BYTES" in held.problem
    models.refresh()
    assert models.get(LIVE)
    assert loader.loaded == ["1"]
    bench = make_bench(models=models)
    models.changed = bench.worker.pipeline.models_changed
    job_id = submit(bench, model="birds@5")  # a job that needs it loads it
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.SUCCEEDED


def test_a_shadow_is_the_first_that_makes_room(
    make_models: Callable[..., Models], loader: Loader, tmp_path: Path
) -> None:
    add_version(tmp_path / "models", "cars", "1")
    models = make_models(memory_bytes=2 * size_of_bundle() + 100_000)
    wait_until(lambda: models.shadow_of(LIVE) is not None, "the shadow to be loaded", 30)
    models.load(ModelRef("cars", "1"))
    states = {(held.name, held.version): held.state for held in models.held()}
    assert (states["birds", "1"], states["birds", "5"], states["cars", "1"]) == ("ready", "waiting", "ready")
    models.refresh()
    assert "PAWQUEUE_MODEL_MEMORY_BYTES" in models.shadows()[0].problem
    assert models.get(LIVE)


def test_a_shadow_that_crashed_a_worker_is_stopped_for_all(
    make_models: Callable[..., Models], registry: ModelRegistry, tmp_path: Path
) -> None:
    models = make_models()
    route = registry.routes()["birds"]
    assert route.shadow
    name = f"birds@5 shadow {route.shadow.revision}"
    (tmp_path / "crashes" / "counts.json").write_text(json.dumps({name: [1, 1000.0]}))
    models.refresh()
    models.refresh()
    stopped = registry.routes()["birds"].shadow
    assert stopped
    assert "A worker died" in stopped.problem
    assert models.shadows() == []
    assert models.shadow_of(LIVE) is None
    assert json.loads((tmp_path / "crashes" / "counts.json").read_text()) == {}
    registry.set_shadow("birds", "5")
    models.refresh()
    assert [held.problem for held in models.shadows()] == [""]


@dataclass
class Shadowing:
    """A shadow predictor whose time a test sets."""

    predictor: ShadowPredictor
    metrics: WorkerMetrics
    models: Models
    now_s: float = 0.0
    is_idle: bool = True

    def offer(self, sampled: bool = True, size: int = 16) -> None:
        """Offer the image of a job that was just committed."""
        job = Job(new_job_id(), INTERACTIVE, 1, model="birds" if sampled else "birds@1")
        item = Item(Claim(job, 1), 0, LIVE, self.models.target(LIVE), pixels=np.zeros((size, size, 3), np.uint8))
        self.predictor.offer(item, JobResult(prediction=Prediction("owl", 0.9, {}), model=LIVE))


@pytest.fixture
def shadowing(models: Models, ledger: Ledger) -> Iterator[Shadowing]:
    metrics = WorkerMetrics(4)
    predictor = ShadowPredictor(models, ledger.shadows, metrics, lambda: found.is_idle, clock=lambda: found.now_s)
    found = Shadowing(predictor, metrics, models)
    predictor.start()
    yield found
    predictor.stop()


def stays(loader: Loader, calls: int) -> bool:
    """Whether the shadow predicts nothing more in a short time."""
    threading.Event().wait(0.2)
    return loader.calls.count("5") == calls


def test_a_shadow_waits_while_the_worker_has_jobs(shadowing: Shadowing, loader: Loader) -> None:
    shadowing.is_idle = False
    shadowing.offer()
    shadowing.now_s = 100.0
    assert stays(loader, 0)
    shadowing.is_idle = True
    wait_until(lambda: loader.calls.count("5") == 1, "the image to be predicted", 30)


def test_a_shadow_takes_a_small_share_of_the_time_while_jobs_arrive(shadowing: Shadowing, loader: Loader) -> None:
    def take_time() -> None:
        shadowing.now_s += 0.5

    loader.during_call = take_time
    for _ in range(3):
        shadowing.offer()
    wait_until(lambda: shadowing.predictor._next_at_s > 0, "the first image to be predicted", 30)
    shadowing.now_s = 24.9  # half a second is 2 % of 25 seconds
    shadowing.offer(sampled=False)
    assert stays(loader, 1)
    shadowing.now_s = 25.0
    wait_until(lambda: loader.calls.count("5") == 2, "its share of the time", 30)
    assert stays(loader, 2)
    shadowing.now_s += 1.0  # no job for a second
    wait_until(lambda: loader.calls.count("5") == 3, "a quiet time", 30)


@pytest.mark.parametrize(("size", "images"), [(16, 128), (2_000, 2)])
def test_the_oldest_images_are_dropped_when_too_many_wait(
    shadowing: Shadowing, loader: Loader, size: int, images: int
) -> None:
    shadowing.is_idle = False
    for _ in range(images + 3):
        shadowing.offer(size=size)
    dropped = shadowing.metrics.registry.get_sample_value("pawqueue_shadow_dropped_total", {"model": "birds"})
    assert dropped == 3
    shadowing.now_s, shadowing.is_idle = 100.0, True
    wait_until(lambda: loader.calls.count("5") == images, "the other images to be predicted", 30)
    assert stays(loader, images)


def test_images_of_a_shadow_that_was_removed_are_dropped(
    shadowing: Shadowing, registry: ModelRegistry, loader: Loader
) -> None:
    shadowing.is_idle = False
    shadowing.offer()
    registry.set_shadow("birds", None)
    shadowing.models.refresh()
    shadowing.now_s, shadowing.is_idle = 100.0, True
    value = shadowing.metrics.registry.get_sample_value
    wait_until(lambda: value("pawqueue_shadow_dropped_total", {"model": "birds"}) == 1, "the image to be dropped", 30)
    assert "5" not in loader.calls
