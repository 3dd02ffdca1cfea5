"""Reporting right labels, and reading the accuracy of the versions of a model."""

from typing import Any

import pytest

from contract.access import Scope, make_key
from contract.job import new_job_id
from contract.ledger.models import VersionInfo
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, upload


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    gateway.finish_new_jobs()
    return gateway


def give(gateway: Gateway, job_id: str, label: str = "cat", **headers: str) -> Any:
    return gateway.client.post(f"/v1/jobs/{job_id}/feedback", json={"label": label}, headers=headers)


def finished(gateway: Gateway) -> str:
    return str(upload(gateway, draw()).json["id"])


def test_the_accuracy_of_a_version_is_measured(gateway: Gateway) -> None:
    job_ids = [finished(gateway) for _ in range(4)]
    first = give(gateway, job_ids[0], "dog").json
    assert (first["predicted"], first["label"], first["correct"]) == ("cat", "dog", False)
    assert first["model"] == {"name": "cats-dogs", "version": "1"}
    for job_id in job_ids[1:]:
        assert give(gateway, job_id).json["correct"]
    (version,) = gateway.client.get("/v1/models/cats-dogs/feedback").json["versions"]
    assert (version["version"], version["live"], version["right"], version["total"]) == ("1", True, 3, 4)
    assert (round(version["low"], 3), round(version["high"], 3)) == (0.301, 0.954)
    assert [(day["right"], day["total"]) for day in version["days"]] == [(3, 4)]
    metrics = gateway.metrics()
    assert 'pawqueue_feedback_total{correct="false",model="cats-dogs",version="1"} 1.0' in metrics
    assert 'pawqueue_feedback_total{correct="true",model="cats-dogs",version="1"} 3.0' in metrics
    assert 'pawqueue_feedback_accuracy{bound="mid",model="cats-dogs",version="1"} 0.75' in metrics
    assert 'pawqueue_feedback_accuracy{bound="high",model="cats-dogs",version="1"} 0.954' in metrics


def test_a_label_that_the_model_does_not_have_is_rejected(gateway: Gateway) -> None:
    response = give(gateway, finished(gateway), "rabbit")
    assert response.status_code == 400
    assert response.json["detail"] == "'rabbit' is not a label of cats-dogs@1. Its labels: cat, dog."


def test_a_job_without_a_prediction_is_a_conflict(gateway: Gateway) -> None:
    gateway.ledger.on_new_jobs = lambda _: None
    response = give(gateway, finished(gateway))
    assert (response.status_code, response.json["detail"]) == (
        409,
        "The job has no prediction, because it is queued.",
    )


def test_an_unknown_job_or_model_is_not_found(gateway: Gateway) -> None:
    assert give(gateway, new_job_id()).json["code"] == "not_found"
    assert gateway.client.get("/v1/models/cars/feedback").json["code"] == "unknown_model"


def test_nobody_reports_labels_for_the_jobs_of_others(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required")
    gateway.finish_new_jobs()
    keys = {}
    for name in ("ada", "grace"):
        stored, keys[name] = make_key(name, (Scope.SUBMIT, Scope.READ))
        gateway.keys.put(stored)
    job_id = upload(gateway, draw(), **{"X-API-Key": keys["ada"]}).json["id"]
    assert give(gateway, job_id, **{"X-API-Key": keys["grace"]}).status_code == 404
    assert give(gateway, job_id, **{"X-API-Key": keys["ada"]}).status_code == 200
