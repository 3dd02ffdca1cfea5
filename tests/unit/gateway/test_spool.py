"""The space on disk for zips is limited, for each gateway and for each API key."""

from io import BytesIO
from pathlib import Path

import pytest

from contract.access import Scope, make_key
from contract.errors import UnavailableError
from gateway.accept.spool import Spool
from tests.support.archives import zip_of
from tests.support.images import draw
from tests.unit.gateway.conftest import MakeGateway, assert_problem
from tests.unit.gateway.test_submissions import ZIP, open_submission

ARCHIVE = zip_of({"red.png": draw()})
SIZE = len(ARCHIVE)


class Unreadable(BytesIO):
    """A body that must not be read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body was read")

    readinto = readline = read


def test_files_have_no_name_so_a_killed_gateway_leaves_none(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "spool"
    with Spool(folder, 100).file("") as spooled:
        spooled.append(b"data")
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700


def test_an_owner_may_use_half_of_the_spool_and_all_owners_the_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    with spool.file("ada") as first, spool.file("ada") as second, spool.file("bob") as third:
        first.append(bytes(30))
        with pytest.raises(UnavailableError, match="Your share"):
            second.append(bytes(21))
        second.append(bytes(20))
        third.append(bytes(50))
        with spool.file("eve") as fourth, pytest.raises(UnavailableError, match="The gateway's space"):
            fourth.append(b"x")
    for owner in ("ada", "bob", "eve"):
        spool.check(owner, 50)  # the space is free again


def test_a_zip_without_space_is_refused_before_it_is_read(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(spool_max_bytes=str(SIZE + 10))
    url = f"{open_submission(gateway)}/jobs"
    with gateway.services.spool.file("") as spooled:
        spooled.append(bytes(11))
        response = gateway.client.post(
            url, input_stream=Unreadable(), content_type=ZIP, environ_overrides={"CONTENT_LENGTH": str(SIZE)}
        )
        assert (
            "The gateway's space for zips is full. Send a tar" in assert_problem(response, 503, "unavailable")["detail"]
        )
        assert response.headers["Retry-After"] == "30"
    assert gateway.client.post(url, data=ARCHIVE, content_type=ZIP).status_code == 202
    gateway.services.spool.check("", SIZE + 10)


def test_a_zip_of_unknown_size_is_refused_when_the_spool_is_full(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(spool_max_bytes=str(SIZE + 10))
    with gateway.services.spool.file("") as spooled:
        spooled.append(bytes(11))
        response = gateway.client.post(
            f"{open_submission(gateway)}/jobs",
            input_stream=BytesIO(ARCHIVE),
            content_type=ZIP,
            environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
        )
        assert_problem(response, 503, "unavailable")
        gateway.services.spool.check("", SIZE - 1)


def test_a_zip_that_can_never_fit_is_too_large(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(spool_max_bytes=str(2 * SIZE - 1), access="required")
    key, text = make_key("tests", (Scope.SUBMIT,))
    gateway.keys.put(key)
    headers = {"X-API-Key": text}
    url = gateway.client.post("/v1/submissions", json={}, headers=headers).get_json()["urls"]["jobs"]
    response = gateway.client.post(url, data=ARCHIVE, content_type=ZIP, headers=headers)
    assert_problem(response, 413, "upload_too_large")
