"""Compressed request bodies: each endpoint decodes gzip and deflate under its limits, and rejects other encodings."""

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from werkzeug.test import EnvironBuilder, TestResponse

from contract.errors import PawqueueError
from contract.job import new_job_id
from gateway.accept.inflate import Expansion, Inflater
from tests.support.archives import tar_of, zip_of
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem
from tests.unit.gateway.test_submissions import TAR, ZIP, open_submission

IMAGE = draw()
#: 150 MB of zeros; in several members, because that is faster to make.
BOMB = gzip.compress(bytes(5_000_000)) * 30


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


#: Content-Encoding and a function that encodes.
ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "gzip in two members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(20)),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "gzip and identity": ("identity, gzip", gzip.compress),
}


def form_of(data: bytes, name: str = "red.png") -> tuple[bytes, str]:
    """The body of a form with an image, and its content type."""
    builder = EnvironBuilder(method="POST", data={"file": (io.BytesIO(data), name, "image/png")})
    environ = builder.get_environ()
    return environ["wsgi.input"].read(), environ["CONTENT_TYPE"]


#: Ways to send an image: a function of the gateway that gives method, URL, body and content type.
WAYS: dict[str, Callable[[Gateway], tuple[str, str, bytes, str]]] = {
    "body": lambda _: ("POST", "/v1/jobs", IMAGE, "image/png"),
    "body under an id": lambda _: ("PUT", f"/v1/jobs/{new_job_id()}", IMAGE, "image/png"),
    "form": lambda _: ("POST", "/v1/jobs", *form_of(IMAGE)),
    "old endpoint": lambda _: ("POST", "/predict", *form_of(IMAGE)),
    "form of a submission": lambda gateway: ("POST", f"{open_submission(gateway)}/jobs", *form_of(IMAGE)),
    "tar": lambda gateway: ("POST", f"{open_submission(gateway)}/jobs", tar_of({"red.png": IMAGE}), TAR),
    "zip": lambda gateway: ("POST", f"{open_submission(gateway)}/jobs", zip_of({"red.png": IMAGE}), ZIP),
}


def send_encoded(gateway: Gateway, way: str, encoding: str, encode: Callable[[bytes], bytes]) -> TestResponse:
    method, url, body, content_type = WAYS[way](gateway)
    headers = {"Content-Encoding": encoding}
    return gateway.client.open(url, method=method, data=encode(body), content_type=content_type, headers=headers)


@pytest.mark.parametrize("way", WAYS)
def test_an_encoded_body_is_decoded(gateway: Gateway, way: str) -> None:
    stored: list[bytes | None] = []

    def finish(job_ids: list[str]) -> None:
        stored.extend(gateway.image_of(gateway.job(job_id)) for job_id in job_ids)
        gateway.finish(job_ids)

    gateway.serve_model()
    gateway.ledger.on_new_jobs = finish
    for name, (encoding, encode) in ENCODINGS.items():
        response = send_encoded(gateway, way, encoding, encode)
        assert response.status_code in (200, 202), f"{name}: {response.text}"
    assert stored == [IMAGE] * len(ENCODINGS)


