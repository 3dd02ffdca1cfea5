"""Uploads to a full disk get 503 and leave no file; when there is space again, they are accepted."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import draw
from tests.support.small_disk import SmallDisk, small_disk
from tests.unit.gateway.conftest import Gateway, assert_problem, running_gateway, unavailable, upload
from tests.unit.gateway.test_submissions import ZIP, counts, open_submission, send

IMAGE = draw((40, 40))
#: Werkzeug writes a part of a form that is larger than 500 kB to a temporary file by default.
LARGE_IMAGE = IMAGE + bytes(600_000)
FULL_STORE = "The image store is not writable (No space left on device). Try again later."


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 400) as disk:
        yield disk


@pytest.fixture
def gateway(clean_redis: str, disk: SmallDisk) -> Iterator[Gateway]:
    """A gateway that stores images on the small disk."""
    with running_gateway(clean_redis, disk.path / "images") as gateway:
        yield gateway


@pytest.fixture
def _full_temporary_folder(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    disk.fill()


def test_uploads_are_refused_while_the_disk_is_full(gateway: Gateway, disk: SmallDisk) -> None:
    disk.fill()
    assert assert_problem(upload(gateway, IMAGE), 503, "unavailable")["detail"] == FULL_STORE
    assert gateway.image_count() == 0

    disk.make_room()
    assert upload(gateway, IMAGE).status_code == 202


@pytest.mark.parametrize("kind", ["form", "application/x-tar"])
def test_images_of_a_group_that_did_not_fit_are_deleted(gateway: Gateway, disk: SmallDisk, kind: str) -> None:
    url = open_submission(gateway)
    images = {f"{number}.png": IMAGE for number in range(20)}
    assert send(gateway, url, {"first.png": IMAGE}, kind).status_code == 202
    disk.fill(free_bytes=16_384)  # four files
    body = assert_problem(send(gateway, url, images, kind), 503, "unavailable")
    assert (body["accepted"], body["detail"]) == ([], FULL_STORE)
    assert gateway.image_count() == 1

    disk.make_room()
    assert send(gateway, url, images, kind).status_code == 202
    assert counts(gateway, url)["queued"] == 21


@pytest.mark.usefixtures("_full_temporary_folder")
def test_a_large_image_in_a_form_needs_no_temporary_file(clean_redis: str, tmp_path: Path) -> None:
    # Written by hand, because the test client would write a large form to a temporary file, too.
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    form = head + LARGE_IMAGE + b"\r\n--b--\r\n"
    with running_gateway(clean_redis, tmp_path / "images", upload_max_bytes="1000000") as gateway:
        response = gateway.client.post("/v1/jobs", data=form, content_type="multipart/form-data; boundary=b")
        assert response.status_code == 202


@pytest.mark.parametrize("free_bytes", [0, 65_536])
def test_a_zip_is_refused_while_the_disk_of_the_state_folder_is_full(
    clean_redis: str, tmp_path: Path, disk: SmallDisk, free_bytes: int
) -> None:
    disk.fill(free_bytes)
    images = {f"{number}.png": LARGE_IMAGE[:50_000] for number in range(3)}
    with running_gateway(clean_redis, tmp_path / "images", state_dir=str(disk.path)) as gateway:
        url = open_submission(gateway)
        body = assert_problem(send(gateway, url, images, ZIP), 503, "unavailable")
        assert "The disk of the gateway is full. Send a tar" in body["detail"]

        disk.make_room()
        assert len(send(gateway, url, images, ZIP).get_json()["accepted"]) == 3


def test_uploads_during_an_outage_of_redis_leave_at_most_one_image(gateway: Gateway) -> None:
    gateway.ledger.hooks = dict.fromkeys(("submit", "ping", "stats"), unavailable)
    for _ in range(5):
        assert_problem(upload(gateway, IMAGE), 503, "unavailable")
    assert gateway.image_count() <= 1

    gateway.ledger.hooks = {}
    assert upload(gateway, IMAGE).status_code == 202
