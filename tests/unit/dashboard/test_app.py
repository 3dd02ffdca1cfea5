"""The application without a browser: sign-in, thumbnails, the CSV file and security headers."""

import tempfile
from pathlib import Path

import pytest

from contract.access import Scope
from contract.errors import UnavailableError
from contract.job import new_job_id
from contract.settings import load_settings
from dashboard.sign_in import ANYONE, Sessions, Viewer
from tests.unit.dashboard.conftest import MakeWorld, World, row
from tests.unit.gateway.conftest import running_gateway

HTML = {"Accept": "text/html"}


def test_pages_load_nothing_from_other_hosts_and_run_no_inline_scripts(world: World) -> None:
    http = world.browse()
    page = http.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert 'lang="en"' in page.text
    assert "http://" not in page.text.replace("http://localhost", "")
    assert "https://" not in page.text
    assert http.get("/healthz").json == {"status": "alive"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"inputs":[' + b"[]," * 200_000 + b"0]}", 413),
        (b'{"inputs":["' + rb"\uabcd" * 200_000 + b'"]}', 413),
        (b"[" * 90_000, 400),
        (b"{", 400),
    ],
    ids=["values", "escapes", "depth", "invalid"],
)
def test_a_callback_with_too_many_values_is_rejected(world: World, body: bytes, status: int) -> None:
    http = world.browse()
    answer = http.post("/_dash-update-component", data=body, content_type="application/json")
    assert answer.status_code == status


def test_a_thumbnail_is_served_by_job_id(world: World) -> None:
    job_id = world.finish()
    world.store_thumbnail(job_id)
    http = world.browse()
    assert http.get(f"/thumbnails/{job_id}").data == b"image"
    assert http.get("/thumbnails/x").status_code == 404
    assert http.get(f"/thumbnails/{new_job_id()}").status_code == 404


def test_nothing_is_shown_without_an_api_key_if_one_is_required(make_world: MakeWorld) -> None:
    world = make_world(access_required=True)
    job_id = world.finish()
    http = world.browse()
    assert http.get("/", headers=HTML).headers["Location"] == "/sign-in"
    for path in (f"/thumbnails/{job_id}", "/predictions.csv", "/_dash-layout", "/_dash-dependencies"):
        assert http.get(path, headers={"Accept": "application/json"}).status_code == 401, path
    assert http.post("/_dash-update-component", json={}).status_code == 401
    assert http.get("/healthz").status_code == 200


def test_signing_in_explains_a_wrong_key_and_sets_a_strict_cookie_for_a_valid_one(make_world: MakeWorld) -> None:
    world = make_world(access_required=True)
    _, text = world.make_key(Scope.ADMIN)
    http = world.browse()
    rejected = http.post("/sign-in", data={"api_key": "<b>pq_x_y"})
    assert rejected.status_code == 401
    assert 'role="alert"' in rejected.text
    assert "<b>pq" not in rejected.text
    accepted = http.post("/sign-in", data={"api_key": text})
    cookie = accepted.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert text not in cookie
    assert http.get("/").status_code == 200
    http.post("/sign-out")
    assert http.get("/", headers=HTML).status_code == 302


def test_a_read_key_shows_its_own_jobs_and_an_admin_key_shows_all(make_world: MakeWorld) -> None:
    world = make_world(access_required=True)
    reader_id, reader_key = world.make_key(Scope.READ)
    _, admin_key = world.make_key(Scope.ADMIN)
    _, submit_key = world.make_key(Scope.SUBMIT)
    own, other = world.finish(owner=reader_id, file="own.jpg"), world.finish(owner="another", file="other.jpg")
    for job_id in (own, other):
        world.store_thumbnail(job_id)
    http = world.browse()

    def seen(key: str) -> tuple[bool, bool, int, int]:
        headers = {"Authorization": f"Bearer {key}"}
        text = http.get("/predictions.csv", headers=headers).text
        codes = [http.get(f"/thumbnails/{job_id}", headers=headers).status_code for job_id in (own, other)]
        return own in text, other in text, codes[0], codes[1]

    assert seen(reader_key) == (True, False, 200, 404)
    assert seen(admin_key) == (True, True, 200, 200)
    assert http.get("/", headers={"X-API-Key": submit_key}).status_code == 403


_PAGES = ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"})


@pytest.mark.parametrize("access_required", [False, True])
def test_pages_of_other_origins_can_neither_change_nor_read(make_world: MakeWorld, access_required: bool) -> None:
    world = make_world(access_required=access_required)
    _, key = world.make_key(Scope.ADMIN)
    http = world.browse()
    http.post("/sign-in", data={"api_key": key})
    for headers in _PAGES:
        for method, path in (("POST", "/_dash-update-component"), ("GET", "/predictions.csv"), ("POST", "/sign-out")):
            response = http.open(path, method=method, headers=headers)
            assert response.status_code == 403
            assert "PAWQUEUE_" in response.text
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert http.get("/", headers=link).status_code == 200


def test_a_rebound_page_reads_nothing(world: World) -> None:
    http = world.browse()
    rebound = {"Host": "evil.example:8050", "Sec-Fetch-Site": "same-origin"}
    assert http.get("/_dash-layout", headers=rebound).status_code == 403
    assert http.get("/healthz", headers=rebound).status_code == 200


def test_a_session_expires() -> None:
    now_s = [0.0]
    sessions = Sessions(clock=lambda: now_s[0])
    token = sessions.open("ada", "secret")
    assert sessions.api_key(token) == "secret"
    for guess in ("guess", "ada.guess", "ada", ""):
        assert sessions.api_key(guess) == ""
    now_s[0] = 13 * 3600
    assert sessions.api_key(token) == ""


