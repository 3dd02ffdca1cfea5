"""`GET /v1/models/{name}/report`, and the metrics of versions and canaries."""

from contract.job import JobError, JobResult, ModelRef, Prediction, Timings, now_ms
from contract.ledger.models import CanaryTerms, VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, upload


def register(gateway: Gateway) -> None:
    for version in ("1", "2"):
        gateway.ledger.models.register("birds", version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")


def process(gateway: Gateway, result: JobResult, count: int = 1) -> list[str]:
    """Upload images that get this result."""
    gateway.finish_new_jobs(result)
    return [upload(gateway, draw(), query="?model=birds").json["id"] for _ in range(count)]


def seen(version: str, label: str, confidence: float, ms: float) -> JobResult:
    prediction = Prediction(label, confidence, {label: confidence})
    return JobResult(prediction, None, ModelRef("birds", version), 4, Timings(predict_ms=ms))


def begin_canary(gateway: Gateway) -> None:
    _, revision = gateway.ledger.models.change("birds", "2", canary=CanaryTerms(5), limit_s=30)
    now, held = now_ms(), [HeldModel("birds", version, "ready") for version in ("1", "2")]
    values = ("w", "host", "birds", "1", [], "numpy", "float32", 0.5, "", now, now)
    gateway.ledger.beat(Heartbeat(*values, serves=["birds"], models=held, prepared={"birds": revision}), 60_000)
    gateway.ledger.models.settle("birds")


def test_the_versions_of_a_model_are_compared(gateway: Gateway) -> None:
    register(gateway)
    job_ids = process(gateway, seen("1", "owl", 0.9, 10), 3)
    process(gateway, seen("1", "wren", 0.7, 40))
    process(gateway, JobResult(error=JobError("predict_failed", "It failed."), model=ModelRef("birds", "1")))
    process(gateway, seen("2", "wren", 0.6, 20))
    gateway.client.post(f"/v1/jobs/{job_ids[0]}/feedback", json={"label": "wren"})
    first, second = gateway.client.get("/v1/models/birds/report").json["versions"]
    assert (first["version"], first["live"], first["canary"], first["jobs"]) == ("1", True, False, 5)
    assert (first["errors"]["count"], first["errors"]["share"], round(first["errors"]["high"], 3)) == (1, 0.2, 0.624)
    assert (round(first["predict_ms"]["p50"]), round(first["predict_ms"]["p95"])) in {(10, 40), (10, 41), (10, 39)}
    assert (first["labels"], first["confidence"]) == ({"owl": 3, "wren": 1}, 0.85)
    assert (first["accuracy"]["right"], first["accuracy"]["total"]) == (0, 1)
    assert (second["version"], second["live"], second["jobs"], second["accuracy"]["accuracy"]) == ("2", False, 1, None)


def test_an_unknown_model_has_no_report(gateway: Gateway) -> None:
    register(gateway)
    assert gateway.client.get("/v1/models/cars/report").json["code"] == "unknown_model"
    assert gateway.client.get("/v1/models/birds/report").json["versions"] == []


def test_metrics_show_which_version_processes_jobs_and_what_canaries_do(gateway: Gateway) -> None:
    register(gateway)
    process(gateway, seen("1", "owl", 0.9, 10), 2)
    process(gateway, JobResult(error=JobError("predict_failed", "It failed."), model=ModelRef("birds", "1")))
    begin_canary(gateway)
    metrics = gateway.metrics()
    assert 'pawqueue_version_jobs_total{model="birds",version="1"} 3.0' in metrics
    assert 'pawqueue_version_errors_total{model="birds",version="1"} 1.0' in metrics
    assert 'pawqueue_canary_share{model="birds",version="2"} 0.05' in metrics
    assert 'pawqueue_canaries_taken_back_total{model="birds"} 0.0' in metrics
    gateway.ledger.models.end_canary("birds", problem="It is slower.")
    metrics = gateway.metrics()
    assert "pawqueue_canary_share{" not in metrics
    assert 'pawqueue_canaries_taken_back_total{model="birds"} 1.0' in metrics
