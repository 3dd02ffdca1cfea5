"""Reading how often shadows agree with the live version, and on which jobs they do not."""

from typing import Any

import pytest

from contract.access import Scope, make_key
from contract.ledger.models import VersionInfo
from contract.ledger.shadows import Compared
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, upload


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    gateway.finish_new_jobs()
    return gateway


def compare(gateway: Gateway, shadow_label: str) -> str:
    """The id of a job with the label `cat`, for which a shadow predicted a label."""
    job_id = str(upload(gateway, draw()).json["id"])
    row = Compared(job_id, "cats-dogs", "1", "2", "cat", shadow_label, 0.9, 0.6, shadow_label == "cat")
    assert gateway.ledger.shadows.record([row]) == [True]
    return job_id


def get(gateway: Gateway, path: str, **headers: str) -> Any:
    return gateway.client.get(f"/v1/models/{path}", headers=headers)


def test_agreement_and_disagreements_are_reported(gateway: Gateway) -> None:
    assert get(gateway, "cats-dogs/shadow").json == {"name": "cats-dogs", "pairs": []}
    job_ids = [compare(gateway, label) for label in ("cat", "cat", "dog", "dog")]
    (pair,) = get(gateway, "cats-dogs/shadow").json["pairs"]
    assert (pair["live"], pair["shadow"], pair["compared"], pair["agreed"], pair["agreement"]) == ("1", "2", 4, 2, 0.5)
    assert (round(pair["low"], 2), round(pair["high"], 2)) == (0.15, 0.85)
    found = get(gateway, "cats-dogs/disagreements").json["disagreements"]
    assert [row["job_id"] for row in found] == [job_ids[3], job_ids[2]]
    assert (found[0]["label"], found[0]["confidence"]) == ("cat", 0.9)
    assert (found[0]["shadow_label"], found[0]["shadow_confidence"]) == ("dog", 0.6)
    assert get(gateway, "cats-dogs/disagreements?limit=1").json["disagreements"] == found[:1]
    metrics = gateway.metrics()
    assert 'pawqueue_shadow_total{agreed="true",model="cats-dogs",version="2"} 2.0' in metrics
    assert 'pawqueue_shadow_total{agreed="false",model="cats-dogs",version="2"} 2.0' in metrics


def test_feedback_shows_which_version_is_more_often_right(gateway: Gateway) -> None:
    for _ in range(6):
        gateway.client.post(f"/v1/jobs/{compare(gateway, 'dog')}/feedback", json={"label": "dog"})
    (pair,) = get(gateway, "cats-dogs/shadow").json["pairs"]
    assert pair["feedback"] == {
        "total": 6,
        "both": 0,
        "only_live": 0,
        "only_shadow": 6,
        "neither": 0,
        "p_value": pytest.approx(2 / 64),
    }


def test_a_purged_job_is_not_listed(gateway: Gateway) -> None:
    kept, purged = compare(gateway, "dog"), compare(gateway, "dog")
    assert gateway.client.delete(f"/v1/jobs/{purged}?purge=true").status_code == 204
    assert [row["job_id"] for row in get(gateway, "cats-dogs/disagreements").json["disagreements"]] == [kept]


def test_only_the_scope_admin_may_read_the_jobs_of_others(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required")
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    reader, reader_key = make_key("reader", (Scope.READ, Scope.SUBMIT))
    admin, admin_key = make_key("admin", (Scope.ADMIN,))
    for stored in (reader, admin):
        gateway.keys.put(stored)
    assert get(gateway, "cats-dogs/shadow", **{"X-API-Key": reader_key}).status_code == 200
    assert get(gateway, "cats-dogs/disagreements", **{"X-API-Key": reader_key}).status_code == 403
    assert get(gateway, "cats-dogs/disagreements", **{"X-API-Key": admin_key}).status_code == 200


@pytest.mark.parametrize("path", ["shadow", "disagreements"])
def test_an_unknown_model_is_rejected(gateway: Gateway, path: str) -> None:
    assert get(gateway, f"cars/{path}").json["code"] == "unknown_model"
