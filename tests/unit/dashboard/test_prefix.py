"""The dashboard behind a proxy, without a browser: every URL that it writes starts with the prefix."""

import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.access import Scope
from contract.proxy import behind_proxy, parse_networks
from contract.settings import SettingsError, load_settings
from dashboard.app import PAGES
from tests.unit.dashboard.conftest import MakeWorld, World

_HTML = {"Accept": "text/html"}
#: Attributes of pages and components that hold URLs.
_URLS = re.compile(r'"?\b(?:href|src|action|requests_pathname_prefix)"?\s*[=:]\s*"([^"]*)"')


def publish(world: World, prefix: str) -> FlaskClient:
    """A client of the dashboard, published under `prefix` by a proxy on this machine."""
    http = world.browse()
    app = http.application
    app.wsgi_app = behind_proxy(app.wsgi_app, prefix, parse_networks("127.0.0.1"))  # type: ignore[method-assign]
    return http


def urls(text: str) -> set[str]:
    return {url for url in _URLS.findall(text.replace(r"\u002f", "/")) if not url.startswith("#")}


def call(http: FlaskClient, outputs: list[str], values: dict[str, Any], state: dict[str, Any], **headers: str) -> Any:
    """Run a callback as the browser does; returns the new values."""

    def parts(given: dict[str, Any]) -> list[dict[str, Any]]:
        split = [(*name.split("."), value) for name, value in given.items()]
        return [{"id": component, "property": member, "value": value} for component, member, value in split]

    body = {
        "output": f"..{'...'.join(outputs)}..",
        "outputs": [dict(zip(("id", "property"), name.split("."), strict=True)) for name in outputs],
        "inputs": parts(values),
        "state": parts(state),
        "changedPropIds": list(values)[-1:],
    }
    response = http.post("/_dash-update-component", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.get_json()["response"]


@pytest.mark.parametrize("prefix", ["/board", "/apps/board", ""])
def test_the_page_and_its_frame_link_to_the_prefix(world: World, prefix: str) -> None:
    http = publish(world, prefix)
    for text in (http.get(f"{prefix}/").text, http.get("/").text, http.get(f"{prefix}/_dash-layout").text):
        found = urls(text)
        assert f"{prefix}/" in found
        assert all(url.startswith(f"{prefix}/") and not url.startswith("//") for url in found), found
    (script,) = [url for url in urls(http.get(f"{prefix}/").text) if "pawqueue.js" in url]
    assert "function" in http.get(script).text


def test_callbacks_find_the_page_with_and_without_the_prefix_and_link_to_the_prefix(world: World) -> None:
    http = publish(world, "/board")
    for path in ("/board/predictions", "/predictions", "/board/", "/board", "/"):
        shown = call(http, ["content.children", "nav.children"], {"url.pathname": path}, {"url.search": ""})
        text = json.dumps(shown)
        assert "Page not found" not in text, path
        assert "/board/predictions" in urls(text)
        assert all(url.startswith("/board/") for url in urls(text))


def test_tiles_thumbnails_and_the_csv_file_follow_the_prefix_of_each_viewer(world: World) -> None:
    job_id = world.finish()
    world.store_thumbnail(job_id)
    http = publish(world, "")
    outputs = ["predictions-found.data", "predictions-count.children", "predictions-csv.href"]
    values = {"predictions-seen.data": 0, "predictions-url.search": ""}
    for prefix in ("/board", "/other"):
        headers = {"X-Forwarded-Prefix": prefix}
        found = call(http, outputs, values, {}, **headers)
        assert urls(json.dumps(found)) == {
            f"{prefix}/predictions?job={job_id}",
            f"{prefix}/thumbnails/{job_id}",
            f"{prefix}/predictions.csv",
        }
        assert http.get(f"{prefix}/thumbnails/{job_id}", headers=headers).data == b"image"


def test_signing_in_stays_under_the_prefix_and_the_cookie_is_secure_over_https(make_world: MakeWorld) -> None:
    world = make_world(access_required=True)
    _, key = world.make_key(Scope.ADMIN)
    http = publish(world, "/board")
    assert http.get("/board/", headers=_HTML).headers["Location"] == "/board/sign-in"
    assert urls(http.get("/board/sign-in").text) == {
        "/board/_favicon.ico",
        "/board/assets/style.css",
        "/board/sign-in",
    }
    for scheme, is_secure in (("https", True), ("http", False)):
        headers = {"X-Forwarded-Proto": scheme}
        response = http.post("/board/sign-in", data={"api_key": key}, headers=headers)
        assert response.headers["Location"] == "/board/"
        attributes = response.headers["Set-Cookie"].split("; ")
        assert "Path=/board" in attributes
        assert ("Secure" in attributes) is is_secure
    assert http.get("/board/", headers=_HTML).status_code == 200
    assert "/board/sign-out" in urls(http.get("/board/_dash-layout").text)
    signed_out = http.post("/board/sign-out")
    assert signed_out.headers["Location"] == "/board/sign-in"
    assert "Path=/board" in signed_out.headers["Set-Cookie"]
    assert http.get("/board/", headers=_HTML).status_code == 302


def test_a_prefix_never_hides_a_path_of_the_dashboard(world: World) -> None:
    rules = [rule.rule for rule in world.browse().application.url_map.iter_rules()]
    first = {path.split("/")[1] for path in [*rules, *(page.path for page in PAGES)]}
    for name in first - {"", "<path:path>"}:
        if not name.startswith("_"):  # Dash's own
            with pytest.raises(SettingsError):
                load_settings({"PAWQUEUE_DASHBOARD_PREFIX": f"/{name}"})
