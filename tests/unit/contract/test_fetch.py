"""Fetching images from addresses: what is allowed, and what happens if it fails."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from contract.fetch import Fetcher, FetchError, name_of, parse_fetch_rules
from contract.outbound import Outbound
from tests.support.bucket import bucket_with
from tests.support.web import Site, serving_site

LOCAL = parse_fetch_rules("127.0.0.1, pets.example")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_site() as found:
        yield found


def fetch(address: str, max_bytes: int = 100) -> bytes:
    return Fetcher(LOCAL, max_bytes, 20).fetch(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://images.example.com/a.jpg", True),
        ("https://IMAGES.example.com./a.jpg?x=1", True),
        ("https://a.b.example.org/a.jpg", True),
        ("https://example.org/a.jpg", False),
        ("https://images.example.com.evil.net/a.jpg", False),
        ("https://user@images.example.com/a.jpg", False),
        ("ftp://images.example.com/a.jpg", False),
        ("file:///etc/passwd", False),
        ("http://127.0.0.1/a.jpg", False),
        ("http://10.1.2.3/a.jpg", True),
        ("http://10.9.9.9/a.jpg", False),
        ("s3://photos/2026/a.jpg", True),
        ("s3://photos/2026", False),
        ("s3://photos/20261/a.jpg", False),
        ("s3://photos/2026/../a.jpg", False),
        ("gs://photos/2026/a.jpg", False),
        ("memory://photos/2026/a.jpg", False),
        ("s3://[photos/a.jpg", False),
        ("https://[images.example.com/a.jpg", False),
        ("a.jpg", False),
    ],
)
def test_only_addresses_that_are_listed_are_allowed(address: str, allowed: bool) -> None:
    rules = parse_fetch_rules("images.example.com, *.example.org, s3://photos/2026/, 10.1.0.0/16, 10.1.2.3")
    if allowed:
        rules.check(address)
    else:
        with pytest.raises(FetchError):
            rules.check(address)


def test_without_rules_nothing_is_fetched() -> None:
    with pytest.raises(FetchError, match="PAWQUEUE_FETCH_ALLOW"):
        parse_fetch_rules("").check("https://images.example.com/a.jpg")


@pytest.mark.parametrize("text", ["https://example.com", "file:///tmp", "a b", "10.0.0.1/33"])
def test_wrong_rules_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_fetch_rules(text)


def test_an_image_is_fetched_over_redirects(site: Site) -> None:
    site.add("/a.jpg", b"image")
    site.add("/b", status=302, Location="/a.jpg")
    assert fetch(site.add("/c", status=307, Location=site.url("/b"))) == b"image"


def test_a_redirect_to_another_host_is_not_followed(site: Site) -> None:
    site.add("/secret", b"image")
    with pytest.raises(FetchError, match=r"not fetched from localhost|not a public address"):
        fetch(site.add("/a.jpg", status=302, Location=site.url("/secret", "localhost")))
    assert not site.requests["/secret"]


def test_a_redirect_to_an_invalid_address_is_an_error(site: Site) -> None:
    with pytest.raises(FetchError, match="not valid"):
        fetch(site.add("/a.jpg", status=302, Location="http://[x"))


def test_an_endless_redirect_ends(site: Site) -> None:
    with pytest.raises(FetchError, match="more than 3 redirects"):
        fetch(site.add("/a.jpg", status=302, Location="/a.jpg"))
    assert site.requests["/a.jpg"] == 4


def test_a_large_image_is_not_read_to_its_end(site: Site) -> None:
    assert len(fetch(site.add("/whole", b"x" * 100))) == 100
    with pytest.raises(FetchError, match="larger than the limit of 100 bytes"):
        fetch(site.add("/larger", b"x" * 101))
    with pytest.raises(FetchError, match="empty"):
        fetch(site.add("/empty"))


@pytest.mark.parametrize(("status", "may_pass"), [(404, False), (403, False), (429, True), (503, True), (204, False)])
def test_errors_that_may_pass_are_told_from_others(site: Site, status: int, may_pass: bool) -> None:
    with pytest.raises(FetchError, match=f"status {status}") as caught:
        fetch(site.add("/a.jpg", status=status))
    assert caught.value.may_pass is may_pass


def test_an_allowed_name_with_a_private_address_is_refused(site: Site) -> None:
    """A name server can point a public name at an address inside."""
    rules = parse_fetch_rules("pets.example")

    def resolve(_: str, port: int, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    site.add("/a.jpg", b"image")
    url = site.url("/a.jpg", "pets.example")
    with pytest.raises(FetchError, match="not a public address"):
        Fetcher(rules, 100, 20, Outbound(rules.destinations, resolve)).fetch(url)
    assert not site.requests.total()
    assert Fetcher(LOCAL, 100, 20, Outbound(LOCAL.destinations, resolve)).fetch(url) == b"image"


def test_an_object_of_a_bucket_is_read_with_the_driver_of_its_scheme() -> None:
    bucket_with({"photos/a.jpg": b"image"})
    fetcher = Fetcher(parse_fetch_rules("gs://photos"), 100, 20)
    assert fetcher.fetch("gs://photos/a.jpg") == b"image"
    with pytest.raises(FetchError, match="no such object"):
        fetcher.fetch("gs://photos/b.jpg")


def test_the_name_of_an_image_has_no_signature() -> None:
    assert name_of("https://images.example.com/pets/a%20cat.jpg?X-Amz-Signature=secret") == "a cat.jpg"
    assert name_of("https://images.example.com/?id=1") == "images.example.com"
