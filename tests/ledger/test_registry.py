"""The registry of models, and how a job is routed to a version when it is claimed."""

from dataclasses import replace

import pytest
import redis

from contract.job import Job
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import ModelRegistry, Registered, VersionInfo
from contract.queues import BULK, INTERACTIVE
from tests.support.ledger import NOW, claimed, make_job, read, store

INFO = VersionInfo(["cat", "dog"], 160, 160, "sigmoid", "small", {"accuracy": {"value": 0.9, "low": 0.8, "high": 1}})


@pytest.fixture
def registry(redis_client: "redis.Redis") -> ModelRegistry:
    return ModelRegistry(redis_client)


def info(checksum: str) -> VersionInfo:
    return replace(INFO, checksum=checksum)


def job_of(model: str, queue: str = INTERACTIVE) -> Job:
    return replace(make_job(queue), model=model)


def test_the_first_version_of_a_model_is_live_at_once(registry: ModelRegistry) -> None:
    assert registry.register("birds", "1", info("a"), "w") is Registered.CHANGED
    assert registry.register("birds", "2", info("b"), "w") is Registered.CHANGED
    model = registry.model("birds")
    assert model
    assert (model.live, list(model.versions), model.is_default) == ("1", ["1", "2"], False)
    assert model.versions["2"] == info("b")
    assert registry.versions() == {"birds": ["1", "2"]}


def test_registering_again_changes_nothing(registry: ModelRegistry, redis_client: "redis.Redis") -> None:
    registry.register("birds", "1", info("a"), "w")
    before = registry.model("birds")
    assert registry.register("birds", "1", info("a"), "other") is Registered.KNOWN
    assert registry.model("birds") == before
    assert [entry["action"] for _, entry in redis_client.xrange(keys.MODEL_CHANGES)] == ["registered", "live"]


def test_a_version_never_changes(registry: ModelRegistry) -> None:
    registry.register("birds", "1", info("a"), "w")
    assert registry.register("birds", "1", info("b"), "w") is Registered.DIFFERENT
    model = registry.model("birds")
    assert model
    assert model.versions["1"].checksum == "a"


def test_the_bundle_that_the_settings_choose_is_live(registry: ModelRegistry) -> None:
    registry.register("cats-dogs", "1", info("a"), "w", live=True, default=True)
    registry.register("cats-dogs", "2", info("b"), "w", live=True, default=True)
    model = registry.model("cats-dogs")
    assert model
    assert (model.live, model.is_default, model.revision) == ("2", True, 5)
    assert registry.default() == "cats-dogs"


def test_there_is_a_maximum_number_of_models(registry: ModelRegistry) -> None:
    for number in range(keys.MODELS_KEPT):
        registry.register(f"model-{number}", "1", info("a"), "w")
    assert registry.register("one-more", "1", info("a"), "w") is Registered.TOO_MANY
    assert registry.register("model-3", "2", info("b"), "w") is Registered.CHANGED


def test_there_is_a_maximum_number_of_versions_of_a_model(registry: ModelRegistry) -> None:
    done = {registry.register("birds", str(number), info("a"), "w") for number in range(keys.VERSIONS_KEPT)}
    assert done == {Registered.CHANGED}
    assert registry.register("birds", "one more", info("a"), "w") is Registered.TOO_MANY
    assert registry.register("birds", "1", info("a"), "w") is Registered.KNOWN


def test_each_model_has_queues_and_limits_of_its_own(ledger: Ledger) -> None:
    ledger.models.register("birds", "1", info("a"), "w")
    birds, none, bulk = job_of("birds"), job_of(""), job_of("birds@1", BULK)
    store(ledger, [birds, none, bulk])
    stats = ledger.stats(now_ms=NOW)
    assert {name: row.queued for name, row in stats.queues.items()} == {
        "interactive": 1,
        "interactive.birds": 1,
        "bulk": 0,
        "bulk.birds": 1,
    }
    assert stats.of_queue(INTERACTIVE).queued == 2
    assert stats.of_queue(INTERACTIVE, {"birds"}).queued == 1
    assert (read(ledger, birds).queue, read(ledger, birds).queue_name) == (INTERACTIVE, "interactive.birds")


def test_the_version_is_chosen_when_a_job_is_claimed(ledger: Ledger) -> None:
    registry = ledger.models
    registry.register("birds", "1", info("a"), "w")
    registry.register("cats-dogs", "7", info("c"), "w", live=True, default=True)
    named, pinned, unnamed = job_of("birds"), job_of("birds@3"), job_of("")
    store(ledger, [named, pinned, unnamed])
    registry.register("birds", "2", info("b"), "w", live=True)
    assert [claimed(ledger, job).routed for job in (named, pinned, unnamed)] == ["birds@2", "birds@3", "cats-dogs@7"]


def test_a_job_is_not_routed_before_its_model_is_registered(ledger: Ledger) -> None:
    job = job_of("")
    store(ledger, [job])
    assert claimed(ledger, job).routed == ""


def test_top_k_is_stored_with_the_job(ledger: Ledger) -> None:
    job = replace(make_job(), top_k=3)
    store(ledger, [job])
    assert read(ledger, job).top_k == 3
