"""Naming a model in uploads and submissions, and `GET /v1/models`."""

import io
from typing import Any

import pytest

from contract.job import new_job_id, now_ms
from contract.ledger.models import VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway

IMAGE = draw()


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    info = VersionInfo(["sparrow", "owl"], 224, 224, "softmax", metrics={"accuracy": {"value": 0.9}}, checksum="a")
    gateway.ledger.models.register("birds", "1", info, "w")
    gateway.ledger.models.register("birds", "2", info, "w")
    gateway.ledger.models.register("cats-dogs", "7", info, "w", live=True, default=True)
    return gateway


def submit(gateway: Gateway, query: str, method: str = "POST", path: str = "/v1/jobs", **headers: str) -> Any:
    return gateway.client.open(f"{path}{query}", method=method, data=IMAGE, content_type="image/png", headers=headers)


def beat(gateway: Gateway, *held: HeldModel) -> None:
    now = now_ms()
    heartbeat = Heartbeat(
        *("w", "host", "birds", "1", [], "tensorflow", "float32", 0.5, "", now, now),
        serves=sorted({item.name for item in held}),
        models=held,
    )
    gateway.ledger.beat(heartbeat, 60_000)


def test_a_job_names_its_model(gateway: Gateway) -> None:
    job = submit(gateway, "?model=birds@2&queue=bulk&top_k=3").json
    assert (job["queue"], job["requested_model"], job["model"]) == ("bulk", "birds@2", None)
    assert gateway.new_jobs == [("bulk.birds", [job["id"]])]
    assert gateway.job(job["id"]).top_k == 3


def test_a_job_without_a_model_waits_in_the_common_queue(gateway: Gateway) -> None:
    job = submit(gateway, "").json
    assert job["requested_model"] is None
    assert gateway.new_jobs == [("interactive", [job["id"]])]


@pytest.mark.parametrize(
    ("model", "detail"),
    [
        ("dogs", "There is no model dogs. Choose one of: birds, cats-dogs."),
        ("birds@9", "The model birds has no version 9. Its versions: 1, 2."),
    ],
)
def test_an_unknown_model_is_rejected_with_the_names_there_are(gateway: Gateway, model: str, detail: str) -> None:
    for response in (
        submit(gateway, f"?model={model}"),
        submit(gateway, f"?model={model}", "PUT", f"/v1/jobs/{new_job_id()}"),
        gateway.client.post("/v1/submissions", json={"model": model}),
        gateway.client.put(f"/v1/submissions/{new_job_id()}", json={"model": model}),
    ):
        assert (response.status_code, response.json["code"], response.json["detail"]) == (404, "unknown_model", detail)
    form = {"file": (io.BytesIO(IMAGE), "x.png", "image/png")}
    response = gateway.client.post(f"/predict?model={model}", data=form)
    assert (response.status_code, response.json["detail"]) == (404, detail)
    assert gateway.new_jobs == []


def test_a_model_that_was_just_registered_can_be_named(gateway: Gateway) -> None:
    assert submit(gateway, "?model=birds").status_code == 202
    gateway.ledger.models.register("cars", "1", VersionInfo(["a", "b"], 8, 8), "w")
    assert submit(gateway, "?model=cars").status_code == 202


def test_the_same_id_cannot_be_used_for_another_model(gateway: Gateway) -> None:
    path = f"/v1/jobs/{new_job_id()}"
    assert submit(gateway, "?model=birds", "PUT", path).status_code == 202
    assert submit(gateway, "?model=birds", "PUT", path).status_code == 202
    assert submit(gateway, "", "PUT", path).status_code == 409


