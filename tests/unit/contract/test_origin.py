"""Which requests of browsers a service handles: host names, other origins, links and probes."""

from typing import Any

import pytest

from contract.errors import ForbiddenOriginError
from contract.origin import OriginCheck
from contract.proxy import behind_proxy, parse_networks
from contract.settings import SettingsError, load_settings

_FOREIGN = "http://evil.example"
#: What browsers send: fetch from another page, a form or link on it, an image in it; an old browser's fetch.
_FETCH = {"HTTP_ORIGIN": _FOREIGN, "HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "cors"}
_LINK = {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"}
_IMAGE = {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "no-cors"}
_OLD_FETCH = {"HTTP_ORIGIN": _FOREIGN}


def accepts(check: OriginCheck, method: str = "GET", path: str = "/v1/jobs", **headers: str) -> bool:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "localhost:8000"} | headers
    try:
        check.check(environ)
    except ForbiddenOriginError as error:
        assert "PAWQUEUE_" in error.detail
        return False
    return True


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "LOCALHOST", "paw.localhost", "127.0.0.1:8000", "10.0.0.7:8000", "[::1]:8000", "[fe80::1]", ""],
)
def test_local_names_and_addresses_are_always_accepted(host: str) -> None:
    assert accepts(OriginCheck([]), HTTP_HOST=host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[", ":80:", "@"]
)
def test_other_names_are_rejected_unless_a_rebound_page_would_gain_nothing(host: str) -> None:
    assert not accepts(OriginCheck([]), HTTP_HOST=host, HTTP_SEC_FETCH_SITE="same-origin")
    assert accepts(OriginCheck(None), HTTP_HOST=host)


def test_configured_names_are_accepted_at_any_port() -> None:
    settings = load_settings({"PAWQUEUE_GATEWAY_HOST": "Gateway", "PAWQUEUE_ALLOWED_HOSTS": "paw.lan, board.lan,"})
    check = OriginCheck(settings.host_names(settings.gateway_host))
    for host in ("gateway:8000", "PAW.lan", "paw.lan.:1", "board.lan"):
        assert accepts(check, HTTP_HOST=host)
    assert not accepts(check, HTTP_HOST="sub.paw.lan")
    assert not accepts(OriginCheck([]), HTTP_HOST="gateway:8000")


@pytest.mark.parametrize("headers", [_FETCH, _IMAGE, _OLD_FETCH, {"HTTP_ORIGIN": "null"}, {"HTTP_ORIGIN": "http://["}])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_pages_of_other_origins_can_neither_change_nor_read(method: str, headers: dict[str, str]) -> None:
    assert not accepts(OriginCheck([]), method, **headers)
    assert not accepts(OriginCheck(None), method, **headers)


def test_a_page_on_another_port_is_another_origin() -> None:
    same_site = {"HTTP_ORIGIN": "http://localhost:3000", "HTTP_SEC_FETCH_SITE": "same-site"}
    assert not accepts(OriginCheck([]), "POST", **same_site)
    assert not accepts(OriginCheck([]), "POST", HTTP_ORIGIN="http://localhost:3000")


def test_a_link_may_be_followed_but_a_form_may_not_be_sent() -> None:
    assert accepts(OriginCheck([]), "GET", **_LINK)
    assert not accepts(OriginCheck([]), "POST", **_LINK, HTTP_ORIGIN=_FOREIGN)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_SEC_FETCH_SITE": "none", "HTTP_SEC_FETCH_MODE": "navigate"},
        {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://localhost:8000"},
        {"HTTP_ORIGIN": "http://localhost:8000"},
        {"HTTP_ORIGIN": "HTTPS://LOCALHOST:8000"},
    ],
)
def test_programs_the_address_bar_and_own_pages_are_accepted(headers: dict[str, str]) -> None:
    assert accepts(OriginCheck([]), "POST", **headers)


def test_configured_origins_are_accepted() -> None:
    given = {"PAWQUEUE_CORS_ORIGINS": f"https://other.example, {_FOREIGN}"}
    assert accepts(OriginCheck([], load_settings(given).allowed_origins()), "POST", **_FETCH)
    assert accepts(OriginCheck([], ["*"]), "POST", **_FETCH)
    assert not accepts(OriginCheck([], ["https://evil.example"]), "POST", **_FETCH)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_may_use_any_host(path: str) -> None:
    assert accepts(OriginCheck([]), path=path, HTTP_HOST="balancer.example")
    assert not accepts(OriginCheck([]), path="/health", HTTP_HOST="balancer.example")


def test_a_rebound_page_on_the_proxys_machine_cannot_forge_its_host() -> None:
    def accepts_forwarded(host: str, origin: str) -> bool:
        found: list[bool] = []

        def application(environ: dict[str, Any], _start: Any) -> list[bytes]:
            found.append(accepts(OriginCheck([]), **environ))
            return []

        environ = {"REMOTE_ADDR": "127.0.0.1", "SCRIPT_NAME": "", "HTTP_HOST": host, "HTTP_ORIGIN": origin}
        forwarded = {"HTTP_X_FORWARDED_HOST": "paw.example", "wsgi.url_scheme": "http", "PATH_INFO": "/v1/jobs"}
        behind_proxy(application, "", parse_networks("127.0.0.1"))(environ | forwarded, None)
        return found[0]

    assert accepts_forwarded("127.0.0.1:8000", "https://paw.example")
    assert not accepts_forwarded("127.0.0.1:8000", _FOREIGN)
    assert not accepts_forwarded("evil.example:8000", "http://paw.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "http://paw.lan"),
        ("ALLOWED_HOSTS", "paw.lan:8000"),
        ("ALLOWED_HOSTS", "*"),
        ("CORS_ORIGINS", "https://*.example.org"),
        ("CORS_ORIGINS", "example.org"),
        ("CORS_ORIGINS", "https://example.org/path"),
    ],
)
def test_names_and_origins_are_checked_at_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"PAWQUEUE_{name}.*must be"):
        load_settings({f"PAWQUEUE_{name}": value})
