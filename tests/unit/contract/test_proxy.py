"""Requests from proxies: which headers are used, and what the application receives."""

from collections.abc import Iterable
from typing import Any

import pytest

from contract.proxy import behind_proxy, is_prefix, parse_networks

_PROXY = "10.1.2.3"
_HEADERS = {
    "HTTP_X_FORWARDED_PREFIX": "/cats/",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "paws.example",
    "HTTP_X_FORWARDED_FOR": "198.51.100.7",
}


def seen(prefix: str = "", trusted: str = "", path: str = "/v1/jobs", peer: str = _PROXY, **headers: str) -> Any:
    """The (prefix, path, scheme, host, client address) that the application receives."""
    found: list[Any] = []

    def application(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        names = ("SCRIPT_NAME", "PATH_INFO", "wsgi.url_scheme", "HTTP_HOST", "REMOTE_ADDR")
        found.extend(environ[name] for name in names)
        return [b""]

    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "wsgi.url_scheme": "http", "HTTP_HOST": "gateway:8000"}
    behind_proxy(application, prefix, parse_networks(trusted))(environ | {"REMOTE_ADDR": peer} | headers, None)
    return tuple(found)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/paw/v1/jobs", "/v1/jobs"),
        ("/v1/jobs", "/v1/jobs"),
        ("/healthz", "/healthz"),
        ("/paw", ""),
        ("/paw/", "/"),
        ("/paws/v1/jobs", "/paws/v1/jobs"),
        ("/", "/"),
    ],
)
def test_the_prefix_is_optional_in_requests_and_always_in_links(path: str, found: str) -> None:
    assert seen("/paw", path=path) == ("/paw", found, "http", "gateway:8000", _PROXY)


def test_a_trusted_proxy_names_the_prefix_scheme_host_and_client() -> None:
    expected = ("/cats", "/v1/jobs", "https", "paws.example", "198.51.100.7")
    for trusted in (_PROXY, "10.0.0.0/8", "::1, 10.0.0.0/8,"):
        assert seen(trusted=trusted, **_HEADERS) == expected
        assert seen("/paw", trusted, **_HEADERS) == ("/paw", *expected[1:])
        assert seen(trusted=trusted, path="/cats/v1/jobs", **_HEADERS) == expected


@pytest.mark.parametrize("trusted", ["", "10.1.2.4", "192.168.0.0/16, ::1"])
def test_headers_from_other_addresses_change_nothing(trusted: str) -> None:
    for peer in (_PROXY, "", "unix:"):
        assert seen("/paw", trusted, peer=peer, **_HEADERS) == ("/paw", "/v1/jobs", "http", "gateway:8000", peer)


@pytest.mark.parametrize("peer", ["::ffff:10.1.2.3", "10.1.2.3"])
def test_an_ipv4_proxy_is_trusted_on_a_socket_for_both_versions(peer: str) -> None:
    assert seen(trusted="10.0.0.0/8", peer=peer, **_HEADERS)[2] == "https"


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("192.0.2.66, 198.51.100.7", "198.51.100.7"),  # the client wrote the first address
        ("192.0.2.66, 198.51.100.7, 10.9.9.9", "198.51.100.7"),  # through two proxies
        ("10.5.5.5,10.9.9.9", "10.5.5.5"),  # a client inside the trusted network
        ("198.51.100.7:4711", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("unknown", _PROXY),
        ("198.51.100.7, unknown, 10.9.9.9", "10.9.9.9"),
        ("", _PROXY),
        (",", _PROXY),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(forwarded_for: str, client: str) -> None:
    assert seen(trusted="10.0.0.0/8", HTTP_X_FORWARDED_FOR=forwarded_for)[4] == client


def test_of_several_values_only_the_one_of_the_nearest_proxy_counts() -> None:
    nearest = {"HTTP_X_FORWARDED_PREFIX": "/a", "HTTP_X_FORWARDED_PROTO": "http", "HTTP_X_FORWARDED_HOST": "b"}
    headers = {name: f"{_HEADERS[name]}, {value}" for name, value in nearest.items()}
    assert seen(trusted=_PROXY, **headers)[:4] == ("/a", "/v1/jobs", "http", "b")


@pytest.mark.parametrize("prefix", ["//evil.example", "/a//b", "/..", "/a/../b", "paw", '/"><script>', "/a b", "/ä"])
def test_an_invalid_prefix_or_scheme_is_ignored(prefix: str) -> None:
    assert not is_prefix(prefix)
    headers = {"HTTP_X_FORWARDED_PREFIX": prefix, "HTTP_X_FORWARDED_PROTO": "javascript"}
    assert seen("/paw", _PROXY, **headers)[:3] == ("/paw", "/v1/jobs", "http")