@pytest.mark.parametrize("way", WAYS)
def test_a_body_in_another_encoding_is_rejected(shared_gateway: Gateway, way: str) -> None:
    for encoding in ("br", "zstd", "compress", "utf-8", "gzip, gzip", "gzip, br", "deflate, gzip"):
        response = send_encoded(shared_gateway, way, encoding, bytes)
        assert response.status_code == 415
        assert response.headers["Accept-Encoding"] == "gzip, deflate"
        assert encoding in response.get_json()["detail"]


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "not compressed": ("gzip", IMAGE, "not valid gzip"),
    "not compressed, deflate": ("deflate", b"\xff" * 99, "not valid deflate"),
    "truncated": ("gzip", gzip.compress(IMAGE)[:-9], "gzip data is truncated"),
    "truncated, deflate": ("deflate", zlib.compress(IMAGE)[:-9], "deflate data is truncated"),
    "wrong checksum": ("gzip", gzip.compress(IMAGE)[:-8] + bytes(8), "not valid gzip"),
    "other data after the end": ("deflate", zlib.compress(IMAGE) + b"x", "follows the end"),
    "countless members": ("gzip", gzip.compress(b"") * 101, "too many small members"),
    "other data after the end, gzip": ("gzip", gzip.compress(IMAGE) + b"more", "not valid gzip"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_encoded_body_is_rejected(shared_gateway: Gateway, name: str) -> None:
    encoding, data, reason = DAMAGED[name]
    response = shared_gateway.client.post("/v1/jobs", data=data, headers={"Content-Encoding": encoding})
    assert reason in assert_problem(response, 400, "bad_request")["detail"]


def test_an_empty_encoded_body_is_an_empty_image(shared_gateway: Gateway) -> None:
    headers = {"Content-Encoding": "gzip"}
    for data in (b"", gzip.compress(b"")):
        assert_problem(shared_gateway.client.post("/v1/jobs", data=data, headers=headers), 400, "empty_upload")


def test_an_encoded_json_body_is_decoded(gateway: Gateway) -> None:
    headers = {"Content-Encoding": "gzip"}
    opened = gateway.client.post("/v1/submissions", data=gzip.compress(b'{"name": "Holiday"}'), headers=headers)
    assert opened.get_json()["name"] == "Holiday"


def test_the_limit_applies_to_the_decoded_bytes(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(upload_max_bytes=str(len(IMAGE)))
    # Without limit for the form around it, and incompressible: the compressed bytes are more than the image.
    assert send_encoded(gateway, "body", "gzip", lambda data: gzip.compress(data, 0)).status_code == 202
    too_large = send_encoded(gateway, "body", "gzip", lambda data: gzip.compress(data + bytes(1)))
    assert_problem(too_large, 413, "upload_too_large")


@pytest.mark.parametrize("way", ["body", "form", "tar"])
def test_a_bomb_is_rejected_before_it_uses_much_memory(shared_gateway: Gateway, way: str) -> None:
    _, url, _, content_type = WAYS[way](shared_gateway)
    member = tarfile.TarInfo("zeros.png")
    member.size = 140_000_000
    start = {"form": form_of(b"")[0][:-50], "tar": member.tobuf()}.get(way, b"")
    tracemalloc.start()
    try:
        response = shared_gateway.client.post(
            url, data=gzip.compress(start) + BOMB, content_type=content_type, headers={"Content-Encoding": "gzip"}
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_problem(response, 413, "upload_too_large")
    assert peak < 8_000_000


def test_a_body_that_expands_too_far_is_rejected_for_its_ratio(gateway: Gateway) -> None:
    """A zip is read to its end before it is opened, so only the ratio limits it."""
    url = f"{open_submission(gateway)}/jobs"
    response = gateway.client.post(url, data=BOMB, content_type=ZIP, headers={"Content-Encoding": "gzip"})
    assert "far more data than images would" in assert_problem(response, 413, "upload_too_large")["detail"]


def test_a_key_gives_the_same_job_however_the_image_is_encoded(gateway: Gateway) -> None:
    jobs = [
        gateway.client.post(
            "/v1/jobs", data=encode(IMAGE), headers={"Content-Encoding": encoding, "Idempotency-Key": "k"}
        ).get_json()["id"]
        for encoding, encode in ENCODINGS.values()
    ]
    assert len(set(jobs)) == 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_stream_raises_only_expected_errors(data: st.DataObject) -> None:
    coding = data.draw(st.sampled_from(["gzip", "deflate"]))
    packed = bytearray((gzip.compress if coding == "gzip" else zlib.compress)(IMAGE * 3))
    for _ in range(data.draw(st.integers(1, 8))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    read: Any = io.BytesIO(packed[: data.draw(st.integers(0, len(packed)))]).read
    try:
        Inflater(read, coding, Expansion(), "").read(10_000_000)
    except PawqueueError as error:
        assert error.http_status in (400, 413)


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 1000])
@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzip.compress), ("deflate", raw_deflate)])
def test_a_stream_is_read_in_pieces_of_any_size(
    coding: str, encode: Callable[[bytes], bytes], piece_bytes: int
) -> None:
    image = draw((60, 60), form="BMP")
    source = io.BytesIO(encode(image))
    inflater = Inflater(lambda _: source.read(3), coding, Expansion(), "")
    assert b"".join(iter(lambda: inflater.read(piece_bytes), b"")) == image
