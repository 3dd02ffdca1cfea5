"""The metrics of the gateway: every label has a closed set of values, whatever clients send."""

import io

from contract.errors import error_classes
from contract.job import JobError, JobResult, JobStatus
from contract.ledger.models import VersionInfo
from contract.queues import QUEUES
from contract.web.limits import Refusal, Refusals
from gateway.metrics import CODES, METHODS, RefusalCollector
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, assert_problem, upload

_MADE_UP = 1000
_OTHER = {"other"}


def closed_sets(gateway: Gateway) -> dict[str, set[str]]:
    """All values that a label may have, by the label's name."""
    rules = {rule.rule for rule in gateway.client.application.url_map.iter_rules()}
    return {
        "method": METHODS | _OTHER,
        "route": rules | {"(none)"},
        "status": {str(status) for status in (*range(200, 600), *JobStatus)},
        "reason": CODES | _OTHER,
        "model": {"", "cats-dogs"},
        "version": {"1"},
        "queue": set(QUEUES),
        "state": {"queued", "running"},
        "label": {"", "cat"},
        "code": set(error_classes()),
        "result": {"delivered", "failed", "dead"},
    }


def values(gateway: Gateway) -> dict[str, set[str]]:
    """The values of each label in all metrics, by the label's name."""
    found: dict[str, set[str]] = {}
    for metric in gateway.services.metrics.registry.collect():
        for sample in metric.samples:
            for name, value in sample.labels.items():
                if name != "le":  # the bounds of a histogram are constants
                    found.setdefault(name, set()).add(value)
    return found


def use_every_part(gateway: Gateway) -> None:
    """Send requests of each kind, with names that a client makes up, and finish three jobs."""
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    gateway.finish_new_jobs(JobResult(error=JobError("predict_failed", "Made up.")))
    upload(gateway, draw())
    gateway.finish_new_jobs()
    job_id = upload(gateway, draw(), name="made-up-file.png", **{"Idempotency-Key": "made-up-key"}).get_json()["id"]
    upload(gateway, b"no")
    for query in ("?model=cats-dogs", "?model=made-up-model"):
        gateway.client.post(f"/v1/jobs{query}", data=draw(), content_type="image/png")
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs/made-up-id", "/made-up-path", "/docs/made-up.js", "/readyz"):
        gateway.client.get(path, headers={"Host": "made-up-host", "User-Agent": "made-up"})
    submission = gateway.client.post("/v1/submissions", json={"name": "made-up-name"}).get_json()["id"]
    for name, data in (("made-up-image.png", draw()), ("made-up-text.txt", b"no")):
        form = {"file": (io.BytesIO(data), name)}
        gateway.client.post(f"/v1/submissions/{submission}/jobs", data=form)


def test_every_label_of_every_metric_has_a_closed_set_of_values(gateway: Gateway) -> None:
    use_every_part(gateway)
    gateway.client.open("/v1/jobs", method="MADEUP")
    allowed, found = closed_sets(gateway), values(gateway)
    assert found.keys() == allowed.keys()
    for name, used in found.items():
        assert used <= allowed[name], name


def test_what_the_web_server_refused_is_counted_by_reason(gateway: Gateway) -> None:
    refusals = Refusals()
    gateway.services.metrics.registry.register(RefusalCollector(refusals))
    refusals.count(Refusal.IDLE_CLOSED)
    (refused,) = [m for m in gateway.services.metrics.registry.collect() if m.name == "pawqueue_server_refused"]
    assert {sample.labels["reason"]: sample.value for sample in refused.samples} == {
        reason.value: float(reason is Refusal.IDLE_CLOSED) for reason in Refusal
    }


def test_made_up_methods_leave_one_time_series(gateway: Gateway) -> None:
    for number in range(_MADE_UP):
        gateway.client.open("/v1/jobs", method=f"MADEUP{number}")
    samples = [sample for metric in gateway.services.metrics.registry.collect() for sample in metric.samples]
    (requests,) = [sample for sample in samples if sample.name == "pawqueue_http_requests_total"]
    assert (requests.labels["method"], requests.value) == ("other", _MADE_UP)
    assert len(samples) < 100


def test_unsupported_methods_are_rejected_with_the_supported_ones(gateway: Gateway) -> None:
    for method in sorted(METHODS - {"GET", "HEAD", "OPTIONS"} | {"MADEUP"}):
        response = gateway.client.open("/v1/status", method=method)
        assert_problem(response, 405, "method_not_allowed")
        assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


def test_clients_cannot_read_metrics_but_learn_where_they_are(gateway: Gateway) -> None:
    body = assert_problem(gateway.client.get("/metrics"), 404, "not_found")
    assert "PAWQUEUE_GATEWAY_METRICS_PORT" in body["detail"]
