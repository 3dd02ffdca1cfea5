"""The application without a browser: access, files, headers, and Try it against a gateway that is made up."""

import base64

import httpx
import pytest
from flask.testing import FlaskClient

from contract.access import Scope, make_key
from contract.job import new_job_id
from contract.settings import Settings, load_settings
from dashboard.app import create_dashboard
from dashboard.try_it import Entry, data_of, entries_of, followed, sent
from dashboard.viewers import Sessions
from tests.unit.dashboard.conftest import World

HTML = {"Accept": "text/html"}


def client(world: World) -> FlaskClient:
    world.reader.read()
    return create_dashboard(world.parts).test_client()


def key(world: World, *scopes: Scope) -> tuple[str, str]:
    stored, text = make_key("test", scopes)
    world.keys.put(stored)
    return stored.id, text


def test_everything_comes_from_here_and_browsers_are_told_to_be_strict() -> None:
    http = client(World())
    page = http.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert 'lang="en"' in page.text
    assert "http://" not in page.text.replace("http://localhost", "")
    assert "https://" not in page.text
    assert http.get("/healthz").json == {"status": "alive"}


def test_thumbnails_are_found_by_id_alone() -> None:
    world = World()
    job_id = world.end()
    world.thumbnails.put(job_id, b"image")
    http = client(world)
    assert http.get(f"/thumbnails/{job_id}").data == b"image"
    assert http.get("/thumbnails/x").status_code == 404
    assert http.get(f"/thumbnails/{new_job_id()}").status_code == 404


def test_without_a_key_nothing_is_told_where_keys_are_asked_for() -> None:
    world = World(access_required=True)
    job_id = world.end()
    http = client(world)
    assert http.get("/", headers=HTML).headers["Location"] == "/sign-in"
    for path in (f"/thumbnails/{job_id}", "/predictions.csv", "/_dash-layout", "/_dash-dependencies"):
        assert http.get(path, headers={"Accept": "application/json"}).status_code == 401, path
    assert http.post("/_dash-update-component", json={}).status_code == 401
    assert http.get("/healthz").status_code == 200


def test_a_wrong_key_is_answered_with_words_and_a_good_one_with_a_strict_cookie() -> None:
    world = World(access_required=True)
    _, text = key(world, Scope.ADMIN)
    http = client(world)
    refused = http.post("/sign-in", data={"api_key": "<b>pq_x_y"})
    assert refused.status_code == 401
    assert "Unknown or revoked" in refused.text
    good = http.post("/sign-in", data={"api_key": text})
    cookie = good.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert text not in cookie
    assert http.get("/").status_code == 200
    http.post("/sign-out")
    assert http.get("/", headers=HTML).status_code == 302


def test_who_may_read_sees_own_jobs_and_an_admin_sees_all() -> None:
    world = World(access_required=True)
    mine, text = key(world, Scope.READ)
    _, boss = key(world, Scope.ADMIN)
    _, sender = key(world, Scope.SUBMIT)
    own, other = world.end(owner=mine, file="mine.jpg"), world.end(owner="another", file="other.jpg")
    for job_id in (own, other):
        world.thumbnails.put(job_id, b"image")
    http = client(world)

    def seen(secret: str) -> tuple[bool, bool, int, int]:
        headers = {"Authorization": f"Bearer {secret}"}
        text = http.get("/predictions.csv", headers=headers).text
        codes = [http.get(f"/thumbnails/{job_id}", headers=headers).status_code for job_id in (own, other)]
        return own in text, other in text, codes[0], codes[1]

    assert seen(text) == (True, False, 200, 404)
    assert seen(boss) == (True, True, 200, 200)
    assert http.get("/", headers={"X-API-Key": sender}).status_code == 403


def test_a_session_ends_by_itself() -> None:
    now_s = [0.0]
    sessions = Sessions(clock=lambda: now_s[0])
    token = sessions.open("secret")
    assert sessions.api_key(token) == "secret"
    assert sessions.api_key("guess") == ""
    now_s[0] = 13 * 3600
    assert sessions.api_key(token) == ""


@pytest.mark.parametrize(
    ("environ", "required"),
    [
        ({}, False),
        ({"PAWQUEUE_DASHBOARD_HOST": "0.0.0.0"}, True),
        ({"PAWQUEUE_GATEWAY_HOST": "0.0.0.0"}, True),
        ({"PAWQUEUE_DASHBOARD_HOST": "0.0.0.0", "PAWQUEUE_ACCESS": "open-to-everyone"}, False),
        ({"PAWQUEUE_ACCESS": "required"}, True),
    ],
)
def test_keys_are_asked_for_as_soon_as_others_can_reach_it(environ: dict[str, str], required: bool) -> None:
    assert load_settings(environ).dashboard_access_is_required() is required


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"PAWQUEUE_GATEWAY_HOST": "0.0.0.0", "PAWQUEUE_GATEWAY_PORT": "9"}, "http://127.0.0.1:9"),
        ({"PAWQUEUE_GATEWAY_URL": "https://pawqueue.example/"}, "https://pawqueue.example"),
    ],
)
def test_the_gateway_is_found(environ: dict[str, str], url: str) -> None:
    settings: Settings = load_settings(environ)
    assert settings.gateway_address() == url


def image(name: str = "a.jpg") -> dict[str, str]:
    return {"key": name, "name": name, "contents": "data:image/jpeg;base64," + base64.b64encode(b"bytes").decode()}


def test_an_image_is_sent_with_the_key_of_who_looks_and_followed_to_its_end() -> None:
    world = World()
    made = {"id": "1", "status": "queued", "created_at": "2026-01-01T00:00:00Z"}
    world.answers["/v1/jobs"] = httpx.Response(202, json=made)
    (entry,) = sent(world.parts.gateway, [image("ä b.jpg")], "pq_secret")
    assert entry.is_open
    request = world.requests[-1]
    assert (request.content, request.headers["Authorization"]) == (b"bytes", "Bearer pq_secret")
    assert request.url.params["file"] == "ä b.jpg"

    prediction = {"label": "cat", "probabilities": {"cat": 0.9, "dog": 0.1}}
    ended = made | {"status": "succeeded", "finished_at": "2026-01-01T00:00:01.5Z", "prediction": prediction}
    world.answers["/v1/jobs/1"] = httpx.Response(200, json=ended)
    (entry,) = followed(world.parts.gateway, entries_of(data_of([entry])), "")
    assert (entry.status, entry.label, entry.took_ms) == ("succeeded", "cat", 1500)
    assert "Authorization" not in world.requests[-1].headers


def test_a_refusal_is_told_in_the_words_of_the_api() -> None:
    world = World()
    world.answers["/v1/jobs"] = httpx.Response(415, json={"code": "not_an_image", "detail": "Send an image."})
    (entry,) = sent(world.parts.gateway, [image()], "")
    assert (entry.status, entry.problem) == ("refused", "not_an_image: Send an image.")


def test_a_gateway_that_goes_meanwhile_loses_no_job() -> None:
    world = World()
    world.answers["/v1/jobs/1"] = httpx.ConnectError("refused")
    entry = Entry("k", "a.jpg", job_id="1", status="running")
    (after,) = followed(world.parts.gateway, [entry], "")
    assert after.is_open
    assert "does not answer" in after.problem
    (unsent,) = sent(world.parts.gateway, [{**image(), "contents": "data:,%%%"}], "")
    assert unsent.status == "refused"
