"""`PATCH /v1/models/{name}`: promoting a version, rolling back, and canaries."""

from typing import Any

import pytest

from contract.access import Scope, make_key
from contract.job import now_ms
from contract.ledger.models import VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from tests.unit.gateway.conftest import Gateway, MakeGateway


def register(gateway: Gateway) -> Gateway:
    for version in ("1", "2", "3"):
        gateway.ledger.models.register("birds", version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")
    return gateway


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    return register(gateway)


def patch(gateway: Gateway, name: str = "birds", wait_s: int = 0, key: str = "", **values: Any) -> Any:
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
    return gateway.client.patch(
        f"/v1/models/{name}", json=values, headers=headers | ({"X-API-Key": key} if key else {})
    )


def report(gateway: Gateway, revision: int, version: str = "2", problem: str = "") -> None:
    """The heartbeat of a worker that has loaded a version, or failed to."""
    now = now_ms()
    held = [HeldModel("birds", version, "failed" if problem else "ready", problem)]
    values = ("w", "host", "birds", "1", [], "numpy", "float32", 0.5, "", now, now)
    gateway.ledger.beat(Heartbeat(*values, serves=["birds"], models=held, prepared={"birds": revision}), 60_000)


def promote(gateway: Gateway, version: str) -> Any:
    begun = patch(gateway, live=version)
    report(gateway, begun.json["change"]["revision"], version)
    return patch(gateway, live=version)


def test_a_version_becomes_live_when_the_workers_have_loaded_it(gateway: Gateway) -> None:
    begun = patch(gateway, live="2", why="fewer owls called wrens")
    assert (begun.status_code, begun.json["live"]) == (202, "1")
    change = begun.json["change"]
    assert (change["version"], change["why"], change["settled_at"]) == ("2", "fewer owls called wrens", None)
    report(gateway, change["revision"])
    done = patch(gateway, live="2", wait_s=5)
    assert (done.status_code, done.headers["Preference-Applied"]) == (200, "wait=5")
    assert (done.json["live"], done.json["previous"], done.json["change"]) == ("2", "1", None)
    assert done.json["last_change"]["settled_at"]
    assert patch(gateway, live="2").status_code == 200  # it is live already


def test_a_rollback_returns_to_the_version_before(gateway: Gateway) -> None:
    assert patch(gateway, rollback=True).json["code"] == "not_found"
    promote(gateway, "2")
    revision = patch(gateway, rollback=True).json["change"]["revision"]
    report(gateway, revision, "1")
    assert patch(gateway, rollback=True).json["live"] == "1"


def test_nothing_changes_if_a_worker_cannot_load_the_version(gateway: Gateway) -> None:
    revision = patch(gateway, live="2").json["change"]["revision"]
    report(gateway, revision, problem="It is damaged.")
    failed = patch(gateway, live="2", wait_s=5)
    assert (failed.status_code, failed.json["code"]) == (409, "not_promoted")
    assert "It is damaged." in failed.json["detail"]
    model = gateway.client.get("/v1/models/birds").json
    assert (model["live"], model["change"], model["last_change"]["problem"]) == ("1", None, "It is damaged.")


def test_a_canary_begins_when_the_workers_have_loaded_it_and_ends_at_once(gateway: Gateway) -> None:
    wanted = {"version": "2", "percent": 5, "auto_rollback": True}
    begun = patch(gateway, canary=wanted, why="is it faster?")
    assert (begun.status_code, begun.json["canary"], begun.json["change"]["kind"]) == (202, None, "canary")
    report(gateway, begun.json["change"]["revision"])
    done = patch(gateway, canary=wanted, wait_s=5)
    assert (done.status_code, done.json["live"], done.json["change"]) == (200, "1", None)
    canary = done.json["canary"]
    assert canary.pop("started_at")
    assert canary == wanted | {"by": "", "why": "is it faster?"}
    assert patch(gateway, canary=wanted).json["revision"] == done.json["revision"]  # the same request again
    ended = patch(gateway, canary=None, why="it is not")
    assert (ended.status_code, ended.json["canary"]) == (200, None)
    assert (ended.json["last_change"]["kind"], ended.json["last_change"]["why"]) == ("canary_end", "it is not")


def test_a_canary_does_not_begin_if_a_worker_cannot_load_it(gateway: Gateway) -> None:
    wanted = {"version": "2", "percent": 5}
    report(gateway, patch(gateway, canary=wanted).json["change"]["revision"], problem="It is damaged.")
    failed = patch(gateway, canary=wanted, wait_s=5)
    assert (failed.status_code, failed.json["code"]) == (409, "not_promoted")
    assert "birds@2 did not become the canary, and nothing has changed. It is damaged." in failed.json["detail"]


def test_of_two_operators_one_is_told_what_the_other_does(make_gateway: MakeGateway) -> None:
    gateway = register(make_gateway(access="required"))
    ada, ada_key = make_key("ada", (Scope.ADMIN,))
    grace, grace_key = make_key("grace", (Scope.ADMIN,))
    for stored in (ada, grace):
        gateway.keys.put(stored)
    assert patch(gateway, live="2", why="better", key=ada_key).status_code == 202
    refused = patch(gateway, live="3", key=grace_key)
    assert (refused.status_code, refused.json["code"]) == (409, "model_changing")
    for known in ("version 2", ada.id, "better"):
        assert known in refused.json["detail"]
    assert patch(gateway, live="2", key=ada_key).status_code == 202  # the same request again


def test_a_change_can_depend_on_the_revision_that_was_read(gateway: Gateway) -> None:
    before = gateway.client.get("/v1/models/birds").json["revision"]
    promote(gateway, "2")
    refused = patch(gateway, live="3", revision=before)
    assert (refused.status_code, refused.json["code"]) == (409, "model_changed")
    assert "2 is live" in refused.json["detail"]


def test_a_change_needs_the_scope_admin(make_gateway: MakeGateway) -> None:
    gateway = register(make_gateway(access="required"))
    stored, key = make_key("reader", (Scope.READ, Scope.SUBMIT))
    gateway.keys.put(stored)
    assert patch(gateway, live="2", key=key).status_code == 403


@pytest.mark.parametrize(
    ("values", "status", "detail"),
    [
        ({}, 400, "Send one of `live` with a version, `rollback` with true, `canary` and `shadow`."),
        ({"live": "2", "rollback": True}, 400, "Send one of"),
        ({"live": ""}, 400, "live=''"),
        ({"live": "2", "shadow": None}, 400, "Send one of"),
        ({"shadow": {"version": "1"}}, 409, "birds@1 is live. A shadow is another version than the live one."),
        ({"shadow": {"version": "9"}}, 404, "The model birds has no version 9. Its versions: 1, 2, 3."),
        ({"shadow": {"version": "2", "sample": 0}}, 400, "sample"),
        ({"live": "9"}, 404, "The model birds has no version 9. Its versions: 1, 2, 3."),
        ({"live": "2", "canary": None}, 400, "Send one of"),
        ({"canary": {"version": "9", "percent": 5}}, 404, "The model birds has no version 9. Its versions: 1, 2, 3."),
        ({"canary": {"version": "1", "percent": 5}}, 409, "A canary is another version."),
        ({"canary": {"version": "2", "percent": 0}}, 400, "percent"),
        ({"canary": {"version": "2", "percent": 51}}, 400, "percent"),
        ({"versoin": "2"}, 400, "versoin"),
    ],
)
def test_a_wrong_change_is_rejected(gateway: Gateway, values: Any, status: int, detail: str) -> None:
    response = patch(gateway, **values)
    assert response.status_code == status
    assert detail in response.json["detail"]


def test_a_shadow_is_set_and_removed(gateway: Gateway) -> None:
    assert gateway.client.get("/v1/models/birds").json["shadow"] is None
    done = patch(gateway, shadow={"version": "2", "sample": 0.5}, why="trained on night images")
    assert (done.status_code, done.json["live"]) == (200, "1")
    shadow = done.json["shadow"]
    assert (shadow["version"], shadow["sample"], shadow["why"]) == ("2", 0.5, "trained on night images")
    assert (shadow["workers"], shadow["problem"]) == (0, "")
    assert patch(gateway, shadow=None).json["shadow"] is None


def test_a_model_tells_which_workers_run_its_shadow(gateway: Gateway) -> None:
    revision = patch(gateway, shadow={"version": "2"}).json["shadow"]["revision"]
    now = now_ms()
    for worker, held in (
        ("a", HeldModel("birds", "2", "ready")),
        ("b", HeldModel("birds", "2", "waiting", "It does not fit.")),
        ("c", HeldModel("birds", "3", "ready", "Of an earlier shadow.")),
    ):
        values = (worker, "host", "birds", "1", [], "numpy", "float32", 0.5, "", now, now)
        gateway.ledger.beat(Heartbeat(*values, serves=["birds"], shadows=[held]), 60_000)
    shadow = gateway.client.get("/v1/models/birds").json["shadow"]
    assert (shadow["workers"], shadow["problem"]) == (1, "It does not fit.")
    gateway.ledger.models.stop_shadow("birds", revision, "It crashed.", "a")
    shadow = gateway.client.get("/v1/models/birds").json["shadow"]
    assert (shadow["workers"], shadow["problem"]) == (0, "It crashed.")


def test_an_unknown_model_is_rejected(gateway: Gateway) -> None:
    assert patch(gateway, "cars", live="1").json["code"] == "unknown_model"