def test_a_key_with_many_sessions_ends_only_its_own_oldest_ones() -> None:
    sessions = Sessions()
    bob = sessions.open("bob", "secret of bob")
    ada = [sessions.open("ada", "secret of ada") for _ in range(1001)]
    assert sessions.api_key(bob) == "secret of bob"
    assert [bool(sessions.api_key(token)) for token in ada] == [False] * 901 + [True] * 100
    sessions.close(ada[-1])
    sessions.open("ada", "secret of ada")
    assert sessions.api_key(ada[901])


def test_beyond_the_total_a_new_key_is_refused_until_a_session_ends() -> None:
    now_s = [0.0]
    sessions = Sessions(lambda: now_s[0], per_key_max=3, total_max=4)
    ada = [sessions.open("ada", "secret of ada") for _ in range(3)]
    bob = sessions.open("bob", "secret of bob")
    with pytest.raises(UnavailableError):
        sessions.open("eve", "secret of eve")
    replaced = sessions.open("bob", "secret of bob")
    assert [sessions.api_key(token) for token in (*ada, bob)] == [*["secret of ada"] * 3, ""]
    sessions.close(ada[0])
    eve = sessions.open("eve", "secret of eve")
    assert all(map(sessions.api_key, (*ada[1:], replaced, eve)))
    now_s[0] = 13 * 3600
    assert sessions.api_key(sessions.open("new", "secret"))


def test_every_request_counts_for_the_rate_limit_of_the_key_as_at_the_gateway(
    make_world: MakeWorld, clean_redis: str, tmp_path: Path
) -> None:
    world = make_world(access_required=True)
    _, key = world.make_key(Scope.ADMIN, rate_limit="4 per hour")
    http = world.browse()
    assert http.post("/sign-in", data={"api_key": key}).status_code == 302
    assert [http.get("/_dash-layout").status_code for _ in range(2)] == [200, 200]
    assert http.get("/assets/style.css").status_code == 200
    with running_gateway(clean_redis, tmp_path, access="required") as gateway:
        assert (
            gateway.client.get("/v1/dead", headers={"X-API-Key": key}).headers["RateLimit"].startswith('"default";r=0')
        )
    refused = http.post("/_dash-update-component", json={})
    assert (refused.status_code, (refused.json or {})["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    assert http.get("/", headers=HTML).status_code == 429
    assert http.post("/sign-in", data={"api_key": key}).status_code == 429


def test_attempts_with_wrong_keys_are_limited_for_each_address(make_world: MakeWorld) -> None:
    world = make_world(access_required=True)
    _, key = world.make_key(Scope.ADMIN)
    http = world.browse()
    attempts = [http.post("/sign-in", data={"api_key": "wrong"}) for _ in range(31)]
    assert [attempt.status_code for attempt in attempts] == [401] * 30 + [429]
    assert "Retry-After" in attempts[-1].headers
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    assert http.post("/sign-in", data={"api_key": "wrong"}, environ_overrides=elsewhere).status_code == 401
    assert http.post("/sign-in", data={"api_key": key}).status_code == 302


def test_the_sign_in_form_is_small_and_never_written_to_disk(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    world = make_world(access_required=True)
    _, key = world.make_key(Scope.ADMIN)
    http = world.browse()
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + bytes(1_000_000)
    for kind in ("multipart/form-data; boundary=x", "application/json", ""):
        assert http.post("/sign-in", data=part, content_type=kind).status_code == 415
    assert http.post("/sign-in", data={"api_key": key, "padding": "x" * 4096}).status_code == 413
    assert http.post("/sign-in", data={"api_key": key}).status_code == 302


def test_the_cookie_can_be_limited_to_https(make_world: MakeWorld) -> None:
    assert load_settings({"PAWQUEUE_DASHBOARD_COOKIE": "https-only"}).dashboard_cookie == "https-only"
    world = make_world(access_required=True, secure_cookie=True)
    _, key = world.make_key(Scope.ADMIN)
    assert "; Secure" in world.browse().post("/sign-in", data={"api_key": key}).headers["Set-Cookie"]


def test_a_viewer_sees_nothing_by_default() -> None:
    rows = [row(owner=""), row(owner="ada")]
    assert Viewer().visible(rows) == []
    assert Viewer("ada").visible(rows) == rows[1:]
    assert ANYONE.visible(rows) == rows
    assert len({viewer.cache_key for viewer in (Viewer(), Viewer("ada"), ANYONE)}) == 3


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
def test_an_api_key_is_required_if_other_machines_can_connect(environ: dict[str, str], required: bool) -> None:
    assert load_settings(environ).dashboard_access_is_required() is required


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"PAWQUEUE_GATEWAY_HOST": "0.0.0.0", "PAWQUEUE_GATEWAY_PORT": "9"}, "http://127.0.0.1:9"),
        ({"PAWQUEUE_GATEWAY_URL": "https://pawqueue.example/"}, "https://pawqueue.example"),
    ],
)
def test_the_gateway_address_follows_from_the_settings(environ: dict[str, str], url: str) -> None:
    assert load_settings(environ).gateway_address() == url


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:9100/metrics"),
        ({"PAWQUEUE_GATEWAY_METRICS_HOST": "::", "PAWQUEUE_GATEWAY_METRICS_PORT": "9"}, "http://[::1]:9/metrics"),
        ({"PAWQUEUE_GATEWAY_URL": "https://gateway:8000/paw"}, "http://gateway:9100/metrics"),
    ],
)
def test_the_address_of_the_gateways_metrics_follows_from_the_settings(environ: dict[str, str], url: str) -> None:
    assert load_settings(environ).gateway_metrics_address() == url
