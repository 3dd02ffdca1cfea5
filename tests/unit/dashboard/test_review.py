"""What the Review page does with the responses of a fake gateway."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from dash.exceptions import PreventUpdate

from contract.access import Scope
from contract.job import new_job_id
from dashboard.data.gateway import GatewayClient
from dashboard.pages.review import Session, act, keys_of, renew
from tests.support.images import draw
from tests.unit.dashboard.conftest import FakeServer, MakeWorld

CLAIMS = "/v1/review/claims"


def claim(job_id: str = "", file: str = "a.jpg") -> httpx.Response:
    image = {"job_id": job_id, "file": file} if job_id else None
    return httpx.Response(200, json={"kept": 3, "reviewed": 1, "image": image, "lease_s": 60})


def problem(code: str, status: int = 409) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": f"It is a {code}."})


def sent(server: FakeServer) -> list[tuple[str, Any]]:
    return [(request.url.path, json.loads(request.content)) for request in server.requests]


def gateway(server: FakeServer) -> GatewayClient:
    return GatewayClient("http://gateway", server.transport)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["cat", "dog"], {"cat": "c", "dog": "d"}),
        (["cat", "cow", "dog"], {"dog": "d"}),
        (["Über", "unicorn", "1", ""], {"Über": "ü"}),  # u takes the last action back
    ],
)
def test_labels_whose_first_letter_is_unique_have_it_as_a_key(labels: list[str], expected: dict[str, str]) -> None:
    assert keys_of(labels) == expected


def test_an_action_on_an_image_that_is_no_longer_shown_is_ignored() -> None:
    server = FakeServer()
    with pytest.raises(PreventUpdate):
        act(gateway(server), Session("r", turn=2, job_id="b"), {"what": "label", "label": "cat", "turn": 1}, "")
    assert not server.requests


def test_an_image_that_cannot_be_labeled_stays_with_the_reason() -> None:
    server = FakeServer({"/v1/review/a/label": problem("forbidden", 403), CLAIMS: claim("a")})
    before = Session("r", 1, "a")
    shown = act(gateway(server), before, {"what": "label", "label": "cat", "turn": 1}, "pq")
    assert (shown.state.job_id, shown.state.past, shown.message) == ("a", (), "It is a forbidden.")
    assert sent(server)[-1] == (CLAIMS, {"reviewer": "r", "job_id": "a"})


def test_an_image_that_another_reviewer_has_is_replaced_and_cannot_be_undone() -> None:
    server = FakeServer({"/v1/review/a/label": problem("conflict"), CLAIMS: claim("b")})
    shown = act(gateway(server), Session("r", 1, "a"), {"what": "label", "label": "cat", "turn": 1}, "")
    assert (shown.state.job_id, shown.state.past, shown.message) == ("b", (), "It is a conflict.")


def test_an_undo_returns_to_the_image_and_then_to_the_one_that_was_shown() -> None:
    server = FakeServer({CLAIMS: claim("a"), "/v1/review/a/label": httpx.Response(200, json={})})
    shown = act(gateway(server), Session("r", 2, "b", past=("a",)), {"what": "undo", "turn": 2}, "")
    assert (shown.state.job_id, shown.state.past, shown.state.ahead) == ("a", (), ("b",))
    server.responses[CLAIMS] = claim("b")
    shown = act(gateway(server), shown.state, {"what": "skip", "turn": 3}, "")
    assert (shown.state.job_id, shown.state.past, shown.state.ahead) == ("b", ("a",), ())
    assert [body.get("job_id") for path, body in sent(server) if path == CLAIMS] == ["a", "b"]


def test_an_undo_that_another_reviewer_prevents_is_forgotten() -> None:
    server = FakeServer({CLAIMS: problem("conflict")})
    shown = act(gateway(server), Session("r", 2, "b", past=("a", "c")), {"what": "undo", "turn": 2}, "")
    assert shown.state.past == ("a",)


def test_a_renewed_lease_changes_nothing_and_a_lost_one_shows_the_next_image() -> None:
    server = FakeServer({CLAIMS: claim("a")})
    state = Session("r", 1, "a")
    assert renew(gateway(server), state, "") is None
    assert sent(server) == [(CLAIMS, {"reviewer": "r", "job_id": "a"})]
    assert renew(gateway(FakeServer({CLAIMS: httpx.ConnectError("down")})), state, "") is None
    shown = renew(gateway(FakeServer({CLAIMS: claim("b")})), replace(state, job_id=""), "")
    assert shown
    assert shown.state.job_id == "b"


@pytest.mark.parametrize(
    ("scopes", "gateway_requires_keys", "status"),
    [
        ((Scope.READ, Scope.SUBMIT), True, 200),
        ((Scope.READ,), True, 404),
        # A gateway without API keys would show all images.
        ((Scope.READ, Scope.SUBMIT), False, 404),
        ((Scope.ADMIN,), False, 200),
    ],
)
def test_images_need_the_scopes_of_a_reviewer(
    make_world: MakeWorld, scopes: tuple[Scope, ...], status: int, *, gateway_requires_keys: bool
) -> None:
    world = make_world(access_required=True)
    world = replace(world, services=replace(world.services, gateway_requires_keys=gateway_requires_keys))
    job_id, (_, key) = new_job_id(), world.make_key(*scopes)
    world.server.responses[f"/v1/review/{job_id}/image"] = httpx.Response(200, content=draw(form="JPEG"))
    response = world.browse().get(f"/review/{job_id}/image", headers={"X-API-Key": key})
    assert response.status_code == status
    if status == 200:
        assert (response.mimetype, response.headers["Cache-Control"]) == ("image/jpeg", "no-store")
        assert world.server.requests[-1].headers["Authorization"] == f"Bearer {key}"


def test_a_file_that_is_no_image_is_not_passed_on(make_world: MakeWorld) -> None:
    world, job_id = make_world(), new_job_id()
    world.server.responses[f"/v1/review/{job_id}/image"] = httpx.Response(200, content=b"<script>")
    assert world.browse().get(f"/review/{job_id}/image").status_code == 404