def test_the_jobs_of_a_submission_have_its_model(gateway: Gateway) -> None:
    submission = gateway.client.post("/v1/submissions", json={"model": "birds", "top_k": 2}).json
    assert submission["requested_model"] == "birds"
    form = {"file": (io.BytesIO(IMAGE), "x.png", "image/png")}
    added = gateway.client.post(submission["urls"]["jobs"], data=form).json
    job = gateway.job(added["accepted"][0]["job_id"])
    assert (job.queue_name, job.model, job.top_k) == ("bulk.birds", "birds", 2)


def test_a_submission_with_another_model_is_a_different_one(gateway: Gateway) -> None:
    path = f"/v1/submissions/{new_job_id()}"
    assert gateway.client.put(path, json={"model": "birds"}).status_code == 201
    assert gateway.client.put(path, json={"model": "birds"}).status_code == 200
    assert gateway.client.put(path, json={}).status_code == 409


def test_models_are_listed(gateway: Gateway) -> None:
    beat(gateway, HeldModel("birds", "1", "ready"))
    birds, cats_dogs = gateway.client.get("/v1/models").json["models"]
    assert birds == {
        "name": "birds",
        "default": False,
        "live": "1",
        "versions": ["1", "2"],
        "label_count": 2,
        "workers": 1,
    }
    assert (cats_dogs["default"], cats_dogs["workers"]) == (True, 0)


def test_a_model_has_versions_with_states(gateway: Gateway) -> None:
    beat(gateway, HeldModel("birds", "1", "ready"), HeldModel("birds", "2", "failed", "It is damaged."))
    model = gateway.client.get("/v1/models/birds").json
    assert model["labels"] == ["sparrow", "owl"]
    assert [(row["version"], row["live"], row["state"]) for row in model["details"]] == [
        ("1", True, "ready"),
        ("2", False, "failed"),
    ]
    assert model["model_version_status"][1] == {
        "version": "2",
        "state": "END",
        "status": {"error_code": "INTERNAL", "error_message": "It is damaged."},
    }
    assert gateway.client.get("/v1/models/none").json["code"] == "unknown_model"


def test_predict_needs_a_worker_of_the_model(gateway: Gateway) -> None:
    beat(gateway, HeldModel("birds", "1", "ready"))
    gateway.finish_new_jobs()

    def predict(query: str) -> Any:
        form = {"file": (io.BytesIO(IMAGE), "x.png", "image/png")}
        return gateway.client.post(f"/predict{query}", data=form)

    assert predict("?model=birds").status_code == 200
    assert predict("").status_code == 503


def test_the_status_reports_models_that_nobody_serves_or_can_load(gateway: Gateway) -> None:
    beat(gateway, HeldModel("cats-dogs", "7", "ready"), HeldModel("cars", "1", "failed", "It is damaged."))
    submit(gateway, "?model=birds")
    status = gateway.client.get("/v1/status").json
    assert status["ready"]
    problems = {problem["code"]: problem["detail"] for problem in status["problems"]}
    assert "birds" in problems["model_not_served"]
    assert "cars@1" in problems["model_not_loaded"]
    assert "It is damaged." in problems["model_not_loaded"]
    assert "so its jobs wait" in problems["model_not_loaded"]
    birds, cats_dogs = status["models"]
    assert (birds["name"], birds["workers"], birds["queues"]["interactive"]["queued"]) == ("birds", 0, 1)
    assert (cats_dogs["name"], cats_dogs["default"], cats_dogs["workers"]) == ("cats-dogs", True, 1)
    assert status["queues"]["interactive"]["queued"] == 1


@pytest.mark.parametrize(("version", "count"), [("1", 1), ("2", 0)])
def test_only_workers_that_cannot_load_the_live_version_raise_an_alarm(
    gateway: Gateway, version: str, count: int
) -> None:
    beat(gateway, HeldModel("birds", version, "failed", "It is damaged."))
    assert f'pawqueue_model_failing_workers{{model="birds"}} {count}.0' in gateway.metrics()
    (problem,) = gateway.client.get("/v1/status").json["problems"]
    assert ("so its jobs wait" in problem["detail"]) == bool(count)
